"""Crops in a NumPy archive: unpacked into folders once, identities split into those to learn from and those to test."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from reid_mtda.arrays import read_arrays
from reid_mtda.errors import DataError, StorageError
from reid_mtda.types import ImageArray, IntArray


def unpack_archive(path: Path, folder: Path, *, seed: int, test_share: float, identity: str = "pid") -> None:
    """Write an archive's crops as PNG files in Market-1501's layout; a folder that is there already is kept.

    Args:
        path: ``.npz`` with ``x`` uint8 (N, h, w, 3) RGB, ``cam`` (N,) and identities (N,), whole numbers.
        folder: gets ``bounding_box_train``, ``query``, ``bounding_box_test`` and ``cameras.txt``. Query and gallery
            hold the same pictures; an answer from the query's own camera does not count.
        seed: draws which identities are tested.
        test_share: share of the identities tested, in (0, 1]; 1 leaves nothing to learn from.
        identity: the array of identities, e.g. ``avatar`` where several people look exactly alike.

    Raises:
        DataError: no such file, not such an archive, or arrays that do not belong together.
        StorageError: the folder cannot be written.
    """
    if folder.is_dir():
        return
    pictures, pids, cams = _read(Path(path), identity)
    people = np.random.default_rng(seed).permutation(np.unique(pids))
    tested = people[: round(len(people) * test_share)]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as hidden:
            part = Path(hidden) / folder.name
            _write(part, pictures, pids, np.unique(cams, return_inverse=True)[1] + 1, np.isin(pids, tested))
            part.rename(folder)
    except OSError as error:
        raise StorageError(
            f"{folder}: crops could not be written ({error.strerror or error}); free space or choose another folder"
        ) from None


def _write(
    folder: Path, pictures: ImageArray, pids: IntArray, cameras: IntArray, tested: npt.NDArray[np.bool_]
) -> None:
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir(parents=True)
    for number, (picture, pid, camera, test) in enumerate(zip(pictures, pids, cameras, tested, strict=True)):
        _, packed = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        for side in ("query", "bounding_box_test") if test else ("bounding_box_train",):
            (folder / side / f"{pid:04d}_c{camera}s1_{number:06d}_00.png").write_bytes(packed.tobytes())
    lines = "".join(f"camera{number}\n" for number in np.unique(cameras))
    (folder / "cameras.txt").write_text(lines, encoding="utf-8")


def _read(path: Path, identity: str) -> tuple[ImageArray, IntArray, IntArray]:
    wanted = f"expected an .npz with x uint8 (N, h, w, 3), cam (N,) and {identity} (N,)"
    x, pids, cams = read_arrays(path, ("x", identity, "cam"), expected=wanted).values()
    whole = all(ids.shape == x.shape[:1] and ids.dtype.kind in "iu" for ids in (pids, cams))
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] != 3 or not whole:
        raise DataError(f"{path}: got x {x.dtype} {x.shape}, {identity} {pids.shape}, cam {cams.shape}, {wanted}")
    return x, pids.astype(np.int64), cams.astype(np.int64)
