"""Distillation: one student learns from the frozen teachers of all cameras, one teacher at a time.

P3/P4 with the reference design's parts: source-identity soft targets as the class space that all cameras share,
similarity rows, pseudo-identities, the source's own labels, and a progressive balance between source and teachers.
The parts are functions of ``distil_losses``; what a step draws is in ``distil_batches``. KD-ReID's own loop is
``kd_reid``.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from reid_mtda.data.augment import build_augmentation
from reid_mtda.data.batches import Pictures, load_pictures
from reid_mtda.errors import DataError
from reid_mtda.models.device import on_host
from reid_mtda.models.embedder import Embedder, EmbedderOutput, joined_outputs
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.train.common import (
    cosine_decay,
    frozen,
    geometric_ramp,
    optimise,
    pass_domains,
    recompute_batchnorm,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
    trainable,
    update_average,
)
from reid_mtda.train.distil_batches import Batch, PartMixBatches, SourceBatches, TargetBatches, joining_steps
from reid_mtda.train.distil_losses import people_parts, source_parts, teacher_parts
from reid_mtda.train.distil_objectives import ObjectiveCalls
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.objectives.objective import AskedObjective
from reid_mtda.train.prototypes import Prototypes
from reid_mtda.train.pruning import pruned
from reid_mtda.train.resume import Resumable
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs, check_names, embed_targets
from reid_mtda.types import IntArray, LabelledSet, Preprocess, UnlabelledSet

log = logging.getLogger(__name__)


@telling_what_fits("target_identities")
def distil(
    student: Embedder,
    teacher_outputs: Mapping[str, TeacherOutputs],
    targets: Mapping[str, UnlabelledSet],
    source: LabelledSet | None,
    preprocess: Preprocess,
    settings: DistilSettings,
    run: Run,
    progress: Progress = silent,
    *,
    objectives: Mapping[str, AskedObjective] | None = None,
    source_logits: Tensor | None = None,
) -> Embedder:
    """Distil the teachers of all cameras into a copy of ``student``; its averaged last weights are the result.

    With ``per_domain`` statistics the result carries those of all cameras' crops together; ``recompute_batchnorm``
    gives it a camera's.

    Args:
        student: where training starts; it stays as it is.
        teacher_outputs: for each camera what its teacher says of its crops: embeddings (N_i, D_t) of length 1 and,
            of an adapted teacher, logits (N_i, C) over the source's identities; on the CPU.
        targets: the cameras' unlabelled crops, by the same names.
        source: labelled crops; None, or a weight of 0: the teachers alone teach.
        preprocess: size and colours of the student's input.
        settings: weights of the parts, steps and batches.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.
        objectives: further objectives by name, as ``find_objectives`` gives them.
        source_logits: the teachers' mean (N, C) for the source's crops, where an objective asks for it; on the CPU.

    Returns:
        The distilled copy on the CPU, in eval mode and frozen.

    Raises:
        DataError: no cameras, a teacher output that is not of its camera's crops, or fewer than two identities.
        TrainingError: a loss that is not finite or not one number, or a device with too little memory for a batch.

    Reference:
        P3 and P4 for one teacher at a time and the balance of source and teachers (P1, eq. 9); Hinton et al. 2015 for
        soft targets; Tung & Mori 2019 for similarity rows; Hermans et al. 2017 for triplets.
    """
    check_names(teacher_outputs, targets)
    targets, teacher_outputs = pruned(targets, teacher_outputs, share=settings.keep_share, run=run)
    pool = TargetPool.of(targets, teacher_outputs, shared_numbers=settings.tracklets_are_identities)
    if settings.negatives == "simultaneous" and not np.isfinite(pool.spans).any():
        raise DataError(
            "distillation: negatives: simultaneous needs to know when tracklets were in view, and no crop says so; "
            "harvest footage, or use negatives: camera"
        )
    of_target, from_source = load_pictures(pool.paths, preprocess), None
    if source is not None and settings.source_weight:
        p, k = settings.source_identities, settings.source_pictures
        from_source = SourceBatches.of(source, preprocess, p=p, k=k, run=run)
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    student = trainable(copy.deepcopy(student), run.compute)
    averaged = frozen(copy.deepcopy(student))
    batches = _target_batches(averaged, from_source, of_target, teacher_outputs, pool, settings, run)
    calls = ObjectiveCalls.of(
        objectives or {},
        averaged,
        of_target,
        pool,
        batches.identities,
        batches.part_mixes,
        run,
        source_logits if from_source else None,
        from_source.labels.cpu() if from_source else None,
    )
    learning = [*student.parameters(), *calls.applied.parameters()]
    optimiser = torch.optim.Adam(learning, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    prototypes = _prototypes(averaged, of_target, pool, batches.identities, settings)
    networks: dict[str, nn.Module] = {"student": student, "averaged": averaged} | (
        {"memory": prototypes.memory} if prototypes else {}
    )
    networks |= calls.applied.networks()
    state = Resumable(run, networks, {"student": optimiser}, settings.checkpoint_seconds)
    sees = functools.partial(student, wants_maps=True) if calls.wants_maps else student

    for step in range(state.start(), settings.steps):
        done = step / settings.steps
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, done))
        beta = geometric_ramp(settings.beta_start, settings.beta_end, done) if from_source else 1.0
        batch = batches.draw(step)
        with seeded_step(run, step):
            out_s, out_t, out_x = _pass(sees, from_source, of_target, batches, batch, augment, step)
        parts: dict[str, Tensor] = {}
        if from_source and out_s:
            rows = from_source.pick.batch(step)
            parts |= source_parts(out_s, from_source.labels[rows], settings, 1 - beta)
            parts |= calls.of_source(out_s, rows, from_source.labels[rows], (1 - beta) * settings.source_weight, done)
        parts |= people_parts(out_t, batch.rows, pool, batches.identities, prototypes, settings, beta)
        with seeded_step(run, step):
            told = dataclasses.replace(calls, progress=done)
            parts |= teacher_parts(out_t, out_x, batch, pool, batches.part_mixes, prototypes, told, settings, beta)
        numbers = optimise(optimiser, parts, where="distillation", step=step)
        if prototypes:
            prototypes.follow(out_t.embedding, batch.rows, momentum=settings.memory_momentum)
        update_average(averaged, student, min(settings.ema, (step + 1) / (step + 10)))
        run.record("distil", step=step, beta=beta, **numbers)
        state.save(step + 1)
        progress("student", step + 1, settings.steps)
    if settings.batchnorm == "per_domain":
        recompute_batchnorm(averaged, of_target, seed=run.child_seed("batchnorm"))
    state.finish()
    return on_host(averaged)


def _pass(
    student: Callable[[Tensor], EmbedderOutput],
    source: SourceBatches | None,
    of_target: Pictures,
    batches: TargetBatches,
    batch: Batch,
    augment: nn.Module,
    step: int,
) -> tuple[EmbedderOutput | None, EmbedderOutput, dict[str, EmbedderOutput]]:
    """Pass a step's pictures through the student: outputs of the source, of the targets, of part-mixed crops."""
    device = torch.device(batches.run.compute.device)
    units = [of_target.unit(part, device) for part in batch.parts]
    units += [batches.part_mixes[name].pictures.unit(own, device) for name, own in batch.mixed.items()]
    if source:
        units.insert(0, source.pictures.unit(source.pick.batch(step), device))
    pictures = of_target.normalised(augment(torch.cat(units)))
    outputs = pass_domains(student, pictures, [len(unit) for unit in units], batches.settings.batchnorm)
    out_s = outputs.pop(0) if source else None
    count = len(batch.parts)
    return out_s, joined_outputs(outputs[:count]), dict(zip(batch.mixed, outputs[count:], strict=True))


def _target_batches(
    student: Embedder,
    source: SourceBatches | None,
    of_target: Pictures,
    teacher_outputs: Mapping[str, TeacherOutputs],
    pool: TargetPool,
    settings: DistilSettings,
    run: Run,
) -> TargetBatches:
    last = int(settings.steps * settings.easy_first)
    joins = joining_steps(student, source, of_target, pool, last=last, rng=run.rng("easy first"))
    of_each = max(2, settings.part_mixed_pictures // len(teacher_outputs))
    mixes = PartMixBatches.of_all(teacher_outputs, of_target.preprocess, of_each=of_each, run=run)
    return TargetBatches(pool, find_people(pool, settings), joins, mixes, settings, run)


def find_people(pool: TargetPool, settings: DistilSettings) -> IntArray:
    """Seek pseudo-identities int64 (N,) of all targets' crops, -1: nobody; a camera without any is told in the log."""
    if settings.tracklets_are_identities:
        found = pool.tracklets
    else:
        found = pool.pseudo_identities(
            pool.embeddings(),
            cross_camera=settings.cross_camera,
            normalised=settings.camera_normalised,
            negative_quantile=settings.negative_quantile,
        )
    for number, name in enumerate(pool.names):
        if not (found[pool.target == number] >= 0).any():
            log.warning("%s: none of its crops belongs to a person found; its teacher is left out", name)
    return found


def _prototypes(
    model: Embedder, pictures: Pictures, pool: TargetPool, identities: IntArray, settings: DistilSettings
) -> Prototypes | None:
    """The centroids of ``identities`` as ``model`` sees them now; None where no loss asks for them."""
    if not (settings.prototype_weight or settings.memory_weight):
        return None
    seen = embed_targets(model, pictures, pool, own_statistics=settings.batchnorm == "per_domain")
    return Prototypes.of(pool, identities, np.concatenate(list(seen.values())), next(model.parameters()).device)
