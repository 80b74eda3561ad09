"""Ground truth of footage, for scoring alone: which person a harvested tracklet shows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_mtda.data.crop_table import TABLE, read_boxes
from reid_mtda.data.reid import load_folder
from reid_mtda.data.tables import read_text, split_numbers
from reid_mtda.errors import DataError
from reid_mtda.types import FloatArray, IntArray

log = logging.getLogger(__name__)

Truth = Mapping[int, tuple[IntArray, FloatArray]]
"""Frame index (from 0) -> pids (N,), negative where a box is not to be scored, and boxes xyxy float32 (N, 4)."""
JUNK = -1
_PEDESTRIAN = 1


def read_mot(path: Path) -> dict[int, tuple[IntArray, FloatArray]]:
    """Read boxes in MOT format: ``frame,id,left,top,width,height[,flag[,class,visibility]]``, frames counted from 1.

    Semicolons, tabs or blanks may stand for the commas, and a first line may name the columns. Boxes that are not to
    be scored keep their place with pid -1, so that who overlaps them is nobody of the truth: a flag 0, a class other
    than 1 (a pedestrian) in lines of nine numbers, as from MOT16 on, or a negative id.

    Reference: Milan et al., MOT16: A Benchmark for Multi-Object Tracking, 2016, section 4.

    Raises:
        DataError: missing, empty, or a line that is not of this form, by its number.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such truth file; expected one CAMERA.txt in MOT format per camera")
    frames: dict[int, list[tuple[float, ...]]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        cells = split_numbers(line)
        if not cells or (not frames and cells[0].lower().startswith("frame")):
            continue
        try:
            frame, pid, left, top, width, height, *rest = _numbers(cells)
            if frame != int(frame) or pid != int(pid):
                raise ValueError
        except ValueError:
            raise DataError(f"{path}, line {number}: got {line[:60]!r}, expected frame,id,left,top,w,h") from None
        if frame < 1:
            raise DataError(
                f"{path}, line {number}: got frame {frame:g}, expected frames counted from 1; add 1 to each"
            )
        is_left_out = pid < 0 or rest[:1] == [0] or (len(cells) == 9 and rest[1] not in (_PEDESTRIAN, -1))
        box = (left, top, left + width, top + height)
        frames.setdefault(int(frame) - 1, []).append((JUNK if is_left_out else pid, *box))
    if not frames:
        raise DataError(f"{path}: no boxes in it, expected lines of frame,id,left,top,width,height")
    return {
        frame: (np.array([row[0] for row in rows], np.int64), np.array([row[1:] for row in rows], np.float32))
        for frame, rows in frames.items()
    }


@dataclass(frozen=True, eq=False)
class TrackletTruth:
    """Harvested tracklets with their person: ``paths`` of each one's crops, ``pids`` and ``camids`` int64 (N,).

    Left out were ``unmatched`` tracklets that show nobody of the truth, ``junk`` ones that show what the truth does not
    score, and ``untracked`` crops that are in no tracklet.
    """

    paths: tuple[tuple[Path, ...], ...]
    pids: IntArray
    camids: IntArray
    cameras: tuple[str, ...]
    unmatched: int
    junk: int = 0
    untracked: int = 0


def label_tracklets(crops: Path, truths: Mapping[str, Truth], *, min_iou: float = 0.5) -> TrackletTruth:
    """Give every harvested tracklet the person whom most of its crops overlap.

    Args:
        crops: what ``harvest`` wrote: a folder per camera with ``crops.csv``.
        truths: truth by camera.
        min_iou: overlap below which a crop shows nobody of the truth.

    Returns:
        The tracklets that show a person of the truth. How many were left out, and why, is also logged.

    Raises:
        DataError: no harvest there, or no truth for a camera.
    """
    sets = load_folder(crops)
    paths, pids, camids, unmatched, junk, untracked = [], [], [], 0, 0, 0
    for camid, (camera, target) in enumerate(sets.items()):
        if camera not in truths:
            raise DataError(f"{crops / camera}: no truth for this camera, got truth of {', '.join(truths)}")
        if target.tracklets is None:
            untracked += len(target)
            continue
        untracked += int((target.tracklets < 0).sum())
        votes = _votes(crops / camera / TABLE, truths[camera], min_iou)
        for track in np.unique(target.tracklets[target.tracklets >= 0]):
            mine = [target.paths[i] for i in np.flatnonzero(target.tracklets == track)]
            names = [path.relative_to(crops / camera).as_posix() for path in mine]
            cast = [votes[name] for name in names if name in votes]
            pid = max(sorted(set(cast)), key=cast.count) if cast else None
            if pid is None or pid < 0:
                unmatched, junk = unmatched + (pid is None), junk + (pid is not None)
                continue
            paths.append(tuple(mine))
            pids.append(pid)
            camids.append(camid)
    if unmatched or junk or untracked:
        log.warning(
            "%s: left out %d tracklets that show nobody of the truth, %d that show what it does not score, and %d "
            "crops that are in no tracklet",
            crops,
            unmatched,
            junk,
            untracked,
        )
    truth = np.array(pids, np.int64), np.array(camids, np.int64)
    return TrackletTruth(tuple(paths), *truth, tuple(sets), unmatched, junk, untracked)


def _votes(table: Path, truth: Truth, min_iou: float) -> dict[str, int]:
    """File -> pid of the truth box that the crop's box overlaps most."""
    votes = {}
    for file, (frame, box) in read_boxes(table).items():
        pids, boxes = truth.get(frame, (np.zeros(0, np.int64), np.zeros((0, 4), np.float32)))
        if len(boxes):
            overlap = iou(np.array(box, np.float32), boxes)
            if overlap.max() >= min_iou:
                votes[file] = int(pids[overlap.argmax()])
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
