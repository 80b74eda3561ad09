"""Distillation of class probabilities: a teacher's logits, or soft targets made of them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def soft_target_loss(
    *,
    student: Tensor,
    teacher: Tensor | None = None,
    probabilities: Tensor | None = None,
    temperature: float = 4.0,
    reverse: bool = False,
) -> Tensor:
    """Weigh temperature^2 * KL(teacher || student) of softened class probabilities, mean over the batch.

    What the teacher says is given once, as logits or as probabilities, and is detached.

    Args:
        student: logits (B, C).
        teacher: logits (B, C) over the same classes.
        probabilities: (B, C), rows sum to 1, softened by the same temperature; may be mixtures (MixUp).
        temperature: > 0; larger is softer.
        reverse: KL(student || teacher), the direction of KD-MTDA's public code.

    Raises:
        ValueError: neither logits nor probabilities, or both.

    Reference:
        Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2; P1, eq. 6 states the direction.
    """
    if (teacher is None) == (probabilities is None):
        raise ValueError("soft_target_loss: got logits and probabilities, or neither; give one of them")
    log_student = functional.log_softmax(student / temperature, dim=1)
    if teacher is not None:
        given, in_logs = functional.log_softmax(teacher.detach() / temperature, dim=1), True
    elif probabilities is not None:
        given, in_logs = probabilities.detach(), False
    if reverse:
        given = given if in_logs else given.clamp(min=1e-12).log()
        divergence = functional.kl_div(given, log_student, log_target=True, reduction="batchmean")
    else:
        divergence = functional.kl_div(log_student, given, log_target=in_logs, reduction="batchmean")
    return temperature**2 * divergence
