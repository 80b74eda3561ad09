"""Letting old sightings go, with all that hangs on them, in every gallery that has them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from reid_mtda.errors import ReidError, StorageError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.crop_store import CropStore
from reid_mtda.live.model_gate import GateSamples
from reid_mtda.types import Sighting

log = logging.getLogger(__name__)

_JUMP_S = 3600.0
_CONFIRMED_S = 86400.0


class ClockWatch:
    """Whether the wall clock may be believed: one that runs ahead would delete everything within minutes, for good.

    Args:
        wall: POSIX seconds.
        steady: seconds that nobody sets.
    """

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()
        self._since: float | None = None

    def poll(self) -> str:
        """What is wrong with the clock, or ''.

        A jump ahead of more than an hour is believed once it has stayed for a day; a machine that slept looks like one.
        Going back costs nobody anything.
        """
        now_s, offset = self._steady(), self._wall() - self._steady()
        ahead_s = offset - self._offset
        if ahead_s > _JUMP_S:
            self._since = now_s if self._since is None else self._since
            if now_s - self._since < _CONFIRMED_S:
                return (
                    f"the clock jumped {ahead_s / 3600:.1f} hours ahead: no sightings are let go until it has stayed "
                    "so for a day; set it right, or start the service again where it is right already"
                )
        self._offset, self._since = offset, None
        return ""


LetGo = Callable[[Collection[Sighting]], None]
"""Told of sightings that go, to remove what hangs on them elsewhere; they stay where it raises a ``ReidError``."""


def expire_sightings(
    days: Mapping[str, float],
    gallery: Gallery,
    previous_gallery: Gallery | None,
    kept: CropStore | None,
    samples: GateSamples,
    on_expire: LetGo,
    now_s: float,
) -> dict[str, int]:
    """Delete what is older than its camera's ``days``; how many sightings by camera, of those that had any.

    What hangs on a sighting goes first and the sighting last: after a kill or a fault the next turn finds it again.
    """
    gone: dict[str, int] = {}
    for name, limit_days in sorted(days.items()):
        try:
            limit = now_s - limit_days * 86400
            rows = {
                number: row
                for number, row in gallery.sightings(Filter([name], end_s=limit)).items()
                if row.end_s < limit
            }
            samples.forget_before(name, limit)
            if kept is not None:
                kept.forget_before(name, limit)
            if rows:
                on_expire(rows.values())
            if previous_gallery is not None:
                previous_gallery.forget_before(name, limit)
            removed = gallery.delete(rows)
            if rows:
                on_expire(rows.values())  # of those proposed meanwhile
        except ReidError as error:
            log.error("retention of camera %s: %s", name, error)
            continue
        if removed:
            gone[name] = len(removed)
    return gone


def keep_only(opted_in: Collection[str], kept: CropStore | None) -> None:
    """Let the crops go of cameras that were opted out or removed."""
    if kept is not None:
        try:
            kept.keep_only(opted_in)
        except StorageError as error:
            log.error("%s", error)
