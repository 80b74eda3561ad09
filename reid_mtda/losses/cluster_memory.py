"""Cluster memory: one slot for each pseudo-identity, to which crops are drawn and by which they are told apart.

Reference: Dai et al., Cluster Contrast for Unsupervised Person Re-Identification, ACCV 2022, equations 2 and 4. There a
slot follows the crops of a batch one after the other; here it follows their mean, so their order does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def memory_loss(
    *,
    embeddings: Tensor,
    labels: Tensor,
    memory: Tensor,
    temperature: float = 0.05,
    weights: Tensor | None = None,
    among: Tensor | None = None,
) -> Tensor:
    """InfoNCE of crops against the slots: mean of weight * -log softmax(f . c / tau) at each crop's own slot.

    The memory receives no gradient. One slot alone gives 0.

    Args:
        embeddings: (B, D) of length 1.
        labels: (B,) int64 in 0..C-1, each crop's slot.
        memory: (C, D) of length 1.
        temperature: tau > 0.
        weights: (B,) >= 0, how much each crop counts; without them each counts 1.
        among: bool (B, C), the slots that a crop is told apart from, its own among them; without it all.
    """
    logits = embeddings @ memory.detach().T / temperature
    if among is not None:
        logits = logits.masked_fill(~among, float("-inf"))
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return losses.mean() if weights is None else (weights * losses).mean()


def cluster_means(*, embeddings: Tensor, labels: Tensor) -> Tensor:
    """The slots to begin with: means (C, D) of each label's embeddings, scaled to length 1, detached.

    Args:
        embeddings: (N, D).
        labels: (N,) int64, each of 0..C-1 at least once; rows of a negative label count nowhere.
    """
    known = labels >= 0
    means = _mean_of_rows(embeddings.detach()[known], labels[known], int(labels.max()) + 1)
    return functional.normalize(means, dim=1)


def moved_memory(*, memory: Tensor, embeddings: Tensor, labels: Tensor, momentum: float = 0.1) -> Tensor:
    """The memory after a batch: c <- momentum * c + (1 - momentum) * mean of its crops, scaled to length 1.

    Slots without a crop in the batch stay as they are.

    Args:
        memory: (C, D).
        embeddings: (B, D); detached here.
        labels: (B,) int64 in 0..C-1.
        momentum: share of the old slot that stays, in [0, 1].
    """
    means = _mean_of_rows(embeddings.detach(), labels, len(memory))
    seen = torch.zeros(len(memory), dtype=torch.bool, device=memory.device)
    seen[labels] = True
    moved = functional.normalize(momentum * memory + (1 - momentum) * means, dim=1)
    return torch.where(seen[:, None], moved, memory)


def _mean_of_rows(rows: Tensor, labels: Tensor, count: int) -> Tensor:
    """Mean row (count, D) of each label; zeros for a label without rows."""
    sums = rows.new_zeros(count, rows.shape[1]).index_add_(0, labels, rows)
    return sums / torch.bincount(labels, minlength=count).clamp(min=1)[:, None]
