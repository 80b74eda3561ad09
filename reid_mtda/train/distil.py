"""Staged distillation: one student learns from the frozen teachers of all cameras, one teacher at a time.

P3/P4 with the reference design's parts: source-identity beliefs as the class space that all cameras share,
similarity rows, the source's own labels, and a progressive balance between source and teachers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reid_mtda.data.augment import DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.data.batches import group_sampler, load_pictures
from reid_mtda.errors import DataError
from reid_mtda.losses.distillation.logits import kl_loss
from reid_mtda.losses.distillation.similarity import similarity_rows_loss
from reid_mtda.losses.identity import identity_loss, triplet_loss
from reid_mtda.models.embedder import Embedder
from reid_mtda.runs import Progress, Run, silent
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    Resumable,
    cosine_decay,
    embed_pictures,
    frozen,
    optimise,
    seeded_step,
    set_learning_rate,
)
from reid_mtda.types import LabelledSet, Preprocess, UnlabelledSet


class DistilSettings(Strict):
    """L = (1 - beta) L_source + beta / cameras * sum_i [w_logits KD_logits + w_rows KD_rows + w_tracklet triplets]."""

    steps: int = Field(default=200, ge=1, description="optimiser steps; every camera is heard in each")
    identities_per_batch: int = Field(default=8, ge=2, description="P of P x K, per camera and for the source")
    pictures_per_identity: int = Field(default=4, ge=2, description="K of P x K")
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0)
    beta_start: float = Field(default=0.3, gt=0, lt=1, description="share of the teachers at the first step")
    beta_end: float = Field(default=0.9, gt=0, lt=1, description="share of the teachers at the last step")
    temperature: float = Field(default=4.0, gt=0, description="of source-identity beliefs")
    rows_temperature: float = Field(default=0.2, gt=0, description="of similarity rows")
    logits_weight: float = Field(default=1.0, ge=0)
    rows_weight: float = Field(default=1.0, ge=0)
    tracklet_weight: float = Field(default=1.0, ge=0)
    ema: float = Field(default=0.98, ge=0, lt=1, description="decay of the averaged student that is returned; 0: none")
    augmentation: tuple[str, ...] = DEFAULT_AUGMENTATION
    checkpoint_every: int = Field(default=50, ge=1)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a teacher says of its camera's crops, kept so that each crop passes the teacher once.

    ``embedding`` (N, D_t), rows of length 1; ``logits`` (N, C) over source identities, None for a ready-made teacher.
    """

    embedding: Tensor
    logits: Tensor | None


def give_lesson(teacher: Embedder, target: UnlabelledSet, preprocess: Preprocess) -> Lesson:
    """Pass every crop of ``target`` through the frozen ``teacher`` once."""
    output = embed_pictures(frozen(teacher), load_pictures(target.paths, preprocess))
    return Lesson(embedding=output.embedding, logits=output.logits)


def distil(
    student: Embedder,
    lessons: Mapping[str, Lesson],
    targets: Mapping[str, UnlabelledSet],
    source: LabelledSet,
    preprocess: Preprocess,
    settings: DistilSettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Distil ``lessons`` of all cameras into ``student``; the averaged weights after the last step are the result.

    Raises:
        DataError: no cameras, or a camera without tracklets.
        TrainingError: a loss that is not finite.
    """
    if not targets or lessons.keys() != targets.keys():
        raise DataError(f"distillation: got lessons of {sorted(lessons)} for cameras {sorted(targets)}, expected alike")
    of_source = load_pictures(source.paths, preprocess)
    of_camera = {camera: load_pictures(target.paths, preprocess) for camera, target in targets.items()}
    p, k = settings.identities_per_batch, settings.pictures_per_identity
    pick_source = group_sampler(source.labels, p=p, k=k, seed=run.child_seed("source"), where=source.domain)
    pick = {
        camera: group_sampler(_tracklets(target), p=p, k=k, seed=run.child_seed(camera), where=camera)
        for camera, target in targets.items()
    }
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    labels = torch.from_numpy(source.labels)
    tracklets = {camera: torch.from_numpy(_tracklets(target)) for camera, target in targets.items()}
    averaged = frozen(copy.deepcopy(student))
    optimiser = torch.optim.Adam(student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    state = Resumable(run, {"student": student, "averaged": averaged}, optimiser, settings.checkpoint_every)
    student.train()

    for step in range(state.start(), settings.steps):
        done = step / settings.steps
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, done))
        beta = progressive_beta(settings.beta_start, settings.beta_end, done)
        rows_s = pick_source.batch(step)
        rows = {camera: sampler.batch(step) for camera, sampler in pick.items()}
        with seeded_step(run, step):
            units = [of_source.unit(rows_s), *(of_camera[camera].unit(rows[camera]) for camera in rows)]
            output = student(of_source.normalised(augment(torch.cat(units))))
        embeddings = output.embedding.split([len(unit) for unit in units])
        logits = output.logits.split([len(unit) for unit in units])
        parts = {
            "identity": (1 - beta)
            * identity_loss(logits=logits[0], labels=labels[rows_s], smoothing=settings.smoothing),
            "triplet": (1 - beta)
            * triplet_loss(embeddings=embeddings[0], labels=labels[rows_s], margin=settings.margin),
        }
        for camera, embedding, logit in zip(rows, embeddings[1:], logits[1:], strict=True):
            share, lesson, seen = beta / len(rows), lessons[camera], torch.from_numpy(rows[camera])
            if lesson.logits is not None:
                parts[f"{camera}/logits"] = (share * settings.logits_weight) * kl_loss(
                    student=logit, teacher=lesson.logits[seen], temperature=settings.temperature
                )
            parts[f"{camera}/rows"] = (share * settings.rows_weight) * similarity_rows_loss(
                student=embedding, teacher=lesson.embedding[seen], temperature=settings.rows_temperature
            )
            parts[f"{camera}/tracklet"] = (share * settings.tracklet_weight) * triplet_loss(
                embeddings=embedding, labels=tracklets[camera][seen], margin=settings.margin
            )
        numbers = optimise(optimiser, parts, where="distillation", step=step)
        update_average(averaged, student, min(settings.ema, (step + 1) / (step + 10)))
        run.record("distil", step=step, beta=beta, **numbers)
        state.save(step + 1)
        progress("student", step + 1, settings.steps)
    state.finish()
    return averaged


def progressive_beta(start: float, end: float, progress: float) -> float:
    """beta = s * (f / s)^progress (P1, eq. 9; P2): from ``start`` at progress 0 to ``end`` at 1."""
    return float(start * (end / start) ** progress)


@torch.no_grad()
def update_average(averaged: Embedder, student: Embedder, decay: float) -> None:
    """Move ``averaged`` towards ``student``: weights and BatchNorm buffers alike."""
    current = student.state_dict()
    for name, value in averaged.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1.0 - decay)
        else:
            value.copy_(current[name])


def _tracklets(target: UnlabelledSet) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if target.tracklets is None:
        raise DataError(f"{target.domain}: got crops without tracklets, expected a crops.csv; harvest them from video")
    return target.tracklets
