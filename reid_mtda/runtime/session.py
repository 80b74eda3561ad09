"""One call from crops to rows, by ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from reid_mtda.errors import ModelError
from reid_mtda.networks import first_line, open_network
from reid_mtda.runtime.folder import weight_files
from reid_mtda.types import FloatArray

# More rows at once bring no more crops a second on a CPU, only more memory.
_MAX_BATCH = 32

Session = Callable[[FloatArray], FloatArray]
"""Crops float32 (B, 3, h, w), B > 0 -> rows float32 (B, D), of any length."""


def open_session(folder: Path, threads: int | None, device: str) -> Session:
    """Open the weights of a model folder, as ``networks.open_network`` does."""
    path = weight_files(folder)[0]
    network = open_network(path, device=device, threads=threads, any_batch=True)
    if len(network.inputs) != 1 or len(network.inputs[0]) != 4:
        raise ModelError(f"{path}: got inputs {network.inputs}, expected one (B, 3, h, w)")
    return _in_batches(lambda crops: np.asarray(network.run(crops)[0], np.float32), network.inputs[0][0] or _MAX_BATCH)


def _in_batches(run: Session, batch: int) -> Session:
    """``run`` on at most ``batch`` rows at a time, outputs flattened to (B, D)."""

    def run_all(crops: FloatArray) -> FloatArray:
        parts = [run(crops[start : start + batch]) for start in range(0, len(crops), batch)]
        return np.concatenate([np.asarray(part, np.float32).reshape(len(part), -1) for part in parts])

    return run_all


def run_session(folder: Path, session: Session, crops: FloatArray) -> FloatArray:
    """Call ``session``; a refusal names ``folder``."""
    try:
        return session(crops)
    except Exception as error:
        raise ModelError(
            f"{folder}: the model refused crops {crops.shape} ({first_line(error)}); "
            "its manifest's height and width may be wrong"
        ) from None
