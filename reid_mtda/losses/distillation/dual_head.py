"""Losses of a second head, which follows the teacher while the first follows labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def binary_agreement_loss(*, student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Weigh tau^2 / B * sum KL(1/2 || d), d = sigmoid((z - z_t) / tau), over pictures and classes.

    Yang et al. 2024, "Dual-Head Knowledge Distillation" (arXiv 2411.08937), the binary loss of the public code
    (penghui-yang/DHKD). Zero where the logits are equal, and bounded gradients elsewhere.

    Args:
        student: logits (B, C) of the second head.
        teacher: logits (B, C); detached.
        temperature: tau, > 0.
    """
    apart = (student - teacher.detach()) / temperature
    # 1/2 log(1 / (2 d)) + 1/2 log(1 / (2 (1 - d))) = softplus(x) - x / 2 - log 2, which is 0 at x = 0
    loss = functional.softplus(apart) - 0.5 * apart - functional.softplus(apart.new_zeros(()))
    return temperature**2 * loss.sum(1).mean()
