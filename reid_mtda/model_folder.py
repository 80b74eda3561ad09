"""Model folders on disk: weights and their card, checked when read, replaced whole when written."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from reid_mtda.errors import ConfigError, ModelError, ShapeError, StorageError
from reid_mtda.schema import Strict, parse
from reid_mtda.types import ModelManifest, Preprocess
from reid_mtda.zoo.folder import FILES, ORIGIN

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CAMERAS = "cameras.json"
ONNX = "model.onnx"
IR = ("model.xml", "model.bin")
ID_DIGITS = 16


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
    output: str | None = None

    @field_validator("preprocess")
    @classmethod
    def _is_sound(cls, value: _PreprocessCard) -> _PreprocessCard:
        try:
            Preprocess(**value.model_dump())
        except ShapeError as error:
            raise ValueError(str(error)) from None
        return value


def read_manifest(folder: Path) -> ModelManifest:
    """Read the card of a model folder.

    Raises:
        ModelError: no such folder, no ``manifest.json`` in it, or one that is not a model's.
    """
    folder = Path(folder)
    if not folder.is_dir():
        state = "is a file, expected a model folder" if folder.exists() else "no such model folder"
        raise ModelError(f"{folder}: {state}; make one with 'reid-mtda export'")
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
        output=card.output,
    )


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
        _remove_left_over(folder)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        with _at_work_in(part):
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
    return next((name for name in names if name not in (*FILES, CAMERAS, ORIGIN)), "")


@contextlib.contextmanager
def _at_work_in(part: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which a kill lets go; yields whether it could be had."""
    try:
        import fcntl

        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    except (ImportError, OSError):  # Windows, or a folder that went
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = True
    except OSError:  # somebody else's, or a disk without locks
        is_ours = False
    try:
        yield is_ours
    finally:
        os.close(descriptor)


def _remove_left_over(folder: Path) -> None:
    """Remove what a kill left half-made of ``folder``: folders of that name that nobody works in."""
    for part in folder.parent.glob(f".{glob.escape(folder.name)}.*.part"):
        with _at_work_in(part) as is_ours:
            if is_ours:
                shutil.rmtree(part, ignore_errors=True)


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


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: ``model.onnx``, or ``model.xml`` and ``model.bin``."""
    for names in ((ONNX,), IR):
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    raise ModelError(f"{folder}: weights are missing, expected {ONNX}, or {' and '.join(IR)}; export again")


def hash_model(files: list[Path], preprocess: Preprocess, embedding_dim: int, output: str | None) -> str:
    """What a ``model_id`` is the beginning of: the weights, and what of the card changes what comes out of them.

    Args:
        files: weights in a fixed order.
        preprocess: size and colours of the input.
        embedding_dim: length D of an embedding.
        output: name of the embedding among several outputs; None: there is one.

    Raises:
        ModelError: a file cannot be read.
    """
    digest = _hash(files)
    numbers = {name: [float(n) for n in getattr(preprocess, name)] for name in ("mean", "std")}  # 0 is 0.0
    card = {"preprocess": asdict(preprocess) | numbers, "embedding_dim": embedding_dim, "output": output}
    digest.update(json.dumps(card, sort_keys=True).encode())
    return str(digest.hexdigest())


def check_model_id(folder: Path, manifest: ModelManifest) -> None:
    """Refuse a folder whose weights or card are not those that its ``model_id`` was made from.

    Raises:
        ModelError: they differ, or cannot be read.
    """
    files = weight_files(folder)
    found = hash_model(files, manifest.preprocess, manifest.embedding_dim, manifest.output)
    if found.startswith(manifest.model_id):
        return
    if manifest.output is None and _hash(files).hexdigest().startswith(manifest.model_id):
        log.warning(
            "%s: its model_id is of its weights alone, as 0.1 made them: a change of the sizes and numbers in %s would "
            "go unnoticed; export it again, and 'reindex' its galleries",
            folder,
            MANIFEST,
        )
        return
    raise ModelError(
        f"{folder}: weights and card are not those of its model_id, got {found[:ID_DIGITS]}, expected "
        f"{manifest.model_id}; {MANIFEST} was changed, or the folder is damaged or mixed: export again"
    )


def _hash(files: list[Path]) -> Any:
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise ModelError(f"{file}: cannot be read ({error.strerror}); check the file") from None
    return digest
