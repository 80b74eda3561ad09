"""Networks in files: one opener for ONNX Runtime (``.onnx``) and OpenVINO (``.xml`` beside its ``.bin``).

Whatever the device, a network gives what it gives on the CPU: another device is compared with it when a file is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.types import FloatArray

Outputs = tuple[npt.NDArray[Any], ...]
Shape = tuple[int | None, ...]

SUFFIXES = (".onnx", ".xml")
"""Endings of the files that can be opened."""

PARITY = 0.01
"""Largest difference from the CPU's output, as a share of its length, that another device may show."""

_TRIAL_SIDE_PX = 64  # where a graph leaves a side of its input open
_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# A GPU's short floats would make results depend on the device.
_PROVIDER_OPTIONS: dict[str, dict[str, Any]] = {"cuda": {"use_tf32": 0}}
_FLOATS = ("float16", "float32", "float64")
_ONNX_TYPES = {"tensor(float16)": "float16", "tensor(float)": "float32", "tensor(double)": "float64"} | {
    f"tensor({name})": name for name in ("uint8", "int8", "int32", "int64")
}
_IR_DEVICES = {"gpu": "GPU", "npu": "NPU", "cpu": "CPU"}


@dataclass(frozen=True, eq=False)
class Network:
    """An opened network; ``run`` may be called from several threads.

    ``inputs``: the shape of each input, None where a side is open; ``types``: their numbers, as NumPy names them.
    ``outputs``: name and shape of each. ``run``: one array for each input -> all outputs; floats of another length are
    converted.
    """

    path: Path
    device: str
    inputs: tuple[Shape, ...]
    run: Callable[..., Outputs]
    types: tuple[str, ...] = ()
    outputs: tuple[tuple[str, Shape], ...] = ()


def open_network(path: Path, *, device: str = "cpu", threads: int | None = None, any_batch: bool = False) -> Network:
    """Open a network file on a device, and compare the device with the CPU.

    Args:
        path: an ONNX file, or an OpenVINO IR ``.xml`` with its ``.bin`` beside it.
        device: ``cpu``; for ONNX also ``cuda``, ``tensorrt`` or ``coreml``, for OpenVINO ``gpu`` or ``npu``; ``auto``:
            the first of these that is there.
        threads: CPU threads of one call; None takes all this process may use.
        any_batch: makes the first side of an OpenVINO network's input open where the network allows it; ONNX keeps what
            the file says.

    Raises:
        ConfigError: a device that is not there; the message names those that are.
        ModelError: a missing file, one that is no network, or a device whose results differ from the CPU's.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(f"{path}: not a network, expected a file ending in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; check the path")
    if suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise ModelError(f"{path}: its weights are missing, expected {path.with_suffix('.bin').name} beside it")
    device = choose_device(path, device)
    threads = threads or usable_cores()

    def opened(where: str) -> Network:
        return _open_onnx(path, where, threads) if suffix == ".onnx" else _open_ir(path, where, threads, any_batch)

    network = opened(device)
    if device != "cpu":
        check_parity(network, opened("cpu"))
    return network


def devices_of(path: Path) -> tuple[str, ...]:
    """Names of the devices that can run ``path`` on this machine, fastest first; ``cpu`` is the last.

    Raises:
        ModelError: an OpenVINO network where openvino is not installed.
    """
    if path.suffix.lower() == ".onnx":
        import onnxruntime

        there = onnxruntime.get_available_providers()
        return tuple(name for name, provider in _PROVIDERS.items() if provider in there)
    there = [name.split(".")[0] for name in _openvino(path).Core().available_devices]
    return tuple(name for name, known in _IR_DEVICES.items() if known in there)


def choose_device(path: Path, device: str) -> str:
    """Return the device asked for, or for ``auto`` the first there is.

    Raises:
        ConfigError: it is not there; the message names those that are.
    """
    there = devices_of(path)
    if device == "auto":
        return there[0]
    if device not in there:
        is_onnx = path.suffix.lower() == ".onnx"
        runtime = "ONNX Runtime" if is_onnx else "OpenVINO"
        for_cards = is_onnx and device in ("cuda", "tensorrt")
        hint = "; for NVIDIA cards install onnxruntime-gpu in place of onnxruntime" if for_cards else ""
        raise ConfigError(
            f"{path}: got device {device!r}, expected one that {runtime} has on this machine: "
            f"{', '.join(there)}, or auto{hint}"
        )
    return device


def check_parity(network: Network, reference: Network) -> None:
    """Refuse a network whose outputs are not those of ``reference``, the same file on the CPU.

    Raises:
        ModelError: another number or shape of outputs, one that is not finite, or one that differs by more than
            ``PARITY`` of its length.
    """
    rng = np.random.default_rng(0)
    inputs = [_trial(shape, rng) for shape in network.inputs]  # floats: whole numbers are the caller's to make
    try:
        got, expected = network.run(*inputs), reference.run(*inputs)
    except Exception as error:
        raise ModelError(
            f"{network.path}: device {network.device} cannot run it ({first_line(error)}); use device cpu"
        ) from None
    for number, (one, other) in enumerate(zip(got, expected, strict=True)):
        share = _difference(one, other)
        if not share <= PARITY:
            raise ModelError(
                f"{network.path}: device {network.device} does not give what the CPU gives, output {number} differs by "
                f"{share:.2g} of its length, expected {PARITY} at most; use device cpu"
            )


def _trial(shape: Shape, rng: np.random.Generator) -> FloatArray:
    """Noise of the shape of an input: one row, ``_TRIAL_SIDE_PX`` where a side is open."""
    sides = [1 if axis == 0 and side is None else side or _TRIAL_SIDE_PX for axis, side in enumerate(shape)]
    return rng.uniform(0, 1, sides).astype(np.float32)


def _difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    if one.shape != other.shape:
        return float("inf")
    length = float(np.linalg.norm(other.astype(np.float64)))
    return float(np.linalg.norm(one.astype(np.float64) - other)) / (length or 1.0)


def usable_cores() -> int:
    """Cores this process may run on; Linux alone tells apart those it may and those there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_onnx(path: Path, device: str, threads: int) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # what it would print is in the error that it raises
    # Waiting threads would otherwise burn the cores that decoding and detection need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = _PROVIDERS[device]
    chain = [(provider, _PROVIDER_OPTIONS.get(device, {}))]
    if device != "cpu":  # operators that the device lacks
        chain.append((_PROVIDERS["cpu"], {}))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=chain)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(
            f"{path}: ONNX Runtime cannot open it ({first_line(error)}); get it, or export it, again"
        ) from None
    if session.get_providers()[0] != provider:  # it goes on without a provider that does not start
        raise ConfigError(
            f"{path}: device {device} is installed but did not start; check its driver and libraries, or use device cpu"
        )
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names, types = [item.name for item in inputs], tuple(_ONNX_TYPES.get(item.type, item.type) for item in inputs)

    def run(*arrays: FloatArray) -> Outputs:
        return tuple(session.run(None, dict(zip(names, _as_typed(arrays, types), strict=True))))

    return Network(
        path,
        device,
        tuple(_sides(item.shape) for item in inputs),
        run,
        types,
        tuple((item.name, _sides(item.shape)) for item in outputs),
    )


def _as_typed(arrays: Sequence[npt.NDArray[Any]], types: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Floats as long as a network wants them; other numbers as they are."""
    return [
        array.astype(wanted) if array.dtype.kind == "f" and wanted in _FLOATS and array.dtype != wanted else array
        for array, wanted in zip(arrays, types, strict=True)
    ]


def _open_ir(path: Path, device: str, threads: int, any_batch: bool) -> Network:
    openvino = _openvino(path)
    # Without the hint processors with bfloat16 use it, and a row would depend on the batch it came in.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if device == "cpu":
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        model = core.read_model(path)
        if any_batch:
            model = _with_free_batch(model, openvino)
        compiled = core.compile_model(model, _IR_DEVICES[device], settings)
    except Exception as error:
        raise ModelError(
            f"{path}: OpenVINO cannot open it ({first_line(error)}); get it, or export it, again"
        ) from None
    types = tuple(_ir_type(item) for item in compiled.inputs)

    def run(*arrays: FloatArray) -> Outputs:
        # A request of its own per call keeps concurrent calls apart.
        found = compiled.create_infer_request().infer(dict(enumerate(_as_typed(arrays, types))))
        return tuple(np.array(found[number]) for number in range(len(compiled.outputs)))

    return Network(
        path,
        device,
        tuple(_ir_sides(item) for item in compiled.inputs),
        run,
        types,
        tuple((_ir_name(item, number), _ir_sides(item)) for number, item in enumerate(compiled.outputs)),
    )


def _with_free_batch(model: Any, openvino: Any) -> Any:
    """The network with its first side open; as it was where something in it holds on to its batch size."""
    shape = list(model.input(0).get_partial_shape())
    freed = model.clone()
    try:
        freed.reshape({freed.input(0): openvino.PartialShape([openvino.Dimension(), *shape[1:]])})
    except RuntimeError:
        return model
    return freed


def _ir_sides(item: Any) -> Shape:
    # Of a network that was loaded without a rank nothing is known.
    sides = item.partial_shape if item.partial_shape.rank.is_static else ()
    return _sides([n.get_length() if n.is_static else None for n in sides])


def _ir_type(item: Any) -> str:
    return {"f16": "float16", "f32": "float32", "f64": "float64", "u8": "uint8"}.get(
        item.element_type.get_type_name(), str(item.element_type.get_type_name())
    )


def _ir_name(item: Any, number: int) -> str:
    return str(min(item.get_names())) if item.get_names() else str(number)


def _openvino(path: Path) -> Any:
    try:
        import openvino
    except ImportError:
        raise ModelError(
            f"{path}: an OpenVINO network needs the package openvino; run: pip install 'reid-mtda[openvino]', "
            "or use an ONNX file"
        ) from None
    return openvino


def _sides(shape: Sequence[Any]) -> Shape:
    return tuple(side if isinstance(side, int) and side > 0 else None for side in shape)


def first_line(error: Exception) -> str:
    """The first line of what a foreign library says, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
