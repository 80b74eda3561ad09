"""Staged distillation: one student learns from the frozen teachers of all cameras, one teacher at a time.

P3/P4 with the reference design's parts: source-identity soft targets as the class space that all cameras share,
similarity rows, pseudo-identities, the source's own labels, and a progressive balance between source and teachers.
KD-ReID itself (P4) is the same loop with ``matrix_weight`` alone, by SGD.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from reid_mtda.data.augment import build_augmentation
from reid_mtda.data.batches import Pictures, PKSampler, load_pictures, pk_sampler
from reid_mtda.data.pseudo_labels import NOISE
from reid_mtda.errors import DataError
from reid_mtda.losses.distillation.logits import kl_loss
from reid_mtda.losses.distillation.similarity import similarity_matrix_loss, similarity_rows_loss
from reid_mtda.losses.identity import identity_loss, triplet_loss
from reid_mtda.models.embedder import Embedder, EmbedderOutput, joined_outputs
from reid_mtda.runs import Progress, Run, silent
from reid_mtda.train.common import (
    Kept,
    Resumable,
    cosine_decay,
    frozen,
    optimise,
    pass_domains,
    recompute_batchnorm,
    seeded_step,
    set_learning_rate,
    trainable,
    update_average,
)
from reid_mtda.train.curriculum import cameras_joined, joining_steps
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.draws import PartMixes, SourcePeople
from reid_mtda.train.prototypes import Prototypes
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs, embed_targets
from reid_mtda.types import FloatArray, IntArray, LabelledSet, Preprocess, UnlabelledSet

log = logging.getLogger(__name__)

_FEWEST = 4
"""Crops of a camera in a batch below which its own BatchNorm statistics would be noise; they sit the step out."""


def distil(
    student: Embedder,
    teacher_outputs: Mapping[str, TeacherOutputs],
    targets: Mapping[str, UnlabelledSet],
    source: LabelledSet | None,
    preprocess: Preprocess,
    settings: DistilSettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Distil ``teacher_outputs`` of all cameras into a copy of ``student``; return its averaged last weights.

    Without a ``source`` (only its weights are at hand, or its weight is 0) the teachers alone teach. With
    ``per_domain`` statistics the result carries those of all cameras' crops together; ``recompute_batchnorm`` gives
    it a camera's.

    Raises:
        DataError: no cameras, a teacher output that is not of its camera's crops, or fewer than two identities.
        TrainingError: a loss that is not finite.
    """
    if not targets or teacher_outputs.keys() != targets.keys():
        raise DataError(
            f"distillation: got teacher outputs of {sorted(teacher_outputs)} for cameras {sorted(targets)}, "
            "expected the same names"
        )
    pool = TargetPool.of(targets, teacher_outputs, shared_numbers=settings.tracklets_are_identities)
    if settings.negatives == "simultaneous" and not np.isfinite(pool.spans).any():
        raise DataError(
            "distillation: negatives: simultaneous needs to know when tracklets were in view, and no crop says so; "
            "harvest footage, or use negatives: camera"
        )
    of_target = load_pictures(pool.paths, preprocess)
    from_source = None
    if source is not None and settings.source_weight:
        p, k = settings.source_identities, settings.source_pictures
        from_source = SourcePeople.of(source, preprocess, p=p, k=k, seed=run.child_seed("source"))
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    last = int(settings.steps * settings.easy_first)
    joins = joining_steps(student, from_source, of_target, pool, last=last, rng=run.rng("easy first"))
    student = trainable(copy.deepcopy(student))
    averaged = frozen(copy.deepcopy(student))
    optimiser = _optimiser(student, settings)
    identities = taught = _identities(pool, pool.embeddings(), settings)
    prototypes = _prototypes(student, of_target, pool, identities, settings)
    networks = {"student": student, "averaged": averaged} | ({"memory": prototypes.memory} if prototypes else {})
    state = Resumable(run, networks, optimiser, settings.checkpoint_every)
    pick_target: tuple[PKSampler, ...] = ()
    extras = PartMixes.of_all(
        teacher_outputs, preprocess, of_each=max(2, settings.part_mixed_pictures // len(teacher_outputs)), run=run
    )

    for step in range(state.start(), settings.steps):
        if settings.refresh and step and step % settings.checkpoint_every == 0:
            own_statistics = settings.batchnorm == "per_domain"
            seen_now = embed_targets(averaged, of_target, pool, own_statistics=own_statistics)
            identities, pick_target = _identities(pool, [seen_now], settings), ()
            if identities.max() < 1:
                log.warning(
                    "step %d: the student tells no two people apart; it goes on with its teachers' people", step
                )
                identities = taught
            if prototypes:
                prototypes = _prototypes(averaged, of_target, pool, identities, settings, prototypes.memory)
        if not pick_target or step in joins:
            joined = cameras_joined(joins, step, identities, pool)
            there = np.isin(pool.target, joined)
            pick_target = _target_samplers(np.where(there, identities, NOISE), pool, settings, run)
        done = step / settings.steps
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, done))
        beta = progressive_beta(settings.beta_start, settings.beta_end, done) if from_source else 1.0
        rows = _by_camera(np.concatenate([pick.batch(step) for pick in pick_target]), pool, settings)
        rows_t = np.concatenate(rows)
        present = {pool.names[number] for number in joined}
        rows_x = {name: extra.pick.batch(step) for name, extra in extras.items() if name in present}
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
            negative_mask=_negative_mask(pool, rows_t, settings),
        )
        if prototypes and settings.memory_weight:
            within = pool.camera[rows_t] if settings.negatives != "all" else None
            parts["target/memory"] = (beta * settings.memory_weight) * prototypes.memory_loss(
                emb_t, rows_t, temperature=settings.memory_temperature, cameras=within
            )
        for space, (cameras, teacher_output) in pool.spaces.items():  # each teacher in turn, on its own cameras' crops
            mine = np.flatnonzero(np.isin(pool.target[rows_t], cameras))
            if len(mine) < 2:
                continue
            share = beta * len(np.intersect1d(cameras, joined)) / len(joined)
            place = torch.from_numpy(pool.place[rows_t[mine]])
            student_parts, teacher_parts = (
                [EmbedderOutput(emb_t[mine], None if logits_t is None else logits_t[mine])],
                [teacher_output.at(place)],
            )
            if prototypes and settings.prototype_weight:
                logits = prototypes.logits(
                    space, emb_t[mine], teacher_output.embedding[place], settings.memory_temperature
                )
                parts[f"{space}/prototypes"] = (share * settings.prototype_weight) * kl_loss(
                    student=logits[0], teacher=logits[1], temperature=settings.temperature
                )
            for (name, own), out in zip(rows_x.items(), out_x, strict=True):
                if pool.names.index(name) in cameras:
                    student_parts.append(out)
                    teacher_parts.append(extras[name].teacher_output.at(torch.from_numpy(own)))
            student_output, teacher = joined_outputs(student_parts), joined_outputs(teacher_parts)
            if teacher.logits is not None and student_output.logits is not None:
                parts[f"{space}/logits"] = (share * settings.logits_weight) * kl_loss(
                    student=student_output.logits, teacher=teacher.logits, temperature=settings.temperature
                )
            parts[f"{space}/rows"] = (share * settings.rows_weight) * similarity_rows_loss(
                student=student_output.embedding, teacher=teacher.embedding, temperature=settings.rows_temperature
            )
            if settings.matrix_weight:
                parts[f"{space}/matrix"] = (share * settings.matrix_weight) * similarity_matrix_loss(
                    student=student_output.embedding, teacher=teacher.embedding
                )
        numbers = optimise(optimiser, parts, where="distillation", step=step)
        if prototypes:
            prototypes.follow(emb_t, rows_t, momentum=settings.memory_momentum)
        update_average(averaged, student, min(settings.ema, (step + 1) / (step + 10)))
        run.record("distil", step=step, beta=beta, **numbers)
        state.save(step + 1)
        progress("student", step + 1, settings.steps)
    if settings.batchnorm == "per_domain":
        recompute_batchnorm(averaged, of_target, seed=run.child_seed("batchnorm"))
    state.finish()
    return averaged


def _identities(pool: TargetPool, spaces: Sequence[Mapping[str, FloatArray]], settings: DistilSettings) -> IntArray:
    if settings.tracklets_are_identities:
        found = pool.tracklets
    else:
        found = pool.pseudo_identities(
            spaces, cross_camera=settings.cross_camera, normalised=settings.camera_normalised
        )
    for number, name in enumerate(pool.names):
        if not (found[pool.target == number] >= 0).any():
            log.warning("%s: none of its crops belongs to a person found; its teacher is left out", name)
    return found


def _target_samplers(
    identities: IntArray, pool: TargetPool, settings: DistilSettings, run: Run
) -> tuple[PKSampler, ...]:
    """One over all people, or one for each camera that has two people or more."""
    seed, p, k = run.child_seed("target"), settings.target_identities, settings.target_pictures
    if settings.batches == "per_camera":
        samplers = []
        for camera in range(int(pool.camera.max()) + 1):
            own = np.where(pool.camera == camera, identities, NOISE)
            people = len(np.unique(own[own >= 0]))
            if people == 1:
                log.warning("batches per camera: one camera shows one person alone, who is in no batch")
            if people > 1:
                shared_out = max(2, p // (int(pool.camera.max()) + 1))
                samplers.append(pk_sampler(own, p=shared_out, k=k, seed=seed + camera, where="target"))
        if samplers:
            return tuple(samplers)
    return (pk_sampler(identities, p=p, k=k, seed=seed, where=", ".join(pool.names)),)


def _negative_mask(pool: TargetPool, rows: IntArray, settings: DistilSettings) -> Tensor | None:
    """Which pairs of crops (B, B) may be negatives of each other; None: all."""
    if settings.negatives == "all":
        return None
    camera, spans = pool.camera[rows], pool.spans[rows]
    allowed = camera[:, None] == camera[None, :]
    if settings.negatives == "simultaneous":
        allowed &= (spans[:, None, 0] <= spans[None, :, 1]) & (spans[None, :, 0] <= spans[:, None, 1])
    return torch.from_numpy(allowed)


def _prototypes(
    model: Embedder,
    pictures: Pictures,
    pool: TargetPool,
    identities: IntArray,
    settings: DistilSettings,
    memory: Kept | None = None,
) -> Prototypes | None:
    """The centroids of ``identities`` as ``model`` sees them now; None where no loss asks for them."""
    if not (settings.prototype_weight or settings.memory_weight):
        return None
    seen = embed_targets(model, pictures, pool, own_statistics=settings.batchnorm == "per_domain")
    return Prototypes.of(pool, identities, np.concatenate(list(seen.values())), memory)


def _by_camera(rows: IntArray, pool: TargetPool, settings: DistilSettings) -> list[IntArray]:
    """The batch as it is forwarded: whole, or a part for each camera that has enough crops in it."""
    if settings.batchnorm == "shared":
        return [rows]
    parts = [rows[pool.target[rows] == number] for number in range(len(pool.names))]
    return [part for part in parts if len(part) >= _FEWEST] or [rows]


def _optimiser(student: Embedder, settings: DistilSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "sgd":
        return torch.optim.SGD(student.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    return torch.optim.Adam(student.parameters(), lr=rate, weight_decay=decay)


def progressive_beta(start: float, end: float, progress: float) -> float:
    """beta = s * (f / s)^progress (P1, eq. 9; P2): from ``start`` at progress 0 to ``end`` at 1."""
    return float(start * (end / start) ** progress)
