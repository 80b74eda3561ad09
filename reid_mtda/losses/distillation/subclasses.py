"""Pseudo-subclasses of a teacher's classes, found in its features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def subclass_directions(*, features: Tensor, labels: Tensor, classes: int, each: int) -> tuple[Tensor, Tensor]:
    """Centres (C, D) and leading principal directions (C, each, D) of the features of each class.

    Directions are scaled so that features project on them with deviation 1; a class of too few features has zeros.

    Args:
        features: (N, D).
        labels: int64 (N,) in 0..C-1.
        classes: C.
        each: directions of a class.
    """
    dim = features.shape[1]
    centres, directions = features.new_zeros(classes, dim), features.new_zeros(classes, each, dim)
    for label in set(labels.tolist()):
        own = features[labels == label]
        centres[label] = own.mean(0)
        if len(own) < 3:
            continue
        _, spread, axes = torch.linalg.svd(own - centres[label], full_matrices=False)
        count = min(each, len(spread))
        deviation = (spread[:count] / len(own) ** 0.5).clamp(min=1e-6)
        directions[label, :count] = axes[:count] / deviation[:, None]
    return centres, directions


def subclass_probabilities(
    *, features: Tensor, logits: Tensor, centres: Tensor, directions: Tensor, temperature: float = 1.0
) -> Tensor:
    """Split each class probability (B, C) over the ends +- of its directions: (B, C, 2 each), summing to the class's.

    Args:
        features: (B, D) of the teacher.
        logits: (B, C) of the teacher.
        centres: (C, D).
        directions: (C, each, D).
        temperature: of the split, > 0.
    """
    apart = features[:, None] - centres[None]
    along = torch.einsum("bcd,ced->bce", apart, directions)
    within = torch.softmax(torch.cat([along, -along], dim=2) / temperature, dim=2)
    return functional.softmax(logits, dim=1)[:, :, None] * within


def subclass_loss(*, student: Tensor, probabilities: Tensor) -> Tensor:
    """KL(teacher || student) over all C x S subclasses, mean over B.

    Loo et al. 2024, "Linear Projections of Teacher Embeddings for Few-Class Distillation" (LELP, arXiv 2409.20449).
    Checked in a review of the paper: PCA of each class's teacher embeddings, pseudo-subclasses at the ends of the
    directions. Departures: not projected on the null space of the teacher's last layer, which is no plain matrix
    for every teacher; the C x S classes are a head beside the student's own instead of in its place.

    Args:
        student: logits (B, C, S).
        probabilities: (B, C, S), summing to 1 over classes and subclasses; detached.
    """
    log = functional.log_softmax(student.flatten(1), dim=1)
    return functional.kl_div(log, probabilities.detach().flatten(1), reduction="batchmean")
