"""What a step of distillation draws: source identities, people of the targets, part-mixed crops; functions of the step.

With ``easy_first`` the cameras join one after the other, those nearest to the source first.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from reid_mtda.data.batches import Pictures, pictures_of
from reid_mtda.data.pseudo_labels import NOISE
from reid_mtda.data.samplers import PKSampler, ShuffleSampler, pk_sampler
from reid_mtda.errors import DataError
from reid_mtda.losses.mmd import mmd_loss
from reid_mtda.models.embedder import Embedder
from reid_mtda.runs import Run
from reid_mtda.train.common import embed_pictures
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs
from reid_mtda.types import IntArray, LabelledSet, Preprocess

log = logging.getLogger(__name__)

_FEWEST = 4
"""Crops of a camera in a batch below which its own BatchNorm statistics would be noise; they sit the step out."""
_JUDGED = 256
"""Crops of a camera by which its distance to the source is judged."""


@dataclass(frozen=True, eq=False)
class SourceBatches:
    """The labelled source: its pictures, labels int64 (N,) on the device, and which a step takes."""

    pictures: Pictures
    labels: Tensor
    pick: PKSampler

    @classmethod
    def of(cls, source: LabelledSet, preprocess: Preprocess, *, p: int, k: int, run: Run) -> SourceBatches:
        """P x K batches of ``source``.

        Args:
            source: labelled crops.
            preprocess: size and colours of the input.
            p: identities in a batch.
            k: pictures of each identity.
            run: gives folder, seed and device.

        Raises:
            DataError: fewer than two identities.
        """
        pick = pk_sampler(source.labels, p=p, k=k, seed=run.child_seed("source"), where=source.domain)
        labels = torch.from_numpy(source.labels).to(torch.device(run.compute.device))
        return cls(pictures_of(source, preprocess), labels, pick)


@dataclass(frozen=True, eq=False)
class PartMixBatches:
    """One target's part-mixed crops, what its teacher says of them, and which a step takes."""

    pictures: Pictures
    teacher_output: TeacherOutputs
    pick: ShuffleSampler

    @classmethod
    def of_all(
        cls, teacher_outputs: Mapping[str, TeacherOutputs], preprocess: Preprocess, *, of_each: int, run: Run
    ) -> dict[str, PartMixBatches]:
        """By target, ``of_each`` of them in a batch; none for a target whose teacher output has none.

        Args:
            teacher_outputs: what each camera's teacher says of its crops.
            preprocess: size and colours of the input.
            of_each: crops of each camera.
            run: gives folder, seed and device.
        """
        found = {}
        for name, teacher_output in teacher_outputs.items():
            extra = teacher_output.parted()[1]
            if len(extra.part_mixed):
                pick = ShuffleSampler(len(extra.part_mixed), of_each, run.child_seed(f"part-mixed {name}"))
                found[name] = cls(Pictures(extra.part_mixed, preprocess), extra, pick)
        return found


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's crops by number.

    ``joined`` are the numbers of the targets that take part. ``rows`` int64 (B,) are crops of the pool, ``parts`` the
    same in the groups that are forwarded alone where BatchNorm is per domain. ``mixed`` are part-mixed crops by target.
    """

    joined: IntArray
    parts: tuple[IntArray, ...]
    mixed: dict[str, IntArray]

    @functools.cached_property
    def rows(self) -> IntArray:
        """All crops of the pool in the batch."""
        return np.concatenate(self.parts)


@dataclass(frozen=True, eq=False)
class TargetBatches:
    """The people of all targets, P x K over all cameras that joined, and part-mixed crops of these cameras.

    ``identities`` int64 (N,) are the crops' pseudo-identities, ``joins`` int64 (n,) the step at which each of n targets
    takes part. ``samplers`` fills itself, one for each set of cameras that joined.
    """

    pool: TargetPool
    identities: IntArray
    joins: IntArray
    part_mixes: Mapping[str, PartMixBatches]
    settings: DistilSettings
    run: Run
    samplers: dict[tuple[int, ...], PKSampler] = field(default_factory=dict)

    def draw(self, step: int) -> Batch:
        """The batch of ``step``: a function of the step alone."""
        joined = cameras_joined(self.joins, step, self.identities, self.pool)
        rows = self._sampler(tuple(joined.tolist())).batch(step)
        present = {self.pool.names[number] for number in joined}
        mixed = {name: extra.pick.batch(step) for name, extra in self.part_mixes.items() if name in present}
        return Batch(joined, tuple(self._forwarded(rows)), mixed)

    def _sampler(self, joined: tuple[int, ...]) -> PKSampler:
        if joined not in self.samplers:
            identities = np.where(np.isin(self.pool.target, joined), self.identities, NOISE)
            p, k, seed = self.settings.target_identities, self.settings.target_pictures, self.run.child_seed("target")
            self.samplers[joined] = pk_sampler(identities, p=p, k=k, seed=seed, where=", ".join(self.pool.names))
        return self.samplers[joined]

    def _forwarded(self, rows: IntArray) -> list[IntArray]:
        if self.settings.batchnorm == "shared":
            return [rows]
        parts = [rows[self.pool.target[rows] == number] for number in range(len(self.pool.names))]
        return [part for part in parts if len(part) >= _FEWEST] or [rows]


def joining_steps(
    student: Embedder,
    source: SourceBatches | None,
    pictures: Pictures,
    pool: TargetPool,
    *,
    last: int,
    rng: np.random.Generator,
) -> IntArray:
    """The step int64 (n,) at which each of n cameras joins, by the rank of its MMD to the source: 0 to ``last``.

    As many crops of each are looked at: the estimate is biased, and a camera that saw few people would look far away.

    Args:
        student: the network being trained.
        source: batches of the source; None: there are none.
        pictures: the set's.
        pool: all targets' crops and what teachers say of them.
        last: the step by which all have joined.
        rng: draws.

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
    """The numbers of the cameras that take part at ``step``; some before their time, until two people are there.

    Args:
        joins: (cameras,) the step at which each joins.
        step: its number, from 0.
        identities: (N,) pseudo-identity of each crop, -1 for none.
        pool: all targets' crops and what teachers say of them.
    """
    order = np.argsort(joins, kind="stable")
    for count in range(int((joins <= step).sum()), len(order) + 1):
        people = identities[np.isin(pool.target, order[:count])]
        if len(np.unique(people[people >= 0])) > 1:
            break
    return np.sort(order[:count])


def _some(model: Embedder, pictures: Pictures, rows: IntArray, size: int, rng: np.random.Generator) -> Tensor:
    chosen = rng.choice(rows, size, replace=False)
    return embed_pictures(model, Pictures(pictures.resized[chosen], pictures.preprocess)).embedding
