"""Which cameras a student hears at first: those nearest to the source, the others one after the other."""

from __future__ import annotations

import logging

import numpy as np
from torch import Tensor

from reid_mtda.data.batches import Pictures
from reid_mtda.errors import DataError
from reid_mtda.losses.mmd import mmd_loss
from reid_mtda.models.embedder import Embedder
from reid_mtda.train.common import embed_pictures
from reid_mtda.train.draws import SourcePeople
from reid_mtda.train.teacher_outputs import TargetPool
from reid_mtda.types import IntArray

log = logging.getLogger(__name__)

_JUDGED = 256
"""Crops of a camera by which its distance to the source is judged."""


def joining_steps(
    student: Embedder,
    source: SourcePeople | None,
    pictures: Pictures,
    pool: TargetPool,
    *,
    last: int,
    rng: np.random.Generator,
) -> IntArray:
    """The step int64 (n,) at which each of n cameras joins, by the rank of its MMD to the source: 0 to ``last``.

    As many crops of each are looked at: the estimate is biased, and a camera that saw few people would look far away.

    Raises:
        DataError: an order is wanted and there is no source.
    """
    count = len(pool.names)
    if last == 0 or count < 2:
        return np.zeros(count, np.int64)
    if source is None:
        raise DataError("distillation: easy_first orders cameras by their distance to the source, and there is none")
    rows = [np.flatnonzero(pool.target == number) for number in range(count)]
    size = min(_JUDGED, len(source.labels), *map(len, rows))
    of_source = _some(student, source.pictures, np.arange(len(source.labels)), size, rng)
    distances = [float(mmd_loss(source=of_source, target=_some(student, pictures, own, size, rng))) for own in rows]
    log.info("cameras by MMD to the source: %s", dict(zip(pool.names, distances, strict=True)))
    rank = np.argsort(np.argsort(distances, kind="stable"))
    return np.asarray(rank * last // (count - 1), np.int64)


def cameras_joined(joins: IntArray, step: int, identities: IntArray, pool: TargetPool) -> IntArray:
    """The numbers of the cameras that take part at ``step``; some before their time, until two people are there."""
    order = np.argsort(joins, kind="stable")
    for count in range(int((joins <= step).sum()), len(order) + 1):
        people = identities[np.isin(pool.target, order[:count])]
        if len(np.unique(people[people >= 0])) > 1:
            break
    return np.sort(order[:count])


def _some(model: Embedder, pictures: Pictures, rows: IntArray, size: int, rng: np.random.Generator) -> Tensor:
    chosen = rng.choice(rows, size, replace=False)
    return embed_pictures(model, Pictures(pictures.resized[chosen], pictures.preprocess)).embedding
