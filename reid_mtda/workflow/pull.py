"""Ready-made networks fetched into the models folder: from their makers, a mirror, or a folder; checked, and tried."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.files import not_a_folder, write_json
from reid_mtda.model import finish_folder
from reid_mtda.model_folder import new_model_folder
from reid_mtda.networks import devices_of
from reid_mtda.progress import Progress, silent
from reid_mtda.schema import parse
from reid_mtda.types import Preprocess
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.detector_card import DetectorCard, card_path
from reid_mtda.zoo.download import download
from reid_mtda.zoo.folder import Installed, find_installed, installed_models, models_folder, write_origin
from reid_mtda.zoo.table import CropInput, WeightFile, ZooEntry, load_table, zoo_entry


def pull_models(
    names: Sequence[str] = (),
    *,
    folder: Path | None = None,
    source: Path | None = None,
    mirror: str | None = None,
    table: Mapping[str, ZooEntry] | None = None,
    progress: Progress = silent,
    told: Callable[[str, bool], None] = lambda name, is_new: None,
) -> dict[str, bool]:
    """Fetch networks of the table that are not in the models folder yet, and try each of them.

    Args:
        names: which ones; none takes the recommended ones.
        folder: the models folder; None takes ``models_folder()``.
        source: a folder that is searched in place of the network; files are known by their hash, whatever their names.
        mirror: address below which the files stand as NAME/FILE, in place of their makers' addresses.
        table: another table of networks; None takes the package's.
        progress: told (network and file, kB done, kB in all).
        told: called with each network that is here now, and whether it was fetched.

    Returns:
        By name, whether it was fetched; False where it was there and sound.

    Raises:
        ConfigError: a name that is not in the table.
        ModelError: a file that cannot be had, or is not the one of the table; nothing of its network is left behind,
            and the others were fetched before it is raised.
        StorageError: the disk refused; nothing is left behind.
    """
    folder = folder or models_folder()
    table = load_table() if table is None else table
    entries = {name: zoo_entry(name, table) for name in names} or recommended_models(table)
    if source is not None and not source.is_dir():
        raise ConfigError(f"--from {source}: {not_a_folder(source)}; expected one that holds the files")
    fetched, missed = {}, list[str]()
    for name, entry in entries.items():
        is_new = not _is_here(name, entry, folder)
        try:
            if is_new:
                _pull(name, entry, folder, source, mirror, progress)
        except ModelError as error:  # the others may be had all the same
            missed.append(str(error))
            continue
        fetched[name] = is_new
        told(name, is_new)
    if missed:
        raise ModelError("; ".join(missed))
    return fetched


def recommended_models(table: Mapping[str, ZooEntry]) -> dict[str, ZooEntry]:
    """Return a person detector and a re-identification network that serve most sites to begin with."""
    return {name: entry for name, entry in table.items() if entry.recommended}


def verify_models(folder: Path | None = None) -> dict[str, str]:
    """Hash every network of the models folder.

    Returns:
        By name what is wrong, '' where nothing is. Networks of the table must have the table's files.
    """
    found = installed_models(folder)
    table = load_table()
    return {name: one.fault or _differs(one, table.get(name)) for name, one in found.items()}


def _differs(found: Installed, entry: ZooEntry | None) -> str:
    for name, file in entry.files.items() if entry else ():
        if not ((found.folder / name).is_file() and file.is_in(found.folder / name)):
            return f"{name} is not the file of the table, which may have changed; pull it again"
    return ""


def _is_here(name: str, entry: ZooEntry, folder: Path) -> bool:
    try:
        return not _differs(find_installed(name, entry.task, folder), entry)
    except (ConfigError, ModelError):
        return False


def _pull(
    name: str, entry: ZooEntry, folder: Path, source: Path | None, mirror: str | None, progress: Progress
) -> None:
    if "model.xml" in entry.files:
        devices_of(Path(f"{name}/model.xml"))  # says what is missing before anything is fetched
    with new_model_folder(folder / name) as part:
        for file, expected in entry.files.items():
            if source is not None:
                shutil.copyfile(_search(source, name, file, expected), part / file)
            else:
                url = f"{mirror.rstrip('/')}/{name}/{file}" if mirror else expected.url
                download(url, part / file, size=expected.bytes, part=f"{name} {file}", progress=progress)
            if not expected.is_in(part / file):
                where = source or url
                raise ModelError(
                    f"{where}: {file} of {name} is not the file of the table, its hash differs, expected "
                    f"{(expected.sha384 or expected.sha256 or '')[:16]}...; it was removed: try again or another source"
                )
        if entry.preprocess is not None:
            finish_folder(
                part, arch=name, preprocess=crop_preprocess(entry.preprocess), trained_on=f"ready-made: {entry.card}"
            )
        else:
            weights = part / next(iter(entry.files))
            if entry.detector:
                card = parse(DetectorCard, entry.detector, where=f"{name}: detector")
                write_json(card_path(weights), card.model_dump(exclude_unset=True))
            load_detector(str(weights), threads=1)
        came_from = str(source) if source is not None else mirror or next(iter(entry.files.values())).url
        write_origin(part, task=entry.task, source=came_from, licence=entry.licence)


def _search(source: Path, name: str, file: str, expected: WeightFile) -> Path:
    """The file below ``source`` that holds what the table expects."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and expected.is_in(path):
            return path
    raise ModelError(
        f"--from {source}: holds no {file} of {name}, a file of {expected.bytes} bytes; fetch it elsewhere from "
        f"{expected.url} and copy it there, under any name"
    )


def crop_preprocess(crop: CropInput) -> Preprocess:
    """Return what turns crops into the input of a ready-made network."""
    if not crop.bgr255:
        return Preprocess(height=crop.height, width=crop.width)
    return Preprocess(
        height=crop.height, width=crop.width, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), channels="BGR"
    )
