"""Ground truth of footage, for scoring alone: which person a harvested tracklet shows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_mtda.data.reid import load_folder
from reid_mtda.errors import DataError
from reid_mtda.types import FloatArray, IntArray

Truth = Mapping[int, tuple[IntArray, FloatArray]]
"""Frame index (from 0) -> pids (N,) and boxes xyxy float32 (N, 4)."""


def read_mot(path: Path) -> dict[int, tuple[IntArray, FloatArray]]:
    """Read boxes in MOT format: ``frame,id,left,top,width,height,...`` with frames counted from 1.

    Raises:
        DataError: missing, empty, or a line that is not of this form, by its number.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such truth file; expected one CAMERA.txt in MOT format per camera")
    frames: dict[int, list[tuple[float, ...]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            frame, pid, left, top, width, height = _numbers(line.split(",")[:6])
        except ValueError:
            raise DataError(f"{path}, line {number}: got {line[:60]!r}, expected frame,id,left,top,w,h") from None
        frames.setdefault(int(frame) - 1, []).append((pid, left, top, left + width, top + height))
    if not frames:
        raise DataError(f"{path}: no boxes in it, expected lines of frame,id,left,top,width,height")
    return {
        frame: (np.array([row[0] for row in rows], np.int64), np.array([row[1:] for row in rows], np.float32))
        for frame, rows in frames.items()
    }


@dataclass(frozen=True, eq=False)
class TrackletTruth:
    """Harvested tracklets with their person: ``paths`` of each one's crops, ``pids`` and ``camids`` int64 (N,)."""

    paths: tuple[tuple[Path, ...], ...]
    pids: IntArray
    camids: IntArray
    cameras: tuple[str, ...]
    unmatched: int


def label_tracklets(crops: Path, truths: Mapping[str, Truth], *, min_iou: float = 0.5) -> TrackletTruth:
    """Give every harvested tracklet the person whom most of its crops overlap.

    Args:
        crops: what ``harvest`` wrote: a folder per camera with ``crops.csv``.
        truths: truth by camera.
        min_iou: overlap below which a crop shows nobody of the truth; a tracklet that shows nobody is left out and
            counted in ``unmatched``.

    Raises:
        DataError: no harvest there, or no truth for a camera.
    """
    sets = load_folder(crops)
    paths, pids, camids, unmatched = [], [], [], 0
    for camid, (camera, target) in enumerate(sets.items()):
        if camera not in truths:
            raise DataError(f"{crops / camera}: no truth for this camera, got truth of {', '.join(truths)}")
        if target.tracklets is None:
            continue
        votes = _votes(crops / camera / "crops.csv", truths[camera], min_iou)
        for track in np.unique(target.tracklets[target.tracklets >= 0]):
            mine = [target.paths[i] for i in np.flatnonzero(target.tracklets == track)]
            cast = [votes[path.name] for path in mine if path.name in votes]
            if not cast:
                unmatched += 1
                continue
            paths.append(tuple(mine))
            pids.append(max(set(cast), key=cast.count))
            camids.append(camid)
    return TrackletTruth(tuple(paths), np.array(pids, np.int64), np.array(camids, np.int64), tuple(sets), unmatched)


def _votes(table: Path, truth: Truth, min_iou: float) -> dict[str, int]:
    """File name -> pid of the truth box that the crop's box overlaps most."""
    votes = {}
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                frame, *box = _numbers(row[key] for key in ("frame", "x0", "y0", "x1", "y1"))
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{table}, line {rows.line_num}: got no numbers frame, x0, y0, x1, y1, expected them as 'harvest' "
                    "writes them; harvest the footage again"
                ) from None
            pids, boxes = truth.get(int(frame), (np.zeros(0, np.int64), np.zeros((0, 4), np.float32)))
            if len(boxes):
                overlap = iou(np.array(box, np.float32), boxes)
                if overlap.max() >= min_iou:
                    votes[row["file"]] = int(pids[overlap.argmax()])
    return votes


def _numbers(words: Iterable[str]) -> list[float]:
    numbers = [float(word) for word in words]
    if not np.isfinite(numbers).all():
        raise ValueError
    return numbers


def iou(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """Intersection over union of ``box`` (4,) with each of ``boxes`` (N, 4)."""
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    shared = sides.prod(axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(shared / np.maximum(area - shared, 1e-9), np.float32)
