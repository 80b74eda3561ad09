"""The one path from frames to sightings: detect, follow, embed, remember."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from reid_mtda.errors import GalleryError, ShapeError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import Model
from reid_mtda.progress import Progress, silent
from reid_mtda.types import Detect, FloatArray, Frame, ImageArray, Tracklet, check_array
from reid_mtda.vision.tracklets import TrackletBuilder
from reid_mtda.vision.video import frames_to_come

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestReport:
    """What one camera's footage gave.

    ``sightings`` stand in the gallery for it now; ``removed`` is how many of an earlier pass over the same footage
    went because they were not found again. ``start_s`` and ``end_s`` are the times of its first and last frame, NaN
    without frames. ``too_low`` detections, beside the others, were left out, for they were lower than the camera's
    ``min_height_px``.
    """

    camera: str
    frames: int
    detections: int
    tracklets: int
    sightings: int
    removed: int
    start_s: float
    end_s: float
    too_low: int = 0


def ingest_camera(
    frames: Iterable[Frame],
    detect: Detect,
    builder: TrackletBuilder,
    model: Model,
    gallery: Gallery,
    *,
    former: Collection[tuple[float, float]] = (),
    progress: Progress = silent,
) -> IngestReport:
    """Turn the frames of one camera into sightings of ``gallery``.

    Footage can be ingested again: with the same settings nothing changes, with others the new sightings take the
    place of the old ones. A sighting is safe as soon as its tracklet has ended, so a pass that was stopped leaves
    what it found, and the next pass mends the rest. After the last frame this camera's sightings that lie wholly in
    the time of this footage and were not seen in this pass are removed.

    Args:
        frames: frames in time order, all of ``builder.camera``; none at all is fine.
        detect: finds people in a frame.
        builder: follows them; fresh, and for this camera alone.
        model: that which ``gallery`` was built with.
        gallery: where sightings go.
        former: (first, last) times that this footage had in earlier passes; its sightings of then go, too.
        progress: told of every frame.

    Raises:
        GalleryError: ``gallery`` was built with another model.
        ShapeError: a frame of another camera.
        StorageError: the disk is full; sightings before stand.
    """
    if gallery.model_id != model.model_id:
        raise GalleryError(
            f"gallery {gallery.folder} was built with model {gallery.model_id}, this is {model.model_id}: "
            "run 'reid-mtda index' into a new folder"
        )
    camera, expected = builder.camera, frames_to_come(frames)
    count = detections = tracklets = too_low = 0
    start_s = end_s = float("nan")
    numbers: set[int] = set()

    def keep(ended: Iterable[Tracklet]) -> None:
        nonlocal tracklets
        for tracklet in ended:
            tracklets += 1
            numbers.add(add_tracklet(gallery, tracklet, model.embed(tracklet.crops)))

    for frame in frames:
        if frame.camera != camera:
            raise ShapeError(f"frame {frame.index}: got one of camera {frame.camera!r}, expected {camera!r}")
        start_s = frame.time_s if count == 0 else start_s
        end_s = frame.time_s
        found = detect(frame.image)
        keep(builder.update(frame, found))
        count, detections, too_low = count + 1, detections + len(found), too_low + found.too_low
        progress(f"index {camera}", count, max(count, expected))
    keep(builder.flush())

    removed: tuple[int, ...] = ()
    if count:
        removed = gallery.delete(
            number
            for first_s, last_s in ((start_s, end_s), *former)
            for number, row in gallery.sightings(Filter([camera], first_s, last_s)).items()
            if number not in numbers and first_s <= row.start_s and row.end_s <= last_s
        )
    report = IngestReport(camera, count, detections, tracklets, len(numbers), len(removed), start_s, end_s, too_low)
    log.info("%s", report)
    return report


def add_tracklet(gallery: Gallery, tracklet: Tracklet, rows: FloatArray, *, with_picture: bool = True) -> int:
    """Add one tracklet as a sighting; ``rows`` float32 (K, D) are the embeddings of its crops. Returns its number.

    Args:
        gallery: where sightings stand.
        tracklet: one person in one camera.
        rows: (N, D) embeddings.
        with_picture: the thumbnail is stored, too.
    """
    vector = mean_embedding(rows)
    return gallery.add(
        vector,
        tracklet.camera,
        tracklet.track_id,
        tracklet.start_s,
        tracklet.end_s,
        typical_crop(tracklet, rows, vector) if with_picture else None,
    )


def mean_embedding(rows: FloatArray) -> FloatArray:
    """The embedding of a tracklet: the mean of its K >= 1 crops' (K, D), made length 1 again.

    >>> mean_embedding(np.array([[1, 0], [0, 1]], np.float32))
    array([0.70710677, 0.70710677], dtype=float32)
    """
    check_array("embeddings of a tracklet", rows, np.float32, (None, None))
    if len(rows) == 0:
        raise ShapeError("embeddings of a tracklet: got none, expected at least one")
    mean = rows.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    # Crops that cancel each other out have no mean direction; then the first speaks for them.
    return np.asarray(mean / length if length > 1e-6 else rows[0], np.float32)


def typical_crop(tracklet: Tracklet, rows: FloatArray, vector: FloatArray) -> ImageArray:
    """The crop whose embedding is nearest the tracklet's: what a person is shown, and what is embedded anew.

    Args:
        tracklet: one person in one camera.
        rows: (N, D) embeddings.
        vector: (D,) of length 1.
    """
    return tracklet.crops[int(np.argmax(rows @ vector))]
