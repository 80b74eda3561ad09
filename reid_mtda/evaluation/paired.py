"""Paired differences over seeds: their mean, its interval, and which of many stay when all were tried at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reid_mtda.errors import ShapeError


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, the bounds of its 95 % interval, and p of Student's paired test; nan of one pair."""

    mean: float
    low: float
    high: float
    p: float


def paired_difference(values: Sequence[float], others: Sequence[float], *, level: float = 0.95) -> Difference:
    """The mean of ``values`` minus ``others``, pair by pair, with the interval of Student's t.

    >>> found = paired_difference([3.0, 4.0, 6.0], [2.0, 2.0, 3.0])
    >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2), round(found.p, 3)
    (2.0, -0.48, 4.48, 0.074)

    Args:
        values: one for each seed.
        others: of the same seeds in the same order.
        level: of the interval, in (0, 1).

    Raises:
        ShapeError: none, or not as many.
    """
    if len(values) != len(others) or not len(values):
        raise ShapeError(f"paired difference: got {len(values)} values and {len(others)} others, expected as many, 1+")
    apart = np.asarray(values, np.float64) - np.asarray(others, np.float64)
    mean, count = float(apart.mean()), len(apart)
    if count == 1:
        return Difference(mean, float("nan"), float("nan"), float("nan"))
    error = float(apart.std(ddof=1)) / count**0.5
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Difference(mean, mean - half, mean + half, p)


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values of tests that were made at once (Holm 1979); nan stays nan and does not count.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, np.float64)
    adjusted = np.full(len(given), np.nan)
    known = np.flatnonzero(~np.isnan(given))
    largest = 0.0
    for rank, number in enumerate(known[np.argsort(given[known], kind="stable")]):
        largest = max(largest, min(1.0, float(given[number]) * (len(known) - rank)))
        adjusted[number] = largest
    return [float(value) for value in adjusted]
