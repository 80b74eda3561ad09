"""Staged distillation: one student learns from the frozen teachers of all cameras, one teacher at a time.

P3/P4 with the reference design's parts: source-identity beliefs as the class space that all cameras share,
similarity rows, pseudo-identities, the source's own labels, and a progressive balance between source and teachers.
KD-ReID itself (P4) is the same loop with ``matrix_weight`` alone, by SGD.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reid_mtda.data.augment import DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.data.batches import GroupSampler, Pictures, group_sampler, load_pictures
from reid_mtda.data.shuffle import ShuffledRows
from reid_mtda.errors import DataError
from reid_mtda.losses.distillation.logits import kl_loss
from reid_mtda.losses.distillation.similarity import similarity_matrix_loss, similarity_rows_loss
from reid_mtda.losses.identity import identity_loss, triplet_loss
from reid_mtda.models.embedder import Embedder, EmbedderOutput, joined_outputs
from reid_mtda.runs import Progress, Run, silent
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    BatchNormSets,
    Resumable,
    cosine_decay,
    frozen,
    optimise,
    pass_domains,
    recompute_batchnorm,
    seeded_step,
    set_learning_rate,
    trainable,
)
from reid_mtda.train.lessons import Lesson, Teaching, embed_targets
from reid_mtda.types import FloatArray, IntArray, LabelledSet, Preprocess, UnlabelledSet

log = logging.getLogger(__name__)

_FEWEST = 4
"""Crops of a camera in a batch below which its own BatchNorm statistics would be noise; they sit the step out."""


class DistilSettings(Strict):
    """L = (1 - beta) L_source + beta (w_identity triplets + mean_cameras(w_logits KD_logits + w_rows KD_rows))."""

    steps: int = Field(default=200, ge=1, description="optimiser steps; a batch is drawn over all cameras")
    source_identities: int = Field(default=8, ge=2, description="P of the source's P x K")
    target_identities: int = Field(default=16, ge=2, description="P of the targets' P x K, over all cameras")
    source_pictures: int = Field(default=4, ge=2, description="K of the source's P x K")
    target_pictures: int = Field(default=8, ge=2, description="K of the targets' P x K")
    cross_camera: bool = Field(
        default=True, description="join tracklets of different cameras that are mutual nearest neighbours"
    )
    camera_normalised: bool = Field(
        default=True, description="standardise embeddings by camera before identities are sought"
    )
    tracklets_are_identities: bool = Field(
        default=False, description="a number means one person in every camera: true of labels alone, the leak"
    )
    refresh: bool = Field(
        default=False, description="seek pseudo-identities anew with the averaged student, every checkpoint_every steps"
    )
    batchnorm: BatchNormSets = Field(
        default="shared", description="statistics of the whole batch, or of the source and of each camera on its own"
    )
    optimiser: Literal["adam", "sgd"] = Field(default="adam", description="sgd: momentum 0.9")
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0)
    beta_start: float = Field(default=0.3, gt=0, lt=1, description="share of the targets at the first step")
    beta_end: float = Field(default=0.9, gt=0, lt=1, description="share of the targets at the last step")
    temperature: float = Field(default=4.0, gt=0, description="of source-identity beliefs")
    rows_temperature: float = Field(default=0.2, gt=0, description="of similarity rows")
    source_weight: float = Field(
        default=1.0, ge=0, description="of identity and triplets on the source; 0: no source picture is seen"
    )
    logits_weight: float = Field(default=1.0, ge=0)
    rows_weight: float = Field(default=1.0, ge=0)
    matrix_weight: float = Field(default=0.0, ge=0, description="of KD-ReID's distance matrices (P4, eq. 4)")
    identity_weight: float = Field(default=1.0, ge=0, description="of triplets among pseudo-identities")
    recombined: int = Field(
        default=0, ge=0, description="crops made of two people of one camera, per camera, that its teacher sees too"
    )
    recombined_pictures: int = Field(default=32, ge=2, description="of them in a batch, over all cameras")
    strangers: Literal["camera", "all"] = Field(
        default="camera",
        description="where triplets seek negatives: the anchor's own camera (pseudo-identities of two cameras may be "
        "one person), or everywhere",
    )
    ema: float = Field(default=0.98, ge=0, lt=1, description="decay of the averaged student that is returned; 0: none")
    augmentation: tuple[str, ...] = DEFAULT_AUGMENTATION
    checkpoint_every: int = Field(default=50, ge=1)


def distil(
    student: Embedder,
    lessons: Mapping[str, Lesson],
    targets: Mapping[str, UnlabelledSet],
    source: LabelledSet | None,
    preprocess: Preprocess,
    settings: DistilSettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Distil ``lessons`` of all cameras into a copy of ``student``; the averaged weights after the last step are it.

    Without a ``source`` (only its weights are at hand, or its weight is 0) the student hears the teachers alone. With
    ``per_domain`` statistics the result carries those of all cameras' crops together; ``recompute_batchnorm`` gives
    it a camera's.

    Raises:
        DataError: no cameras, a lesson that is not of its camera's crops, or fewer than two identities in all crops.
        TrainingError: a loss that is not finite.
    """
    if not targets or lessons.keys() != targets.keys():
        raise DataError(f"distillation: got lessons of {sorted(lessons)} for cameras {sorted(targets)}, expected alike")
    teaching = Teaching.of(targets, lessons, shared_numbers=settings.tracklets_are_identities)
    of_target = load_pictures(teaching.paths, preprocess)
    from_source = None
    if source is not None and settings.source_weight:
        from_source = _Source.of(source, preprocess, settings, run)
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    student = trainable(copy.deepcopy(student))
    averaged = frozen(copy.deepcopy(student))
    optimiser = _optimiser(student, settings)
    state = Resumable(run, {"student": student, "averaged": averaged}, optimiser, settings.checkpoint_every)
    identities = taught = _identities(teaching, teaching.embeddings(), settings)
    pick_target = _target_sampler(identities, teaching, settings, run)
    extras = _Extra.of_all(lessons, preprocess, settings, run)

    for step in range(state.start(), settings.steps):
        if settings.refresh and step and step % settings.checkpoint_every == 0:
            own_statistics = settings.batchnorm == "per_domain"
            seen_now = embed_targets(averaged, of_target, teaching, own_statistics=own_statistics)
            identities = _identities(teaching, [seen_now], settings)
            if identities.max() < 1:
                log.warning(
                    "step %d: the student tells no two people apart; it goes on with its teachers' people", step
                )
                identities = taught
            pick_target = _target_sampler(identities, teaching, settings, run)
        done = step / settings.steps
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, done))
        beta = progressive_beta(settings.beta_start, settings.beta_end, done) if from_source else 1.0
        rows = _by_camera(pick_target.batch(step), teaching, settings)
        rows_t = np.concatenate(rows)
        rows_x = {name: extra.pick.batch(step) for name, extra in extras.items()}
        with seeded_step(run, step):
            units = [of_target.unit(part) for part in rows]
            units += [extras[name].pictures.unit(own) for name, own in rows_x.items()]
            if from_source:
                rows_s = from_source.pick.batch(step)
                units.insert(0, from_source.pictures.unit(rows_s))
            pictures = of_target.normalised(augment(torch.cat(units)))
            outputs = pass_domains(student, pictures, [len(unit) for unit in units], settings.batchnorm)
        out_s = outputs.pop(0) if from_source else None
        out_t, out_x = joined_outputs(outputs[: len(rows)]), outputs[len(rows) :]
        emb_t, logits_t = out_t.embedding, out_t.logits
        parts = {}
        if from_source and out_s:
            share, labels_s = (1 - beta) * settings.source_weight, from_source.labels[rows_s]
            if out_s.logits is not None:
                parts["source/identity"] = share * identity_loss(
                    logits=out_s.logits, labels=labels_s, smoothing=settings.smoothing
                )
            parts["source/triplet"] = share * triplet_loss(
                embeddings=out_s.embedding, labels=labels_s, margin=settings.margin
            )
        parts["target/triplet"] = (beta * settings.identity_weight) * triplet_loss(
            embeddings=emb_t,
            labels=torch.from_numpy(identities[rows_t]),
            margin=settings.margin,
            strangers_within=torch.from_numpy(teaching.camera[rows_t]) if settings.strangers == "camera" else None,
        )
        for space, (cameras, lesson) in teaching.spaces.items():  # each teacher in turn, on its own cameras' crops
            mine = np.flatnonzero(np.isin(teaching.target[rows_t], cameras))
            if len(mine) < 2:
                continue
            share, place = beta * len(cameras) / len(targets), torch.from_numpy(teaching.place[rows_t[mine]])
            heard, said = (
                [EmbedderOutput(emb_t[mine], None if logits_t is None else logits_t[mine])],
                [lesson.at(place)],
            )
            for (name, own), out in zip(rows_x.items(), out_x, strict=True):
                if teaching.names.index(name) in cameras:
                    heard.append(out)
                    said.append(extras[name].lesson.at(torch.from_numpy(own)))
            pupil, teacher = joined_outputs(heard), joined_outputs(said)
            if teacher.logits is not None and pupil.logits is not None:
                parts[f"{space}/logits"] = (share * settings.logits_weight) * kl_loss(
                    student=pupil.logits, teacher=teacher.logits, temperature=settings.temperature
                )
            parts[f"{space}/rows"] = (share * settings.rows_weight) * similarity_rows_loss(
                student=pupil.embedding, teacher=teacher.embedding, temperature=settings.rows_temperature
            )
            if settings.matrix_weight:
                parts[f"{space}/matrix"] = (share * settings.matrix_weight) * similarity_matrix_loss(
                    student=pupil.embedding, teacher=teacher.embedding
                )
        numbers = optimise(optimiser, parts, where="distillation", step=step)
        update_average(averaged, student, min(settings.ema, (step + 1) / (step + 10)))
        run.record("distil", step=step, beta=beta, **numbers)
        state.save(step + 1)
        progress("student", step + 1, settings.steps)
    if settings.batchnorm == "per_domain":
        recompute_batchnorm(averaged, of_target, seed=run.child_seed("batchnorm"))
    state.finish()
    return averaged


class _Source:
    """The labelled source's pictures, labels and sampler."""

    def __init__(self, pictures: Pictures, labels: Tensor, pick: GroupSampler) -> None:
        self.pictures, self.labels, self.pick = pictures, labels, pick

    @classmethod
    def of(cls, source: LabelledSet, preprocess: Preprocess, settings: DistilSettings, run: Run) -> _Source:
        pick = group_sampler(
            source.labels,
            p=settings.source_identities,
            k=settings.source_pictures,
            seed=run.child_seed("source"),
            where=source.domain,
        )
        return cls(load_pictures(source.paths, preprocess), torch.from_numpy(source.labels), pick)


@dataclass(frozen=True, eq=False)
class _Extra:
    """One target's recombined crops, what its teacher says of them, and which a step takes."""

    pictures: Pictures
    lesson: Lesson
    pick: ShuffledRows

    @classmethod
    def of_all(
        cls, lessons: Mapping[str, Lesson], preprocess: Preprocess, settings: DistilSettings, run: Run
    ) -> dict[str, _Extra]:
        """By target; none for a target whose lesson has none."""
        share = max(2, settings.recombined_pictures // len(lessons))
        found = {}
        for name, lesson in lessons.items():
            extra = lesson.parted()[1]
            if len(extra.recombined):
                pick = ShuffledRows(len(extra.recombined), share, run.child_seed(f"recombined {name}"))
                found[name] = cls(Pictures(extra.recombined, preprocess), extra, pick)
        return found


def _identities(teaching: Teaching, spaces: Sequence[Mapping[str, FloatArray]], settings: DistilSettings) -> IntArray:
    if settings.tracklets_are_identities:
        found = teaching.tracklets
    else:
        found = teaching.pseudo_identities(
            spaces, cross_camera=settings.cross_camera, normalised=settings.camera_normalised
        )
    for number, name in enumerate(teaching.names):
        if not (found[teaching.target == number] >= 0).any():
            log.warning("%s: none of its crops belongs to a person found; its teacher is not heard", name)
    return found


def _target_sampler(identities: IntArray, teaching: Teaching, settings: DistilSettings, run: Run) -> GroupSampler:
    return group_sampler(
        identities,
        p=settings.target_identities,
        k=settings.target_pictures,
        seed=run.child_seed("target"),
        where=", ".join(teaching.names),
    )


def _by_camera(rows: IntArray, teaching: Teaching, settings: DistilSettings) -> list[IntArray]:
    """The batch as it is forwarded: whole, or a part for each camera that has enough crops in it."""
    if settings.batchnorm == "shared":
        return [rows]
    parts = [rows[teaching.target[rows] == number] for number in range(len(teaching.names))]
    return [part for part in parts if len(part) >= _FEWEST] or [rows]


def _optimiser(student: Embedder, settings: DistilSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "sgd":
        return torch.optim.SGD(student.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    return torch.optim.Adam(student.parameters(), lr=rate, weight_decay=decay)


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
