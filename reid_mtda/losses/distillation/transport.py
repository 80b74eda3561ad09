"""Optimal transport between a batch's class probabilities of teacher and student."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def transport_loss(
    *, student: Tensor, teacher: Tensor, temperature: float = 2.0, blur: float = 0.1, rounds: int = 20
) -> Tensor:
    """Cost of moving the batch's softened probabilities of the teacher onto the student's, mean over B.

    Cui et al. 2024, "Sinkhorn Distance Minimization for Knowledge Distillation" (SinKD, arXiv 2402.17110), the
    batch-wise loss of the public code (2018cx/SinKD): W_ij = |p_s,i - p_t,j|_1, K = exp(-W / blur), rows and columns
    normalised in turn. Departure: in the logarithm, so that a small blur does not underflow, and a mean in place of
    the code's factor. Which of the teacher's rows belongs to which picture does not count: it goes beside KL.

    Args:
        student: logits (B, C).
        teacher: logits (B, C); detached.
        temperature: > 0.
        blur: of the plan, > 0; smaller is nearer to an assignment.
        rounds: of normalisation.
    """
    p_s, p_t = (functional.softmax(given / temperature, dim=1) for given in (student, teacher.detach()))
    cost = (p_s[:, None] - p_t[None]).abs().sum(-1)
    plan = transport_plan(cost, blur=blur, rounds=rounds)
    return (plan * cost).sum() / len(cost)


def transport_plan(cost: Tensor, *, blur: float = 0.1, rounds: int = 20) -> Tensor:
    """Plan (B, B) whose rows and columns sum to 1, by Sinkhorn's normalisations of exp(-cost / blur); rows last.

    Args:
        cost: (N, M) what it costs to move from one to the other.
        blur: entropic regularisation, > 0.
        rounds: of Sinkhorn's iteration.
    """
    log = -cost / blur
    for _ in range(rounds):
        log = log - torch.logsumexp(log, dim=0, keepdim=True)
        log = log - torch.logsumexp(log, dim=1, keepdim=True)
    return log.exp()
