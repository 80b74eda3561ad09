"""Distillation of how pictures relate to each other; embedding sizes of teacher and student may differ."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def similarity_rows_loss(*, student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Row-wise KL between softened similarity rows of one batch, each picture's similarity to itself left out.

    KL(softmax(sim_T / tau) || softmax(sim_S / tau)) (relational KD as in Tung & Mori 2019, with soft targets for rows).

    Args:
        student: embeddings (B, D_s), rows of length 1, B >= 2.
        teacher: embeddings (B, D_t), rows of length 1.
        temperature: > 0; smaller looks at nearer neighbours only.
    """
    off_diagonal = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    rows_s, rows_t = (
        (rows @ rows.T)[off_diagonal].view(len(rows), len(rows) - 1) / temperature
        for rows in (student, teacher.detach())
    )
    return functional.kl_div(
        functional.log_softmax(rows_s, dim=1),
        functional.log_softmax(rows_t, dim=1),
        log_target=True,
        reduction="batchmean",
    )


def similarity_matrix_loss(*, student: Tensor, teacher: Tensor) -> Tensor:
    """KD-ReID's ||A_teacher - A_student||_F of cosine-distance matrices (P4, eq. 4), un-squared and un-averaged.

    Args:
        student: embeddings (B, D_s), rows of length 1.
        teacher: embeddings (B, D_t), rows of length 1.
    """
    difference = student @ student.T - (teacher @ teacher.T).detach()
    return (difference.square().sum() + 1e-12).sqrt()
