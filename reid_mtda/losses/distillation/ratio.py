"""The share of teacher and label, picture by picture, from how student, teacher and label lie to each other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from reid_mtda.losses.distillation.divergence import divergence_rows


def trilateral_state(*, student: Tensor, teacher: Tensor, labels: Tensor, class_means: Tensor) -> Tensor:
    """Describe pictures by S, T, G, the class's mean T' and the squares T'-S, G-S, T-S, T-G, T'-G: (B, 9 C).

    Hu et al. 2024, "Less or More From Teacher" (TGeo-KD, ICLR 2024), checked in public code.

    Args:
        student: logits (B, C); detached.
        teacher: logits (B, C); detached.
        labels: int64 (B,).
        class_means: the teacher's mean probabilities (C, C) of each class's pictures.
    """
    s, t = (functional.softmax(given.detach(), 1) for given in (student, teacher))
    g, mean = functional.one_hot(labels, s.shape[1]).to(s.dtype), class_means[labels]
    squares = [(a - b).square() for a, b in ((mean, s), (g, s), (t, s), (t, g), (mean, g))]
    return torch.cat([s, t, g, mean, *squares], dim=1)


def shared_loss(*, student: Tensor, teacher: Tensor, labels: Tensor, share: Tensor, temperature: float = 4.0) -> Tensor:
    """Mean of share tau^2 KL(teacher || student) + (1 - share) CE, with a share (B,) of each picture's own.

    Args:
        student: logits (B, C).
        teacher: logits (B, C); detached.
        labels: int64 (B,).
        share: in [0, 1].
        temperature: tau, > 0.
    """
    kd = divergence_rows(student=student, teacher=teacher, temperature=temperature)
    return (share * kd + (1 - share) * functional.cross_entropy(student, labels, reduction="none")).mean()


def virtual_step_loss(
    *,
    weight: Tensor,
    features: Tensor,
    teacher: Tensor,
    labels: Tensor,
    share: Tensor,
    inner: Tensor,
    rate: float,
    temperature: float = 4.0,
) -> Tensor:
    """Cross-entropy on the outer crops of a linear head after one step of `shared_loss` on the inner ones.

    Its gradient reaches the shares through the step: a share is good that makes the next step good elsewhere.

    Args:
        weight: of the head (C, D), with a gradient graph or a leaf that takes one.
        features: (B, D); detached.
        teacher: logits (B, C); detached.
        labels: int64 (B,).
        share: in [0, 1] (B,), with a gradient.
        inner: bool (B,), which crops the step sees; the others judge it.
        rate: of the step.
        temperature: of the divergence.
    """
    seen = features.detach()
    loss = shared_loss(
        student=seen[inner] @ weight.T,
        teacher=teacher[inner],
        labels=labels[inner],
        share=share[inner],
        temperature=temperature,
    )
    (slope,) = torch.autograd.grad(loss, weight, create_graph=True)
    moved = weight - rate * slope
    return functional.cross_entropy(seen[~inner] @ moved.T, labels[~inner])
