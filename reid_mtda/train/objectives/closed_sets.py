"""Objectives in the staged loop of closed sets: MixUp, and what they are told of mixed pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_mtda.models.classifier import Classifier, ClassifierOutput
from reid_mtda.models.embedder import EmbedderOutput, joined_outputs
from reid_mtda.runs import Run
from reid_mtda.train.objectives.applied import AppliedObjectives, source_parts_of
from reid_mtda.train.objectives.objective import AllCrops, AskedObjective, Context, Need, Sizes
from reid_mtda.types import IntArray


@dataclass(frozen=True, eq=False)
class Mix:
    """MixUp (Zhang et al. 2018): of each picture its own ``share`` (B,), a half at least, and ``other`` int64 (B,)."""

    share: Tensor | None
    other: Tensor | None

    def of(self, rows: Tensor) -> Tensor:
        """Blend pictures, or what is said of them, (B, ...), with another's."""
        if self.share is None or self.other is None:
            return rows
        share = self.share.view(-1, *[1] * (rows.ndim - 1))
        return share * rows + (1 - share) * rows[self.other]


def draw_mix(count: int, strength: float, device: torch.device) -> Mix:
    """Draw from Beta(strength, strength) by torch's generator; 0: pictures stay as they are.

    Args:
        count: how many.
        strength: of the Beta distribution.
        device: where the result is wanted.
    """
    if not strength:
        return Mix(None, None)
    concentration = torch.full((count,), strength)
    share = torch.distributions.Beta(concentration, concentration).sample()
    return Mix(torch.maximum(share, 1 - share).to(device), torch.randperm(count).to(device))


@dataclass(frozen=True, eq=False)
class TeachersOfSets:
    """What finished teachers said, by target of M_i pictures, on the CPU; only ``logits`` are always needed.

    Args:
        logits: (M_i, C) of each target's own teacher.
        features: (M_i, F) of each target's own teacher, where an objective asks for them.
        everyone: logits (M_i, n, C) of all n teachers, where an objective asks for them.
        source_logits: the teachers' mean (N, C) for the source's pictures, where an objective asks for it.
    """

    logits: Mapping[str, Tensor]
    features: Mapping[str, Tensor] = field(default_factory=dict)
    everyone: Mapping[str, Tensor] = field(default_factory=dict)
    source_logits: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ClosedSetCalls:
    """The objectives of a run of the staged loop; pictures are numbered target after target, from ``first``.

    Of a mixed picture the teachers said nothing: objectives get the mixture of the probabilities and features of the
    two, as the loop itself does.
    """

    applied: AppliedObjectives
    teachers: TeachersOfSets
    first: Mapping[str, int]

    @classmethod
    def of(
        cls,
        asked: Mapping[str, AskedObjective],
        student: Classifier,
        teachers: TeachersOfSets,
        run: Run,
        source_labels: Tensor | None = None,
    ) -> ClosedSetCalls:
        """Build the objectives; a person of theirs is the class that a picture's teacher sees.

        Args:
            asked: objectives by name, each with its weight and settings.
            student: the network being trained.
            teachers: what they said.
            run: gives folder, seed and device.
            source_labels: (N,) the source's; None: there are none.

        Raises:
            TrainingError: an objective that needs what classifiers do not tell.
        """
        offered: list[Need] = ["logits", "people"]
        offered += ["feature"] * bool(teachers.features)
        offered += ["everyone"] * bool(teachers.everyone)
        offered += ["source"] * (teachers.source_logits is not None)
        counts = [len(rows) for rows in teachers.logits.values()]
        said = torch.cat(list(teachers.logits.values()))
        feature = torch.cat(list(teachers.features.values())) if teachers.features else None
        crops = AllCrops(
            embedding=None if feature is None else functional.normalize(feature, dim=1),
            logits=said,
            feature=feature,
            cameras=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
            people=said.argmax(1),
            source_logits=teachers.source_logits,
            source_labels=source_labels,
        )
        sizes = Sizes(
            student=student.feature_dim,
            teacher=0 if feature is None else feature.shape[1],
            classes=said.shape[1],
            teachers=len(counts),
        )
        first = dict(zip(teachers.logits, np.cumsum([0, *counts[:-1]]).tolist(), strict=True))
        applied = AppliedObjectives.of(asked, sizes, frozenset(offered), crops, run)
        return cls(applied, teachers, first)

    def of_source(
        self, output: ClassifierOutput, rows: IntArray, labels: Tensor, share: float, progress: float
    ) -> dict[str, Tensor]:
        """Call those over the source's pictures numbered ``rows`` (B,), of ``labels`` int64 (B,).

        Args:
            output: the student's of these pictures.
            rows: (B,) numbers of the pictures.
            labels: (B,) classes of the source's pictures.
            share: of the whole loss.
            progress: how much of training is over, 0..1.
        """
        if self.teachers.source_logits is None:
            return {}
        student = _said(output.logits, output.feature)
        return source_parts_of(self.applied, self.teachers.source_logits, student, rows, labels, share, progress)

    def parts(
        self,
        outputs: Mapping[str, ClassifierOutput],
        rows: Mapping[str, IntArray],
        mixes: Mapping[str, Mix],
        progress: float,
        share: float,
    ) -> dict[str, Tensor]:
        """Call those over each target's teacher with ``share``, and those over all targets with all their shares.

        Args:
            outputs: by domain.
            rows: (B,) numbers of each target's pictures.
            mixes: pictures that were blended, by target.
            progress: how much of training is over, 0..1.
            share: of the whole loss.
        """
        if not self.applied:
            return {}
        parts: dict[str, Tensor] = {}
        students, teachers, contexts = [], [], []
        for number, (name, output) in enumerate(outputs.items()):
            device, seen = output.logits.device, torch.from_numpy(rows[name])
            mix, everyone = mixes[name], self.teachers.everyone.get(name)
            own = self.teachers.logits[name][seen].to(device)
            feature = self.teachers.features[name][seen].to(device) if name in self.teachers.features else None
            teacher = _said(_mixed_logits(own, mix), None if feature is None else mix.of(feature))
            student = _said(output.logits, output.feature)
            context = Context(
                progress=progress,
                rows=(seen + self.first[name]).to(device),
                people=own.argmax(1),
                cameras=torch.full((len(seen),), number, device=device),
                teacher=number,
                everyone=None if everyone is None else _mixed_logits(everyone[seen].to(device), mix),
            )
            parts |= self.applied.parts(
                "teacher", student=student, teacher=teacher, context=context, share=share, prefix=name
            )
            students.append(student)
            teachers.append(teacher)
            contexts.append(context)
        whole = Context(
            progress=progress,
            rows=torch.cat([context.rows for context in contexts]),
            people=torch.cat([context.people for context in contexts]),
            cameras=torch.cat([context.cameras for context in contexts]),
        )
        return parts | self.applied.parts(
            "all",
            student=joined_outputs(students),
            teacher=joined_outputs(teachers),
            context=whole,
            share=share * len(outputs),
            prefix="targets",
        )


def _mixed_logits(logits: Tensor, mix: Mix) -> Tensor:
    """Logits of mixed pictures: those of the mixture of both pictures' probabilities."""
    return logits if mix.share is None else mix.of(functional.softmax(logits, dim=-1)).clamp(min=1e-12).log()


def _said(logits: Tensor, feature: Tensor | None) -> EmbedderOutput:
    """Logits and features of a classifier as an embedder gives them."""
    embedding = logits if feature is None else feature
    return EmbedderOutput(functional.normalize(embedding, dim=1), logits, feature)
