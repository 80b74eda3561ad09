"""Person re-identification data sets as they lie on disk, read into typed sets. Nothing is downloaded.

A loader takes the folder the user named and returns the labelled training half and the test half. A folder that holds
one half only gives an empty other half; a half that is there but damaged is refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from reid_mtda.errors import DataError
from reid_mtda.types import DoubleArray, IdentitySet, IntArray, LabelledSet, RetrievalSplit, UnlabelledSet

Loader = Callable[[Path], tuple[LabelledSet, RetrievalSplit]]
Entries = list[tuple[Path, int, int]]
"""(path, pid, camid) of each picture."""

JUNK = -1
"""Market-1501's pid for boxes that are no person; left out. Its pid 0, distractors, stays in the gallery."""
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
_NAME = re.compile(r"^(-?\d+)_c(\d+)")
_HALVES = "bounding_box_train/ to train, query/ and bounding_box_test/ to test"


def load_market1501(root: Path) -> tuple[LabelledSet, RetrievalSplit]:
    """Read Market-1501, or other data in its layout: ``bounding_box_train``, ``query``, ``bounding_box_test``.

    Pictures are named ``0002_c1s1_000451_03.jpg``: identity 2 in camera 1, which becomes camid 0. An optional
    ``cameras.txt`` beside the folders names the cameras, one a line, camera 1 first; an optional ``tracklets.csv`` in
    ``bounding_box_train``, with the columns ``file`` and ``tracklet``, tells which pictures a tracker followed.

    Args:
        root: the folder that holds these three, or one above it.

    Raises:
        DataError: nothing of the kind is there; a picture has another name; one identity or one camera alone.
    """
    return _load_boxes(Path(root), ("", "Market-1501-v15.09.15", "market1501", "market1501/Market-1501-v15.09.15"))


def load_cuhk03np(root: Path, boxes: str = "detected") -> tuple[LabelledSet, RetrievalSplit]:
    """Read CUHK03-NP, the 767/700 protocol, as folders: ``<root>/detected`` or ``<root>/labeled`` in Market's layout.

    Pictures are named ``0001_c1_1.png``. Refusals as for `load_market1501`.

    Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.
    """
    return _load_boxes(Path(root), (boxes, f"CUHK03-NP/{boxes}", f"cuhk03-np/{boxes}", ""), domain=f"cuhk03np-{boxes}")


def load_msmt17(root: Path) -> tuple[LabelledSet, RetrievalSplit]:
    """Read MSMT17, V1 (``train``, ``test``) or V2 (``mask_train_v2``, ``mask_test_v2``), by its list files.

    Training takes ``list_train.txt``; ``list_val.txt`` stays out, as in published results.

    Args:
        root: the folder that holds ``list_train.txt``, or one above it.

    Raises:
        DataError: lists or pictures are missing or damaged; one identity or one camera alone.
    """
    lists = ("list_train.txt", "list_query.txt", "list_gallery.txt")
    places = [Path(root) / place for place in ("", "MSMT17_V1", "MSMT17_V2", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2")]
    folder = next((place for place in places if any((place / name).is_file() for name in lists)), None)
    if folder is None:
        raise DataError(f"{root}: got no list_train.txt, expected MSMT17; unpack it so that {root}/MSMT17_V1 has it")
    sides = [("train", "mask_train_v2"), ("test", "mask_test_v2"), ("test", "mask_test_v2")]
    train, query, gallery = (_read_list(folder, name, side) for name, side in zip(lists, sides, strict=True))
    return labelled(folder, "msmt17", train), retrieval(folder, query, gallery)


def load_folder(root: Path) -> dict[str, UnlabelledSet]:
    """Read unlabelled crops: one folder for each camera, ``<root>/<camera>/*.jpg``, in order of names.

    An optional ``<root>/<camera>/crops.csv`` with the columns ``file`` and ``tracklet``
    groups the crops of one track; a picture that it does not list has tracklet -1. With a column ``time_s`` a tracklet
    is in view from its first crop to its last. A camera without pictures is an empty set.

    Raises:
        DataError: no such folder, no folder of a camera in it, a ``crops.csv`` that is damaged or names a picture
            that is not there.
    """
    root = Path(root)
    wanted = "expected one folder of pictures for each camera, such as gate/000001.jpg"
    if not root.is_dir():
        raise DataError(f"{root}: no such folder, {wanted}; harvest footage into it or copy pictures there")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        loose = "pictures outside such folders" if _pictures(root) else "an empty folder"
        raise DataError(f"{root}: got {loose}, {wanted}; harvest footage into it or copy pictures there")
    sets = {}
    for folder in folders:
        paths = _pictures(folder)
        table = folder / "crops.csv"
        tracklets, spans = _read_tracklets(table, paths) if table.exists() else (None, None)
        sets[folder.name] = UnlabelledSet(paths, folder.name, tracklets, spans=spans)
    return sets


def labelled(where: Path, domain: str, entries: Entries, *, has_cameras: bool = True) -> LabelledSet:
    """Entries as a labelled set, identities numbered 0..C-1 in rising order; no entries make an empty set.

    Without ``has_cameras`` the data set does not tell cameras: its camids are dropped, not checked.

    Raises:
        DataError: one identity or one camera alone; there is nothing to tell apart, or nothing to look past.
    """
    pids, camids = _columns(entries)
    identities, labels = np.unique(pids, return_inverse=True)
    for kind, found in (("identity", identities), ("camera", np.unique(camids))):
        if len(found) == 1 and (has_cameras or kind == "identity"):
            number = f"camera {found[0] + 1}" if kind == "camera" else f"identity {found[0]}"
            raise DataError(
                f"{where}: training pictures show {number} alone, expected at least two; add another {kind}"
            )
    paths = tuple(path for path, *_ in entries)
    return LabelledSet(paths, labels.astype(np.int64), len(identities), domain, camids if has_cameras else None)


def retrieval(where: Path, query: Entries, gallery: Entries, camera_names: tuple[str, ...] = ()) -> RetrievalSplit:
    """Entries as the two sides of a test; both empty is an empty test.

    Raises:
        DataError: one side alone is empty, or all pictures are of one camera, or no identity is on both sides.
    """
    split = RetrievalSplit(_identities(query), _identities(gallery), camera_names)
    if bool(query) != bool(gallery):
        empty = "gallery" if query else "query"
        raise DataError(f"{where}: the {empty} side has no pictures, expected some; complete the test half")
    cameras = np.unique(np.concatenate([split.query.camids, split.gallery.camids]))
    if query and len(cameras) == 1:
        raise DataError(
            f"{where}: test pictures show camera {cameras[0] + 1} alone, expected at least two: answers from the "
            "query's own camera do not count; add another camera"
        )
    if query and not np.isin(split.query.pids, split.gallery.pids).any():
        raise DataError(f"{where}: no identity is in query and gallery both; take both from the same data set")
    return split


def _identities(entries: Entries) -> IdentitySet:
    return IdentitySet(tuple(path for path, *_ in entries), *_columns(entries))


def _columns(entries: Entries) -> tuple[IntArray, IntArray]:
    numbers = np.array([entry[1:] for entry in entries], np.int64).reshape(-1, 2)
    return numbers[:, 0].copy(), numbers[:, 1].copy()


def _pictures(folder: Path) -> tuple[Path, ...]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    return tuple(sorted(path for path in found if path.is_file()))


def _load_boxes(root: Path, places: Iterable[str], domain: str = "market1501") -> tuple[LabelledSet, RetrievalSplit]:
    """Read the three folders of Market-1501's layout at the first of ``places`` under ``root`` that has any."""
    parts = ("bounding_box_train", "query", "bounding_box_test")
    folders = [root / place for place in places]
    folder = next((folder for folder in folders if any((folder / part).is_dir() for part in parts)), None)
    if folder is None:
        state = "got none of these" if root.is_dir() else "no such folder"
        raise DataError(f"{root}: {state}, expected {_HALVES}; unpack {domain} there")
    train, query, gallery = (_read_boxes(folder / part) for part in parts)
    if not (train or query or gallery):
        raise DataError(f"{folder}: got no pictures, expected {_HALVES}; unpack {domain} there")
    names = folder / "cameras.txt"
    camera_names = tuple(_read_text(names).split()) if names.is_file() else ()
    half, table = labelled(folder / parts[0], domain, train), folder / parts[0] / "tracklets.csv"
    if table.is_file():
        half = replace(half, tracklets=_read_tracklets(table, half.paths)[0])
    return half, retrieval(folder, query, gallery, camera_names)


def _read_boxes(folder: Path) -> Entries:
    entries: Entries = []
    for path in _pictures(folder) if folder.is_dir() else ():
        match = _NAME.match(path.name)
        if match is None or int(match[2]) < 1:
            raise DataError(f"{path}: the name tells no identity and camera, expected e.g. 0002_c1s1_000451_03.jpg")
        if int(match[1]) != JUNK:
            entries.append((path, int(match[1]), int(match[2]) - 1))
    return entries


def _read_list(folder: Path, name: str, sides: tuple[str, ...]) -> Entries:
    """Read one of MSMT17's lists: ``0000/0000_000_01_0303morning_0008_0.jpg 0`` on each line."""
    source = folder / name
    if not source.is_file():
        return []
    pictures = next((folder / side for side in sides if (folder / side).is_dir()), None)
    if pictures is None:
        raise DataError(f"{folder}: no folder {' or '.join(sides)} for {name}; unpack MSMT17 completely")
    entries: Entries = []
    for number, line in enumerate(_read_text(source).splitlines(), start=1):
        if not line.strip():
            continue
        match = re.match(r"^(\S+/)?(\d+_\d+_(\d+)_\S+) +(\d+)$", line.strip())
        if match is None:
            raise DataError(f"{source}, line {number}: got {line[:60]!r}, expected '0000/0000_000_01_..._0.jpg 0'")
        path = pictures / f"{match[1] or ''}{match[2]}"
        if not path.is_file():
            raise DataError(f"{path}: no such picture, but {name} names it; unpack MSMT17 completely")
        entries.append((path, int(match[4]), int(match[3]) - 1))
    return entries


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); replace it by an undamaged copy") from None


def _read_tracklets(table: Path, paths: tuple[Path, ...]) -> tuple[IntArray, DoubleArray]:
    """Tracklet of each of ``paths``, -1 where ``crops.csv`` does not list it, and its time in view, NaN if unknown."""
    wanted = "expected the columns file and tracklet, the name of a picture and a whole number from 0"
    advice = "harvest the footage again, or remove the file to go without tracklets"
    here = {path.name for path in paths}
    found: dict[str, int] = {}
    times: dict[int, list[float]] = {}
    try:
        rows = csv.DictReader(_read_text(table).splitlines(), strict=True)
        if not {"file", "tracklet"} <= set(rows.fieldnames or ()):
            raise DataError(
                f"{table}: got the columns {', '.join(rows.fieldnames or ()) or 'none'}, {wanted}; {advice}"
            )
        for row in rows:
            where = f"{table}, line {rows.line_num}"
            name, tracklet = row["file"] or "", row["tracklet"] or ""
            if not re.fullmatch(r"\d{1,18}", tracklet):
                raise DataError(f"{where}: got tracklet {tracklet!r} for {name!r}, {wanted}; {advice}")
            if name not in here:
                raise DataError(f"{where}: names the picture {name!r}, which is not in {table.parent}; {advice}")
            if name in found:
                raise DataError(f"{where}: names {name!r} a second time, expected each picture once; {advice}")
            found[name] = int(tracklet)
            times.setdefault(found[name], []).append(_seconds(row.get("time_s"), where))
    except csv.Error as error:
        raise DataError(f"{table}: not a table of comma-separated values ({error}); {advice}") from None
    tracklets = [found.get(path.name, -1) for path in paths]
    spans = {tracklet: (min(seen), max(seen)) for tracklet, seen in times.items() if not np.isnan(seen).any()}
    known = np.array([spans.get(number, (np.nan, np.nan)) for number in tracklets], np.float64)
    return np.array(tracklets, np.int64), known.reshape(-1, 2)


def _seconds(text: str | None, where: str) -> float:
    """A column of times is optional; one that is there holds numbers."""
    try:
        value = float(text) if text else np.nan
    except ValueError:
        value = np.inf
    if np.isinf(value):
        raise DataError(f"{where}: got time_s {text!r}, expected seconds; harvest the footage again")
    return value


CONTENTS = {
    "market1501": _HALVES,
    "msmt17": "list_train.txt, list_query.txt and list_gallery.txt beside train/ and test/",
    "cuhk03np": f"detected/ with {_HALVES}",
    "cuhk03np-labeled": f"labeled/ with {_HALVES}",
}
"""What a data set's folder must hold, for those who have to put it there."""

DATASETS: dict[str, Loader] = {
    "market1501": load_market1501,
    "msmt17": load_msmt17,
    "cuhk03np": load_cuhk03np,
    "cuhk03np-labeled": partial(load_cuhk03np, boxes="labeled"),
}
