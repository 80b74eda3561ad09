"""What a step of distillation draws beside the people of the targets: source identities and part-mixed crops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reid_mtda.data.batches import Pictures, PKSampler, load_pictures, pk_sampler
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.runs import Run
from reid_mtda.train.teacher_outputs import TeacherOutputs
from reid_mtda.types import LabelledSet, Preprocess


@dataclass(frozen=True, eq=False)
class SourcePeople:
    """The labelled source: its pictures, labels int64 (N,), and which a step takes."""

    pictures: Pictures
    labels: Tensor
    pick: PKSampler

    @classmethod
    def of(cls, source: LabelledSet, preprocess: Preprocess, *, p: int, k: int, seed: int) -> SourcePeople:
        """P x K batches of ``source``.

        Raises:
            DataError: fewer than two identities.
        """
        pick = pk_sampler(source.labels, p=p, k=k, seed=seed, where=source.domain)
        return cls(load_pictures(source.paths, preprocess), torch.from_numpy(source.labels), pick)


@dataclass(frozen=True, eq=False)
class PartMixes:
    """One target's part-mixed crops, what its teacher says of them, and which a step takes."""

    pictures: Pictures
    teacher_output: TeacherOutputs
    pick: ShuffleSampler

    @classmethod
    def of_all(
        cls, teacher_outputs: Mapping[str, TeacherOutputs], preprocess: Preprocess, *, of_each: int, run: Run
    ) -> dict[str, PartMixes]:
        """By target, ``of_each`` of them in a batch; none for a target whose teacher output has none."""
        found = {}
        for name, teacher_output in teacher_outputs.items():
            extra = teacher_output.parted()[1]
            if len(extra.part_mixed):
                pick = ShuffleSampler(len(extra.part_mixed), of_each, run.child_seed(f"part-mixed {name}"))
                found[name] = cls(Pictures(extra.part_mixed, preprocess), extra, pick)
        return found
