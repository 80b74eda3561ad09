"""How long people stay in the zones of a camera: visits, from feet that come in to feet that left."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reid_mtda.polygons import Point
from reid_mtda.types import Detections
from reid_mtda.vision.masks import stands_in


@dataclass(frozen=True)
class ZoneVisit:
    """One stay of one track in a zone; POSIX seconds of its first and its last sight there."""

    zone: str
    track_id: int
    entered_s: float
    left_s: float

    @property
    def dwell_s(self) -> float:
        """Seconds from the first to the last sight."""
        return self.left_s - self.entered_s


@dataclass(frozen=True)
class ZoneCount:
    """A zone since the start: who stands there now, and the visits that are over with their seconds."""

    now: int = 0
    visits: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """Seconds of a visit on average; 0 while there was none."""
        return self.total_s / self.visits if self.visits else 0.0


@dataclass
class _Stay:
    entered_s: float
    last_s: float
    looks: int = 1


class ZoneTimes:
    """Follows who stands in which zone of one camera; one thread updates, any may ask.

    A visit is over when its track was not seen in the zone for ``lost_s``: whoever sways on its border, or is covered
    for a moment, stays one visit. Who is seen there once only passed by, or was a false alarm, and is not counted. A
    person whose track is lost and found again under a new number is two visits.

    Args:
        zones: polygons by name, in shares of the picture.
        lost_s: seconds.
    """

    def __init__(self, zones: Mapping[str, Sequence[Point]], *, lost_s: float = 2.0) -> None:
        self._zones, self._lost_s = dict(zones), lost_s
        self._lock = threading.Lock()
        self._stays: dict[tuple[str, int], _Stay] = {}
        self._over = {name: ZoneCount() for name in zones}
        self._now = float("-inf")

    def update(self, time_s: float, people: Detections, height: int, width: int) -> list[ZoneVisit]:
        """Take the people followed in a frame; return the visits that are over with it.

        Args:
            time_s: when it was taken.
            people: their boxes and tracks.
            height: of the frame, in pixels.
            width: of the frame, in pixels.
        """
        with self._lock:
            if time_s < self._now:  # a recording that begins again, a clock that was set back
                ended = self._end(list(self._stays))
            else:
                ended = self._end([key for key, stay in self._stays.items() if time_s - stay.last_s > self._lost_s])
            self._now = time_s
            if people.track_id is not None and len(people):
                for name, polygon in self._zones.items():
                    inside = stands_in(polygon, people.xyxy, height, width)
                    for track in people.track_id[inside].tolist():
                        self._see(name, track, time_s)
            return ended

    def counts(self) -> dict[str, ZoneCount]:
        """Every zone as it is now."""
        with self._lock:
            here = {name: 0 for name in self._zones}
            for (name, _), stay in self._stays.items():
                here[name] += stay.looks > 1
            return {
                name: ZoneCount(here[name], over.visits, over.total_s, over.longest_s)
                for name, over in self._over.items()
            }

    def _see(self, name: str, track: int, time_s: float) -> None:
        stay = self._stays.get((name, track))
        if stay is None:
            self._stays[name, track] = _Stay(time_s, time_s)
        else:
            stay.last_s, stay.looks = time_s, stay.looks + 1

    def _end(self, keys: list[tuple[str, int]]) -> list[ZoneVisit]:
        visits = []
        for name, track in keys:
            stay = self._stays.pop((name, track))
            if stay.looks > 1:
                visit = ZoneVisit(name, track, stay.entered_s, stay.last_s)
                over = self._over[name]
                self._over[name] = ZoneCount(
                    0, over.visits + 1, over.total_s + visit.dwell_s, max(over.longest_s, visit.dwell_s)
                )
                visits.append(visit)
        return visits
