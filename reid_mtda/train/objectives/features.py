"""Objectives over features before they are scaled."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from reid_mtda.losses.distillation.direction import norm_direction_loss
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.train.objectives.objective import AllCrops, Context, Need, Objective, ObjectiveSettings, Sizes, given


def connector(student: int, teacher: int) -> nn.Module:
    """A linear map between widths; none where they agree."""
    return nn.Identity() if student == teacher else nn.Linear(student, teacher, bias=False)


class NormDirection(Objective):
    """`norm_direction_loss` to the teacher's mean of a person in a camera, with a connector where widths differ.

    Crops of nobody have no class mean and are left out.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"feature", "people"})

    def __init__(self, settings: ObjectiveSettings, sizes: Sizes) -> None:
        super().__init__()
        self.connector = connector(sizes.student, sizes.teacher)
        self.centres: Tensor
        self.register_buffer("centres", torch.zeros(0, sizes.teacher), persistent=False)

    def prepare(self, crops: AllCrops) -> None:
        """Keep for each crop (N, D) its class mean."""
        features = given(crops.feature, "features")
        pairs = torch.stack([crops.people, crops.cameras], dim=1)
        slots = torch.unique(pairs, dim=0, return_inverse=True)[1]
        sums = torch.zeros(int(slots.max()) + 1, features.shape[1]).index_add_(0, slots, features)
        counts = torch.bincount(slots).clamp(min=1)[:, None]
        self.centres = (sums / counts)[slots]

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Turn and lengthen the student's features."""
        feature: Tensor = self.connector(given(student.feature, "the student's feature"))
        known = (context.people >= 0) & (context.rows >= 0)
        if not bool(known.any()):
            return feature.sum() * 0.0
        said: Tensor = given(teacher.feature, "features")
        return norm_direction_loss(
            student=feature[known], teacher=said[known], centre=self.centres[context.rows[known]]
        )
