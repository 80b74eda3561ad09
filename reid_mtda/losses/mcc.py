"""Minimum class confusion."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def class_confusion_loss(*, logits: Tensor, temperature: float = 2.5) -> Tensor:
    """MCC (Jin et al. 2020, eq. 6): the mean probability mass between different classes, in [0, 1).

    Class probabilities are softened by ``temperature``, pictures weighted by 1 + exp(-entropy), the class correlation
    matrix is normalised by its rows.

    Args:
        logits: (B, C) of unlabelled pictures.
        temperature: > 0.
    """
    classes = logits.shape[1]
    probability = functional.softmax(logits / temperature, dim=1)
    entropy = -(probability * probability.clamp(min=1e-8).log()).sum(1)
    weight = (1.0 + torch.exp(-entropy)).detach()
    weight = weight * len(logits) / weight.sum()
    correlation = (probability * weight[:, None]).T @ probability
    correlation = correlation / correlation.sum(1, keepdim=True).clamp(min=1e-8)
    return (correlation.sum() - correlation.trace()) / classes
