"""A gallery for another model: the thumbnails of the old one embedded anew, while the old one goes on answering."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from reid_mtda.errors import GalleryError, ImageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import Model
from reid_mtda.progress import Progress, silent
from reid_mtda.types import ImageArray, Sighting
from reid_mtda.vision.preprocess import read_image

log = logging.getLogger(__name__)

_BATCH = 32


def drop_gone(old: Gallery, new: Gallery) -> None:
    """Remove from ``new`` what ``old`` has not: erased there meanwhile, it must not stand up again."""
    alive = {row.key for row in old.sightings().values()}
    gone = [number for number, row in new.sightings().items() if row.key not in alive]
    if gone:
        new.delete(gone)


def carry_over(
    old: Gallery,
    new: Gallery,
    model: Model,
    *,
    lock: AbstractContextManager[Any] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> dict[int, int]:
    """Add to ``new`` what ``old`` has more. Can be stopped and repeated.

    Args:
        old: only read.
        new: bound to ``model``.
        model: embeds them.
        lock: held for each batch; whoever deletes from the galleries holds it, too.
        stopped: asked before each batch; True: leave off.
        progress: told how many are carried over, after each batch.

    Returns:
        New number by old number, of all sightings that stand in both.

    Raises:
        GalleryError: ``new`` belongs to another model.
        StorageError: the disk is full; what was carried over stays.
    """
    if new.model_id != model.model_id:
        raise GalleryError(f"gallery {new.folder} holds model {new.model_id}, got {model.model_id} to re-index with")
    there = {row.key: number for number, row in new.sightings().items()}
    wanted = old.sightings()
    missing = [number for number, row in sorted(wanted.items()) if row.key not in there]
    for start in range(0, len(missing), _BATCH):
        if stopped():
            break
        with lock or nullcontext():
            batch = old.lookup(missing[start : start + _BATCH])  # without what was deleted meanwhile
            pictures = {number: _read(row) for number, row in batch.items()}
            readable = {number: picture for number, picture in pictures.items() if picture is not None}
            rows = model.embed(list(readable.values()))
            for (number, picture), vector in zip(readable.items(), rows, strict=True):
                row = batch[number]
                there[row.key] = new.add(
                    np.asarray(vector, np.float32),
                    row.camera,
                    row.track_id,
                    row.start_s,
                    row.end_s,
                    picture,
                    added_s=row.end_s if row.added_s is None else row.added_s,
                )
        progress("embedding anew", min(start + _BATCH, len(missing)), len(missing))
    known = new.footage()
    for (camera, fingerprint), span in old.footage().items():
        if (camera, fingerprint) not in known:
            new.note_footage(camera, fingerprint, *span)
    return {number: there[row.key] for number, row in wanted.items() if row.key in there}


def _read(sighting: Sighting) -> ImageArray | None:
    """The thumbnail as RGB; None when it was deleted meanwhile or is damaged."""
    try:
        return read_image(sighting.thumbnail)
    except ImageError as error:
        log.warning("%s; this sighting is not carried over", error)
        return None
