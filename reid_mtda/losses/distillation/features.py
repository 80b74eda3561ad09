"""Distillation of the pooled feature: a hint (Romero et al. 2015), not P3's option.

That one distils four stages before their ReLU through 1x1 convolutions with BatchNorm, by a partial L2 distance.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def feature_loss(*, student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of features scaled to length 1, mean over the batch; the teacher is detached.

    Scaling makes it independent of the networks' feature norms, which differ with width (hints: Romero et al. 2015).

    Args:
        student: features (B, D), brought to the teacher's D by a connector of the loop's.
        teacher: features (B, D).
    """
    difference = functional.normalize(student, dim=1) - functional.normalize(teacher.detach(), dim=1)
    return difference.square().sum(1).mean()
