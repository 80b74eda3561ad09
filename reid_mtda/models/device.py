"""Where and in which numbers torch computes: the device that was asked for, and whether this machine has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from reid_mtda.errors import ConfigError
from reid_mtda.runs import HOST, PRECISIONS, Compute

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def choose_compute(device: str = "auto", precision: str = "fp32", threads: int | None = None) -> Compute:
    """Check what was asked for against this machine, and give torch its threads.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; as for ``choose_device``.
        precision: ``fp32`` or ``bf16``, in which backbones are computed.
        threads: CPU threads of torch in this process; None leaves them as they are.

    Raises:
        ConfigError: a device that is not here, or a precision that it lacks.
    """
    chosen = choose_device(device)
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if precision == "bf16" and not computes_bfloat16(chosen):
        raise ConfigError(f"--precision: {chosen} does not compute in bfloat16, got bf16; use --precision fp32")
    if threads is not None:
        torch.set_num_threads(threads)
    return Compute(device=str(chosen), precision=precision)


def choose_device(name: str) -> torch.device:
    """Find the device ``name``; ``auto`` is a CUDA device where there is one, else the CPU.

    Apple's ``mps`` is taken where it is asked for by name: nobody has compared it with the CPU yet.

    Raises:
        ConfigError: no such device here; the message names those that are.
    """
    here = devices_here()
    if name == "auto":
        return torch.device("cuda:0" if "cuda:0" in here else "cpu")
    wanted = f"{name}:0" if name == "cuda" else name
    if wanted not in here:
        raise ConfigError(
            f"--device: got {name!r}, which this machine or its torch {torch.__version__} lacks; "
            f"expected auto or one of {', '.join(here)}"
        )
    return torch.device(wanted)


def devices_here() -> tuple[str, ...]:
    """Names of the devices on which torch can compute in this process."""
    cuda = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return ("cpu", *cuda, *(("mps",) if torch.backends.mps.is_available() else ()))


def computes_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has bfloat16 arithmetic of its own; a CPU without emulates it, slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def placed(model: NetworkT, compute: Compute) -> NetworkT:
    """Move ``model`` to a device and have its backbone compute in a precision; its weights stay float32."""
    for module in model.modules():
        if hasattr(module, "precision"):
            object.__setattr__(module, "precision", compute.precision)
    return model.to(torch.device(compute.device))


def on_host(model: NetworkT) -> NetworkT:
    """Bring ``model`` back to the CPU and float32, as networks are handed from one step of a job to the next."""
    return placed(model, HOST)


def device_of(model: nn.Module) -> torch.device:
    """The device on which the weights of ``model`` are."""
    return next(model.parameters()).device


def run_backbone(backbone: Callable[[Tensor], Any], pictures: Tensor, precision: str) -> Tensor:
    """Pass ``pictures`` (B, 3, h, w) through ``backbone``, in bfloat16 where asked; features come back as float32.

    Args:
        backbone: a network's part from pictures to features.
        pictures: (B, 3, h, w), normalised.
        precision: ``fp32`` or ``bf16``.
    """
    if precision == "fp32":
        return torch.as_tensor(backbone(pictures))
    with torch.autocast(pictures.device.type, torch.bfloat16):
        return torch.as_tensor(backbone(pictures)).float()


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Leave torch's generators, that of the CPU and those of ``device``'s kind, as they were before the block."""
    cuda = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch gave up because a device's memory, or the CPU's, was too small."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "can't allocate memory" in said
