"""Objectives over class probabilities: source identities of crops, or the classes of a closed set."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from reid_mtda.losses.distillation.affinity import affinity_loss
from reid_mtda.losses.distillation.balanced import balanced_loss
from reid_mtda.losses.distillation.chosen import chosen_loss
from reid_mtda.losses.distillation.divergence import divergence_rows
from reid_mtda.losses.distillation.selective import selective_loss, selective_rows_loss
from reid_mtda.losses.distillation.standardised import standardised_loss
from reid_mtda.losses.distillation.transport import transport_loss
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.train.objectives.objective import Context, Need, Objective, ObjectiveSettings, Sizes, given


class SoftenedSettings(ObjectiveSettings):
    """Of an objective over softened probabilities."""

    temperature: float = Field(default=4.0, gt=0, description="larger is softer")


class SelectiveSettings(SoftenedSettings):
    """Of ``selective``."""

    temperature: float = Field(default=1.0, gt=0, description="of class probabilities")
    rows_temperature: float = Field(default=0.1, gt=0, description="of similarity rows, where there are no logits")


class Selective(Objective):
    """`selective_loss`, or `selective_rows_loss` where the teacher has no logits."""

    needs: ClassVar[frozenset[Need]] = frozenset({"start"})

    def __init__(self, settings: SelectiveSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Follow whoever is surer of a crop: the teacher, or the student as it began."""
        start: EmbedderOutput = given(context.start, "what the student said before it learnt")
        if student.logits is not None and teacher.logits is not None and start.logits is not None:
            return selective_loss(
                student=student.logits,
                teacher=teacher.logits,
                start=start.logits,
                temperature=self.settings.temperature,
            )
        return selective_rows_loss(
            student=student.embedding,
            teacher=teacher.embedding,
            start=start.embedding,
            people=context.people,
            temperature=self.settings.rows_temperature,
        )


class OverLogits(Objective):
    """One that reads logits alone."""

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Compare logits (B, C)."""
        return self.compare(given(student.logits, "logits"), given(teacher.logits, "logits"))

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Give one number for logits (B, C) of both."""
        raise NotImplementedError


class BalancedSettings(SoftenedSettings):
    """Of ``balanced``."""

    larger: float = Field(default=0.7, ge=0.5, le=1, description="the larger of the two divergences' weights")


class Balanced(OverLogits):
    """`balanced_loss`."""

    def __init__(self, settings: BalancedSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Balance forward and reverse divergence."""
        own = self.settings
        return balanced_loss(student=student, teacher=teacher, temperature=own.temperature, larger=own.larger)


class TransportSettings(SoftenedSettings):
    """Of ``transport``."""

    temperature: float = Field(default=2.0, gt=0)
    blur: float = Field(default=0.1, gt=0, description="of the plan; smaller is nearer to an assignment")
    rounds: int = Field(default=20, ge=1, le=1000, description="of normalisation")


class Transport(OverLogits):
    """`transport_loss`."""

    def __init__(self, settings: TransportSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Move the teacher's batch onto the student's."""
        own = self.settings
        return transport_loss(
            student=student, teacher=teacher, temperature=own.temperature, blur=own.blur, rounds=own.rounds
        )


class JointSelectionSettings(SoftenedSettings):
    """Of ``joint_selection``."""

    share: float = Field(default=0.8, gt=0, le=1, description="of a batch's crops that are kept")


class JointSelection(OverLogits):
    """`chosen_loss`."""

    def __init__(self, settings: JointSelectionSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Keep what both are sure of."""
        own = self.settings
        return chosen_loss(student=student, teacher=teacher, share=own.share, temperature=own.temperature)


class StandardisedSettings(SoftenedSettings):
    """Of ``standardised``."""

    temperature: float = Field(default=1.0, gt=0, description="of multiples of a picture's own deviation")


class Standardised(OverLogits):
    """`standardised_loss`."""

    def __init__(self, settings: StandardisedSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare logits over their own deviations."""
        return standardised_loss(student=student, teacher=teacher, temperature=self.settings.temperature)


class Affinity(Objective):
    """`affinity_loss` of the student among the crops of one person in one camera."""

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "people"})

    def __init__(self, settings: ObjectiveSettings, sizes: Sizes) -> None:
        super().__init__()

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Ask for one class for the crops of one group."""
        alone = context.people * (int(context.cameras.max()) + 1) + context.cameras
        groups = torch.where(context.people >= 0, alone, -1)
        return affinity_loss(logits=given(student.logits, "logits"), groups=groups)


class SelfPacedSettings(SoftenedSettings):
    """Of ``self_paced``."""

    sharpness: float = Field(default=1.0, ge=0, description="of the preference for easy teachers at the first step")
    momentum: float = Field(default=0.1, gt=0, le=1, description="share of a batch in a teacher's moving mean")


class SelfPaced(Objective):
    """Softened KL, each teacher's share by how well the student follows it already: easy ones first, then all alike.

    Gao et al. 2017, "Knowledge Concentration" (arXiv 1711.07607), its self-paced shares; checked in the abstract.
    Departures: a share is softmax over teachers of minus the moving mean of their divergence, times their number, and
    goes to 1 with the progress of training; all teachers speak of the same classes.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def __init__(self, settings: SelfPacedSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings
        self.means: Tensor
        self.register_buffer("means", torch.full((sizes.teachers,), -1.0))

    def shares(self, progress: float) -> Tensor:
        """Share (n,) of each teacher, their mean is 1; teachers without a loss yet count like the mean."""
        known_yet = self.means >= 0
        known = torch.where(known_yet, self.means, self.means[known_yet].mean() if bool(known_yet.any()) else 0.0)
        easy = torch.softmax(-self.settings.sharpness * known, dim=0) * len(known)
        return (1 - progress) * easy + progress

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Weigh the divergence by the teacher's share."""
        loss = divergence_rows(
            student=given(student.logits, "logits"),
            teacher=given(teacher.logits, "logits"),
            temperature=self.settings.temperature,
        ).mean()
        with torch.no_grad():
            share = self.shares(context.progress)[context.teacher].clone()
            before = self.means[context.teacher]
            moved = torch.lerp(before, loss.detach(), self.settings.momentum)
            self.means[context.teacher] = torch.where(before >= 0, moved, loss.detach())
        return share * loss
