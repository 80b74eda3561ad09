"""Shuffled batches that cannot run out: a pure function of (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_mtda.errors import DataError
from reid_mtda.types import IntArray


@dataclass(frozen=True)
class ShuffleSampler:
    """Batches of ``batch_size`` rows out of ``count``; every row comes once before any comes twice.

    The last rows of an order continue into the next one, so that every batch is full however small the set is.
    """

    count: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise DataError("batches: got a set without pictures, expected at least one; check the data set's folder")

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass, at least one."""
        return max(1, self.count // self.batch_size)

    def batch(self, step: int) -> IntArray:
        """Row numbers (batch_size,) of batch ``step`` >= 0."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        rounds = places // self.count
        orders = {r: np.random.default_rng((self.seed, int(r))).permutation(self.count) for r in np.unique(rounds)}
        return np.array([orders[r][p % self.count] for r, p in zip(rounds, places, strict=True)], np.int64)
