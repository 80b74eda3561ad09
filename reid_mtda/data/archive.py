"""Crops in a NumPy archive: unpacked into folders once, identities split into those to learn from and those to test."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np

from reid_mtda.errors import DataError
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
    """
    if folder.is_dir():
        return
    pictures, pids, cams = _read(Path(path), identity)
    people = np.random.default_rng(seed).permutation(np.unique(pids))
    tested = people[: round(len(people) * test_share)]
    cameras = np.unique(cams)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as hidden:
        part = Path(hidden) / folder.name
        for name in ("bounding_box_train", "query", "bounding_box_test"):
            (part / name).mkdir(parents=True)
        for number, (picture, pid, cam) in enumerate(zip(pictures, pids, cams, strict=True)):
            camera = int(np.flatnonzero(cameras == cam)[0]) + 1
            name = f"{int(pid):04d}_c{camera}s1_{number:06d}_00.png"
            for side in ("query", "bounding_box_test") if pid in tested else ("bounding_box_train",):
                cv2.imwrite(str(part / side / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        lines = "".join(f"camera{number + 1}\n" for number in range(len(cameras)))
        (part / "cameras.txt").write_text(lines, encoding="utf-8")
        part.rename(folder)


def _read(path: Path, identity: str) -> tuple[ImageArray, IntArray, IntArray]:
    wanted = f"expected an .npz with x uint8 (N, h, w, 3), cam (N,) and {identity} (N,)"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, pids, cams = arrays["x"], arrays[identity], arrays["cam"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error}), {wanted}") from None
    numbers = all(ids.shape == (len(x),) and ids.dtype.kind in "iu" for ids in (pids, cams))
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] != 3 or not numbers:
        raise DataError(f"{path}: got x {x.dtype} {x.shape}, {identity} {pids.shape}, cam {cams.shape}, {wanted}")
    return x, pids.astype(np.int64), cams.astype(np.int64)
