"""The folder of ready-made networks on this machine: found by name, and known again by their hashes."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs
from pydantic import Field

from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.files import write_json
from reid_mtda.schema import Strict, parse
from reid_mtda.zoo.table import Task, load_table

FOLDER_VARIABLE = "REID_MTDA_MODELS"
"""Environment variable that names the models folder."""

ORIGIN = "origin.json"
FILES = ("model.onnx", "model.xml", "model.bin", "model.json", "manifest.json")
"""Names of the files of a network that decide what it gives: its weights and its card."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")


class OriginFile(Strict):
    """A file of a network as it was when it came in."""

    bytes: int = Field(ge=0)
    sha384: str = Field(pattern=r"^[0-9a-f]{96}$")


class Origin(Strict):
    """``origin.json`` of a network: where it comes from, under which terms, and how its files are known again."""

    task: Task
    source: str
    licence: str
    added: str
    files: dict[str, OriginFile]


@dataclass(frozen=True)
class Installed:
    """A network in the models folder. ``fault``: what is wrong with it, or ''; ``origin`` is None where that is."""

    name: str
    folder: Path
    origin: Origin | None
    fault: str

    @property
    def weights(self) -> Path:
        """The file to open: ``model.onnx``, or ``model.xml`` with its ``.bin`` beside it."""
        return next((path for path in (self.folder / "model.onnx",) if path.is_file()), self.folder / "model.xml")


def models_folder() -> Path:
    """The folder of ready-made networks: ``$REID_MTDA_MODELS``, or a folder of the user's data (it need not be there).

    On Linux that is ``~/.local/share/reid-mtda/models``.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).expanduser() if given else platformdirs.user_data_path("reid-mtda", appauthor=False) / "models"


def write_origin(place: Path, *, task: Task, source: str, licence: str) -> None:
    """Write ``origin.json`` of the network whose files lie in ``place``.

    Args:
        place: holds ``model.onnx``, or ``model.xml`` and ``model.bin``.
        task: what it is for.
        source: where its files come from, for people.
        licence: under which terms, for people.

    Raises:
        StorageError: the disk refused.
    """
    names = [name for name in FILES if (place / name).is_file()]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    files = describe_files(place, names)
    write_json(
        place / ORIGIN,
        Origin(task=task, source=source, licence=licence, added=now, files=files).model_dump(),
    )


def describe_files(folder: Path, names: list[str]) -> dict[str, OriginFile]:
    """Length and hash of files as they are now."""
    found = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha384").hexdigest()
        found[name] = OriginFile(bytes=(folder / name).stat().st_size, sha384=digest)
    return found


def installed_models(folder: Path | None = None) -> dict[str, Installed]:
    """Look at every network of the models folder, and hash its files.

    Args:
        folder: the models folder; None takes ``models_folder()``.

    Returns:
        Networks by name, those with a fault included; a folder that is missing has none.
    """
    folder = folder or models_folder()
    try:
        inside = sorted(path for path in folder.iterdir() if NAME.match(path.name) and path.is_dir())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror}); check the models folder") from None
    return {path.name: _look_at(path) for path in inside if (path / ORIGIN).exists()}


def find_installed(name: str, task: Task, folder: Path | None = None) -> Installed:
    """Find a network by its name, and make sure that its files are those that came in.

    Args:
        name: as in ``reid-mtda models list``.
        task: what it has to be for.
        folder: the models folder; None takes ``models_folder()``.

    Raises:
        ConfigError: no network of that name, or one for another task.
        ModelError: it was not fetched yet, or its files are not those that came in.
    """
    folder = folder or models_folder()
    place = folder / name
    if not (NAME.match(name) and (place / ORIGIN).is_file()):
        table = load_table()
        if name in table:
            if table[name].task != task:
                raise ConfigError(f"{name}: {_KIND[table[name].task]}, expected {_KIND[task]}")
            raise ModelError(f"{name}: not in {folder} yet; run 'reid-mtda models pull {name}'")
        known = {known for known, entry in table.items() if entry.task == task}
        known |= {
            known
            for known, found in installed_models(folder).items()
            if found.origin is not None and found.origin.task == task
        }
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(sorted(known))}"
        raise ConfigError(f"got {name!r}, no file and no {_KIND[task].removeprefix('a ')} of that name; {hint}")
    found = _look_at(place)
    if found.fault or found.origin is None:
        raise ModelError(f"{place}: {found.fault}; pull or add it again")
    if found.origin.task != task:
        raise ConfigError(f"{name}: {_KIND[found.origin.task]}, expected {_KIND[task]}")
    return found


def resolve_model(model: Path) -> Path:
    """Return the model folder that ``model`` names: a folder that is there, or a network of the models folder.

    Raises:
        ConfigError: the name of a detector.
        ModelError: a ready-made network that was not fetched yet, or whose files are not those that came in.
    """
    if model.exists() or not NAME.match(str(model)):
        return model
    is_known = str(model) in load_table() or (models_folder() / model / ORIGIN).is_file()
    return find_installed(str(model), "reid").folder if is_known else model


_KIND = {"detector": "a person detector", "reid": "a re-identification network"}


def _look_at(place: Path) -> Installed:
    """One network of the models folder, with its fault."""
    where = place / ORIGIN
    try:
        origin = parse(Origin, json.loads(where.read_text(encoding="utf-8")), where=ORIGIN)
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        return Installed(place.name, place, None, f"{ORIGIN} is damaged ({error})")
    return Installed(place.name, place, origin, _fault(place, origin))


def _fault(place: Path, origin: Origin) -> str:
    for name, expected in origin.files.items():
        try:
            got = describe_files(place, [name])[name]
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if got != expected:
            return (
                f"{name} is not the file that came in, got {got.bytes} bytes of SHA-384 {got.sha384[:12]}, "
                f"expected {expected.bytes} of {expected.sha384[:12]}"
            )
    return ""
