"""Whether a camera has shown enough people to adapt to it: told beforehand, since a score on few people tells nothing.

A camera of a few people is those people: what is learnt from it, and its mean embedding, tell of them and not of the
camera. Without labels nobody knows how many there are, so clusters of crops and tracklets are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reid_mtda.centring import share_of
from reid_mtda.data.pseudo_labels import count_people
from reid_mtda.types import FloatArray, IntArray, UnlabelledSet

LEAST_PEOPLE = 20
"""People that a camera needs, where a preset does not say otherwise.

16 people of Market-1501 over its six cameras, 5 to 16 in each, cost the adapted student 10 mAP and centring by plain
means 12 to 16; 501 people, 157 to 469 in each, gained. At 20 a camera's own mean counts as much as the common one.
"""

_COUNTED_WITHOUT_TRACKLETS = 1.4  # times the people, at least: see `count_people`


@dataclass(frozen=True)
class PeopleSeen:
    """About whom one camera's crops show; ``tracklets`` is 0 where its crops came without, ``people`` is about."""

    crops: int
    tracklets: int
    people: int

    @property
    def share(self) -> float:
        """What a mean of these people counts where it is subtracted, N / (N + 20); the cameras' common one the rest."""
        return share_of(self.people)


def people_seen(embeddings: Mapping[str, FloatArray], targets: Mapping[str, UnlabelledSet]) -> dict[str, PeopleSeen]:
    """Count crops, tracklets and people of each of ``targets``; of one that holds several cameras, of each of them.

    Args:
        embeddings: of each target's crops, float32 (N, D) of length 1, by any network that was not trained on them.
        targets: crops by camera or set.
    """
    seen = {}
    for name, target in targets.items():
        rows, tracklets = embeddings[name], target.tracklets
        cameras = np.zeros(len(target), np.int64) if target.cameras is None else target.cameras
        for camera in np.unique(cameras):
            mine = cameras == camera
            of_camera = name if target.cameras is None else f"{name}, camera {camera}"
            seen[of_camera] = _count(rows[mine], None if tracklets is None else tracklets[mine])
    return seen


def people_in_sightings(rows: FloatArray) -> int:
    """About how many people sightings (N, D) of one camera show, 1 at least; each row is a tracklet's embedding.

    Rather too few: on Market-1501's cameras 0.5 to 0.8 of the people of 80 and more sightings, and hardly any of 20.
    """
    return max(1, round(count_people(rows) / _COUNTED_WITHOUT_TRACKLETS))


def _count(rows: FloatArray, tracklets: IntArray | None) -> PeopleSeen:
    tracks = 0 if tracklets is None else len(np.unique(tracklets[tracklets >= 0]))
    people = count_people(rows, tracklets) if tracks else people_in_sightings(rows)
    return PeopleSeen(len(rows), tracks, max(1, people))


def too_few_people(seen: Mapping[str, PeopleSeen], least: int = LEAST_PEOPLE) -> dict[str, str]:
    """The cameras with fewer than ``least`` people, each with a line that says so and what follows."""
    lines = {}
    for camera, found in seen.items():
        if found.people < least:
            given = f"{found.tracklets} tracklets" if found.tracklets else f"{found.crops} crops without tracklets"
            lines[camera] = (
                f"camera {camera}: about {found.people} people in {given}, expected {least} or more to adapt to; "
                f"its own mean counts {100 * found.share:.0f} % where it is subtracted; film longer, or keep the model "
                "before"
            )
    return lines
