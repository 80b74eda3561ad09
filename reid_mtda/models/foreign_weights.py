"""Weights that other programs saved, in torchreid's names: read without running anything that is in them."""

from __future__ import annotations

import codecs
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from reid_mtda.arrays import read_arrays
from reid_mtda.errors import DataError, ModelError
from reid_mtda.models.embedder import Embedder

_PICKLES = (".pth", ".pt", ".tar", ".ckpt", ".bin", ".pkl")
_HELD_UNDER = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
# Numbers that training loops save beside the weights: a rank-1 as NumPy's scalar. None of these runs anything.
_HARMLESS: list[Any] = [
    *((np._core.multiarray.scalar, f"numpy.{part}.multiarray.scalar") for part in ("core", "_core")),  # type: ignore[attr-defined]
    np.dtype,
    codecs.encode,
    *(getattr(np.dtypes, name) for name in ("Float64DType", "Float32DType", "Int64DType", "Int32DType", "BoolDType")),
]


def load_zoo_weights(model: Embedder, path: Path) -> None:
    """Fill the backbone of ``model`` with weights in torchreid's parameter names.

    Args:
        model: is left as it was when the weights do not fit.
        path: ``.npz``, ``.safetensors``, or torch's own ``.pth``, ``.pth.tar``, ``.pt``, with its weights under
            ``state_dict`` or not. Names may all begin with ``module.`` or another prefix, floats may be half as long.
            Classifier weights are left out; everything else must fit.

    Raises:
        ModelError: missing or unreadable file, one that holds more than numbers, a weight of the backbone missing, of
            another shape or not finite, or weights of several networks.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; check the path")
    inner = getattr(model.backbone, "model", model.backbone)
    if not isinstance(inner, nn.Module):
        raise ModelError(f"{path}: {model.spec.arch} takes no outside weights")
    wanted = inner.state_dict()
    found = _without_prefix(path, _read(path), set(wanted))
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unfit = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    if missing or unfit:
        raise ModelError(
            f"{path}: does not fit {model.spec.arch}: missing {missing[:3]}, of another shape {unfit[:3]}; "
            "choose the arch the weights were made for"
        )
    for name in wanted.keys() & found.keys():
        if wanted[name].is_floating_point() and not found[name].is_floating_point():
            raise ModelError(f"{path}: {name} holds {found[name].dtype}, expected floats; save it unquantised")
        if found[name].is_floating_point() and not torch.isfinite(found[name]).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite; its training went wrong, use another")
    inner.load_state_dict({name: found.get(name, value) for name, value in wanted.items()})


def _read(path: Path) -> dict[str, Tensor]:
    expected = "expected .npz, .safetensors, or .pth / .pth.tar as torch saves them"
    try:
        if path.suffix == ".npz":
            arrays = read_arrays(path, expected="expected weights")
            return {name: torch.from_numpy(array) for name, array in arrays.items()}
        if path.suffix.lower() in _PICKLES:
            return _read_pickle(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (DataError, SafetensorError, OSError, TypeError) as error:
        raise ModelError(f"{path}: not readable weights ({error}); {expected}") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of ``torch.save``, wherever in it they lie."""
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other forms of pickles, which are read or refused
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None and "TorchScript" not in str(error):
            raise ModelError(f"{path}: damaged, or not a file of torch.save; get it again") from None
        what = f"Python objects ({named[1]})" if named else "a whole TorchScript network"
        raise ModelError(
            f"{path}: holds {what}, not weights alone, and reading them would run what is in it; save the weights with "
            "torch.save(model.state_dict(), ...) where you trust it"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ModelError(f"{path}: damaged, or not a file of torch.save ({reason}); get it again") from None
    for _ in range(2):
        inside = [key for key in _HELD_UNDER if isinstance(held, Mapping) and isinstance(held.get(key), Mapping)]
        if len(inside) > 1:
            raise ModelError(f"{path}: holds weights under {' and '.join(inside)}; save the ones you mean alone")
        held = held[inside[0]] if inside else held
    tensors = {str(k): v for k, v in held.items() if isinstance(v, Tensor)} if isinstance(held, Mapping) else {}
    if not tensors:
        raise ModelError(f"{path}: holds no weights by name; save them with torch.save(model.state_dict(), ...)")
    return tensors


def _without_prefix(path: Path, found: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Weights by the names that the network has: ``module.`` and the like, which programs put before them, go."""
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    if needed <= found.keys():
        return found
    first = min(needed, key=lambda name: (-len(name), name))  # a long name is no accident
    prefixes = {name.removesuffix(first) for name in found if name.endswith(first)}
    fitting = sorted(prefix for prefix in prefixes if all(prefix + name in found for name in needed))
    if len(fitting) > 1:
        raise ModelError(
            f"{path}: holds several networks that fit, under {', '.join(fitting)}; save the one you mean alone"
        )
    # Where none fits wholly the names of most are shown in the complaint about what is missing.
    prefix = fitting[0] if fitting else "module." if all(name.startswith("module.") for name in found) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
