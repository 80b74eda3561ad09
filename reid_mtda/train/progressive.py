"""Joint progressive distillation and adaptation: KD-STDA with one target, KD-MTDA (MT-MTDA) with several.

P1 *Joint Progressive Knowledge Distillation and Unsupervised Domain Adaptation*, P2 *Unsupervised Multi-Target Domain
Adaptation Through Knowledge Distillation*, P3 their journal version. For each source batch, for each target in turn:
one step of that target's teacher towards the target, then one step of the student on what this teacher says now. The
student hears one teacher at a time, never their average.

The public code departs from the papers in places; each departure is a switch of ``ProgressiveSettings``, off unless
the published numbers are to be reproduced.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer

from reid_mtda.data.augment import build_augmentation
from reid_mtda.data.batches import Pictures
from reid_mtda.data.classification import LabelledPictures, UnlabelledPictures
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.errors import DataError
from reid_mtda.losses.adversarial import domain_confusion_loss, reversal_delta, reverse_gradient
from reid_mtda.losses.distillation.features import feature_loss
from reid_mtda.losses.distillation.soft_targets import published_kl_loss
from reid_mtda.losses.mmd import mmd_loss
from reid_mtda.models.classifier import Classifier, ClassifierOutput
from reid_mtda.models.discriminator import Discriminator
from reid_mtda.runs import Progress, Run, silent
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    BatchNormSets,
    Resumable,
    inverse_decay,
    optimise,
    pass_domains,
    rate_groups,
    seeded_step,
    set_learning_rate,
)
from reid_mtda.train.watch import EpochCallback, keep_last
from reid_mtda.types import Preprocess


class ProgressiveSettings(Strict):
    """L_DA = (1 - beta) [CE + gamma L_align]; L_KD = beta [alpha tau^2 KL_s + (1 - alpha) CE + tau^2 KL_t (+ ...)].

    MMD's weight grows with training as in the published code (DAN's ramp); the equation of P1 has no such factor.
    """

    alignment: Literal["mmd", "dann"] = Field(default="dann", description="mmd: P1; dann: P2")
    epochs: int = Field(default=20, ge=1)
    steps_per_epoch: int = Field(default=0, ge=0, description="0: one pass over the source")
    batch_size: int = Field(default=32, ge=2)
    teacher_learning_rate: float = Field(default=1e-3, gt=0, le=1)
    student_learning_rate: float = Field(default=1e-2, gt=0, le=1)
    head_rate: float = Field(default=1.0, gt=0, le=100, description="factor on the rate of head and discriminator")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    temperature: float = Field(default=20.0, gt=0, description="tau")
    alpha: float = Field(default=0.5, ge=0, le=1, description="KD against CE on the source; 0.3 in P1")
    gamma: float = Field(default=0.5, ge=0, description="weight of the alignment")
    beta_start: float = Field(default=0.1, gt=0, lt=1)
    beta_end: float = Field(default=0.5, gt=0, lt=1, description="0.9 in P1, 0.5 to 0.6 in P2")
    feature_weight: float = Field(default=0.0, ge=0, description="of feature distillation (P3's option)")
    student_confusion: bool = Field(default=True, description="alpha * domain confusion of the student, P2's option")
    discriminator_width: int = Field(default=4096, ge=1)
    augmentation: tuple[str, ...] = ()
    checkpoint_every: int = Field(default=200, ge=1)
    reuse_teacher_output: bool = Field(
        default=False, description="the teacher's own step teaches, which saves its 2nd forward"
    )
    batchnorm: BatchNormSets = Field(
        default="per_domain", description="each domain forwarded alone, as published, or both in one batch"
    )
    reverse_kl: bool = Field(default=False, description="quirk: KL(student || teacher)")
    teacher_attached: bool = Field(default=False, description="quirk: the student's loss also runs through the teacher")
    one_sided_confusion: bool = Field(default=False, description="quirk: the student's discriminator sees targets only")
    mmd_restart_each_epoch: bool = Field(default=False, description="quirk: MMD's weight grows anew in every epoch")
    teacher_bn_train: bool = Field(default=False, description="quirk: the teacher teaches in train mode, BN drifting")


def progressive_beta(start: float, end: float, epoch: int, epochs: int) -> float:
    """beta(e) = s (f / s)^((e - 1) / N) for epoch e = 1..N, constant within an epoch."""
    return float(start * (end / start) ** ((epoch - 1) / epochs))


@dataclass(frozen=True, eq=False)
class NetworkState:
    """A network with its adversary and an optimiser over these two alone."""

    network: Classifier
    discriminator: Discriminator
    optimiser: Optimizer


class OptimiserSet:
    """Several optimisers with disjoint parameters that are saved and restored as one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        seen = [id(p) for part in parts for group in part.param_groups for p in group["params"]]
        if len(seen) != len(set(seen)):
            raise ValueError("optimisers share a parameter; give each network its own")

    def state_dict(self) -> dict[str, Any]:
        """One state with all parameters numbered through."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for part in self.parts:
            own, offset = part.state_dict(), sum(len(g["params"]) for g in groups)
            state |= {offset + index: value for index, value in own["state"].items()}
            groups += [{**g, "params": [offset + p for p in g["params"]]} for g in own["param_groups"]]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Give each optimiser its part back."""
        groups = iter(saved["param_groups"])
        for part in self.parts:
            own = [next(groups) for _ in part.param_groups]
            offset = own[0]["params"][0]
            renumbered = [{**group, "params": [number - offset for number in group["params"]]} for group in own]
            count = sum(len(group["params"]) for group in own)
            state = {i - offset: v for i, v in saved["state"].items() if offset <= i < offset + count}
            part.load_state_dict({"state": state, "param_groups": renumbered})
            for parameter, kept in part.state.items():
                # Stored numbers come back contiguous; the fused step walks weights and momenta in memory side by side.
                kept["momentum_buffer"] = torch.empty_like(parameter).copy_(kept["momentum_buffer"])


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
    """Train copies of ``teachers`` (one a target) and ``student`` together; last weights of both are the result.

    Raises:
        DataError: no target, or teachers of other targets.
        TrainingError: a loss that is not finite.
    """
    if not targets or teachers.keys() != targets.keys():
        raise DataError(f"progressive: got teachers of {sorted(teachers)} for {sorted(targets)}, expected the same")
    student_state = _network_state(student, settings.student_learning_rate, settings, run, "student", connect=teachers)
    teacher_states = {
        name: _network_state(t, settings.teacher_learning_rate, settings, run, name) for name, t in teachers.items()
    }
    of_source = Pictures(source.pictures, preprocess)
    of_target = {name: Pictures(target.pictures, preprocess) for name, target in targets.items()}
    pick_source = ShuffleSampler(len(source), settings.batch_size, run.child_seed("source"))
    pick = {n: ShuffleSampler(len(t), settings.batch_size, run.child_seed(n)) for n, t in targets.items()}
    augment = build_augmentation(settings.augmentation, source.pictures.shape[1:3])
    all_labels = torch.from_numpy(source.labels)
    everyone = {
        "student": student_state,
        **{f"teacher {name}": teacher_state for name, teacher_state in teacher_states.items()},
    }
    networks = {n: nn.ModuleList([a.network, a.discriminator]) for n, a in everyone.items()}
    optimisers = OptimiserSet([a.optimiser for a in everyone.values()])
    state = Resumable(run, networks, optimisers, every=settings.checkpoint_every)  # type: ignore[arg-type]
    per_epoch = settings.steps_per_epoch or pick_source.steps_per_epoch
    total = settings.epochs * per_epoch

    for step in range(state.start(), total):
        epoch = step // per_epoch + 1
        beta = progressive_beta(settings.beta_start, settings.beta_end, epoch, settings.epochs)
        ramp = (step % per_epoch) / per_epoch if settings.mmd_restart_each_epoch else step / total
        delta = reversal_delta(ramp if settings.alignment == "mmd" else step / total)
        set_learning_rate(
            student_state.optimiser, inverse_decay(settings.student_learning_rate, (epoch - 1) / settings.epochs)
        )
        rows_s = pick_source.batch(step)
        labels = all_labels[rows_s]
        for turn, (name, teacher_state) in enumerate(teacher_states.items()):
            rate = inverse_decay(settings.teacher_learning_rate, (epoch - 1) / settings.epochs)
            set_learning_rate(teacher_state.optimiser, rate)
            with seeded_step(run, step * len(teacher_states) + turn):
                both = torch.cat([of_source.unit(rows_s), of_target[name].unit(pick[name].batch(step))])
                pictures = of_source.normalised(augment(both))
                sizes = [len(labels), len(pictures) - len(labels)]
                own = pass_domains(teacher_state.network.train(), pictures, sizes, settings.batchnorm)
                parts = teacher_parts(teacher_state, own, labels, settings, beta, delta)
                adapted = optimise(teacher_state.optimiser, parts, where=f"teacher of {name}", step=step)
                teacher_output = (
                    own
                    if settings.reuse_teacher_output
                    else teacher_targets(teacher_state.network, pictures, len(labels), settings)
                )
                parts = student_parts(student_state, teacher_output, pictures, labels, settings, beta, delta)
                learnt = optimise(student_state.optimiser, parts, where=f"student on {name}", step=step)
            if (step + 1) % per_epoch == 0:
                rates = {
                    f"{who}_rate": one.optimiser.param_groups[0]["lr"]
                    for who, one in (("teacher", teacher_state), ("student", student_state))
                }
                run.record("progressive", epoch=epoch, target=name, beta=beta, **rates, **adapted, **learnt)
        if (step + 1) % per_epoch == 0:
            after_epoch(epoch, student_state.network)
        state.save(step + 1)
        progress("progressive", step + 1, total)
    state.finish()
    return student_state.network.eval(), {
        name: teacher_state.network.eval() for name, teacher_state in teacher_states.items()
    }


def teacher_parts(
    teacher_state: NetworkState,
    outputs: list[ClassifierOutput],
    labels: Tensor,
    settings: ProgressiveSettings,
    beta: float,
    delta: float,
) -> dict[str, Tensor]:
    """The teacher's loss on its outputs for source and target: (1 - beta) [CE + gamma L_align]."""
    source, target = outputs
    if settings.alignment == "mmd":
        alignment = delta * mmd_loss(source=source.feature, target=target.feature)
    else:
        alignment = domain_confusion_loss(
            **judged(teacher_state.discriminator, {"source": source, "target": target}, delta)
        )
    return {
        "teacher classes": (1 - beta) * functional.cross_entropy(source.logits, labels),
        "alignment": (1 - beta) * settings.gamma * alignment,
    }


def teacher_targets(
    teacher: Classifier, pictures: Tensor, sources: int, settings: ProgressiveSettings
) -> list[ClassifierOutput]:
    """What the updated teacher says of the same pictures: eval mode and without a gradient unless a quirk is on."""
    teacher.train(settings.teacher_bn_train)
    with torch.set_grad_enabled(settings.teacher_attached):
        return pass_domains(teacher, pictures, [sources, len(pictures) - sources], settings.batchnorm)


def student_parts(
    student_state: NetworkState,
    teacher_output: list[ClassifierOutput],
    pictures: Tensor,
    labels: Tensor,
    settings: ProgressiveSettings,
    beta: float,
    delta: float,
) -> dict[str, Tensor]:
    """The student's loss: beta [alpha tau^2 KL_s + (1 - alpha) CE + tau^2 KL_t + alpha confusion + feature KD]."""
    student_state.network.train()
    source, target = pass_domains(
        student_state.network, pictures, [len(labels), len(pictures) - len(labels)], settings.batchnorm
    )
    taught_s, taught_t = teacher_output

    def kl(student: Tensor, teacher: Tensor) -> Tensor:
        # kl_loss with the two quirks of the public code; both off, it is kl_loss.
        teacher = teacher if settings.teacher_attached else teacher.detach()
        return published_kl_loss(
            student=student, teacher=teacher, temperature=settings.temperature, reverse=settings.reverse_kl
        )

    parts = {
        "source logits": beta * settings.alpha * kl(source.logits, taught_s.logits),
        "student classes": beta * (1 - settings.alpha) * functional.cross_entropy(source.logits, labels),
        "target logits": beta * kl(target.logits, taught_t.logits),
    }
    if settings.student_confusion and settings.alignment == "dann":
        judged_domains = {"target": target} if settings.one_sided_confusion else {"target": target, "source": source}
        domain_logits = judged(student_state.discriminator, judged_domains, delta)
        confusion = domain_confusion_loss(target=domain_logits["target"], source=domain_logits.get("source"))
        parts["student confusion"] = beta * settings.alpha * confusion
    if settings.feature_weight:
        student_feature = torch.cat([source.feature, target.feature])
        connector = getattr(student_state.discriminator, "connector", nn.Identity())
        taught = torch.cat([taught_s.feature, taught_t.feature])
        parts["features"] = (
            beta * settings.feature_weight * feature_loss(student=connector(student_feature), teacher=taught)
        )
    return parts


def judged(discriminator: Discriminator, outputs: Mapping[str, ClassifierOutput], delta: float) -> dict[str, Tensor]:
    """The discriminator's logits (B,) for each domain of ``outputs``; the features get its gradient reversed."""
    features = [reverse_gradient(output.feature, delta) for output in outputs.values()]
    domain_logits = discriminator(torch.cat(features)).split([len(part) for part in features])
    return dict(zip(outputs, domain_logits, strict=True))


def _network_state(
    model: Classifier,
    rate: float,
    settings: ProgressiveSettings,
    run: Run,
    name: str,
    connect: Mapping[str, Classifier] | None = None,
) -> NetworkState:
    network = copy.deepcopy(model).requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.child_seed(f"discriminator {name}"))
        hidden = settings.discriminator_width if settings.alignment == "dann" else 1
        discriminator = Discriminator(network.feature_dim, hidden=hidden).train()
        if connect and settings.feature_weight:
            wanted = next(iter(connect.values())).feature_dim
            discriminator.connector = nn.Linear(network.feature_dim, wanted, bias=False)
    groups = rate_groups(network, discriminator, head_rate=settings.head_rate)
    # fused: one pass over the weights instead of five; it differs from the loop in the last bits alone
    optimiser = SGD(groups, lr=rate, momentum=0.9, weight_decay=settings.weight_decay, fused=True)
    return NetworkState(network, discriminator, optimiser)
