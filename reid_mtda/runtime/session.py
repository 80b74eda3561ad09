"""One call from crops to rows, by ONNX Runtime or OpenVINO."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.errors import ModelError
from reid_mtda.runtime.folder import weight_files
from reid_mtda.types import FloatArray

# More rows at once bring no more crops a second on a CPU, only more memory.
_MAX_BATCH = 32

Session = Callable[[FloatArray], FloatArray]
"""Crops float32 (B, 3, h, w), B > 0 -> rows float32 (B, D), of any length."""


def open_session(folder: Path, threads: int | None) -> Session:
    """Open the weights of a model folder; ``threads`` None takes all cores this process may use."""
    files = weight_files(folder)
    threads = threads or _usable_cores()
    return _onnx_session(files[0], threads) if len(files) == 1 else _ir_session(files[0], threads)


def _usable_cores() -> int:
    """Cores this process may run on; Linux alone tells apart those it may and those there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _onnx_session(path: Path, threads: int) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Waiting threads would otherwise burn the cores that decoding and detection need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{path}: ONNX Runtime cannot open it ({_first_line(error)}); export again") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise ModelError(f"{path}: got inputs {[i.shape for i in inputs]}, expected one (B, 3, h, w)")
    name, output = inputs[0].name, session.get_outputs()[0].name
    batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else _MAX_BATCH
    return _in_batches(lambda crops: session.run([output], {name: crops})[0], batch)


def _ir_session(path: Path, threads: int) -> Session:
    try:
        import openvino
    except ImportError:
        raise ModelError(
            f"{path}: an OpenVINO model, but openvino is not installed; run: pip install 'reid-mtda[openvino]'"
        ) from None
    try:
        core = openvino.Core()
        model = core.read_model(path)
        shape = list(model.input(0).get_partial_shape())
        model.reshape({model.input(0): openvino.PartialShape([openvino.Dimension(), *shape[1:]])})
        # Without the hint processors with bfloat16 use it, and a row would depend on the batch it came in.
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = core.compile_model(model, "CPU", settings)
    except Exception as error:
        raise ModelError(f"{path}: OpenVINO cannot open it ({_first_line(error)}); check the file") from None

    def run(crops: FloatArray) -> FloatArray:
        # A request of its own per call keeps concurrent calls apart.
        return np.array(compiled.create_infer_request().infer({0: crops})[0], np.float32)

    return _in_batches(run, _MAX_BATCH)


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
            f"{folder}: the model refused crops {crops.shape} ({_first_line(error)}); "
            "its manifest's height and width may be wrong"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
