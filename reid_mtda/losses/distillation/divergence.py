"""Divergences between softened class probabilities, one number for each picture."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def divergence_rows(*, student: Tensor, teacher: Tensor, temperature: float = 1.0, reverse: bool = False) -> Tensor:
    """Weigh KL(teacher || student) of softened probabilities by temperature^2, for each row (B,).

    Args:
        student: logits (B, C) or (B, ..., C).
        teacher: logits of the same shape; detached.
        temperature: > 0; larger is softer.
        reverse: KL(student || teacher).
    """
    log_s = functional.log_softmax(student / temperature, dim=-1)
    log_t = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    of, to = (log_s, log_t) if reverse else (log_t, log_s)
    return temperature**2 * (of.exp() * (of - to)).sum(-1)


def entropy_rows(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy (B,) of softened probabilities of logits (B, C), in nats."""
    log = functional.log_softmax(logits / temperature, dim=-1)
    return -(log.exp() * log).sum(-1)
