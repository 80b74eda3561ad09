"""Selective distillation: of the teacher and the student as it began, the more confident one teaches a picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from reid_mtda.losses.distillation.divergence import divergence_rows


def selective_loss(*, student: Tensor, teacher: Tensor, start: Tensor, temperature: float = 1.0) -> Tensor:
    """Weigh T^2 KL(m t + (1 - m) st || s), m = 1 where the teacher's largest probability is above the start's.

    Roth et al. 2024, "Fantastic Gains and Where to Find Them" (arXiv 2310.17653), eq. 4, the unsupervised mask of
    section 4.2. Departure: the frozen student spoke once, of pictures as they are, and is not passed every augmented
    batch again.

    Args:
        student: logits (B, C).
        teacher: logits (B, C); detached.
        start: logits (B, C) of the student before it learnt; detached.
        temperature: of the divergence; the mask looks at unsoftened probabilities.
    """
    knows = (functional.softmax(given.detach(), dim=1).amax(1) for given in (teacher, start))
    chosen = torch.where(torch.gt(*knows)[:, None], teacher, start)
    return divergence_rows(student=student, teacher=chosen, temperature=temperature).mean()


def selective_rows_loss(
    *, student: Tensor, teacher: Tensor, start: Tensor, people: Tensor, temperature: float = 0.1
) -> Tensor:
    """Choose by `identity_margin` whose row of similarities (B, B - 1) each crop of the student has to follow.

    The counterpart of `selective_loss` for embeddings, of which there are no class probabilities.

    Args:
        student: embeddings (B, D_s), rows of length 1.
        teacher: embeddings (B, D_t) of the same crops; detached.
        start: embeddings (B, D_s) of the student before it learnt; detached.
        people: int64 (B,), -1: nobody knows; then the teacher is followed.
        temperature: of the rows, > 0.
    """
    margins = [identity_margin(given.detach(), people) for given in (teacher, start)]
    follows = (margins[0] >= margins[1])[:, None]
    rows_s, rows_t, rows_0 = (_others(given @ given.T) / temperature for given in (student, teacher, start))
    return divergence_rows(student=rows_s, teacher=torch.where(follows, rows_t, rows_0)).mean()


def identity_margin(embeddings: Tensor, people: Tensor) -> Tensor:
    """Mean similarity (B,) to the same person's other crops minus the largest to another's; 0 where one is missing."""
    similarity, itself = embeddings @ embeddings.T, torch.eye(len(people), dtype=torch.bool, device=people.device)
    known = people >= 0
    same = (people[:, None] == people[None, :]) & known[:, None] & ~itself
    other = (people[:, None] != people[None, :]) & known[:, None] & known[None, :]
    own = (similarity * same).sum(1) / same.sum(1).clamp(min=1)
    nearest = similarity.masked_fill(~other, -2.0).amax(1)
    return torch.where(same.any(1) & other.any(1), own - nearest, torch.zeros_like(own))


def _others(square: Tensor) -> Tensor:
    count = len(square)
    return square.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)
