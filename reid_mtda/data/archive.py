"""Crops in a NumPy archive: unpacked into folders once, identities split into those to learn from and those to test."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from reid_mtda.arrays import Arrays, read_arrays
from reid_mtda.errors import DataError, StorageError
from reid_mtda.junk import is_person
from reid_mtda.types import IntArray

Split = Literal["drawn", "given", "validation"]
"""Who is tested: people drawn by the seed, the archive's own test people, or a fixed quarter of its other people."""

TRAIN, TEST, DISTRACTOR = "adapt", "test", "distractor"
"""Names of the archive's own halves; distractors are in the gallery alone."""
VALIDATION_SHARE = 0.25
_VALIDATION_SEED = 0
_SIDES = {TRAIN: ("bounding_box_train",), TEST: ("query", "bounding_box_test"), DISTRACTOR: ("bounding_box_test",)}


def unpack_archive(
    path: Path, folder: Path, *, seed: int, test_share: float, identity: str = "pid", split: Split = "drawn"
) -> None:
    """Write an archive's crops as picture files in Market-1501's layout; a folder that is there already is kept.

    Args:
        path: ``.npz`` with identities (N,), negative ones being no people (`reid_mtda.junk`), and ``cam`` (N,), whole
            numbers, and pictures: ``x`` uint8 (N, h, w, 3) RGB, or JPEG files ``buf`` uint8 (B,) of which picture i is
            ``buf[off[i]:off[i + 1]]``. It may hold ``split`` (N,) of the names adapt, test and distractor, and
            ``tracklet`` (N,), whole numbers.
        folder: gets ``bounding_box_train``, ``query``, ``bounding_box_test`` and ``cameras.txt``, and
            ``bounding_box_train/tracklets.csv`` where the archive tells tracklets. Query and gallery hold the same
            pictures, the gallery distractors as well; an answer from the query's own camera does not count.
        seed: draws which identities are tested.
        test_share: share of the identities tested, in (0, 1]; 1 leaves nothing to learn from.
        identity: the array of identities, e.g. ``avatar`` where several people look exactly alike.
        split: ``drawn`` takes ``seed`` and ``test_share``, and is refused where the archive names its test people.
            ``given`` is the archive's own split. ``validation`` leaves its test people out and tests a quarter of
            those to learn from, the same whatever the seed: settings are chosen on it.

    Raises:
        DataError: no such file, not such an archive, arrays that do not belong together, or a split that it lacks.
        StorageError: the folder cannot be written.
    """
    if folder.is_dir():
        return
    crops = _read(Path(path), identity)
    halves = np.where(is_person(crops.pids, where=path), _halves(Path(path), crops, split, seed, test_share), "")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as hidden:
            part = Path(hidden) / folder.name
            _write(part, crops, halves)
            part.rename(folder)
    except OSError as error:
        raise StorageError(
            f"{folder}: crops could not be written ({error.strerror or error}); free space or choose another folder"
        ) from None


def names_split(path: Path) -> bool:
    """Whether the archive at ``path`` says which of its people are tested."""
    return "split" in read_arrays(Path(path), (), expected="expected an .npz of crops", optional=("split",))


@dataclass(frozen=True, eq=False)
class _Crops:
    """Checked arrays of N crops: ``x`` pictures, or ``buf`` and ``off`` JPEG files."""

    arrays: Arrays
    pids: IntArray
    cams: IntArray

    def file(self, number: int) -> tuple[bytes, str]:
        """Picture ``number`` as the bytes of a file and their ending; JPEG files are kept as they are."""
        if "buf" not in self.arrays:
            packed = cv2.imencode(".png", cv2.cvtColor(self.arrays["x"][number], cv2.COLOR_RGB2BGR))[1]
            return packed.tobytes(), "png"
        begin, end = self.arrays["off"][number : number + 2]
        return self.arrays["buf"][begin:end].tobytes(), "jpg"


def _halves(path: Path, crops: _Crops, split: Split, seed: int, test_share: float) -> npt.NDArray[np.str_]:
    """The half (N,) each crop belongs to, ``""`` for one that is left out."""
    named = crops.arrays.get("split")
    if split == "drawn":
        if named is not None:
            raise DataError(
                f"{path}: names its test people, got split: drawn, which would learn from them; use split: given, or "
                "split: validation to choose settings"
            )
        people = np.random.default_rng(seed).permutation(np.unique(crops.pids))
        return np.where(np.isin(crops.pids, people[: round(len(people) * test_share)]), TEST, TRAIN)
    if named is None:
        raise DataError(f"{path}: got split: {split}, but the archive has no array split; use split: drawn")
    if split == "given":
        return named
    people = np.random.default_rng(_VALIDATION_SEED).permutation(np.unique(crops.pids[named == TRAIN]))
    tested = np.isin(crops.pids, people[: round(len(people) * VALIDATION_SHARE)])
    return np.where(named == TRAIN, np.where(tested, TEST, TRAIN), "")


def _write(folder: Path, crops: _Crops, halves: npt.NDArray[np.str_]) -> None:
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir(parents=True)
    cameras = np.unique(crops.cams, return_inverse=True)[1] + 1
    tracklets = crops.arrays.get("tracklet")
    listed = ["file,tracklet"]
    for number, (pid, camera, half) in enumerate(zip(crops.pids, cameras, halves, strict=True)):
        content, ending = crops.file(number)
        name = f"{pid:04d}_c{camera}s1_{number:06d}_00.{ending}"
        for side in _SIDES.get(str(half), ()):
            (folder / side / name).write_bytes(content)
        if half == TRAIN and tracklets is not None:
            listed.append(f"{name},{tracklets[number]}")
    if tracklets is not None:
        (folder / "bounding_box_train/tracklets.csv").write_text("\n".join(listed) + "\n", encoding="utf-8")
    lines = "".join(f"camera{number}\n" for number in np.unique(cameras))
    (folder / "cameras.txt").write_text(lines, encoding="utf-8")


def _read(path: Path, identity: str) -> _Crops:
    wanted = f"expected an .npz with x uint8 (N, h, w, 3), or JPEG files buf and off, cam (N,) and {identity} (N,)"
    arrays = read_arrays(path, (identity, "cam"), expected=wanted, optional=("x", "buf", "off", "split", "tracklet"))
    packed = {"buf", "off"} <= arrays.keys()
    if "x" not in arrays and not packed:
        raise DataError(f"{path}: got the arrays {', '.join(arrays)}, no x; {wanted}")
    pids, cams = arrays[identity], arrays["cam"]
    count, got = _pictures(arrays, packed=packed)
    numbers = [pids, cams, *([arrays["tracklet"]] if "tracklet" in arrays else [])]
    if count is None or not all(ids.shape == (count,) and ids.dtype.kind in "iu" for ids in numbers):
        raise DataError(f"{path}: got {got}, {identity} {pids.shape}, cam {cams.shape}, {wanted}")
    if "split" in arrays:
        named = arrays["split"]
        unknown = set(np.unique(named).tolist()) - set(_SIDES) if named.dtype.kind == "U" else {str(named.dtype)}
        if named.shape != (count,) or unknown:
            raise DataError(
                f"{path}: split: got {named.shape} with {', '.join(sorted(unknown)) or 'known names'}, expected "
                f"{count} of {', '.join(_SIDES)}"
            )
    return _Crops(arrays, pids.astype(np.int64), cams.astype(np.int64))


def _pictures(arrays: Arrays, *, packed: bool) -> tuple[int | None, str]:
    """How many pictures there are, None where the arrays are not such; and what they are, for a message."""
    if not packed:
        x = arrays["x"]
        fits = x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] == 3
        return (len(x) if fits else None), f"x {x.dtype} {x.shape}"
    buf, off = arrays["buf"], arrays["off"]
    got = f"buf {buf.dtype} {buf.shape}, off {off.dtype} {off.shape}"
    if buf.dtype != np.uint8 or buf.ndim != 1 or off.ndim != 1 or off.dtype.kind not in "iu" or len(off) < 2:
        return None, got
    ends = off.astype(np.int64)
    fits = ends[0] == 0 and ends[-1] == len(buf) and bool((np.diff(ends) > 0).all())
    return (len(off) - 1 if fits else None), f"{got} from {ends[0]} to {ends[-1]}"
