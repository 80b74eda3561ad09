"""A network of one's own in the models folder, under a name."""

from __future__ import annotations

import shutil
from pathlib import Path

from reid_mtda.camera_settings import AUTO, MOTION
from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.model_folder import new_model_folder
from reid_mtda.networks import SUFFIXES
from reid_mtda.onnx_file import whole_onnx
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.detector_card import card_path
from reid_mtda.workflow.export import GivenNetwork, export_weights
from reid_mtda.zoo.folder import NAME, find_installed, models_folder, write_origin
from reid_mtda.zoo.table import Task, load_table

UNSTATED = "not stated"


def add_model(
    file: Path,
    name: str,
    *,
    task: Task,
    given: GivenNetwork | None = None,
    licence: str | None = None,
    folder: Path | None = None,
) -> Path:
    """Take a network of one's own into the models folder, try it, and note its hash.

    Args:
        file: ``.onnx``, or ``.xml`` with its ``.bin`` beside it, and a detector's card; for task reid also weights that
            'reid-mtda export' reads, which are exported.
        name: what camera files and ``--model`` call it.
        task: what it is for.
        given: what the file of a re-identification network does not say itself.
        licence: its terms, for people; None notes that they are not known.
        folder: the models folder; None takes ``models_folder()``.

    Returns:
        Its folder.

    Raises:
        ConfigError: a name that cannot be one, or that the table has.
        ModelError: it cannot be read, or is not for that task; nothing is left behind.
        StorageError: the disk refused; nothing is left behind.
    """
    if not NAME.match(name):
        raise ConfigError(f"--name: got {name!r}, expected a-z 0-9 _ -, 64 at most, beginning with a letter or digit")
    if name in (AUTO, MOTION):
        raise ConfigError(f"--name: got {name!r}, which camera files have for something else; choose another")
    if name in load_table():
        raise ConfigError(
            f"--name: {name!r} is a name of the table; run 'reid-mtda models pull {name}', or choose another"
        )
    if not file.is_file():
        raise ModelError(f"{file}: no such file; check the path")
    place = (folder or models_folder()) / name
    with new_model_folder(place) as part:
        if task == "reid":
            export_weights(file, part, given)
        else:
            _add_detector(file, part)
        write_origin(part, task=task, source=file.name, licence=licence or UNSTATED)
    find_installed(name, task, folder)
    return place


def _add_detector(file: Path, part: Path) -> None:
    if file.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{file}: not a detector, expected a file ending in {' or '.join(SUFFIXES)}")
    load_detector(str(file), threads=1)
    if file.suffix.lower() == ".onnx":
        (part / "model.onnx").write_bytes(whole_onnx(file))
    else:
        for source in (file, file.with_suffix(".bin")):
            shutil.copyfile(source, part / f"model{source.suffix.lower()}")
    if card_path(file).is_file():
        shutil.copyfile(card_path(file), part / "model.json")
