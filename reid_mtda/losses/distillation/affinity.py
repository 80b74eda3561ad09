"""Agreement of class probabilities within a group of pictures that show the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def affinity_loss(*, logits: Tensor, groups: Tensor) -> Tensor:
    """Mean over pairs of a group of 1 - p_i . p_j; 0 where all are sure of one class.

    Zhou et al. 2021, "Affinity Space Adaptation for Semantic Segmentation Across Domains" (ASANet, IEEE TIP 30, arXiv
    2009.12559), the cleaning loss of the public code (idealwei/ASANet). Departures: a pixel's neighbours are here the
    other crops of one person in one camera; its adversary on affinities is left out.

    Args:
        logits: (B, C).
        groups: int64 (B,), -1: of none; a batch without a pair gives 0 with a gradient of 0.
    """
    probabilities = functional.softmax(logits, dim=1)
    same = (groups[:, None] == groups[None, :]) & (groups >= 0)[:, None]
    pairs = same & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    if not bool(pairs.any()):
        return logits.sum() * 0.0
    apart = 1 - probabilities @ probabilities.T
    return apart[pairs].mean()
