"""Distances between distributions: MMD on features (DAN) and on dissimilarities (D-MMD)."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_mtda.losses.identity import pairwise_dist


def mmd_loss(*, source: Tensor, target: Tensor, kernels: int = 5, factor: float = 2.0) -> Tensor:
    """Maximum mean discrepancy with a sum of RBF kernels (Long et al. 2015), biased estimate, >= 0.

    The bandwidth is b = sum(D) / (n^2 - n) / factor^(kernels // 2) over the squared distances D of both samples,
    detached; kernel k uses b * factor^k.

    Args:
        source: (S, D) or (S,).
        target: (T, D) or (T,).
        kernels: how many kernels.
        factor: ratio of neighbouring bandwidths.
    """
    source, target = (sample[:, None] if sample.ndim == 1 else sample for sample in (source, target))
    both = torch.cat([source, target])
    n = len(both)
    squared = (both[:, None, :] - both[None, :, :]).square().sum(2) if both.shape[1] == 1 else _squared(both)
    bandwidth = (squared.detach().sum() / max(n * n - n, 1) / factor ** (kernels // 2)).clamp(min=1e-12)
    gram = torch.stack([torch.exp(-squared / (bandwidth * factor**k)) for k in range(kernels)]).sum(0)
    s = len(source)
    return gram[:s, :s].mean() + gram[s:, s:].mean() - 2.0 * gram[:s, s:].mean()


def _squared(rows: Tensor) -> Tensor:
    norms = rows.square().sum(1)
    return (norms[:, None] + norms[None, :] - 2.0 * rows @ rows.T).clamp(min=0.0)


def dissimilarity_mmd_loss(
    *,
    source_embeddings: Tensor,
    source_labels: Tensor,
    target_embeddings: Tensor,
    target_tracklets: Tensor,
) -> Tensor:
    """D-MMD (Mekhazni et al. 2020, eq. 1-5): MMD of within-class and between-class distances, and of features.

    On the target the class is the *tracklet*; the public code took true identities there, which no camera has.
    Source distances are detached, so the target moves towards the source and not the other way round.

    Args:
        source_embeddings: (S, D).
        source_labels: (S,) int64.
        target_embeddings: (T, D).
        target_tracklets: (T,) int64.
    """
    within_s, between_s = _dissimilarities(source_embeddings.detach(), source_labels)
    within_t, between_t = _dissimilarities(target_embeddings, target_tracklets)
    loss = mmd_loss(source=source_embeddings.detach(), target=target_embeddings)
    if len(within_s) and len(within_t):
        loss = loss + mmd_loss(source=within_s, target=within_t)
    if len(between_s) and len(between_t):
        loss = loss + mmd_loss(source=between_s, target=between_t)
    return loss


def _dissimilarities(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Within-class and (as many, evenly picked) between-class distances of one batch."""
    dist = pairwise_dist(embeddings, embeddings)
    upper = torch.ones_like(dist, dtype=torch.bool).triu(diagonal=1)
    same = labels[:, None] == labels[None, :]
    within, between = dist[same & upper], dist[~same & upper]
    if len(within) and len(between) > len(within):
        between = between[torch.linspace(0, len(between) - 1, len(within), device=between.device).long()]
    return within, between
