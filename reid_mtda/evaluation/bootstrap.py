"""How far scores would move with other people: percentile bootstrap over the people that queries show.

Queries of one person stand or fall together, so people are drawn with replacement and not queries; the gallery stays.
Two rows of a table are compared on the same people: the interval is that of their difference.

Reference: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from reid_mtda.errors import ShapeError
from reid_mtda.scores import PersonScores
from reid_mtda.types import DoubleArray

Measure = Literal["ap", "rank1"]
MEASURES: dict[str, Measure] = {"mAP": "ap", "rank1": "rank1"}
"""Numbers that come with an interval, and what a person's share of them is called."""
RESAMPLES = 2000
LEVEL = 0.95


def interval(tests: Sequence[PersonScores], measure: Measure) -> tuple[float, float]:
    """The 95 % interval of mAP or rank-1, as fractions.

    Args:
        tests: one for each test that the number is the mean of: seeds, or data sets. Tests of the same people are
            drawn together.
        measure: ``ap`` for mAP, ``rank1``.
    """
    return _percentiles([(test, getattr(test, measure)) for test in tests])


def paired_interval(
    tests: Sequence[PersonScores], others: Sequence[PersonScores], measure: Measure
) -> tuple[float, float]:
    """The 95 % interval of a difference: ``tests`` minus ``others``, which are other embeddings of the same queries.

    Args:
        tests: one for each test, as for `interval`.
        others: those that are subtracted, test by test.
        measure: ``ap`` for mAP, ``rank1``.

    Raises:
        ShapeError: not as many tests, or other people or queries.
    """
    if len(tests) != len(others):
        raise ShapeError(f"paired interval: got {len(tests)} tests and {len(others)} others, expected as many")
    for number, (test, other) in enumerate(zip(tests, others, strict=True)):
        if not (np.array_equal(test.pids, other.pids) and np.array_equal(test.queries, other.queries)):
            raise ShapeError(
                f"paired interval: test {number} has other people or queries on its two sides, expected the same; "
                "compare rows of one run"
            )
    return _percentiles(
        [(test, getattr(test, measure) - getattr(other, measure)) for test, other in zip(tests, others, strict=True)]
    )


def _percentiles(tests: Sequence[tuple[PersonScores, DoubleArray]]) -> tuple[float, float]:
    drawn = np.mean([_resampled(test, sums) for test, sums in tests], axis=0)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled(test: PersonScores, sums: DoubleArray) -> DoubleArray:
    """The mean over queries (R,) in each draw of as many people as there are.

    Draws are a function of the people alone: the same people are drawn in every test and every row of a table.
    """
    rng = np.random.default_rng(zlib.crc32(test.pids.tobytes()))
    count = len(test.pids)
    times = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.asarray((times @ sums) / (times @ test.queries), np.float64)


def people_to_json(people: PersonScores) -> dict[str, list[float]]:
    """What a run keeps of each person's sums."""
    return {name: getattr(people, name).tolist() for name in PersonScores.__dataclass_fields__}


def people_from_json(kept: Mapping[str, Any]) -> PersonScores:
    """Read again what `people_to_json` wrote."""
    return PersonScores(
        np.asarray(kept["pids"], np.int64),
        np.asarray(kept["queries"], np.int64),
        np.asarray(kept["ap"], np.float64),
        np.asarray(kept["rank1"], np.float64),
    )
