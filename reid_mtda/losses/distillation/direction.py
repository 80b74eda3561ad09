"""Distillation of a feature's norm and direction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def norm_direction_loss(*, student: Tensor, teacher: Tensor, centre: Tensor) -> Tensor:
    """Weigh 1 - f_s . e / max(|f_s|, |f_t|), e the unit vector of the teacher's mean of the class, mean over B.

    Wang et al. 2023, "Improving Knowledge Distillation via Regularizing Feature Norm and Direction" (arXiv
    2305.17007), the loss of the public code (WangYZ1608/Knowledge-Distillation-via-ND). While the student's feature is
    shorter than the teacher's it is made longer and turned; beyond, only turned. Departure: classes are
    pseudo-identities of one camera.

    Args:
        student: features (B, D), not scaled, brought to the teacher's D.
        teacher: features (B, D), not scaled; detached.
        centre: the class means (B, D) of the teacher's features; detached.
    """
    longest = torch.maximum(student.norm(dim=1), teacher.detach().norm(dim=1)).clamp(min=1e-6)
    along = (student * functional.normalize(centre.detach(), dim=1)).sum(1)
    return (1 - along / longest).mean()
