"""Which rows a batch takes: samplers that cannot run out, pure functions of (seed, step)."""

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


@dataclass(frozen=True, eq=False)
class PKSampler:
    """P x K batches: P groups (identities or tracklets), K pictures each; a pure function of (seed, step).

    Being a function of the step it cannot run out, and a resumed run draws what an uninterrupted one would have
    drawn. No group comes twice in an epoch; where P does not divide their number, the remainder sits that epoch out,
    another one each time. Groups smaller than K repeat pictures.
    """

    groups: tuple[IntArray, ...]
    p: int
    k: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches of P different groups until fewer than P are left."""
        return max(1, len(self.groups) // self.p)

    def batch(self, step: int) -> IntArray:
        """Indices (P*K,) of batch ``step`` >= 0, group by group."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch, 0)).permutation(len(self.groups))
        chosen = order[place * self.p : (place + 1) * self.p]
        rng = np.random.default_rng((self.seed, step, 1))
        return np.concatenate(
            [rng.choice(self.groups[g], self.k, replace=len(self.groups[g]) < self.k) for g in chosen]
        )


def pk_sampler(labels: IntArray, *, p: int, k: int, seed: int, where: str, min_size: int = 1) -> PKSampler:
    """A PKSampler over ``labels`` int64 (N,); rows of label -1 belong to no group, small groups are left out.

    With fewer than ``p`` groups all of them are in every batch.

    Args:
        labels: (N,) group of each row, -1 for none.
        p: identities in a batch.
        k: pictures of each identity.
        seed: of what is drawn.
        where: opens the message.
        min_size: rows of the smallest group that counts.

    Raises:
        DataError: fewer than two groups: nothing could be told apart.
    """
    groups = tuple(
        np.flatnonzero(labels == label).astype(np.int64)
        for label in np.unique(labels[labels >= 0])
        if int((labels == label).sum()) >= min_size
    )
    if len(groups) < 2:
        raise DataError(
            f"{where}: got {len(groups)} identities or tracklets with at least {min_size} pictures, expected 2+; "
            "harvest more footage"
        )
    return PKSampler(groups=groups, p=min(p, len(groups)), k=k, seed=seed)
