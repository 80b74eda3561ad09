"""Joint progressive distillation and adaptation: KD-STDA with one target, KD-MTDA (MT-MTDA) with several.

P1 *Joint Progressive Knowledge Distillation and Unsupervised Domain Adaptation*, P2 *Unsupervised Multi-Target Domain
Adaptation Through Knowledge Distillation*, P3 their journal version. For each source batch, for each target in turn:
one step of that target's teacher towards the target, then one step of the student on what this teacher says now. The
student hears one teacher at a time, never their average. What the public code does otherwise than the papers is no part
of this file: ``bench.closed.published`` puts it in the place of functions here where published numbers are reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda.data.augment import build_augmentation
from reid_mtda.data.batches import Pictures
from reid_mtda.data.closed_domain import LabelledPictures, UnlabelledPictures
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.errors import DataError
from reid_mtda.losses.adversarial import domain_confusion_loss, reversal_delta, reverse_gradient
from reid_mtda.losses.alignment import ALIGNMENTS
from reid_mtda.losses.distillation.features import feature_loss
from reid_mtda.losses.distillation.soft_targets import soft_target_loss
from reid_mtda.models.classifier import Classifier, ClassifierOutput
from reid_mtda.models.device import on_host
from reid_mtda.models.discriminator import Discriminator
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.train.common import (
    EpochCallback,
    batch_statistics,
    geometric_ramp,
    inverse_decay,
    keep_last,
    optimise,
    pass_domains,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
)
from reid_mtda.train.network_state import NetworkState, make_network_state
from reid_mtda.train.progressive_settings import ProgressiveSettings
from reid_mtda.train.resume import Resumable
from reid_mtda.types import Preprocess


@telling_what_fits("batch_size")
def distil_progressively(
    student: Classifier,
    teachers: Mapping[str, Classifier],
    source: LabelledPictures,
    targets: Mapping[str, UnlabelledPictures],
    preprocess: Preprocess,
    settings: ProgressiveSettings,
    run: Run,
    progress: Progress = silent,
    after_epoch: EpochCallback = keep_last,
) -> tuple[Classifier, dict[str, Classifier]]:
    """Train copies of ``teachers`` and ``student`` together; last weights of both are the result.

    Args:
        student: where the student starts; it stays as it is.
        teachers: one for each target, by its name; they stay as they are.
        source: N labelled pictures.
        targets: M_i unlabelled pictures of each, by name.
        preprocess: colours of the networks' input; pictures have their size already.
        settings: weights, epochs and batches.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.
        after_epoch: called after each epoch with its number and the student, e.g. to keep a copy of the best.

    Returns:
        The student, and the teachers by target, on the CPU and in eval mode.

    Raises:
        DataError: no target, or teachers of other targets.
        TrainingError: a loss that is not finite, or a device with too little memory for a batch.

    Reference:
        P1, eq. 3-9 and algorithm 1 (one target, MMD); P2, eq. 1-6 and algorithm 1 (several targets, DANN).
    """
    if not targets or teachers.keys() != targets.keys():
        raise DataError(f"progressive: got teachers of {sorted(teachers)} for {sorted(targets)}, expected the same")
    device = torch.device(run.compute.device)
    student_state = make_network_state(
        student, settings.student_learning_rate, settings, run, "student", connect=teachers
    )
    teacher_states = {
        name: make_network_state(teacher, settings.teacher_learning_rate, settings, run, name)
        for name, teacher in teachers.items()
    }
    of_source = Pictures(source.pictures, preprocess)
    of_target = {name: Pictures(target.pictures, preprocess) for name, target in targets.items()}
    pick_source = ShuffleSampler(len(source), settings.batch_size, run.child_seed("source"))
    pick = {n: ShuffleSampler(len(t), settings.batch_size, run.child_seed(n)) for n, t in targets.items()}
    augment = build_augmentation(settings.augmentation, source.pictures.shape[1:3])
    all_labels = torch.from_numpy(source.labels).to(device)
    everyone = {"student": student_state, **{f"teacher {name}": state for name, state in teacher_states.items()}}
    networks = {name: nn.ModuleList([one.network, one.discriminator]) for name, one in everyone.items()}
    optimisers = {name: one.optimiser for name, one in everyone.items()}
    state = Resumable(run, networks, optimisers, settings.checkpoint_seconds)
    per_epoch = settings.steps_per_epoch or pick_source.steps_per_epoch
    total = settings.epochs * per_epoch

    for step in range(state.start(), total):
        epoch, ended = step // per_epoch + 1, (step + 1) % per_epoch == 0
        began = (epoch - 1) / settings.epochs  # rates and beta are constant within an epoch
        beta = geometric_ramp(settings.beta_start, settings.beta_end, began)
        delta = alignment_strength(step, per_epoch, total, settings)
        set_learning_rate(student_state.optimiser, inverse_decay(settings.student_learning_rate, began))
        rows_s = pick_source.batch(step)
        labels = all_labels[rows_s]
        for turn, (name, teacher_state) in enumerate(teacher_states.items()):
            set_learning_rate(teacher_state.optimiser, inverse_decay(settings.teacher_learning_rate, began))
            with seeded_step(run, step * len(teacher_states) + turn):
                units = [of_source.unit(rows_s, device), of_target[name].unit(pick[name].batch(step), device)]
                pictures, sizes = of_source.normalised(augment(torch.cat(units))), [len(unit) for unit in units]
                own = pass_domains(teacher_state.network.train(), pictures, sizes, settings.batchnorm)
                parts = teacher_parts(teacher_state, own, labels, settings, beta, delta)
                adapted = optimise(teacher_state.optimiser, parts, where=f"teacher of {name}", step=step)
                said = own
                if not settings.reuse_teacher_output:
                    said = teacher_targets(teacher_state.network, pictures, len(labels), settings)
                parts = student_parts(student_state, said, pictures, labels, settings, beta, delta)
                learnt = optimise(student_state.optimiser, parts, where=f"student on {name}", step=step)
            if ended:
                run.record(
                    "progressive", epoch=epoch, target=name, beta=beta,
                    teacher_rate=teacher_state.optimiser.param_groups[0]["lr"],
                    student_rate=student_state.optimiser.param_groups[0]["lr"], **adapted, **learnt,
                )  # fmt: skip
        if ended:
            after_epoch(epoch, student_state.network)
        state.save(step + 1)
        progress("progressive", step + 1, total)
    state.finish()
    taught = {name: on_host(teacher_state.network).eval() for name, teacher_state in teacher_states.items()}
    return on_host(student_state.network).eval(), taught


def alignment_strength(step: int, per_epoch: int, total: int, settings: ProgressiveSettings) -> float:
    """Strength of the reversed gradient, or MMD's weight, at ``step`` of ``total``: it grows over all of training.

    Args:
        step: its number, from 0.
        per_epoch: steps of an epoch.
        total: steps in all.
        settings: weights and steps.
    """
    return reversal_delta(step / total)


def teacher_parts(
    teacher_state: NetworkState,
    outputs: list[ClassifierOutput],
    labels: Tensor,
    settings: ProgressiveSettings,
    beta: float,
    delta: float,
) -> dict[str, Tensor]:
    """Weigh the teacher's loss on its outputs for source and target: (1 - beta) [CE + gamma L_align].

    Args:
        teacher_state: the teacher, its adversary and optimiser.
        outputs: of source and target.
        labels: (B,) classes of the source's pictures.
        settings: weights and steps.
        beta: share of distillation, 0..1.
        delta: strength of the reversed gradient.
    """
    source, target = outputs
    if settings.alignment == "dann":
        alignment = domain_confusion_loss(
            **judged(teacher_state.discriminator, {"source": source, "target": target}, delta)
        )
    else:
        alignment = _aligned(teacher_state.discriminator, source, target, settings, delta)
    return {
        "teacher classes": (1 - beta) * functional.cross_entropy(source.logits, labels),
        "alignment": (1 - beta) * settings.gamma * alignment,
    }


def teacher_targets(
    teacher: Classifier, pictures: Tensor, sources: int, settings: ProgressiveSettings
) -> list[ClassifierOutput]:
    """Ask the updated teacher about the same pictures, in eval mode and without a gradient.

    Where each domain passes alone its BatchNorm uses that domain's own statistics: the running ones are a mixture of
    source and target, which fits neither.

    Args:
        teacher: the teacher, just updated.
        pictures: (B, 3, h, w), normalised.
        sources: how many of them are the source's.
        settings: weights and steps.
    """
    teacher.eval()
    with torch.no_grad(), teaching_statistics(teacher, settings):
        return pass_domains(teacher, pictures, [sources, len(pictures) - sources], settings.batchnorm)


def teaching_statistics(teacher: Classifier, settings: ProgressiveSettings) -> AbstractContextManager[None]:
    """While it lasts a teacher in eval mode uses the statistics that ``settings`` want; its buffers stay."""
    own = settings.batchnorm == "per_domain" and settings.teacher_statistics == "own"
    return batch_statistics(teacher) if own else nullcontext()


def student_parts(
    student_state: NetworkState,
    teacher_output: list[ClassifierOutput],
    pictures: Tensor,
    labels: Tensor,
    settings: ProgressiveSettings,
    beta: float,
    delta: float,
) -> dict[str, Tensor]:
    """Weigh the student's loss: beta [alpha tau^2 KL_s + (1 - alpha) CE + tau^2 KL_t + alpha confusion + features].

    Args:
        student_state: the student, its adversary and optimiser.
        teacher_output: of source and target.
        pictures: (B, 3, h, w), normalised.
        labels: (B,) classes of the source's pictures.
        settings: weights and steps.
        beta: share of distillation, 0..1.
        delta: strength of the reversed gradient.
    """
    student_state.network.train()
    source, target = pass_domains(
        student_state.network, pictures, [len(labels), len(pictures) - len(labels)], settings.batchnorm
    )
    taught_s, taught_t = teacher_output
    tau = settings.temperature
    source_kl = soft_target_loss(student=source.logits, teacher=taught_s.logits, temperature=tau)
    target_kl = soft_target_loss(student=target.logits, teacher=taught_t.logits, temperature=tau)
    parts = {
        "source logits": beta * settings.alpha * source_kl,
        "student classes": beta * (1 - settings.alpha) * functional.cross_entropy(source.logits, labels),
        "target logits": beta * target_kl,
    }
    if settings.alignment == "dann":
        confusion = student_confusion(student_state.discriminator, source, target, delta)
        parts["student confusion"] = beta * settings.alpha * confusion
    elif settings.alignment == "cdan":
        confusion = _aligned(student_state.discriminator, source, target, settings, delta)
        parts["student confusion"] = beta * settings.alpha * confusion
    if settings.feature_weight:
        student_feature = torch.cat([source.feature, target.feature])
        connector = getattr(student_state.discriminator, "connector", nn.Identity())
        taught = torch.cat([taught_s.feature, taught_t.feature])
        parts["features"] = (
            beta * settings.feature_weight * feature_loss(student=connector(student_feature), teacher=taught)
        )
    return parts


def student_confusion(
    discriminator: Discriminator, source: ClassifierOutput, target: ClassifierOutput, delta: float
) -> Tensor:
    """Have the student's discriminator judge both domains: P2's option, a scalar.

    Args:
        discriminator: tells source from target.
        source: the network's of the source's pictures.
        target: the network's of the target's pictures.
        delta: strength of the reversed gradient.
    """
    return domain_confusion_loss(**judged(discriminator, {"target": target, "source": source}, delta))


def judged(discriminator: Discriminator, outputs: Mapping[str, ClassifierOutput], delta: float) -> dict[str, Tensor]:
    """Judge each domain of ``outputs``: the discriminator's logits (B,); features get its gradient reversed.

    Args:
        discriminator: tells source from target.
        outputs: by domain.
        delta: strength of the reversed gradient.
    """
    features = [reverse_gradient(output.feature, delta) for output in outputs.values()]
    domain_logits = discriminator(torch.cat(features)).split([len(part) for part in features])
    return dict(zip(outputs, domain_logits, strict=True))


def _aligned(
    discriminator: Discriminator,
    source: ClassifierOutput,
    target: ClassifierOutput,
    settings: ProgressiveSettings,
    delta: float,
) -> Tensor:
    return ALIGNMENTS[settings.alignment](
        source_features=source.feature,
        source_logits=source.logits,
        target_features=target.feature,
        target_logits=target.logits,
        discriminator=discriminator,
        delta=delta,
    )
