"""Which sightings can be of one person, by how long people take between cameras; off where a site states nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from reid_mtda.camera_settings import Camera, Travel
from reid_mtda.live.system import LiveSystem
from reid_mtda.types import SearchHit, Sighting


@dataclass(frozen=True)
class Seen:
    """Where somebody was, from when to when, POSIX seconds."""

    camera: str
    start_s: float
    end_s: float

    @classmethod
    def of(cls, sighting: Sighting) -> Seen:
        """Where and when a sighting was."""
        return cls(sighting.camera, sighting.start_s, sighting.end_s)


class Reach(Enum):
    """Whether somebody seen at one place can have been at the other."""

    POSSIBLE = 0
    TOO_SOON = 1
    TOO_LATE = 2


@dataclass(frozen=True)
class LeftOut:
    """How many sightings at least as alike as the hits were left out, and why."""

    too_soon: int = 0
    too_late: int = 0

    def __str__(self) -> str:
        soon, late = "that nobody could have reached so soon", "that are later than the site says people take"
        total = self.too_soon + self.too_late
        left_out = f"{total} sighting{'' if total == 1 else 's'} left out"
        if self.too_soon and self.too_late:
            return f"{left_out}: {self.too_soon} {soon}, {self.too_late} {late}"
        return f"{left_out} {soon if self.too_soon else late}" if total else ""


class TravelTimes:
    """The limits that the cameras of a site state; a way back takes as long unless its own camera says otherwise."""

    def __init__(self, cameras: Mapping[str, Camera]) -> None:
        self.stated = {
            (name, neighbour): travel
            for name, camera in cameras.items()
            for neighbour, travel in camera.neighbours.items()
        }

    @property
    def are_stated(self) -> bool:
        """Any camera states any."""
        return bool(self.stated)

    def between(self, origin: str, target: str) -> Travel | None:
        """What is stated of the way from ``origin`` to ``target``."""
        return self.stated.get((origin, target)) or self.stated.get((target, origin))

    def reach(self, one: Seen, other: Seen) -> Reach:
        """Whether both can be one person, who was first where they were first seen."""
        first, then = (one, other) if one.start_s <= other.start_s else (other, one)
        travel = self.between(first.camera, then.camera)
        if travel is None:
            return Reach.POSSIBLE
        took_s = max(0.0, then.start_s - first.end_s)  # two views that overlap show somebody at once
        if took_s < travel.min_s:
            return Reach.TOO_SOON
        return Reach.TOO_LATE if travel.max_s is not None and took_s > travel.max_s else Reach.POSSIBLE

    def reachable(self, seen: Seen | None, hits: Iterable[SearchHit], k: int) -> tuple[list[SearchHit], LeftOut]:
        """The first ``k`` of ``hits`` that somebody seen there can be, and what was left out before them.

        Args:
            seen: camera and time of the query; None: not known.
            hits: answers to be judged.
            k: how many at most.
        """
        kept: list[SearchHit] = []
        faults = {reach: 0 for reach in Reach}
        for hit in hits:
            if len(kept) == k:
                break
            reach = Reach.POSSIBLE if seen is None else self.reach(seen, Seen.of(hit.sighting))
            faults[reach] += 1
            if reach is Reach.POSSIBLE:
                kept.append(hit)
        return kept, LeftOut(faults[Reach.TOO_SOON], faults[Reach.TOO_LATE])

    def possible_together(self, sightings: Iterable[Sighting]) -> list[bool]:
        """Which of ``sightings``, most alike first, one person can have made; each rules out what contradicts it.

        Only what is too soon contradicts: somebody who takes long may have been where no camera is.
        """
        chosen: list[Seen] = []
        answers = []
        for sighting in sightings:
            seen = Seen.of(sighting)
            answers.append(all(self.reach(seen, other) is not Reach.TOO_SOON for other in chosen))
            if answers[-1]:
                chosen.append(seen)
        return answers


def travel_times(system: LiveSystem) -> TravelTimes:
    """What the cameras that are there now state."""
    return TravelTimes({name: state.settings for name, state in system.pool.states().items()})
