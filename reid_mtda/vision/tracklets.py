"""From boxes frame by frame to tracklets: one person, one camera, one stretch of time, and the best pictures of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import supervision as sv
import trackers

from reid_mtda.errors import ConfigError
from reid_mtda.types import Detections, FloatArray, Frame, ImageArray, Tracklet
from reid_mtda.vision.crops import crop_box

_FAIR = 0.4  # of the best crop's quality: what is worse shows others, an edge or a blur, and is not handed out
MAX_ACTIVE = 128
"""Tracks of one camera that are held at once."""
_SLACK_S = 1.0  # clocks that step back by less are taken as jitter


@dataclass(frozen=True)
class _Crop:
    picture: ImageArray
    xyxy: FloatArray
    frame_index: int
    time_s: float
    quality: float


@dataclass
class _Piece:
    """What is kept of a track since its last tracklet: the best crop of each time slot of ``slot_s``."""

    start_s: float
    end_s: float
    slot_s: float
    hits: int = 0
    side_px: float = 0.0
    best: dict[int, _Crop] = field(default_factory=dict)

    def add(self, crop: _Crop, max_crops: int) -> None:
        """Keep ``crop`` if it is the best of its slot; slots double in length when there are too many."""
        self.hits += 1
        self.end_s = crop.time_s
        self._keep(replace(crop, quality=crop.quality * self._steadiness(crop.xyxy)))
        while len(self.best) > max_crops:
            self.slot_s *= 2
            crops, self.best = list(self.best.values()), {}
            for kept in crops:
                self._keep(kept)

    def _steadiness(self, box: FloatArray) -> float:
        """1 for a box as large as those before it; people do not grow at once, boxes that take in others do."""
        side = float(np.sqrt(np.prod(box[2:] - box[:2])))
        self.side_px = 0.8 * self.side_px + 0.2 * side if self.side_px else side
        return min(side / self.side_px, self.side_px / side) ** 3 if side > 0 else 0.0

    def _keep(self, crop: _Crop) -> None:
        slot = int((crop.time_s - self.start_s) / self.slot_s)
        if slot not in self.best or crop.quality > self.best[slot].quality:
            self.best[slot] = crop


class TrackletBuilder:
    """Follow the people of one camera and hand out a tracklet when each is gone.

    Of each tracklet the best ``max_crops`` crops are kept, spread over its time: sharp, large, little covered by
    others, not cut by the frame's edge. Somebody who stays is handed out every ``max_age_s`` and goes on as a new
    tracklet *with the same track_id*: memory stays bounded, the gallery fills while they are still there, and
    whoever groups by track_id still sees one person. A camera's clock that steps back, or a gap longer than
    ``lost_s``, ends all tracks.

    Of more than ``MAX_ACTIVE`` tracks at once the one unseen for longest ends early.

    Args:
        camera: name that the tracklets carry.
        fps: frames per second that ``update`` will see.
        max_crops: crops kept per tracklet, at most; those much worse than its best are left out.
        min_hits: tracklets seen in fewer frames are dropped as false alarms.
        lost_s: seconds without being seen after which a tracklet ends; None: 1, or three frames where that is longer.
        max_age_s: seconds after which a lasting tracklet is handed out, but not before ``min_hits`` frames went by.
        first_track_id: number of the first track, for a camera that is opened again.
        min_overlap: IoU with the predicted box that a detection needs to go on with a track; None: by ``fps``.

    Raises:
        ConfigError: a setting out of range.
    """

    def __init__(
        self,
        camera: str,
        *,
        fps: float = 5.0,
        max_crops: int = 8,
        min_hits: int = 3,
        lost_s: float | None = None,
        max_age_s: float = 60.0,
        first_track_id: int = 0,
        min_overlap: float | None = None,
    ) -> None:
        where = f"tracklets of camera {camera!r}"
        for name, value in (("max_crops", max_crops), ("min_hits", min_hits)):
            if value < 1:
                raise ConfigError(f"{where}: {name} must be >= 1, got {value}")
        for name, seconds in (("fps", fps), ("lost_s", lost_s), ("max_age_s", max_age_s)):
            if seconds is not None and not seconds > 0:
                raise ConfigError(f"{where}: {name} must be > 0, got {seconds}")
        self.camera = camera
        self.active = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
        self.fps, self.max_crops, self._min_hits = fps, max_crops, min_hits
        # Below a frame a second every frame would come after a gap, and nobody would be seen min_hits times.
        self._lost_s = max(1.0, 3 / fps) if lost_s is None else lost_s
        self._max_age_s = max(max_age_s, min_hits / fps)
        if min_overlap is not None and not 0 < min_overlap < 1:
            raise ConfigError(f"{where}: min_overlap must be between 0 and 1, got {min_overlap}")
        self._min_overlap = _least_overlap(fps) if min_overlap is None else min_overlap
        self._tracker = self._make_tracker()
        self._first_id = first_track_id
        self._next_id = first_track_id
        self._pieces: dict[int, _Piece] = {}
        self._now = float("-inf")

    def update(self, frame: Frame, detections: Detections) -> list[Tracklet]:
        """Take the people found in ``frame``; return the tracklets that ended with it.

        ``active`` then holds the tracked ones of ``detections`` with their ``track_id``.
        """
        ended: list[Tracklet] = []
        if frame.time_s < self._now - _SLACK_S or frame.time_s > self._now + self._lost_s:
            ended = self.flush()
            self._now = frame.time_s
        else:
            self._now = max(frame.time_s, self._now + 1e-3)  # the tracker wants time to go on
        self.active = self._track(detections)
        for row, track_id in enumerate(self.active.track_id.tolist() if self.active.track_id is not None else ()):
            piece = self._pieces.setdefault(track_id, _Piece(self._now, self._now, 1 / self.fps))
            piece.add(self._crop(frame, row), self.max_crops)
        return ended + self._end_old()

    def flush(self) -> list[Tracklet]:
        """End all tracks and return their tracklets; the builder can go on with new ones."""
        ended = [self._tracklet(track_id, piece) for track_id, piece in self._pieces.items()]
        self._pieces.clear()
        self._tracker = self._make_tracker()
        self._first_id = self._next_id
        self.active = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
        return [tracklet for tracklet in ended if tracklet is not None]

    def _make_tracker(self) -> trackers.ByteTrackTracker:
        """A tracker whose tracks outlive their last sight by ``lost_s``."""
        return trackers.ByteTrackTracker(
            lost_track_buffer=max(1, round(self._lost_s * 30)),  # the library counts in frames of 30 a second
            frame_rate=self.fps,
            track_activation_threshold=0.5,
            high_conf_det_threshold=0.5,
            minimum_consecutive_frames=2,
            minimum_iou_threshold=self._min_overlap,
        )

    def _track(self, detections: Detections) -> Detections:
        found = self._tracker.update(
            sv.Detections(xyxy=detections.xyxy, confidence=detections.score), timestamp=self._now
        )
        known = found.tracker_id >= 0
        track_id = found.tracker_id[known].astype(np.int64) + self._first_id
        self._next_id = max(self._next_id, int(track_id.max(initial=-1)) + 1)
        score = np.ones(0) if found.confidence is None else found.confidence[known]
        return Detections(found.xyxy[known].astype(np.float32).reshape(-1, 4), score.astype(np.float32), track_id)

    def _crop(self, frame: Frame, row: int) -> _Crop:
        box = self.active.xyxy[row]
        height, width = frame.image.shape[:2]
        picture = crop_box(frame.image, box).copy()
        others = np.delete(self.active.xyxy, row, axis=0)
        quality = crop_quality(picture, box, others, (height, width)) * float(self.active.score[row])
        return _Crop(picture, box, frame.index, self._now, quality)

    def _end_old(self) -> list[Tracklet]:
        over = [key for key, piece in self._pieces.items() if self._now - piece.end_s > self._lost_s]
        over += [key for key, piece in self._pieces.items() if piece.end_s - piece.start_s >= self._max_age_s]
        kept = sorted(self._pieces.keys() - set(over), key=lambda key: (self._pieces[key].end_s, key))
        over += kept[: max(0, len(kept) - MAX_ACTIVE)]
        ended = [self._tracklet(key, self._pieces.pop(key)) for key in dict.fromkeys(over)]
        return [tracklet for tracklet in ended if tracklet is not None]

    def _tracklet(self, track_id: int, piece: _Piece) -> Tracklet | None:
        if piece.hits < self._min_hits:
            return None
        fair = _FAIR * max(crop.quality for crop in piece.best.values())
        crops = [piece.best[slot] for slot in sorted(piece.best) if piece.best[slot].quality >= fair]
        return Tracklet(
            camera=self.camera,
            track_id=track_id,
            crops=tuple(crop.picture for crop in crops),
            xyxy=np.stack([crop.xyxy for crop in crops]).astype(np.float32),
            frame_index=np.array([crop.frame_index for crop in crops], np.int64),
            time_s=np.array([crop.time_s for crop in crops], np.float64),
            start_s=piece.start_s,
            end_s=piece.end_s,
        )


def crop_quality(picture: ImageArray, box: FloatArray, others: FloatArray, size: tuple[int, int]) -> float:
    """How well ``picture`` shows a person, for comparing crops of one tracklet: larger is better, never below 0.

    Args:
        picture: the crop, uint8 (h, w, 3).
        box: where it was, float32 (4,) xyxy px.
        others: boxes of the other people in the frame, float32 (N, 4).
        size: (height, width) of the frame.
    """
    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (48, 96), interpolation=cv2.INTER_AREA)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var()) ** 0.25
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    alone = min(1.0, height / (2 * max(width, 1e-6)))  # a box as wide as this holds two people, or half of one
    cut = 0.3 if box[0] < 1 or box[1] < 1 or box[2] > size[1] - 1 or box[3] > size[0] - 1 else 1.0
    return float(sharpness * height * cut * alone**2 * (1 - _covered(box, others)) ** 2)


def _covered(box: FloatArray, others: FloatArray) -> float:
    """Largest share of ``box`` that lies under one of ``others`` (N, 4)."""
    if not len(others):
        return 0.0
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    area = max(float(np.prod(box[2:] - box[:2])), 1e-6)
    return min(1.0, float(np.prod(np.clip(sides, 0, None), axis=1).max()) / area)


def _least_overlap(fps: float) -> float:
    """IoU with the predicted box that a detection needs: the rarer the frames, the further people step between."""
    return min(0.3, max(0.1, 0.02 * fps))  # measured: tools/README.md, detectors
