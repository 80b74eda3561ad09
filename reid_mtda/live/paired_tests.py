"""Paired tests over tracklets: whether what fell by chance fell by more than chance, over several cameras at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from reid_mtda.types import DoubleArray

LEVEL = 0.05


def p_of_worse(before: DoubleArray, after: DoubleArray, tolerance: float) -> float:
    """The p-value of a fall by more than ``tolerance`` (Wilcoxon, paired, one-sided).

    Args:
        before: float64 (N,), one score for each tracklet.
        after: float64 (N,), of the same tracklets.
        tolerance: a mean that falls by no more is no fall, 1.0.
    """
    if before.mean() - after.mean() <= tolerance or np.array_equal(before, after):
        return 1.0
    return float(stats.wilcoxon(before, after, alternative="greater", zero_method="zsplit").pvalue)


def holm(p_values: Mapping[str, float]) -> set[str]:
    """The names whose p-value holds at 5 % over all of them (Holm's step-down rule).

    >>> sorted(holm({"gate": 0.01, "plaza": 0.03, "yard": 0.2}))
    ['gate']
    """
    worse: set[str] = set()
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] >= LEVEL / (len(p_values) - place):
            break
        worse.add(name)
    return worse
