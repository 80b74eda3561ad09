"""Distillation from soft targets that are already softened: cached, mixed, or those of the published code."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def soft_target_loss(*, student: Tensor, soft_targets: Tensor, temperature: float = 1.0) -> Tensor:
    """temperature^2 * KL(soft targets || student), mean over the batch; the soft targets are detached.

    Equal to ``kl_loss`` where ``soft_targets = softmax(teacher / temperature)``; they may also be mixtures (MixUp).

    Args:
        student: logits (B, C).
        soft_targets: (B, C), rows sum to 1.
        temperature: > 0, the one the soft targets were softened with.
    """
    log_student = functional.log_softmax(student / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, soft_targets.detach(), reduction="batchmean")


def published_kl_loss(*, student: Tensor, teacher: Tensor, temperature: float = 20.0, reverse: bool = True) -> Tensor:
    """The public code's KL: nothing is detached, and with ``reverse`` it is KL(student || teacher).

    Args:
        student: logits (B, C).
        teacher: logits (B, C); receives a gradient unless the caller detaches it.
        temperature: > 0.
        reverse: the published direction.
    """
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    taken, given = (log_teacher, log_student) if reverse else (log_student, log_teacher)
    return temperature**2 * functional.kl_div(taken, given, log_target=True, reduction="batchmean")
