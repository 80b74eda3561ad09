"""The alignment losses by name, in one form: features and logits of both domains in, a scalar out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from reid_mtda.losses.adversarial import Discriminate, cdan_loss, dann_loss
from reid_mtda.losses.mcc import class_confusion_loss
from reid_mtda.losses.mmd import mmd_loss


def _mmd(
    *,
    source_features: Tensor,
    source_logits: Tensor,
    target_features: Tensor,
    target_logits: Tensor,
    discriminator: Discriminate,
    delta: float,
) -> Tensor:
    return delta * mmd_loss(source=source_features, target=target_features)


def _mcc(
    *,
    source_features: Tensor,
    source_logits: Tensor,
    target_features: Tensor,
    target_logits: Tensor,
    discriminator: Discriminate,
    delta: float,
) -> Tensor:
    return delta * class_confusion_loss(logits=target_logits)


ALIGNMENTS: dict[str, Callable[..., Tensor]] = {"mmd": _mmd, "dann": dann_loss, "cdan": cdan_loss, "mcc": _mcc}
"""Alignment by name. ``delta`` grows from 0 to 1: the reversed gradient's strength, or the loss's own weight (DAN)."""

ADVERSARIAL = ("dann", "cdan")
"""The alignments that need a discriminator."""
