"""The objective that learns, crop by crop of the source, how far to trust the teachers and how far the label."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda.losses.distillation.ratio import shared_loss, trilateral_state, virtual_step_loss
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.train.objectives.objective import (
    AllCrops,
    Context,
    Need,
    Objective,
    ObjectiveSettings,
    Over,
    Sizes,
    given,
)


class TrilateralSettings(ObjectiveSettings):
    """Of ``trilateral_ratio``."""

    temperature: float = Field(default=4.0, gt=0)
    rate: float = Field(default=0.1, gt=0, description="of the virtual step")


class TrilateralRatio(Objective):
    """`shared_loss` with shares of a small network on `trilateral_state`, which `virtual_step_loss` teaches.

    Hu et al. 2024 (TGeo-KD). Departures: the virtual step is one of a linear head beside the student's, which learns
    along, and not of the whole student; what judges it are the batch's crops of odd numbers, which the step does not
    see, and no part of the source that is held out; the loop's optimiser teaches the small network, at its rate.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "source"})
    over: ClassVar[Over] = "source"

    def __init__(self, settings: TrilateralSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, classes = settings, sizes.classes
        self.head = nn.Linear(sizes.student, classes, bias=False)
        self.ratio = nn.Sequential(
            nn.Linear(9 * classes, 32), nn.LeakyReLU(), nn.Linear(32, 16), nn.LeakyReLU(), nn.Linear(16, 1)
        )
        self.means: Tensor
        self.register_buffer("means", torch.full((classes, classes), 1 / max(classes, 1)), persistent=False)

    def prepare(self, crops: AllCrops) -> None:
        """Find the teachers' mean probabilities of each class's crops; of a class without any they are uniform."""
        labels: Tensor = given(crops.source_labels, "the source's labels")
        said = functional.softmax(given(crops.source_logits, "the teachers' logits for the source"), dim=1)
        sums = torch.zeros_like(self.means).index_add_(0, labels, said)
        counts = torch.bincount(labels, minlength=len(self.means))[:, None]
        self.means = torch.where(counts > 0, sums / counts.clamp(min=1), self.means)

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Weigh teachers and labels; the student, the head and the small network each learn of their own part."""
        logits, said = given(student.logits, "logits"), given(teacher.logits, "logits")
        labels, feature = given(context.labels, "labels"), given(student.feature, "the student's feature").detach()
        state = trilateral_state(student=logits, teacher=said, labels=labels, class_means=self.means)
        share = torch.sigmoid(self.ratio(state)).squeeze(1)
        told = {"teacher": said, "labels": labels, "temperature": self.settings.temperature}
        loss = shared_loss(student=logits, share=share.detach(), **told)
        loss = loss + shared_loss(student=self.head(feature), share=share.detach(), **told)
        inner = context.rows % 2 == 0
        if bool(inner.all()) or not bool(inner.any()):
            return loss
        weight = self.head.weight.detach().requires_grad_(True)
        return loss + virtual_step_loss(
            weight=weight, features=feature, share=share, inner=inner, rate=self.settings.rate, **told
        )
