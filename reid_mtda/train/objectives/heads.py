"""Objectives with a head of their own on the student's feature, which is dropped after training."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda.losses.distillation.divergence import divergence_rows
from reid_mtda.losses.distillation.dual_head import binary_agreement_loss
from reid_mtda.losses.distillation.routed import gate_shares, load_balance_loss, routed_loss
from reid_mtda.losses.distillation.subclasses import subclass_directions, subclass_loss, subclass_probabilities
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.train.objectives.objective import AllCrops, Context, Need, Objective, ObjectiveSettings, Sizes, given


class DualHeadSettings(ObjectiveSettings):
    """Of ``dual_head``."""

    temperature: float = Field(default=2.0, gt=0)


class DualHead(Objective):
    """`binary_agreement_loss` of a second head: the teacher and the labels no longer pull one linear layer.

    Set the loop's ``logits_weight`` to 0 with it. Departure from DHKD: no alignment of the two heads' gradients.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def __init__(self, settings: DualHeadSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Linear(sizes.student, sizes.classes)

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Have the second head agree with the teacher, class by class."""
        logits = self.head(given(student.feature, "the student's feature"))
        return binary_agreement_loss(
            student=logits, teacher=given(teacher.logits, "logits"), temperature=self.settings.temperature
        )


class CosineHeadSettings(ObjectiveSettings):
    """Of ``cosine_head``."""

    temperature: float = Field(default=4.0, gt=0)
    scale: float = Field(default=100.0, gt=0, description="of the head's answers to the feature of length 1")


class CosineHead(Objective):
    """Softened KL of a second head on the embedding: logits are scale * linear(f / |f|).

    Kang et al. 2025, "Simple yet Effective Semi-supervised Knowledge Distillation from Vision-Language Models via
    Dual-Head Optimization" (DHO, arXiv 2505.07675), as in the public code (erjui/DHO). Departure: the heads'
    predictions are not mixed, since an embedding is exported and no head.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def __init__(self, settings: CosineHeadSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Linear(sizes.student, sizes.classes)

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Have the head on the unit vector follow the teacher."""
        logits = self.settings.scale * self.head(student.embedding)
        said: Tensor = given(teacher.logits, "logits")
        return divergence_rows(student=logits, teacher=said, temperature=self.settings.temperature).mean()


class SubclassSettings(ObjectiveSettings):
    """Of ``subclasses``."""

    directions: int = Field(default=2, ge=1, le=16, description="of each class; each has two ends")
    temperature: float = Field(default=1.0, gt=0, description="of the split within a class")


class Subclasses(Objective):
    """`subclass_loss` of a head over the ends of the leading directions of each class in the teachers' features.

    A class is what a crop's own teacher takes it for; directions are found in all teachers' features together.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "feature"})

    def __init__(self, settings: SubclassSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.classes = settings, sizes.classes
        self.head = nn.Linear(sizes.student, sizes.classes * 2 * settings.directions)
        self.centres: Tensor
        self.directions: Tensor
        self.register_buffer("centres", torch.zeros(sizes.classes, sizes.teacher), persistent=False)
        empty = torch.zeros(sizes.classes, settings.directions, sizes.teacher)
        self.register_buffer("directions", empty, persistent=False)

    def prepare(self, crops: AllCrops) -> None:
        """Find centres and directions in what the teachers said."""
        logits, features = given(crops.logits, "logits"), given(crops.feature, "features")
        self.centres, self.directions = subclass_directions(
            features=features, labels=logits.argmax(1), classes=self.classes, each=self.settings.directions
        )

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Have the head tell the subclasses."""
        shares = subclass_probabilities(
            features=given(teacher.feature, "features"),
            logits=given(teacher.logits, "logits"),
            centres=self.centres,
            directions=self.directions,
            temperature=self.settings.temperature,
        )
        logits = self.head(given(student.feature, "the student's feature"))
        return subclass_loss(student=logits.view(shares.shape), probabilities=shares)


class RoutedSettings(ObjectiveSettings):
    """Of ``routed``."""

    best: int = Field(default=2, ge=1, description="teachers that a crop listens to; all where there are fewer")
    temperature: float = Field(default=4.0, gt=0)
    balance: float = Field(default=0.5, ge=0, description="weight of asking all teachers alike over a batch")


class Routed(Objective):
    """`routed_loss` with a gate on the student's logits, and `load_balance_loss`."""

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "everyone"})

    def __init__(self, settings: RoutedSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.best = settings, min(settings.best, sizes.teachers)
        self.gate = nn.Sequential(
            nn.Linear(sizes.classes, 2 * sizes.classes), nn.ReLU(), nn.Linear(2 * sizes.classes, sizes.teachers)
        )

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Route each crop to the teachers that the gate finds best for it."""
        logits: Tensor = given(student.logits, "logits")
        gate = gate_shares(self.gate(functional.softmax(logits.detach(), dim=1)))
        loss = routed_loss(
            student=logits,
            teachers=given(context.everyone, "all teachers' logits"),
            gate=gate,
            best=self.best,
            temperature=self.settings.temperature,
        )
        return loss + self.settings.balance * load_balance_loss(gate=gate)
