"""Distillation along the edges of a graph of pictures: what neighbours' teachers say, and how neighbours differ."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reid_mtda.losses.distillation.divergence import divergence_rows


def neighbours_loss(*, student: Tensor, neighbours: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over edges i -> j of KL(teacher of j || student of i): the low frequencies of FF-G2M.

    Wu et al. 2023, "Extracting Low-/High-Frequency Knowledge from Graph Neural Networks and Injecting it into MLPs"
    (AAAI 2023), the loss of the public code (LirongWu/FF-G2M). Departure: the graph is one of nearest neighbours, and
    j need not be in the batch, since its teacher spoke beforehand.

    Args:
        student: logits (B, C).
        neighbours: the teachers' logits (B, k, C) of each picture's neighbours, itself among them; detached.
        temperature: > 0.
    """
    spread = student[:, None].expand_as(neighbours)
    return divergence_rows(student=spread, teacher=neighbours, temperature=temperature).mean()


def edge_difference_loss(*, student: Tensor, teacher: Tensor, edges: Tensor, temperature: float = 1.5) -> Tensor:
    """KL between softmax(|z_i - z_j| / tau) of teacher and student, mean over edges: FF-G2M's high frequencies.

    Args:
        student: logits (B, C).
        teacher: logits (B, C); detached.
        edges: int64 (2, E), rows of the batch; none: 0 with a gradient of 0.
        temperature: tau, > 0.
    """
    if not edges.shape[1]:
        return student.sum() * 0.0
    apart = [(given[edges[0]] - given[edges[1]]).abs() for given in (student, teacher.detach())]
    log_s, log_t = (functional.log_softmax(difference / temperature, dim=1) for difference in apart)
    return functional.kl_div(log_s, log_t, log_target=True, reduction="batchmean")
