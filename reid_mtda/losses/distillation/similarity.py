"""Distillation of how pictures relate to each other; embedding sizes of teacher and student may differ."""

from __future__ import annotations

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
    rows_s, rows_t = (_without_itself(rows @ rows.T) / temperature for rows in (student, teacher.detach()))
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


def _without_itself(square: Tensor) -> Tensor:
    """Leave the diagonal out: (B, B) to (B, B - 1), without a mask, for which a device would have to be waited for."""
    count = len(square)
    return square.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)
