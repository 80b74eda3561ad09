"""The adversary of domain-adversarial alignment: tells source features from target features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Discriminator(nn.Module):
    """P2's Linear(d, hidden)-ReLU-BN-Linear(1) on features, or on CDAN's map of features and class soft targets.

    Args:
        feature_dim: D of the features.
        num_classes: C of the soft targets; 0 leaves the soft targets out (DANN).
        hidden: width of the hidden layer; 4096 in P2.
        random_dim: above this product of D and C, CDAN's map is the randomised one of this size (Long et al. 2018,
            eq. 6), whose two matrices are fixed buffers.
    """

    def __init__(self, feature_dim: int, *, num_classes: int = 0, hidden: int = 4096, random_dim: int = 1024) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.randomised = bool(num_classes) and feature_dim * num_classes > random_dim
        size = feature_dim * max(num_classes, 1)
        if self.randomised:
            self.register_buffer("of_feature", torch.randn(feature_dim, random_dim) / random_dim**0.25)
            self.register_buffer("of_belief", torch.randn(num_classes, random_dim) / random_dim**0.25)
            size = random_dim
        self.head = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(inplace=True), nn.BatchNorm1d(hidden), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor, soft_targets: Tensor | None = None) -> Tensor:
        """Logits (B,) of "this is source" from features (B, D) and class soft targets (B, C).

        In training the batch must hold both domains: BatchNorm would centre one alone on its own mean, all domains
        would score the same on average, and no judge could tell them apart.
        """
        if soft_targets is not None and self.randomised:
            features = (features @ self.get_buffer("of_feature")) * (soft_targets @ self.get_buffer("of_belief"))
        elif soft_targets is not None and self.num_classes:
            features = (soft_targets[:, :, None] * features[:, None, :]).flatten(1)
        domain_logit: Tensor = self.head(features)
        return domain_logit.squeeze(1)
