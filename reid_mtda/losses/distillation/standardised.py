"""Distillation of logits that are divided by their own standard deviation."""

from __future__ import annotations

from torch import Tensor

from reid_mtda.losses.distillation.divergence import divergence_rows


def standardised_loss(*, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(s(z_t / std_t) || s(z_s / std_s)), each picture's logits over their own deviation, mean over B.

    Choi et al. 2023, "Understanding the Role of Mixup in Knowledge Distillation" (WACV 2023, arXiv 2211.03946), the
    loss of the public code (hchoi71/MIX-KD). How sharp a teacher is no longer counts: mixing makes it less sure, and
    neither is a scale passed on. Departure: the student's own soft cross-entropy is the loop's.

    Args:
        student: logits (B, C), C > 1.
        teacher: logits (B, C); detached.
        temperature: of the deviation's multiple, > 0.
    """
    rows_s, rows_t = (given / given.std(dim=1, keepdim=True).clamp(min=1e-6) for given in (student, teacher.detach()))
    return divergence_rows(student=rows_s, teacher=rows_t, temperature=temperature).mean()
