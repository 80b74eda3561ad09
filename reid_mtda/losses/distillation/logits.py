"""Distillation of class probabilities (Hinton et al. 2015)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def kl_loss(*, student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """temperature^2 * KL(teacher || student) of softened probabilities, mean over the batch; the teacher is detached.

    P1, eq. 6 states this direction; the published code computes KL(student || teacher) with the teacher attached.

    Args:
        student: logits (B, C).
        teacher: logits (B, C) over the same classes.
        temperature: > 0; larger is softer.
    """
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher.detach() / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
