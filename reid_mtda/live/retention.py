"""Letting old sightings go, with the crops kept of them, in every gallery that has them."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping

from reid_mtda.errors import ReidError, StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.keep import KeptCrops

log = logging.getLogger(__name__)


def forget_old(
    days: Mapping[str, float], gallery: Gallery, set_aside: Gallery | None, kept: KeptCrops | None
) -> dict[str, int]:
    """Delete what is older than its camera's ``days``; how many sightings by camera, of those that had any."""
    gone: dict[str, int] = {}
    for name, limit_days in sorted(days.items()):
        try:
            limit = time.time() - limit_days * 86400
            if kept is not None:
                kept.forget_before(name, limit)
            removed = gallery.forget_before(name, limit)
            if set_aside is not None:
                set_aside.forget_before(name, limit)
        except ReidError as error:
            log.error("retention of camera %s: %s", name, error)
            continue
        if removed:
            gone[name] = len(removed)
    return gone


def keep_only(opted_in: Collection[str], kept: KeptCrops | None) -> None:
    """Let the crops go of cameras that were opted out or removed."""
    if kept is not None:
        try:
            kept.keep_only(opted_in)
        except StorageError as error:
            log.error("%s", error)
