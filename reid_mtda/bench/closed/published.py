"""The quirks of KD-MTDA's public code, put in the places of ``train.progressive``'s functions for one table.

The papers state the loops of ``train.progressive``; the code that was published with them departs in six places. Each
is a name here, so that a row of a table can be trained with one, or with all, and the loop itself stays the papers'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from reid_mtda.errors import ConfigError
from reid_mtda.losses.adversarial import domain_confusion_loss, reversal_delta, reverse_gradient
from reid_mtda.models.classifier import Classifier, ClassifierOutput
from reid_mtda.models.discriminator import Discriminator
from reid_mtda.train import progressive
from reid_mtda.train.common import pass_domains
from reid_mtda.train.progressive import judged, teaching_statistics
from reid_mtda.train.progressive_settings import ProgressiveSettings

QUIRKS = {
    "reverse_kl": "KL(student || teacher)",
    "teacher_attached": "the student's loss also runs through the teacher",
    "one_sided_confusion": "the student's discriminator sees targets only, and saturates",
    "mmd_restart_each_epoch": "MMD's weight grows anew in every epoch",
    "teacher_bn_train": "the teacher teaches in train mode: with dropout, its BatchNorm's running statistics drifting",
    "discriminator_bn_per_domain": "the discriminator judges each domain alone, and its BatchNorm centres both alike: "
    "whatever it learns, its loss is 2 ln 2 at least",
}


@contextlib.contextmanager
def as_published(quirks: Collection[str]) -> Iterator[None]:
    """Train with ``quirks`` of the public code while the block lasts; one block at a time in a process.

    Args:
        quirks: names of ``QUIRKS``; none leaves everything as it is.

    Raises:
        ConfigError: a name that is none of them.
    """
    check_quirks(quirks)
    patches: dict[str, Any] = {}
    attached, drifting = "teacher_attached" in quirks, "teacher_bn_train" in quirks
    if attached or "reverse_kl" in quirks:
        patches["soft_target_loss"] = _public_kl(attached=attached, reverse="reverse_kl" in quirks)
    if attached or drifting:
        patches["teacher_targets"] = _public_teacher(attached=attached, drifting=drifting)
    if "one_sided_confusion" in quirks:
        patches["student_confusion"] = _one_sided_confusion
    if "discriminator_bn_per_domain" in quirks:
        patches["judged"] = _judged_apart
    if "mmd_restart_each_epoch" in quirks:
        patches["alignment_strength"] = _restarting_strength
    kept = {name: getattr(progressive, name) for name in patches}
    try:
        for name, patch in patches.items():
            setattr(progressive, name, patch)
        yield
    finally:
        for name, function in kept.items():
            setattr(progressive, name, function)


def check_quirks(quirks: Collection[str], where: str = "quirks") -> None:
    """Refuse a name that is not among ``QUIRKS``.

    Raises:
        ConfigError: naming it.
    """
    for quirk in quirks:
        if quirk not in QUIRKS:
            raise ConfigError(f"{where}: got {quirk!r}, expected some of {', '.join(QUIRKS)}")


def _public_kl(*, attached: bool, reverse: bool) -> Any:
    def public_kl(*, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        log_student = functional.log_softmax(student / temperature, dim=1)
        log_teacher = functional.log_softmax((teacher if attached else teacher.detach()) / temperature, dim=1)
        taken, given = (log_teacher, log_student) if reverse else (log_student, log_teacher)
        return temperature**2 * functional.kl_div(taken, given, log_target=True, reduction="batchmean")

    return public_kl


def _public_teacher(*, attached: bool, drifting: bool) -> Any:
    def public_teacher(
        teacher: Classifier, pictures: Tensor, sources: int, settings: ProgressiveSettings
    ) -> list[ClassifierOutput]:
        teacher.train(drifting)
        with (
            torch.set_grad_enabled(attached),
            contextlib.nullcontext() if drifting else teaching_statistics(teacher, settings),
        ):
            return pass_domains(teacher, pictures, [sources, len(pictures) - sources], settings.batchnorm)

    return public_teacher


def _one_sided_confusion(
    discriminator: Discriminator, source: ClassifierOutput, target: ClassifierOutput, delta: float
) -> Tensor:
    return domain_confusion_loss(target=judged(discriminator, {"target": target}, delta)["target"], source=None)


def _judged_apart(
    discriminator: Discriminator, outputs: Mapping[str, ClassifierOutput], delta: float
) -> dict[str, Tensor]:
    return {name: discriminator(reverse_gradient(output.feature, delta)) for name, output in outputs.items()}


def _restarting_strength(step: int, per_epoch: int, total: int, settings: ProgressiveSettings) -> float:
    restarted = settings.alignment == "mmd"
    return reversal_delta((step % per_epoch) / per_epoch if restarted else step / total)
