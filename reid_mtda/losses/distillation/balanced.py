"""Forward and reverse divergence balanced picture by picture."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_mtda.losses.distillation.divergence import divergence_rows, entropy_rows


def balanced_loss(*, student: Tensor, teacher: Tensor, temperature: float = 4.0, larger: float = 0.7) -> Tensor:
    """Weigh w KL(t || s) + (1 - w) KL(s || t), softened, with w by the sign of the entropies' gap, mean over B.

    Amara et al. 2022, "BD-KD" (arXiv 2212.12965): sample-wise weights of both divergences by the gap of entropies.
    Checked in abstract and summary; which side gets the larger weight could not be read, and is ours: where the
    teacher is less sure than the student, the forward divergence, which spreads the student over what the teacher
    allows; where it is surer the reverse one; equal entropies share evenly. Departure: the teacher is finished and
    does not learn along.

    Args:
        student: logits (B, C).
        teacher: logits (B, C); detached.
        temperature: > 0.
        larger: the larger weight, in [0.5, 1].
    """
    gap = entropy_rows(teacher.detach(), temperature) - entropy_rows(student.detach(), temperature)
    forward_share = 0.5 + (larger - 0.5) * torch.sign(torch.where(gap.abs() < 1e-6, 0.0, gap))
    both = [
        divergence_rows(student=student, teacher=teacher, temperature=temperature, reverse=reverse)
        for reverse in (False, True)
    ]
    return (forward_share * both[0] + (1 - forward_share) * both[1]).mean()
