"""Staged distillation for closed label sets: frozen teachers speak once, then one student learns from all of them.

The reference design's counterpart of ``progressive``: strong teachers (CDAN, MCC) are finished first, each passes
each picture of its target once, and the student sees source and all targets in every step: forward KL at a low
temperature on MixUp pictures, with the source's own labels beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from reid_mtda.data.augment import build_augmentation
from reid_mtda.data.batches import Pictures
from reid_mtda.data.closed_domain import LabelledPictures, UnlabelledPictures
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.errors import DataError
from reid_mtda.losses.distillation.soft_targets import soft_target_loss
from reid_mtda.losses.mcc import class_confusion_loss
from reid_mtda.models.classifier import Classifier, ClassifierOutput
from reid_mtda.models.device import device_of, on_host, placed
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    BatchNormSets,
    EpochCallback,
    cosine_decay,
    geometric_ramp,
    keep_last,
    optimise,
    pass_domains,
    rate_groups,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
)
from reid_mtda.train.objectives.closed_sets import ClosedSetCalls, TeachersOfSets, draw_mix
from reid_mtda.train.objectives.objective import AskedObjective
from reid_mtda.train.pruning import kept_rows
from reid_mtda.train.resume import CHECKPOINT_SECONDS, Resumable
from reid_mtda.types import Preprocess


class OfflineKDSettings(Strict):
    """L = (1 - beta) CE(source) + beta / targets * sum_i tau^2 KL(teacher_i || student) on MixUp pictures of i."""

    epochs: int = Field(default=20, ge=1)
    steps_per_epoch: int = Field(default=0, ge=0, description="0: one pass over the source")
    batch_size: int = Field(default=32, ge=2, description="source pictures a step, and pictures of each target")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Adam, cosine")
    head_rate: float = Field(default=1.0, gt=0, le=100, description="factor on the learning rate of the head")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0, description="tau, 2 to 4")
    beta_start: float = Field(default=0.5, gt=0, lt=1)
    beta_end: float = Field(default=0.9, gt=0, lt=1)
    mixup: float = Field(default=0.4, ge=0, description="a of Beta(a, a); 0: pictures stay as they are")
    confusion_weight: float = Field(default=0.0, ge=0, description="of the student's own MCC on each target")
    batchnorm: BatchNormSets = Field(default="shared", description="statistics of the batch, or of each domain in it")
    objectives: dict[str, float | dict[str, Any]] = Field(
        default_factory=dict,
        description="further objectives: a weight, or settings with the weight among them, by the name of a built-in "
        "one, an entry point or module:function",
    )
    keep_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="of each target's pictures that is learnt from, drawn; how many are needed?",
    )
    logits_weight: float = Field(default=1.0, ge=0, description="of the teachers' soft targets; 0: objectives alone")
    augmentation: tuple[str, ...] = ()
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")


def classify_pictures(model: Classifier, pictures: Pictures, *, batch: int = 256) -> Tensor:
    """Classify a whole set in eval mode, on the model's device: logits (N, C) on the CPU.

    Args:
        model: the network.
        pictures: the set's.
        batch: how many pictures go through at once.
    """
    return pass_pictures(model, pictures, batch=batch).logits


@torch.no_grad()
def pass_pictures(model: Classifier, pictures: Pictures, *, batch: int = 256) -> ClassifierOutput:
    """Pass a whole set in eval mode, on the model's device: logits (N, C) and features (N, D) on the CPU.

    Args:
        model: the network.
        pictures: the set's.
        batch: how many pictures go through at once.
    """
    was_training = model.training
    model.eval()
    starts = range(0, len(pictures), batch)
    rows = [np.arange(start, min(start + batch, len(pictures))) for start in starts]
    outputs = [model(pictures.normalised(pictures.unit(row, device_of(model)))) for row in rows]
    model.train(was_training)
    return ClassifierOutput(
        logits=torch.cat([output.logits.cpu() for output in outputs]),
        feature=torch.cat([output.feature.cpu() for output in outputs]),
    )


@telling_what_fits("batch_size")
def distil_offline(
    student: Classifier,
    teachers: TeachersOfSets,
    source: LabelledPictures,
    targets: Mapping[str, UnlabelledPictures],
    preprocess: Preprocess,
    settings: OfflineKDSettings,
    run: Run,
    progress: Progress = silent,
    after_epoch: EpochCallback = keep_last,
    *,
    objectives: Mapping[str, AskedObjective] | None = None,
) -> Classifier:
    """Distil finished teachers of all targets into a copy of ``student``; last weights are the result.

    Args:
        student: where training starts; it stays as it is.
        teachers: what the finished teacher of each target said of its pictures.
        source: N labelled pictures.
        targets: M_i unlabelled pictures of each, by name.
        preprocess: colours of the networks' input; pictures have their size already.
        settings: weights, epochs and batches.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.
        after_epoch: called after each epoch with its number and the network, e.g. to keep a copy of the best.
        objectives: further objectives by name, as ``find_objectives`` gives them.

    Returns:
        The distilled copy on the CPU, in eval mode.

    Raises:
        DataError: no target, or teacher outputs that do not fit the targets.
        TrainingError: a loss that is not finite, or a device with too little memory for a batch.

    Reference:
        Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", with MixUp (Zhang et al. 2018).
    """
    device = torch.device(run.compute.device)
    fits = teachers.logits.keys() == targets.keys() and all(
        len(teachers.logits[name]) == len(targets[name]) for name in targets
    )
    if not targets or not fits:
        raise DataError(
            f"offline distillation: got teacher outputs of {sorted(teachers.logits)} for {sorted(targets)}, "
            "expected one for each picture"
        )
    model = placed(copy.deepcopy(student).requires_grad_(True).train(), run.compute)
    of_source = Pictures(source.pictures, preprocess)
    of_target = {name: Pictures(target.pictures, preprocess) for name, target in targets.items()}
    soft_targets = {
        name: functional.softmax(logits / settings.temperature, 1) for name, logits in teachers.logits.items()
    }
    labels = torch.from_numpy(source.labels).to(device)
    pick_source = ShuffleSampler(len(source), settings.batch_size, run.child_seed("source"))
    kept = {n: kept_rows(len(t), settings.keep_share, run.rng(f"kept of {n}")) for n, t in targets.items()}
    pick = {n: ShuffleSampler(len(rows), settings.batch_size, run.child_seed(n)) for n, rows in kept.items()}
    augment = build_augmentation(settings.augmentation, source.pictures.shape[1:3])
    calls = ClosedSetCalls.of(objectives or {}, model, teachers, run, torch.from_numpy(source.labels))
    groups = rate_groups(model, head_rate=settings.head_rate)
    groups += [{"params": calls.applied.parameters()}] if calls.applied.parameters() else []
    optimiser = torch.optim.Adam(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    networks = {"student": model, **calls.applied.networks()}
    state = Resumable(run, networks, {"student": optimiser}, settings.checkpoint_seconds)
    per_epoch = settings.steps_per_epoch or pick_source.steps_per_epoch
    total = settings.epochs * per_epoch

    for step in range(state.start(), total):
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, step / total))
        beta = geometric_ramp(settings.beta_start, settings.beta_end, step / total)
        rows_s = pick_source.batch(step)
        rows = {name: kept[name][sampler.batch(step)] for name, sampler in pick.items()}
        with seeded_step(run, step):
            units, taught, mixes = [of_source.unit(rows_s, device)], {}, {}
            for name, seen in rows.items():
                said = soft_targets[name][torch.from_numpy(seen)].to(device)
                mixes[name] = draw_mix(len(seen), settings.mixup, device)
                units.append(mixes[name].of(of_target[name].unit(seen, device)))
                taught[name] = mixes[name].of(said)
            shown = of_source.normalised(augment(torch.cat(units)))
            out_s, *out_t = pass_domains(model, shown, [len(unit) for unit in units], settings.batchnorm)
        parts = {"classes": (1 - beta) * functional.cross_entropy(out_s.logits, labels[rows_s])}
        for name, out in zip(taught, out_t, strict=True):
            parts[f"{name}/logits"] = (beta / len(rows) * settings.logits_weight) * soft_target_loss(
                student=out.logits, probabilities=taught[name], temperature=settings.temperature
            )
            if settings.confusion_weight:
                parts[f"{name}/confusion"] = (beta / len(rows) * settings.confusion_weight) * class_confusion_loss(
                    logits=out.logits
                )
        with seeded_step(run, step):
            parts |= calls.of_source(out_s, rows_s, labels[rows_s], 1 - beta, step / total)
            parts |= calls.parts(dict(zip(taught, out_t, strict=True)), rows, mixes, step / total, beta / len(rows))
        numbers = optimise(optimiser, parts, where="staged student", step=step)
        if (step + 1) % per_epoch == 0:
            run.record("staged", epoch=step // per_epoch + 1, beta=beta, **numbers)
            after_epoch(step // per_epoch + 1, model)
        state.save(step + 1)
        progress("staged student", step + 1, total)
    state.finish()
    return on_host(model).eval()
