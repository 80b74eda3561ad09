"""Domain-adversarial losses: gradient reversal, DANN and CDAN.

A discriminator is any callable (features (B, D), class probabilities (B, C)) -> logits (B,) of "this is source"; it is
asked once for both domains, because a BatchNorm in it must see them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Discriminate = Callable[[Tensor, Tensor], Tensor]


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, delta: float) -> Tensor:
        ctx.delta = delta
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.delta * gradients[0], None


def reverse_gradient(features: Tensor, delta: float) -> Tensor:
    """Identity forward, gradient times ``-delta`` backward (Ganin & Lempitsky 2015)."""
    reversed_: Tensor = _Reversal.apply(features, delta)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_delta(progress: float) -> float:
    """delta = 2 / (1 + exp(-10 p)) - 1 for progress p in [0, 1]: 0 at the start, nearly 1 from the middle on."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


def dann_loss(
    *,
    source_features: Tensor,
    source_logits: Tensor,
    target_features: Tensor,
    target_logits: Tensor,
    discriminator: Discriminate,
    delta: float,
) -> Tensor:
    """Domain-adversarial loss: cross-entropy of the discriminator, source 1 and target 0, summed over the domains.

    The features receive its gradient reversed, so one descent trains the discriminator to tell the domains apart and
    the network to hinder it.

    Args:
        source_features: (S, D).
        source_logits: (S, C).
        target_features: (T, D).
        target_logits: (T, C).
        discriminator: features and class probabilities to logits.
        delta: strength of the reversed gradient, in [0, 1].
    """
    probabilities = functional.softmax(torch.cat([source_logits, target_logits]), dim=1).detach()
    domain_logits = discriminator(reverse_gradient(torch.cat([source_features, target_features]), delta), probabilities)
    return domain_confusion_loss(source=domain_logits[: len(source_logits)], target=domain_logits[len(source_logits) :])


def domain_confusion_loss(*, source: Tensor | None, target: Tensor) -> Tensor:
    """Binary cross-entropy of discriminator logits: (S,) should say 1, (T,) should say 0.

    ``source=None`` is the published student's one-sided loss, whose discriminator only ever sees targets: it
    saturates at 0 and stops teaching anything.
    """
    loss = functional.binary_cross_entropy_with_logits(target, torch.zeros_like(target))
    if source is None:
        return loss
    return loss + functional.binary_cross_entropy_with_logits(source, torch.ones_like(source))


def cdan_loss(
    *,
    source_features: Tensor,
    source_logits: Tensor,
    target_features: Tensor,
    target_logits: Tensor,
    discriminator: Discriminate,
    delta: float,
) -> Tensor:
    """Conditional adversarial loss with entropy weights, CDAN+E (Long et al. 2018, eq. 8).

    As ``dann_loss``, but the discriminator also sees the class probabilities, and sure pictures count more:
    w = 1 + exp(-entropy), normalised per domain.

    Args:
        source_features: (B, F).
        source_logits: (B, C).
        target_features: (B, F).
        target_logits: (B, C).
        discriminator: tells source from target.
        delta: strength of the reversed gradient.
    """
    probabilities = functional.softmax(torch.cat([source_logits, target_logits]), dim=1).detach()
    weights = 1.0 + torch.exp((probabilities * probabilities.clamp(min=1e-8).log()).sum(1))
    domain_logits = discriminator(reverse_gradient(torch.cat([source_features, target_features]), delta), probabilities)
    is_source = torch.arange(len(domain_logits), device=domain_logits.device) < len(source_logits)
    losses = functional.binary_cross_entropy_with_logits(domain_logits, is_source.to(domain_logits), reduction="none")
    sums = [(weights[rows] * losses[rows]).sum() / weights[rows].sum() for rows in (is_source, ~is_source)]
    return sums[0] + sums[1]
