"""From which score on two sightings count as one person: set per pair of cameras, without labels.

Nobody is in two places at once, so two tracklets that overlap in time are certain not to be one person: within a
camera always, between cameras where their views do not overlap. Their scores are the negatives. The two halves of one
tracklet are certain to be one person: the positives, within a camera.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reid_mtda.types import DoubleArray, FloatArray

Pair = tuple[str, str]

POOLED: Pair = ("", "")
MIN_NEGATIVES = 50
UNCALIBRATED = 0.7


@dataclass(frozen=True, eq=False)
class TrackRecord:
    """A sighting as calibration sees it: where, which track, from when to when, and its vector (D,)."""

    camera: str
    track_id: int
    start_s: float
    end_s: float
    vector: FloatArray


@dataclass(frozen=True)
class PairThreshold:
    """A threshold and how far it can be trusted.

    ``false_match_rate`` is the share of the ``negatives`` at or above it, ``upper_rate`` the upper end of its 95 %
    confidence interval (Clopper-Pearson, one-sided); ``found_rate`` the share of ``positives`` at or above it.
    """

    threshold: float
    negatives: int
    false_match_rate: float
    upper_rate: float
    positives: int
    found_rate: float


@dataclass(frozen=True)
class Thresholds:
    """Thresholds by pair of cameras, in alphabetical order; ``POOLED`` serves pairs with too few negatives.

    ``asked_rate`` is the false-match rate that was asked for, per comparison of two sightings.
    """

    model_id: str
    asked_rate: float
    pairs: dict[Pair, PairThreshold]

    def of(self, left: str | None, right: str) -> float:
        """The threshold between two cameras; ``left`` None: the picture comes from elsewhere."""
        found = self.pairs.get(pair_of(left, right)) if left is not None else None
        found = found or self.pairs.get(POOLED)
        return found.threshold if found else UNCALIBRATED

    @property
    def is_calibrated(self) -> bool:
        """At least the pooled threshold comes from data."""
        return POOLED in self.pairs


def pair_of(left: str, right: str) -> Pair:
    """Two cameras in alphabetical order."""
    return (left, right) if left <= right else (right, left)


def calibrate(
    records: Sequence[TrackRecord],
    within: Mapping[str, Sequence[float]],
    *,
    model_id: str,
    false_match_rate: float,
    overlapping: frozenset[Pair] = frozenset(),
) -> Thresholds:
    """Set the thresholds at a false-match rate.

    Args:
        moments: sightings of about the same days.
        within: by camera, cosines between halves of one tracklet.
        model_id: whose vectors they are.
        false_match_rate: share of comparisons between different people that may reach the threshold.
        overlapping: pairs of cameras that see the same ground: simultaneous tracklets prove nothing there.
    """
    negatives = simultaneous_scores(records, overlapping)
    pairs: dict[Pair, PairThreshold] = {}
    every = np.concatenate([np.zeros(0), *negatives.values()])
    everyone = np.array([score for scores in within.values() for score in scores])
    if len(every) >= MIN_NEGATIVES:
        pairs[POOLED] = _threshold(every, everyone, false_match_rate)
    for pair, scores in sorted(negatives.items()):
        if len(scores) >= max(MIN_NEGATIVES, math.ceil(1 / false_match_rate)):
            positives = np.array([score for camera in set(pair) for score in within.get(camera, ())])
            pairs[pair] = _threshold(scores, positives, false_match_rate)
    return Thresholds(model_id, false_match_rate, pairs)


def simultaneous_scores(records: Sequence[TrackRecord], overlapping: frozenset[Pair]) -> dict[Pair, DoubleArray]:
    """Cosines of all tracklets that were on view at one time, by pair of cameras: certain negatives."""
    order = sorted(records, key=lambda record: record.start_s)
    found: dict[Pair, list[float]] = {}
    under_way: list[TrackRecord] = []
    for record in order:
        under_way = [other for other in under_way if other.end_s >= record.start_s]
        for other in under_way:
            pair = pair_of(record.camera, other.camera)
            if pair in overlapping or (record.camera, record.track_id) == (other.camera, other.track_id):
                continue
            found.setdefault(pair, []).append(float(record.vector @ other.vector))
        under_way.append(record)
    return {pair: np.array(scores) for pair, scores in found.items()}


def _threshold(negatives: DoubleArray, positives: DoubleArray, rate: float) -> PairThreshold:
    """The lowest score that at most ``rate`` of the negatives reach; just above the highest where that is none."""
    allowed = math.floor(rate * len(negatives))
    ranked = np.sort(negatives)[::-1]
    threshold = float(np.nextafter(ranked[allowed], np.inf)) if allowed < len(ranked) else -1.0
    reached = int(np.count_nonzero(negatives >= threshold))
    upper = float(stats.beta.ppf(0.95, reached + 1, len(negatives) - reached)) if reached < len(negatives) else 1.0
    found = float(np.mean(positives >= threshold)) if len(positives) else float("nan")
    return PairThreshold(threshold, len(negatives), reached / len(negatives), upper, len(positives), found)
