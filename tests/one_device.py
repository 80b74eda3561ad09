"""Loops without an accelerator: networks on ``meta``, and every operation that mixes devices refused.

torch's own meta tensors pass some mixtures (products of matrices, indexing) and refuse what needs values. Here every
mixture is refused that an accelerator would refuse, and values that go to the host are made up.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

ACROSS = {"_to_copy", "copy_", "set_", "detach", "_copy_from"}
"""What may carry values from one device to another."""
INDEXED = {"index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index_put"}
"""Takes indices from the host, as CUDA does."""


class Left(AssertionError):
    """A tensor was left behind on another device."""


class OneDevice(TorchDispatchMode):
    """Run what is on ``meta``; a tensor of the host's in an operation with one on meta raises ``Left``."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        on_meta = [x for x in given if x.is_meta]
        if on_meta and name not in ACROSS:
            host = [x for x in given if not x.is_meta and x.ndim]
            if host and not (name in INDEXED and args[0].is_meta):
                raise Left(f"{name}: {tuple(host[0].shape)} on the host, {tuple(on_meta[0].shape)} on the device")
        if name == "_local_scalar_dense" and on_meta:
            return {torch.bool: True, torch.int64: 1}.get(args[0].dtype, 0.5)
        if name == "_to_copy" and on_meta and torch.device(kwargs.get("device") or "meta").type == "cpu":
            return self.made_up(args[0], kwargs.get("dtype"))
        if name == "copy_" and args[1].is_meta and not args[0].is_meta:
            return args[0].copy_(self.made_up(args[1]))
        if name == "nonzero" and on_meta:
            return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.int64)
        if name == "bincount" and on_meta:
            return args[0].new_empty(args[2])
        if name == "index" and args[0].is_meta:
            return self.indexed(args[0], args[1])
        return function(*args, **kwargs)

    def made_up(self, tensor, dtype=None):
        dtype = dtype or tensor.dtype
        if dtype.is_floating_point:
            generator = torch.Generator().manual_seed(tensor.numel())
            return torch.rand(tensor.shape, generator=generator).to(dtype) + 0.01
        return torch.zeros(tensor.shape, dtype=dtype)

    def indexed(self, tensor, indices):
        """The shape of ``tensor[indices]``; a mask on the device is taken as full."""
        shape, place, rows = [], 0, None
        for index in indices:
            if index is None:
                shape.append(tensor.shape[place])
                place += 1
                continue
            if index.dtype in (torch.bool, torch.uint8):
                count = index.numel() if index.is_meta else int(index.sum())
                size, step = (count,), index.ndim
            else:
                size, step = tuple(index.shape), 1
            rows = size if rows is None else torch.broadcast_shapes(rows, size)
            if rows is size or len(shape) == 0 or shape[-1] is not None:
                shape.append(None)
            place += step
        found, written = [], False
        for size in shape:
            if size is None:
                if not written:
                    found.extend(rows)
                    written = True
            else:
                found.append(size)
        return tensor.new_empty((*found, *tensor.shape[place:]))
