"""The parts of distillation's loss: what the source, the people found and each camera's teacher ask of the student."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from reid_mtda.losses.distillation.similarity import similarity_rows_loss
from reid_mtda.losses.distillation.soft_targets import soft_target_loss
from reid_mtda.losses.identity import identity_loss, triplet_loss
from reid_mtda.models.embedder import EmbedderOutput, joined_outputs
from reid_mtda.train.distil_batches import Batch, PartMixBatches
from reid_mtda.train.distil_objectives import ObjectiveCalls
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.prototypes import Prototypes
from reid_mtda.train.teacher_outputs import TargetPool
from reid_mtda.types import IntArray


def source_parts(output: EmbedderOutput, labels: Tensor, settings: DistilSettings, share: float) -> dict[str, Tensor]:
    """Weigh identity loss and triplets on the source's crops (B,) by ``share`` of the source.

    Args:
        output: the student's of these crops (B,).
        labels: (B,) classes of the source's pictures.
        settings: weights and steps.
        share: of the whole loss.
    """
    parts = {}
    weight = share * settings.source_weight
    if output.logits is not None:
        parts["source/identity"] = weight * identity_loss(
            logits=output.logits, labels=labels, smoothing=settings.smoothing
        )
    parts["source/triplet"] = weight * triplet_loss(embeddings=output.embedding, labels=labels, margin=settings.margin)
    return parts


def people_parts(
    output: EmbedderOutput,
    rows: IntArray,
    pool: TargetPool,
    identities: IntArray,
    prototypes: Prototypes | None,
    settings: DistilSettings,
    share: float,
) -> dict[str, Tensor]:
    """Weigh what pseudo-identities ask of the target crops ``rows`` (B,) by ``share`` of the targets.

    Triplets among them and, where wanted, InfoNCE to the student's centroids of people.

    Args:
        output: the student's of these crops (B,).
        rows: (B,) numbers of the crops in the pool.
        pool: all targets' crops and what teachers say of them.
        identities: (N,) pseudo-identity of each crop, -1 for none.
        prototypes: centroids of people; None: there are none.
        settings: weights and steps.
        share: of the whole loss.
    """
    embeddings = output.embedding
    parts = {
        "target/triplet": (share * settings.identity_weight)
        * triplet_loss(
            embeddings=embeddings,
            labels=torch.from_numpy(identities[rows]).to(embeddings.device),
            margin=settings.margin,
            negative_mask=negative_mask(pool, rows, settings, embeddings.device),
        )
    }
    if prototypes and settings.memory_weight:
        within = pool.camera[rows] if settings.negatives != "all" else None
        parts["target/memory"] = (share * settings.memory_weight) * prototypes.memory_loss(
            embeddings, rows, temperature=settings.memory_temperature, cameras=within
        )
    return parts


def negative_mask(pool: TargetPool, rows: IntArray, settings: DistilSettings, device: torch.device) -> Tensor | None:
    """Which pairs of crops bool (B, B) may be negatives of each other; None: all.

    Args:
        pool: all targets' crops and what teachers say of them.
        rows: (B,) numbers of the crops in the pool.
        settings: weights and steps.
        device: where the result is wanted.
    """
    if settings.negatives == "all":
        return None
    camera, spans = pool.camera[rows], pool.spans[rows]
    allowed = camera[:, None] == camera[None, :]
    if settings.negatives == "simultaneous":
        allowed &= (spans[:, None, 0] <= spans[None, :, 1]) & (spans[None, :, 0] <= spans[:, None, 1])
    return torch.from_numpy(allowed).to(device)


def teacher_parts(
    output: EmbedderOutput,
    mixed: Mapping[str, EmbedderOutput],
    batch: Batch,
    pool: TargetPool,
    part_mixes: Mapping[str, PartMixBatches],
    prototypes: Prototypes | None,
    objectives: ObjectiveCalls,
    settings: DistilSettings,
    share: float,
) -> dict[str, Tensor]:
    """Weigh what each teacher says of its own cameras' crops, one teacher after the other.

    Args:
        output: the student's of the crops ``batch.rows`` (B,).
        mixed: the student's of the part-mixed crops ``batch.mixed``, by target.
        batch: which crops these are.
        pool: all targets' crops and what teachers say of them.
        part_mixes: what teachers say of part-mixed crops, by target.
        prototypes: centroids of people, or None.
        objectives: further objectives, and what is known of the crops.
        settings: the weights of the built-in ones.
        share: of the targets; teachers get theirs by how many cameras of those that joined are theirs.
    """
    parts: dict[str, Tensor] = {}
    device = output.embedding.device
    for space, (cameras, teacher_output) in pool.spaces.items():
        mine = np.flatnonzero(np.isin(pool.target[batch.rows], cameras))
        if len(mine) < 2:
            continue
        own = share * len(np.intersect1d(cameras, batch.joined)) / len(batch.joined)
        taught = teacher_output.at(torch.from_numpy(pool.place[batch.rows[mine]])).to(device)
        student = output.at(torch.from_numpy(mine).to(device))
        if prototypes and settings.prototype_weight:
            logits = prototypes.logits(space, student.embedding, taught.embedding, settings.memory_temperature)
            parts[f"{space}/prototypes"] = (own * settings.prototype_weight) * soft_target_loss(
                student=logits[0], teacher=logits[1], temperature=settings.temperature
            )
        extra = [name for name in mixed if pool.names.index(name) in cameras]
        said = [part_mixes[n].teacher_output.at(torch.from_numpy(batch.mixed[n])).to(device) for n in extra]
        student, teacher = joined_outputs([student, *(mixed[n] for n in extra)]), joined_outputs([taught, *said])
        if teacher.logits is not None and student.logits is not None:
            parts[f"{space}/logits"] = (own * settings.logits_weight) * soft_target_loss(
                student=student.logits, teacher=teacher.logits, temperature=settings.temperature
            )
        parts[f"{space}/rows"] = (own * settings.rows_weight) * similarity_rows_loss(
            student=student.embedding, teacher=teacher.embedding, temperature=settings.rows_temperature
        )
        parts |= objectives.of_teacher(space, student, teacher, batch, mine, extra, own)
    return parts | objectives.of_all(output, batch, share)
