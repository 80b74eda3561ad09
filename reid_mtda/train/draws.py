"""What a step of distillation draws beside the people of the targets: source identities and recombined crops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reid_mtda.data.batches import GroupSampler, Pictures, group_sampler, load_pictures
from reid_mtda.data.shuffle import ShuffledRows
from reid_mtda.runs import Run
from reid_mtda.train.lessons import Lesson
from reid_mtda.types import LabelledSet, Preprocess


@dataclass(frozen=True, eq=False)
class SourcePeople:
    """The labelled source: its pictures, labels int64 (N,), and which a step takes."""

    pictures: Pictures
    labels: Tensor
    pick: GroupSampler

    @classmethod
    def of(cls, source: LabelledSet, preprocess: Preprocess, *, p: int, k: int, seed: int) -> SourcePeople:
        """P x K batches of ``source``.

        Raises:
            DataError: fewer than two identities.
        """
        pick = group_sampler(source.labels, p=p, k=k, seed=seed, where=source.domain)
        return cls(load_pictures(source.paths, preprocess), torch.from_numpy(source.labels), pick)


@dataclass(frozen=True, eq=False)
class RecombinedCrops:
    """One target's recombined crops, what its teacher says of them, and which a step takes."""

    pictures: Pictures
    lesson: Lesson
    pick: ShuffledRows

    @classmethod
    def of_all(
        cls, lessons: Mapping[str, Lesson], preprocess: Preprocess, *, of_each: int, run: Run
    ) -> dict[str, RecombinedCrops]:
        """By target, ``of_each`` of them in a batch; none for a target whose lesson has none."""
        found = {}
        for name, lesson in lessons.items():
            extra = lesson.parted()[1]
            if len(extra.recombined):
                pick = ShuffledRows(len(extra.recombined), of_each, run.child_seed(f"recombined {name}"))
                found[name] = cls(Pictures(extra.recombined, preprocess), extra, pick)
        return found
