"""Distillation on those pictures that teacher and student are sure of together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from reid_mtda.losses.distillation.divergence import divergence_rows


def joint_weights(*, student: Tensor, teacher: Tensor, share: float) -> Tensor:
    """Choose the ``share`` of a batch whose joint prediction is surest: weights (B,) of 0 and 1.

    The joint prediction is the mean of both networks' probabilities; its largest one tells how sure they are, and
    both have to mean the same class for it to be large.

    Args:
        student: logits (B, C); detached.
        teacher: logits (B, C); detached.
        share: in (0, 1]; at least one picture is kept.
    """
    joint = (functional.softmax(student.detach(), 1) + functional.softmax(teacher.detach(), 1)) / 2
    sure = joint.amax(1)
    kept = max(1, round(share * len(sure)))
    return (sure >= sure.topk(kept).values[-1]).to(sure.dtype)


def chosen_loss(*, student: Tensor, teacher: Tensor, share: float = 0.8, temperature: float = 4.0) -> Tensor:
    """Softened KL(teacher || student) over the pictures that `joint_weights` chooses, mean over these.

    Tang et al. 2023, "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images" (KD^3, arXiv
    2307.11469): its first part, selection by the joint prediction. Checked in the abstract; the rule of the share is
    ours. Its second part, weighted alignment of features, and MixDistribution are left out.

    Args:
        student: logits (B, C).
        teacher: logits (B, C); detached.
        share: of a batch that is kept.
        temperature: > 0.
    """
    weights = joint_weights(student=student, teacher=teacher, share=share)
    loss = divergence_rows(student=student, teacher=teacher, temperature=temperature)
    return torch.dot(weights, loss) / weights.sum()
