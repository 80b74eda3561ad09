"""The objectives of a run: built for its networks, trained and saved beside the student, called by the loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda.errors import TrainingError
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.runs import Run
from reid_mtda.train.objectives.objective import (
    AllCrops,
    AskedObjective,
    Context,
    Need,
    Objective,
    Over,
    Sizes,
    checked_loss,
    detached,
    needs_of,
)
from reid_mtda.types import IntArray


class AppliedObjectives:
    """Objectives by name with their weights, on the run's device."""

    def __init__(self, asked: Mapping[str, AskedObjective], modules: nn.ModuleList) -> None:
        self.asked = {name: own for name, own in asked.items() if own.weight}
        self.modules = modules

    @classmethod
    def of(
        cls, asked: Mapping[str, AskedObjective], sizes: Sizes, offered: frozenset[Need], crops: AllCrops, run: Run
    ) -> AppliedObjectives:
        """Build what was asked for, its parameters drawn from the run's seed, and let it look at all crops.

        Args:
            asked: by name.
            sizes: of the networks.
            offered: what student and teachers give beside embeddings.
            crops: of all targets, on the CPU.
            run: its seed and device.

        Raises:
            TrainingError: an objective that needs what nobody offers, or that does not fit the sizes, by its name.
        """
        wanted = {name: own for name, own in asked.items() if own.weight}
        for name, own in wanted.items():
            missing = sorted(own.needs - offered)
            if missing:
                there = ", ".join(["embeddings", *sorted(offered)])
                raise TrainingError(
                    f"objective {name!r}: needs {', '.join(missing)}, got {there}; "
                    "take it out, or take teachers and a student that tell it"
                )
            if own.over == "all" and crops.embedding is None:
                raise TrainingError(
                    f"objective {name!r}: compares crops of all cameras, got teachers whose embeddings cannot be "
                    "compared; take it out, or one ready-made teacher for all"
                )
        built = []
        with torch.random.fork_rng(devices=[]):
            for name, own in wanted.items():
                torch.manual_seed(run.child_seed(f"objective {name}"))
                objective = own.build(sizes)
                objective.prepare(crops)
                built.append(objective)
        return cls(wanted, nn.ModuleList(built).to(torch.device(run.compute.device)))

    def __bool__(self) -> bool:
        return bool(self.asked)

    @property
    def needs(self) -> frozenset[Need]:
        """All that they read."""
        return needs_of(self.asked)

    def networks(self) -> dict[str, nn.Module]:
        """What is saved of them with a stopped run; nothing where they have no state."""
        return {"objectives": self.modules} if self.modules.state_dict() else {}

    def parameters(self) -> list[nn.Parameter]:
        """What is trained of them."""
        return list(self.modules.parameters())

    def parts(
        self,
        over: Over,
        *,
        student: EmbedderOutput,
        teacher: EmbedderOutput,
        context: Context,
        share: float,
        prefix: str,
    ) -> dict[str, Tensor]:
        """Weigh those that are called ``over`` these crops by their weights and ``share``; each part is named.

        Args:
            over: what they are called over: a teacher, all teachers, the source.
            student: the student's output for the crops, with a gradient.
            teacher: what the teacher says of the same crops, without a gradient.
            context: what objectives may know of the batch.
            share: of the whole loss.
            prefix: before the name of each part.
        """
        found, said = {}, detached(teacher)
        for name, own, objective in self._each():
            if own.over == over:
                loss = checked_loss(name, objective(student=student, teacher=said, context=context))
                found[f"{prefix}/{name}"] = (share * own.weight) * loss
        return found

    def _each(self) -> Iterator[tuple[str, AskedObjective, Objective]]:
        for (name, own), objective in zip(self.asked.items(), self.modules, strict=True):
            assert isinstance(objective, Objective)
            yield name, own, objective


def source_parts_of(
    applied: AppliedObjectives,
    source_logits: Tensor,
    student: EmbedderOutput,
    rows: IntArray,
    labels: Tensor,
    share: float,
    progress: float,
) -> dict[str, Tensor]:
    """Call the objectives over the source; the teacher there is the mean of all teachers' logits (N, C).

    Args:
        applied: the objectives of the run.
        source_logits: (N, C) mean of all teachers.
        student: the student's output for the crops, with a gradient.
        rows: (B,) numbers of the crops in the pool.
        labels: (B,) classes of the source's pictures.
        share: of the whole loss.
        progress: how much of training is over, 0..1.
    """
    numbers = torch.from_numpy(rows)
    said = source_logits[numbers].to(labels.device)
    nobody = torch.full_like(labels, -1)
    context = Context(progress, numbers.to(labels.device), people=labels, cameras=nobody, labels=labels)
    teacher = EmbedderOutput(functional.normalize(said, dim=1), said)
    return applied.parts("source", student=student, teacher=teacher, context=context, share=share, prefix="source")
