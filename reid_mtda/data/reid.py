"""Person re-identification data sets as they lie on disk, read into typed sets. Nothing is downloaded.

A loader takes the folder the user named and returns the labelled training half and the test half. A folder that holds
one half only gives an empty other half; a half that is there but damaged is refused, unless the other alone is read.

Junk and distractors are told as `reid_mtda.junk` says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from reid_mtda.data.crop_table import TABLE, read_tracklets
from reid_mtda.data.tables import read_text
from reid_mtda.errors import DataError
from reid_mtda.files import not_a_folder
from reid_mtda.junk import is_person
from reid_mtda.types import IdentitySet, IntArray, LabelledSet, RetrievalSplit, UnlabelledSet
from reid_mtda.vision.picture_files import PICTURE_SUFFIXES, find_pictures

log = logging.getLogger(__name__)

Half = Literal["both", "train", "test"]
"""Which half of a data set is read; what is wrong with the other one is then nobody's concern."""
Entries = list[tuple[Path, int, int]]
"""(path, pid, camera number as the data set counts) of each picture."""


class Loader(Protocol):
    """Reads a data set from its folder; a half that is not asked for is empty."""

    def __call__(self, root: Path, *, half: Half = "both") -> tuple[LabelledSet, RetrievalSplit]:
        """Read the halves asked for."""


_NAME = re.compile(r"^(-?\d+)_c(\d+)")
_HALVES = "bounding_box_train/ to train, query/ and bounding_box_test/ to test"


def load_market1501(root: Path, *, half: Half = "both") -> tuple[LabelledSet, RetrievalSplit]:
    """Read Market-1501, or other data in its layout: ``bounding_box_train``, ``query``, ``bounding_box_test``.

    Pictures are named ``0002_c1s1_000451_03.jpg``: identity 2 in camera 1, which becomes camid 0; where a camera 0 is
    among them, numbers stay as they are. Sub-folders are read, too. An optional ``cameras.txt`` beside the folders
    names the cameras, one a line, the lowest number first; an optional ``tracklets.csv`` in ``bounding_box_train``,
    with the columns ``file`` and ``tracklet``, tells which pictures a tracker followed.

    Args:
        root: the folder that holds these three, or one above it.
        half: what is read.

    Raises:
        DataError: nothing of the kind is there; a picture has another name; one identity or one camera alone.
    """
    places = ("", "Market-1501-v15.09.15", "market1501", "market1501/Market-1501-v15.09.15")
    return _load_boxes(Path(root), places, "market1501", half)


def load_cuhk03np(root: Path, boxes: str = "detected", *, half: Half = "both") -> tuple[LabelledSet, RetrievalSplit]:
    """Read CUHK03-NP, the 767/700 protocol, as folders: ``<root>/detected`` or ``<root>/labeled`` in Market's layout.

    Pictures are named ``0001_c1_1.png``. Refusals as for `load_market1501`.

    Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.

    Args:
        root: folder of the data set.
        boxes: ``detected`` or ``labeled``.
        half: ``train``, ``test`` or ``both``.
    """
    places = (boxes, f"CUHK03-NP/{boxes}", f"cuhk03-np/{boxes}", "")
    return _load_boxes(Path(root), places, f"cuhk03np-{boxes}", half)


def load_msmt17(root: Path, *, half: Half = "both") -> tuple[LabelledSet, RetrievalSplit]:
    """Read MSMT17, V1 (``train``, ``test``) or V2 (``mask_train_v2``, ``mask_test_v2``), by its list files.

    Training takes ``list_train.txt``; ``list_val.txt`` stays out, as in published results.

    Args:
        root: the folder that holds ``list_train.txt``, or one above it.
        half: what is read.

    Raises:
        DataError: lists or pictures are missing or damaged; one identity or one camera alone.
    """
    lists = ("list_train.txt", "list_query.txt", "list_gallery.txt")
    places = [Path(root) / place for place in ("", "MSMT17_V1", "MSMT17_V2", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2")]
    folder = next((place for place in places if any((place / name).is_file() for name in lists)), None)
    if folder is None:
        raise DataError(f"{root}: got no list_train.txt, expected MSMT17; unpack it so that {root}/MSMT17_V1 has it")
    sides = [("train", "mask_train_v2"), ("test", "mask_test_v2"), ("test", "mask_test_v2")]
    parts = [
        _read_list(folder, name, side) if _is_wanted(number, half) else []
        for number, (name, side) in enumerate(zip(lists, sides, strict=True))
    ]
    return _sets(folder, "msmt17", parts)


def load_folder(root: Path) -> dict[str, UnlabelledSet]:
    """Read unlabelled crops: one folder for each camera, ``<root>/<camera>/*.jpg``, in order of names.

    Pictures in folders below a camera's are the camera's, too. An optional ``<root>/<camera>/crops.csv`` with the
    columns ``file`` and ``tracklet`` groups the crops of one track; a picture that it does not list has tracklet -1.
    With a column ``time_s`` a tracklet is in view from its first crop to its last. A camera without pictures is an
    empty set. Pictures beside the cameras' folders are left out, counted and said.

    Raises:
        DataError: no such folder, no folder of a camera in it, a ``crops.csv`` that is damaged or names a picture
            that is not there.
    """
    root = Path(root)
    wanted = "expected one folder of pictures for each camera, such as gate/000001.jpg"
    if not root.is_dir():
        raise DataError(f"{root}: {not_a_folder(root)}, {wanted}; harvest footage into it or copy pictures there")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    loose = [path for path in root.iterdir() if path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES]
    if not folders:
        got = "pictures outside such folders" if loose else "an empty folder"
        raise DataError(f"{root}: got {got}, {wanted}; harvest footage into it or copy pictures there")
    if loose:
        log.warning("%s: left out %d pictures that lie in no camera's folder, e.g. %s", root, len(loose), loose[0].name)
    sets = {}
    for folder in folders:
        paths = find_pictures(folder)
        table = folder / TABLE
        tracklets, spans = read_tracklets(table, paths) if table.exists() else (None, None)
        sets[folder.name] = UnlabelledSet(paths, folder.name, tracklets, spans=spans)
    return sets


def labelled(
    where: Path, domain: str, entries: Entries, *, has_cameras: bool = True, first_camera: int = 1
) -> LabelledSet:
    """Make a labelled set of entries, identities numbered 0..C-1 in rising order; no entries make an empty set.

    Args:
        where: opens the message of a refusal.
        domain: the set's name.
        entries: N pictures.
        has_cameras: whether the data set tells cameras; otherwise its camids are dropped, not checked.
        first_camera: what the data set calls camid 0.

    Raises:
        DataError: one identity or one camera alone; there is nothing to tell apart, or nothing to look past.
    """
    pids, camids = _columns(entries)
    identities, labels = np.unique(pids, return_inverse=True)
    for kind, found in (("identity", identities), ("camera", np.unique(camids))):
        if len(found) == 1 and (has_cameras or kind == "identity"):
            number = f"camera {found[0] + first_camera}" if kind == "camera" else f"identity {found[0]}"
            raise DataError(
                f"{where}: training pictures show {number} alone, expected at least two; add another {kind}"
            )
    paths = tuple(path for path, *_ in entries)
    return LabelledSet(paths, labels.astype(np.int64), len(identities), domain, camids if has_cameras else None)


def retrieval(
    where: Path, query: Entries, gallery: Entries, camera_names: tuple[str, ...] = (), *, first_camera: int = 1
) -> RetrievalSplit:
    """Make the two sides of a test of entries; both empty is an empty test.

    Args:
        where: opens the message of a refusal.
        query: Q pictures.
        gallery: G pictures.
        camera_names: the printed name of each camid, where the data set tells.
        first_camera: what the data set calls camid 0.

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
            f"{where}: test pictures show camera {cameras[0] + first_camera} alone, expected at least two: answers "
            "from the query's own camera do not count; add another camera"
        )
    if query and not np.isin(split.query.pids, split.gallery.pids).any():
        raise DataError(f"{where}: no identity is in query and gallery both; take both from the same data set")
    return split


def _identities(entries: Entries) -> IdentitySet:
    return IdentitySet(tuple(path for path, *_ in entries), *_columns(entries))


def _columns(entries: Entries) -> tuple[IntArray, IntArray]:
    numbers = np.array([entry[1:] for entry in entries], np.int64).reshape(-1, 2)
    return numbers[:, 0].copy(), numbers[:, 1].copy()


def without_junk(where: Path, entries: Entries) -> Entries:
    """Leave out the pictures that show no person; how many is logged."""
    kept = is_person(_columns(entries)[0], where=where)
    return [entry for entry, keep in zip(entries, kept, strict=True) if keep]


def _is_wanted(part: int, half: Half) -> bool:
    """Whether part 0, the training pictures, or 1 and 2, query and gallery, belong to ``half``."""
    return half == "both" or (half == "train") == (part == 0)


def _sets(folder: Path, domain: str, parts: Sequence[Entries]) -> tuple[LabelledSet, RetrievalSplit]:
    """Training pictures, query and gallery, cameras as the data set numbers them, as sets whose camids begin at 0."""
    numbers = [number for part in parts for *_, number in part]
    first = min(1, min(numbers, default=1))
    train, query, gallery = ([(path, pid, number - first) for path, pid, number in part] for part in parts)
    file = folder / "cameras.txt"
    names = tuple(line.strip() for line in read_text(file).splitlines() if line.strip()) if file.is_file() else ()
    if not names and first == 0:
        names = tuple(f"camera {number}" for number in range(max(numbers) + 1))
    return (
        labelled(folder, domain, train, first_camera=first),
        retrieval(folder, query, gallery, names, first_camera=first),
    )


def _load_boxes(root: Path, places: Iterable[str], domain: str, half: Half) -> tuple[LabelledSet, RetrievalSplit]:
    """Read the three folders of Market-1501's layout at the first of ``places`` under ``root`` that has any."""
    names = ("bounding_box_train", "query", "bounding_box_test")
    folders = [root / place for place in places]
    folder = next((folder for folder in folders if any((folder / part).is_dir() for part in names)), None)
    if folder is None:
        state = "got none of these" if root.is_dir() else not_a_folder(root)
        raise DataError(f"{root}: {state}, expected {_HALVES}; unpack {domain} there")
    parts = [_read_boxes(folder / name) if _is_wanted(number, half) else [] for number, name in enumerate(names)]
    if half == "both" and not any(parts):
        raise DataError(f"{folder}: got no pictures, expected {_HALVES}; unpack {domain} there")
    train, split = _sets(folder, domain, parts)
    table = folder / names[0] / "tracklets.csv"
    if len(train) and table.is_file():
        train = replace(train, tracklets=read_tracklets(table, train.paths)[0])
    return train, split


def _read_boxes(folder: Path) -> Entries:
    entries: Entries = []
    for path in find_pictures(folder) if folder.is_dir() else ():
        match = _NAME.match(path.name)
        if match is None:
            raise DataError(f"{path}: the name tells no identity and camera, expected e.g. 0002_c1s1_000451_03.jpg")
        entries.append((path, int(match[1]), int(match[2])))
    return without_junk(folder, entries)


def _read_list(folder: Path, name: str, sides: tuple[str, ...]) -> Entries:
    """Read one of MSMT17's lists: ``0000/0000_000_01_0303morning_0008_0.jpg 0`` on each line."""
    source = folder / name
    if not source.is_file():
        return []
    pictures = next((folder / side for side in sides if (folder / side).is_dir()), None)
    if pictures is None:
        raise DataError(f"{folder}: no folder {' or '.join(sides)} for {name}; unpack MSMT17 completely")
    entries: Entries = []
    for number, line in enumerate(read_text(source).splitlines(), start=1):
        if not line.strip():
            continue
        match = re.match(r"^(\S+/)?(\d+_\d+_(\d+)_[^\s,;]+)[\s,;]+(-?\d+)$", line.strip())
        if match is None:
            raise DataError(f"{source}, line {number}: got {line[:60]!r}, expected '0000/0000_000_01_..._0.jpg 0'")
        path = pictures / f"{match[1] or ''}{match[2]}"
        if not path.is_file():
            raise DataError(f"{path}: no such picture, but {name} names it; unpack MSMT17 completely")
        entries.append((path, int(match[4]), int(match[3])))
    return without_junk(source, entries)


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
