"""A model folder back to work: weights and their card in, an ``Embed`` out; ONNX Runtime or OpenVINO, no torch.

A model folder holds ``manifest.json`` and either ``model.onnx`` or ``model.xml`` with ``model.bin``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from reid_mtda.errors import ConfigError, ModelError, ShapeError, StorageError
from reid_mtda.runs import write_json
from reid_mtda.schema import Strict, parse
from reid_mtda.types import Embed, FloatArray, ModelManifest, Preprocess, check_array

MANIFEST = "manifest.json"
ONNX = "model.onnx"
IR = ("model.xml", "model.bin")

# More rows at once bring no more crops a second on a CPU, only more memory.
_MAX_BATCH = 32
_ID_DIGITS = 16

_Session = Callable[[FloatArray], FloatArray]


class _PreprocessCard(Strict):
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["RGB", "BGR"] = "RGB"


class _Card(Strict):
    """``manifest.json`` as it is written."""

    kind: Literal["reid-mtda model"]
    model_id: str = Field(pattern=r"^[0-9a-f]{12,64}$")
    arch: str
    embedding_dim: int = Field(ge=1, le=65536)
    preprocess: _PreprocessCard
    trained_on: str

    @field_validator("preprocess")
    @classmethod
    def _is_sound(cls, value: _PreprocessCard) -> _PreprocessCard:
        try:
            Preprocess(**value.model_dump())
        except ShapeError as error:
            raise ValueError(str(error)) from None
        return value


def load_exported(folder: Path, *, threads: int | None = None) -> tuple[Embed, ModelManifest]:
    """Open a model folder.

    Args:
        folder: holds ``manifest.json`` and ``model.onnx``, or ``model.xml`` and ``model.bin``.
        threads: CPU threads of one call; None takes all this process may use.

    Returns:
        ``embed``: float32 (B, 3, h, w), preprocessed -> float32 (B, D), rows of length 1, B = 0 included; may be
        called from several threads. And the manifest.

    Raises:
        ModelError: the folder is missing, damaged, of another kind, or its weights are not those of its manifest.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    found = _model_id(_weight_files(folder))
    if not found.startswith(manifest.model_id):
        raise ModelError(
            f"{folder}: weights are not those of {MANIFEST}, got {found[:_ID_DIGITS]}, expected {manifest.model_id}; "
            "the folder is damaged or mixed: export again"
        )
    return _checked_embed(folder, _open_session(folder, threads), manifest), manifest


def read_manifest(folder: Path) -> ModelManifest:
    """Read the card of a model folder.

    Raises:
        ModelError: no such folder, no ``manifest.json`` in it, or one that is not a model's.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; make one with 'reid-mtda export'")
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(f"{folder}: not a model folder, {MANIFEST} is missing; make one with 'reid-mtda export'")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: damaged ({error}), expected JSON; export again") from None
    if not isinstance(value, dict) or value.get("kind") != "reid-mtda model":
        raise ModelError(f"{path}: not the manifest of a model, expected kind 'reid-mtda model'; export again")
    try:
        card = parse(_Card, value, where=str(path))
    except ConfigError as error:
        raise ModelError(f"{error}; export again") from None
    return ModelManifest(
        model_id=card.model_id,
        arch=card.arch,
        embedding_dim=card.embedding_dim,
        preprocess=Preprocess(**card.preprocess.model_dump()),
        trained_on=card.trained_on,
    )


def write_manifest(weights: Path, folder: Path, *, arch: str, preprocess: Preprocess, trained_on: str) -> ModelManifest:
    """Make a model folder out of a ready-made ONNX or OpenVINO IR file, e.g. to use it as a teacher.

    Args:
        weights: ``*.onnx``, or ``*.xml`` with its ``*.bin`` beside it; one input (B, 3, h, w), one output (B, D, ...).
        folder: the model folder to make; a model folder that stands there is replaced once the new one is complete.
        arch: name of the network, for people.
        preprocess: what the network expects; for BGR 0-255 that is ``mean=(0, 0, 0), std=(1/255,) * 3,
            channels="BGR"``.
        trained_on: where the weights come from, for people.

    Raises:
        ModelError: the weights cannot be opened or do not turn crops into vectors; ``folder`` is as it was.
    """
    weights = Path(weights)
    sources = [weights] if weights.suffix == ".onnx" else [weights.with_suffix(".xml"), weights.with_suffix(".bin")]
    for source in sources:
        if not source.is_file():
            raise ModelError(f"{source}: no such file, expected an ONNX file or an OpenVINO .xml with its .bin")
    with new_model_folder(folder) as part:
        for source in sources:
            shutil.copyfile(source, part / f"model{source.suffix}")
        return finish_folder(part, arch=arch, preprocess=preprocess, trained_on=trained_on)


def finish_folder(part: Path, *, arch: str, preprocess: Preprocess, trained_on: str) -> ModelManifest:
    """Write the manifest of the weights that lie in ``part``, after one trial crop gave a vector."""
    session = _open_session(part, 1)
    row = _run(part, session, np.zeros((1, 3, preprocess.height, preprocess.width), np.float32))
    manifest = ModelManifest(
        model_id=_model_id(_weight_files(part))[:_ID_DIGITS],
        arch=arch,
        embedding_dim=row.shape[1],
        preprocess=preprocess,
        trained_on=trained_on,
    )
    write_json(part / MANIFEST, {"kind": "reid-mtda model", **asdict(manifest)})
    return manifest


@contextlib.contextmanager
def new_model_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; it takes that name when the block ends well, else it is removed.

    Raises:
        ModelError: ``folder`` holds something that is not a model folder: it would be lost.
        StorageError: the disk refused; ``folder`` is as it was.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a name like "." must have a parent to stand in
    foreign = _foreign_content(folder)
    if foreign:
        raise ModelError(f"{folder}: holds {foreign}, which is not part of a model folder; choose another folder")
    part: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        yield part
        part.chmod(0o755)
        _take_name(part, folder)
    except ModelError as error:
        raise ModelError(str(error).replace(str(part), str(folder))) from error
    except OSError as error:
        raise StorageError(
            f"{folder}: could not be written ({error.strerror or error}); free space or choose another folder; "
            "what stood there before is untouched"
        ) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _foreign_content(folder: Path) -> str:
    """The name of something in ``folder`` that no model folder holds, or ''."""
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return "a file of that name"
    names = sorted(path.name for path in folder.iterdir())
    return next((name for name in names if name not in (MANIFEST, ONNX, *IR)), "")


def _take_name(part: Path, folder: Path) -> None:
    """Rename ``part`` to ``folder``; what stood there steps aside first and comes back should the renaming fail."""
    if not folder.exists():
        part.rename(folder)
        return
    aside = part.with_suffix(".old")
    folder.rename(aside)
    try:
        part.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _weight_files(folder: Path) -> list[Path]:
    for names in ((ONNX,), IR):
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    raise ModelError(f"{folder}: weights are missing, expected {ONNX}, or {' and '.join(IR)}; export again")


def _model_id(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise ModelError(f"{file}: cannot be read ({error.strerror}); check the file") from None
    return digest.hexdigest()


def _open_session(folder: Path, threads: int | None) -> _Session:
    files = _weight_files(folder)
    threads = threads or _usable_cores()
    return _onnx_session(files[0], threads) if len(files) == 1 else _ir_session(files[0], threads)


def _usable_cores() -> int:
    """Cores this process may run on; Linux alone tells apart those it may and those there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _onnx_session(path: Path, threads: int) -> _Session:
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


def _ir_session(path: Path, threads: int) -> _Session:
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


def _in_batches(run: _Session, batch: int) -> _Session:
    """``run`` on at most ``batch`` rows at a time, outputs flattened to (B, D)."""

    def run_all(crops: FloatArray) -> FloatArray:
        parts = [run(crops[start : start + batch]) for start in range(0, len(crops), batch)]
        return np.concatenate([np.asarray(part, np.float32).reshape(len(part), -1) for part in parts])

    return run_all


def _run(folder: Path, session: _Session, crops: FloatArray) -> FloatArray:
    try:
        return session(crops)
    except Exception as error:
        raise ModelError(
            f"{folder}: the model refused crops {crops.shape} ({_first_line(error)}); "
            "its manifest's height and width may be wrong"
        ) from None


def _checked_embed(folder: Path, session: _Session, manifest: ModelManifest) -> Embed:
    """Wrap ``session`` as an Embed whose input and output are what the manifest promises."""
    height, width, dim = manifest.preprocess.height, manifest.preprocess.width, manifest.embedding_dim

    def embed(crops: FloatArray) -> FloatArray:
        check_array(f"model {manifest.model_id}, crops", crops, np.float32, (None, 3, height, width))
        if len(crops) == 0:
            return np.zeros((0, dim), np.float32)
        rows = _run(folder, session, np.ascontiguousarray(crops))
        if rows.shape != (len(crops), dim):
            raise ModelError(
                f"{folder}: the model gave {rows.shape}, expected {(len(crops), dim)}; {MANIFEST} is of another model"
            )
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(length).all() and length.min() > 0):
            raise ModelError(f"{folder}: the model gave numbers without a direction (zero or not finite); export again")
        return np.asarray(rows / length, np.float32)

    embed(np.full((1, 3, height, width), 0.5, np.float32))
    return embed


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
