"""Losses that need identities: source labels, tracklets or pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def identity_loss(*, logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy over identities with label smoothing (Szegedy et al. 2016).

    Args:
        logits: (B, C).
        labels: (B,) int64 in 0..C-1.
        smoothing: share of the target mass spread over all classes, in [0, 1).
    """
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def triplet_loss(
    *, embeddings: Tensor, labels: Tensor, margin: float = 0.3, negative_mask: Tensor | None = None
) -> Tensor:
    """Batch-hard triplet loss (Hermans et al. 2017, eq. 5) on Euclidean distances.

    An anchor without a positive or without a negative in the batch has no triplet and counts nothing; a batch
    without any triplet gives 0 with a gradient of 0.

    Args:
        embeddings: (B, D).
        labels: (B,) int64; rows of one label are positives of each other.
        margin: distance by which the nearest negative must be farther than the farthest positive.
        negative_mask: bool (B, B); rows of other labels are negatives only where it is true. With pseudo-labels that
            is within a camera: two unmatched tracklets of different cameras may well be one person.
    """
    dist = pairwise_dist(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    farthest = dist.masked_fill(~same | itself, 0.0).amax(dim=1)
    negative = ~same
    if negative_mask is not None:
        negative &= negative_mask
    nearest = dist.masked_fill(~negative, float("inf")).amin(dim=1)
    valid = (same & ~itself).any(dim=1) & negative.any(dim=1)
    if not bool(valid.any()):
        return embeddings.sum() * 0.0
    return functional.relu(farthest[valid] - nearest[valid] + margin).mean()


def pairwise_dist(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (A, B) between rows of ``a`` (A, D) and ``b`` (B, D), with a finite gradient at 0."""
    squared = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2.0 * a @ b.T
    return squared.clamp(min=1e-12).sqrt()
