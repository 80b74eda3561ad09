"""What is done with one camera's frames: detect, track, embed, add; the newest frame only, and never waiting long."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from reid_mtda.errors import ModelError, ReidError, StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.batcher import Batcher
from reid_mtda.live.disk_guard import StorageLevel
from reid_mtda.live.drift import DriftMonitor
from reid_mtda.live.ingest import add_tracklet, mean_embedding
from reid_mtda.live.streams import CameraStream
from reid_mtda.live.zone_times import ZoneTimes, ZoneVisit
from reid_mtda.model import Model
from reid_mtda.polygons import Point
from reid_mtda.types import Detect, Detections, FloatArray, Frame, ImageArray, Tracklet
from reid_mtda.vision.crops import crop_box
from reid_mtda.vision.masks import mask_frames
from reid_mtda.vision.tracklets import TrackletBuilder

log = logging.getLogger(__name__)

_MAX_PENDING = 64
_IDLE_S = 0.2
_FLUSH_S = 6.0
_GOOD_FRAMES = 25


@dataclass(frozen=True, eq=False)
class ActiveModel:
    """The model that answers now, the gallery of its vectors and what they say; replaced together, never one alone.

    Cameras add to ``gallery`` while they hold ``adding``, and not any more once it is ``retired``.
    """

    model: Model
    batcher: Batcher
    gallery: Gallery
    drift_monitor: DriftMonitor = field(default_factory=DriftMonitor)
    adding: threading.Lock = field(default_factory=threading.Lock)
    retired: threading.Event = field(default_factory=threading.Event)

    def retire(self) -> None:
        """Another one answers: what is under way goes there; when this returns, no camera adds to ``gallery``."""
        with self.adding:
            self.retired.set()
        self.batcher.close()


@dataclass(frozen=True, eq=False)
class LivePicture:
    """A camera's newest analysed frame with the people followed in it."""

    frame: Frame
    people: Detections

    def crop(self, track_id: int) -> ImageArray | None:
        """The person ``track_id`` cut out, None when they are gone."""
        if self.people.track_id is None:
            return None
        rows = np.flatnonzero(self.people.track_id == track_id)
        if not len(rows):
            return None
        return crop_box(self.frame.image, self.people.xyxy[rows[0]]).copy()


@dataclass
class Counts:
    """What one camera did since the start; only its worker writes."""

    frames: int = 0
    detections: int = 0
    too_low: int = 0
    tracklets: int = 0
    sightings: int = 0
    refused: int = 0
    failed: int = 0
    without_picture: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"detect": 0.0, "track": 0.0, "add": 0.0})
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=512))

    def snapshot(self) -> Counts:
        """They as they are now, for others to read."""
        return replace(self, seconds=dict(self.seconds), delays_s=self.delays_s.copy())


@dataclass(frozen=True)
class AddedSighting:
    """Told after each sighting that stands in the gallery; ``rows`` (K, D) are its crops' embeddings."""

    number: int
    tracklet: Tracklet
    drift_monitor: DriftMonitor
    vector: FloatArray
    rows: FloatArray


class CameraWorker:
    """Turns one camera's frames into sightings; ``run`` is the body of its thread.

    Args:
        stream: where the frames come from.
        load_detector: makes the camera's own detector, in the worker's thread.
        serving: model and gallery at the moment of asking.
        fps: frames a second that are expected.
        first_track_id: number of its first track, above all that the gallery holds of this camera.
        level: what the disk has room for now.
        on_refused: told of what the disk refused to store.
        on_added: told of each sighting.
        masks: painted over each frame before anything looks at it, as in ``vision.masks``.
        zones: by name; how long people stay in them is followed.
        on_visit: told of each visit to a zone that is over.
    """

    def __init__(
        self,
        stream: CameraStream,
        load_detector: Callable[[], Detect],
        serving: Callable[[], ActiveModel],
        *,
        fps: float,
        first_track_id: int = 0,
        level: Callable[[], StorageLevel] = lambda: StorageLevel.PICTURES,
        on_refused: Callable[[StorageLevel, StorageError], None] = lambda what, error: None,
        on_added: Callable[[AddedSighting], None] = lambda added: None,
        masks: Sequence[Sequence[Point]] = (),
        zones: Mapping[str, Sequence[Point]] | None = None,
        on_visit: Callable[[ZoneVisit], None] = lambda visit: None,
    ) -> None:
        self.stream, self.counts = stream, Counts()
        self.picture: LivePicture | None = None
        self.fault = ""
        self.found_by = ""  # the detector's name, once it is there
        self._load_detector, self._serving = load_detector, serving
        self._level, self._on_refused, self._on_added = level, on_refused, on_added
        self.zones = ZoneTimes(zones) if zones else None
        self._paint, self._on_visit = mask_frames(masks), on_visit
        self._builder = TrackletBuilder(stream.camera, fps=fps, first_track_id=first_track_id)
        self._pending: deque[tuple[ActiveModel, Tracklet, Future[FloatArray]]] = deque()
        self._last_index = -1
        self._good_frames_due = 0  # until a fault of a frame is over; 0: there is none

    @property
    def pending(self) -> int:
        """Tracklets whose embedding is awaited."""
        return len(self._pending)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``, then add what is under way."""
        detect = self._ready(stop)
        while detect is not None and not stop.is_set():
            frame, done = self.stream.newest.take(_IDLE_S), self.counts.frames
            try:
                if frame is not None:
                    self._work(frame, detect)
                self._collect(0.0)
            except Exception as error:  # one bad frame or a full disk must not end the camera
                self._note(error, of_frame=frame is not None and self.counts.frames == done)
        try:
            self._send(self._builder.flush())
            self._collect(_FLUSH_S)
        except Exception as error:
            self._note(error)

    def _ready(self, stop: threading.Event) -> Detect | None:
        """The detector; tried again from time to time when its file is not there."""
        while not stop.is_set():
            try:
                detect = self._load_detector()
                self.fault = ""
                return detect
            except Exception as error:  # whatever a detector's file does to its runtime, this camera goes on trying
                known = isinstance(error, ReidError)
                self.fault = str(error) if known else f"its detector cannot be loaded ({type(error).__name__})"
                log.error("camera %s: %s", self.stream.camera, error, exc_info=not known)
                stop.wait(10.0)
        return None

    def _work(self, frame: Frame, detect: Detect) -> None:
        seconds = self.counts.seconds
        if frame.index < self._last_index:  # the recording starts again: nobody walks from its end to its beginning
            self._send(self._builder.flush())
        self._last_index = frame.index
        frame = self._paint(frame)
        began = time.perf_counter()
        found = detect(frame.image)
        seconds["detect"] += time.perf_counter() - began
        began = time.perf_counter()
        ended = self._builder.update(frame, found)
        seconds["track"] += time.perf_counter() - began
        self.picture = LivePicture(frame, self._builder.active)
        if self.zones is not None:
            for visit in self.zones.update(frame.time_s, self._builder.active, *frame.image.shape[:2]):
                self._on_visit(visit)
        self.counts.frames += 1
        self.counts.detections += len(found)
        self.counts.too_low += found.too_low
        if self._good_frames_due:
            self._good_frames_due -= 1
            self.fault = self.fault if self._good_frames_due else ""
        self._send(ended)

    def _send(self, ended: list[Tracklet]) -> None:
        """Ask for the embeddings of tracklets that ended; what finds no place is counted and lost."""
        self.counts.tracklets += len(ended)
        for tracklet in ended:
            self._ask(tracklet)

    def _ask(self, tracklet: Tracklet) -> None:
        serving, future = self._serving(), None
        if len(self._pending) < _MAX_PENDING and self._level() is not StorageLevel.NOTHING:
            try:
                future = serving.batcher.submit(tracklet.crops, key=self.stream.camera)
            except ModelError:
                if serving is self._serving():
                    raise
                return self._ask(tracklet)  # another model answers since a moment ago
        if future is None:
            self.counts.refused += 1
        else:
            self._pending.append((serving, tracklet, future))

    def _collect(self, patience_s: float) -> None:
        """Add the tracklets whose embeddings are there, in order."""
        deadline = time.monotonic() + patience_s
        while self._pending:
            serving, tracklet, future = self._pending[0]
            if not future.done() and patience_s == 0:
                return
            self._pending.popleft()
            rows = future.result(max(0.0, deadline - time.monotonic()) if patience_s else None)
            began = time.perf_counter()
            with serving.adding:  # also what hangs on it: whoever erases it finds all or nothing
                number = None if serving.retired.is_set() else self._add(serving.gallery, tracklet, rows)
                if number is not None:
                    added = AddedSighting(number, tracklet, serving.drift_monitor, mean_embedding(rows), rows)
                    self._on_added(added)
            if number is None:  # another model answers meanwhile: its vectors are wanted, in its gallery
                self._ask(tracklet)
                continue
            self.counts.seconds["add"] += time.perf_counter() - began
            self.counts.sightings += 1
            self.counts.delays_s.append(time.time() - tracklet.end_s)
            self.fault = ""

    def _add(self, gallery: Gallery, tracklet: Tracklet, rows: FloatArray) -> int:
        """Add a sighting; without its picture where the disk has no room for that."""
        if self._level() is StorageLevel.PICTURES:
            try:
                return add_tracklet(gallery, tracklet, rows)
            except StorageError as error:  # the disk filled up since the last look; a vector may still fit
                self._on_refused(StorageLevel.PICTURES, error)
        number = add_tracklet(gallery, tracklet, rows, with_picture=False)
        self.counts.without_picture += 1
        return number

    def _note(self, error: Exception, *, of_frame: bool = False) -> None:
        """Tell of a fault: a frame's is over after some good ones, any other once a sighting is stored."""
        self.counts.failed += 1
        if isinstance(error, StorageError):  # not this camera's fault: the system says what is wrong with its disk
            log.warning("camera %s: %s", self.stream.camera, error)
            self._on_refused(StorageLevel.VECTORS, error)
            return
        known = isinstance(error, ReidError)
        self.fault = str(error) if known else f"analysis failed ({type(error).__name__})"
        self._good_frames_due = _GOOD_FRAMES if of_frame else 0
        log.error("camera %s: %s", self.stream.camera, error, exc_info=not known)
