"""Several teachers for one picture, chosen by a gate."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_mtda.losses.distillation.divergence import divergence_rows


def routed_loss(*, student: Tensor, teachers: Tensor, gate: Tensor, best: int = 1, temperature: float = 4.0) -> Tensor:
    """Mean over B of the gate's mean of KL(teacher || student) over its ``best`` teachers for the picture.

    Li et al. 2025, "MST-Distill" (arXiv 2507.07015), the routed loss of the public code (Gray-OREO/MST-Distill).
    Departure: shares of the chosen teachers weigh, so that the gate has a gradient; no masks on teachers' features.

    Args:
        student: logits (B, C).
        teachers: logits (B, n, C); detached.
        gate: shares (B, n) that sum to 1.
        best: how many teachers a picture listens to, 1 to n.
        temperature: > 0.
    """
    shares, chosen = gate.topk(best, dim=1)
    spread = student[:, None].expand_as(teachers)
    losses = divergence_rows(student=spread, teacher=teachers, temperature=temperature).gather(1, chosen)
    return (shares / shares.sum(1, keepdim=True).detach() * losses).sum(1).mean()


def load_balance_loss(*, gate: Tensor) -> Tensor:
    """KL(mean gate || uniform) of shares (B, n): 0 where all teachers are asked alike."""
    mean = gate.mean(0)
    return (mean * (mean.clamp(min=1e-12) * gate.shape[1]).log()).sum()


def gate_shares(scores: Tensor) -> Tensor:
    """Shares (B, n) of gate scores (B, n)."""
    return torch.softmax(scores, dim=1)
