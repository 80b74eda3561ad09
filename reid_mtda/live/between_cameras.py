"""How well a model finds people again in *other* cameras, measured without labels, tracklet by tracklet.

Two scores, which fall for different reasons:

- **Round trip**: from a tracklet's early crop to the nearest late crop of another camera, and from that one's early
  crop back to the nearest late crop here: is it the tracklet that was set out from? It falls when people become
  harder to tell apart.
- **Certain negatives**: who is nearest to each other between two cameras, each camera centred and both models asked
  together, is probably one person; whoever was on view beside either of the two certainly is not. How many of those
  score below the pair? It falls when cameras drift apart, so that everybody looks like their own camera first.

On people of six real cameras models that had lost 10 mAP or more lost 0.02 to 0.31 of one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_mtda.camera_settings import Travel
from reid_mtda.types import DoubleArray, FloatArray, IntArray

_MIN_PER_CAMERA = 5
_EQUAL = 1e-5  # cosines this near are equal: the order of sums must not decide
_NEIGHBOURS = 8  # cameras that each one is compared with: a site of a hundred has too many pairs


@dataclass(frozen=True, eq=False)
class Views:
    """Tracklets as one model sees them: an ``early`` and a ``late`` crop's embedding each, float32 (N, D)."""

    early: FloatArray
    late: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Both together, rows of length 1."""
        return _unit(self.early + self.late)


def possible_pairs(
    cameras: Sequence[str], times: DoubleArray, travel: Mapping[tuple[str, str], Travel]
) -> npt.NDArray[np.bool_]:
    """Which tracklets can be of one person by the times that people take between cameras.

    Args:
        cameras: of N tracklets.
        times: float64 (N, 2), POSIX seconds when each began and ended.
        travel: limits by (camera first seen at, camera seen at then); a way back takes as long unless stated, too.

    Returns:
        bool (N, N), symmetric; True where nothing is stated.
    """
    start, end = times.reshape(-1, 2).T
    rows = {name: np.flatnonzero([name == other for other in cameras]) for name in sorted(set(cameras))}
    possible = np.ones((len(cameras), len(cameras)), bool)
    for first, then in ((one, other) for one in rows for other in rows):
        limits = travel.get((first, then)) or travel.get((then, first))
        if limits is None:
            continue
        took_s = np.maximum(0.0, start[rows[then]] - end[rows[first], None])
        within = (took_s >= limits.min_s) & (took_s <= (np.inf if limits.max_s is None else limits.max_s))
        can = within | (start[rows[first], None] > start[rows[then]])
        possible[np.ix_(rows[first], rows[then])] &= can
        possible[np.ix_(rows[then], rows[first])] &= can.T
    return possible


def round_trips(views: Views, camera: IntArray, possible: npt.NDArray[np.bool_] | None = None) -> DoubleArray:
    """The share of other cameras from which each tracklet is found back.

    Args:
        views: N tracklets as the model sees them.
        camera: int64 (N,), 0 .. number of cameras - 1.
        possible: bool (N, N), as `possible_pairs` gives it; None: everybody can have been everywhere.

    Returns:
        float64 (N,) in [0, 1]; NaN where there is no other camera with enough tracklets, or nobody there is possible.
    """
    possible = np.ones((len(camera), len(camera)), bool) if possible is None else possible
    found, asked = np.zeros(len(camera)), np.zeros(len(camera))
    for here, there in _pairs(camera):
        for rows, others in ((here, there), (there, here)):
            can = possible[np.ix_(rows, others)]
            forth = np.where(can, views.early[rows] @ views.late[others].T, -np.inf).argmax(axis=1)
            back = np.where(can.T, views.early[others] @ views.late[rows].T, -np.inf)[forth]
            is_back = back[np.arange(len(rows)), np.arange(len(rows))] >= back.max(axis=1) - _EQUAL
            found[rows] += is_back & can.any(axis=1)
            asked[rows] += can.any(axis=1)
    return _ratio(found, asked)


def negatives_below(
    models: Sequence[Views],
    camera: IntArray,
    together: npt.NDArray[np.bool_],
    possible: npt.NDArray[np.bool_] | None = None,
) -> tuple[DoubleArray, ...]:
    """The share of certain negatives that score below the probable same person in another camera, for each model.

    Args:
        models: N tracklets as each model sees them; all choose the pairs together, so that none is favoured.
        camera: int64 (N,).
        together: bool (N, N), tracklets of one camera that were on view at the same time.
        possible: as in `round_trips`; a pair that nobody can have made is none.

    Returns:
        float64 (N,) in [0, 1] for each model; NaN for a tracklet without a pair, or with nobody beside it.
    """
    possible = np.ones((len(camera), len(camera)), bool) if possible is None else possible
    means = [views.mean for views in models]
    centred = [_centred(mean, camera) for mean in means]
    below, asked = [np.zeros(len(camera)) for _ in models], np.zeros(len(camera))
    for here, there in _pairs(camera):
        scores = sum((rows[here] @ rows[there].T for rows in centred), np.zeros((len(here), len(there))))
        scores = np.where(possible[np.ix_(here, there)], scores, -np.inf)
        forth, back = scores.argmax(axis=1), scores.argmax(axis=0)
        rows = np.arange(len(here))
        for row in np.flatnonzero((back[forth] == rows) & np.isfinite(scores[rows, forth])):
            pair = int(here[row]), int(there[forth[row]])
            negatives = np.flatnonzero(together[pair[0]] | together[pair[1]])
            if not len(negatives):
                continue
            for one, other in (pair, pair[::-1]):
                asked[one] += 1
                for mean, total in zip(means, below, strict=True):
                    ahead = mean[other] @ mean[one] - mean[negatives] @ mean[one]
                    total[one] += np.mean((ahead > _EQUAL) + 0.5 * (np.abs(ahead) <= _EQUAL))
    return tuple(_ratio(total, asked) for total in below)


def _pairs(camera: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Rows of each camera and of the next ones in order, round the ring."""
    rows = [np.flatnonzero(camera == number) for number in np.unique(camera)]
    rows = [one for one in rows if len(one) >= _MIN_PER_CAMERA]
    chosen = {
        (min(first, second), max(first, second))
        for first in range(len(rows))
        for second in ((first + step) % len(rows) for step in range(1, _NEIGHBOURS + 1))
        if first != second
    }
    return [(rows[first], rows[second]) for first, second in sorted(chosen)]


def _centred(rows: FloatArray, camera: IntArray) -> FloatArray:
    centred = rows.copy()
    for number in np.unique(camera):
        centred[camera == number] -= rows[camera == number].mean(axis=0)
    return _unit(centred)


def _unit(rows: FloatArray) -> FloatArray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def _ratio(found: DoubleArray, asked: DoubleArray) -> DoubleArray:
    return np.where(asked > 0, found / np.maximum(asked, 1), np.nan)
