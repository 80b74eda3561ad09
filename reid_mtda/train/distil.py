"""Staged distillation: one student learns from the frozen teachers of all cameras, one teacher at a time.

P3/P4 with the reference design's parts: source-identity beliefs as the class space that all cameras share,
similarity rows, the source's own labels, and a progressive balance between source and teachers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reid_mtda.data.augment import DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.data.batches import group_sampler, load_pictures
from reid_mtda.data.identities import match_cameras
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
    trainable,
)
from reid_mtda.types import IntArray, LabelledSet, Preprocess, UnlabelledSet


class DistilSettings(Strict):
    """L = (1 - beta) L_source + beta (w_identity triplets + mean_cameras(w_logits KD_logits + w_rows KD_rows))."""

    steps: int = Field(default=200, ge=1, description="optimiser steps; every camera is heard in each")
    source_identities: int = Field(default=8, ge=2, description="P of the source's P x K")
    target_identities: int = Field(default=16, ge=2, description="P of the targets' P x K, over all cameras")
    source_pictures: int = Field(default=4, ge=2, description="K of the source's P x K")
    target_pictures: int = Field(default=8, ge=2, description="K of the targets' P x K")
    cross_camera: bool = Field(
        default=True, description="join tracklets of different cameras that are mutual nearest neighbours"
    )
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0)
    beta_start: float = Field(default=0.3, gt=0, lt=1, description="share of the targets at the first step")
    beta_end: float = Field(default=0.9, gt=0, lt=1, description="share of the targets at the last step")
    temperature: float = Field(default=4.0, gt=0, description="of source-identity beliefs")
    rows_temperature: float = Field(default=0.2, gt=0, description="of similarity rows")
    logits_weight: float = Field(default=1.0, ge=0)
    rows_weight: float = Field(default=1.0, ge=0)
    identity_weight: float = Field(default=1.0, ge=0, description="of triplets among tracklets or joined tracklets")
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
    crops = _Crops.of(targets, lessons, settings)
    of_source = load_pictures(source.paths, preprocess)
    of_target = load_pictures(crops.paths, preprocess)
    pick_source = group_sampler(
        source.labels,
        p=settings.source_identities,
        k=settings.source_pictures,
        seed=run.child_seed("source"),
        where=source.domain,
    )
    pick_target = group_sampler(
        crops.identities,
        p=settings.target_identities,
        k=settings.target_pictures,
        seed=run.child_seed("target"),
        where=", ".join(targets),
    )
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    labels = torch.from_numpy(source.labels)
    identities, cameras = torch.from_numpy(crops.identities), torch.from_numpy(crops.cameras)
    averaged = frozen(copy.deepcopy(trainable(student)))
    optimiser = torch.optim.Adam(student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    state = Resumable(run, {"student": student, "averaged": averaged}, optimiser, settings.checkpoint_every)

    for step in range(state.start(), settings.steps):
        done = step / settings.steps
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, done))
        beta = progressive_beta(settings.beta_start, settings.beta_end, done)
        rows_s, rows_t = pick_source.batch(step), pick_target.batch(step)
        with seeded_step(run, step):
            units = torch.cat([of_source.unit(rows_s), of_target.unit(rows_t)])
            output = student(of_source.normalised(augment(units)))
        emb_s, emb_t = output.embedding.split([len(rows_s), len(rows_t)])
        logits_s, logits_t = output.logits.split([len(rows_s), len(rows_t)])
        parts = {
            "source/identity": (1 - beta)
            * identity_loss(logits=logits_s, labels=labels[rows_s], smoothing=settings.smoothing),
            "source/triplet": (1 - beta)
            * triplet_loss(embeddings=emb_s, labels=labels[rows_s], margin=settings.margin),
            "target/triplet": (beta * settings.identity_weight)
            * triplet_loss(
                embeddings=emb_t, labels=identities[rows_t], margin=settings.margin, strangers_within=cameras[rows_t]
            ),
        }
        for camera, (first, lesson) in crops.lessons.items():  # each teacher in turn, on its own camera's crops
            mine = np.flatnonzero(crops.cameras[rows_t] == first)
            if len(mine) < 2:
                continue
            share, seen = beta / len(lessons), torch.from_numpy(rows_t[mine] - first)
            if lesson.logits is not None:
                parts[f"{camera}/logits"] = (share * settings.logits_weight) * kl_loss(
                    student=logits_t[mine], teacher=lesson.logits[seen], temperature=settings.temperature
                )
            parts[f"{camera}/rows"] = (share * settings.rows_weight) * similarity_rows_loss(
                student=emb_t[mine], teacher=lesson.embedding[seen], temperature=settings.rows_temperature
            )
        numbers = optimise(optimiser, parts, where="distillation", step=step)
        update_average(averaged, student, min(settings.ema, (step + 1) / (step + 10)))
        run.record("distil", step=step, beta=beta, **numbers)
        state.save(step + 1)
        progress("student", step + 1, settings.steps)
    state.finish()
    return averaged


@dataclass(frozen=True, eq=False)
class _Crops:
    """The crops of all cameras in one row of numbers: camera after camera.

    ``cameras`` (N,) holds the number of each camera's first crop, ``identities`` (N,) pseudo-identities; ``lessons``
    gives per camera its first crop's number and its teacher's lesson.
    """

    paths: tuple[Path, ...]
    cameras: IntArray
    identities: IntArray
    lessons: dict[str, tuple[int, Lesson]]

    @classmethod
    def of(
        cls, targets: Mapping[str, UnlabelledSet], lessons: Mapping[str, Lesson], settings: DistilSettings
    ) -> _Crops:
        first = dict(zip(targets, np.cumsum([0, *map(len, targets.values())]).tolist(), strict=False))
        tracklets = {camera: _tracklets(target) for camera, target in targets.items()}
        if settings.cross_camera:
            identities = match_cameras({c: lessons[c].embedding.numpy() for c in targets}, tracklets)
        else:
            identities = {c: np.where(own >= 0, own + first[c], -1) for c, own in _numbered(tracklets).items()}
        return cls(
            paths=tuple(path for target in targets.values() for path in target.paths),
            cameras=np.concatenate([np.full(len(target), first[c]) for c, target in targets.items()]),
            identities=np.concatenate([identities[c] for c in targets]).astype(np.int64),
            lessons={camera: (first[camera], lessons[camera]) for camera in targets},
        )


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


def _tracklets(target: UnlabelledSet) -> IntArray:
    if target.tracklets is None:
        raise DataError(f"{target.domain}: got crops without tracklets, expected a crops.csv; harvest them from video")
    return target.tracklets


def _numbered(tracklets: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """Tracklets of each camera as numbers 0.. smaller than its count of crops; -1 stays."""
    numbered = {}
    for camera, own in tracklets.items():
        names, places = np.unique(own, return_inverse=True)
        numbered[camera] = np.where(own >= 0, places - int((names < 0).sum()), -1)
    return numbered
