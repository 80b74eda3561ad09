"""KD-ReID: a student learns its teachers' distance matrices of each target's crops, and nothing else.

P4, *Knowledge Distillation for Multi-Target Domain Adaptation in Real-Time Person Re-Identification*: the baseline
that ``distil`` is compared with. It departs from the paper where nobody has labels: people are found, not known.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field

from reid_mtda.data.augment import DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.data.batches import load_pictures
from reid_mtda.data.pseudo_labels import NOISE
from reid_mtda.data.samplers import PKSampler, pk_sampler
from reid_mtda.errors import DataError
from reid_mtda.losses.distillation.similarity import similarity_matrix_loss
from reid_mtda.models.device import on_host
from reid_mtda.models.embedder import Embedder
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    cosine_decay,
    optimise,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
    trainable,
)
from reid_mtda.train.resume import CHECKPOINT_SECONDS, Resumable
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs, check_names
from reid_mtda.types import IntArray, Preprocess, UnlabelledSet

log = logging.getLogger(__name__)


class KdReidSettings(Strict):
    """L = mean over teachers of ||A_teacher - A_student||_F, by SGD with momentum 0.9 and a cosine."""

    steps: int = Field(default=200, ge=1, description="optimiser steps; a batch is drawn of each camera")
    target_identities: int = Field(default=16, ge=2, description="P of P x K, shared out evenly over cameras")
    target_pictures: int = Field(default=8, ge=2, description="K of P x K")
    cross_camera: bool = Field(default=True, description="join tracklets of different cameras, as for distil")
    tracklets_are_identities: bool = Field(
        default=False, description="a number means one person in every camera: true of labels alone, the leak"
    )
    learning_rate: float = Field(default=1e-2, gt=0, le=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    augmentation: tuple[str, ...] = DEFAULT_AUGMENTATION
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")


@telling_what_fits("target_identities")
def distil_kd_reid(
    student: Embedder,
    teacher_outputs: Mapping[str, TeacherOutputs],
    targets: Mapping[str, UnlabelledSet],
    preprocess: Preprocess,
    settings: KdReidSettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Distil the teachers' distance matrices into a copy of ``student``; its last weights are the result.

    Args:
        student: where training starts; it stays as it is.
        teacher_outputs: for each camera embeddings (N_i, D_t) of length 1, on the CPU.
        targets: the cameras' unlabelled crops, by the same names.
        preprocess: size and colours of the student's input.
        settings: steps, batches and rates.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.

    Returns:
        The distilled copy on the CPU, in eval mode.

    Raises:
        DataError: no cameras, a teacher output that is not of its camera's crops, or no camera with two people.
        TrainingError: a loss that is not finite, or a device with too little memory for a batch.

    Reference:
        P4, eq. 4, un-squared and un-averaged as there.
    """
    check_names(teacher_outputs, targets)
    device = torch.device(run.compute.device)
    pool = TargetPool.of(targets, teacher_outputs, shared_numbers=settings.tracklets_are_identities)
    pictures = load_pictures(pool.paths, preprocess)
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    people = pool.tracklets
    if not settings.tracklets_are_identities:
        people = pool.pseudo_identities(pool.embeddings(), cross_camera=settings.cross_camera)
    samplers = camera_samplers(people, pool, settings, run)
    student = trainable(copy.deepcopy(student), run.compute)
    rate, decay = settings.learning_rate, settings.weight_decay
    optimiser = torch.optim.SGD(student.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    state = Resumable(run, {"student": student}, {"student": optimiser}, settings.checkpoint_seconds)

    for step in range(state.start(), settings.steps):
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, step / settings.steps))
        rows = np.concatenate([sampler.batch(step) for sampler in samplers])
        with seeded_step(run, step):
            seen = student(pictures.normalised(augment(pictures.unit(rows, device)))).embedding
        parts = {}
        for teacher_id, (cameras, teacher_output) in pool.spaces.items():
            mine = np.flatnonzero(np.isin(pool.target[rows], cameras))
            if len(mine) > 1:
                said = teacher_output.at(torch.from_numpy(pool.place[rows[mine]])).to(device)
                own = seen[torch.from_numpy(mine).to(device)]
                share = len(cameras) / len(pool.names)
                loss = similarity_matrix_loss(student=own, teacher=said.embedding)
                parts[f"{teacher_id}/matrix"] = share * loss
        run.record("kd_reid", step=step, **optimise(optimiser, parts, where="KD-ReID", step=step))
        state.save(step + 1)
        progress("student", step + 1, settings.steps)
    state.finish()
    return on_host(student).eval()


def camera_samplers(people: IntArray, pool: TargetPool, settings: KdReidSettings, run: Run) -> tuple[PKSampler, ...]:
    """P x K batches of each camera that shows two of ``people`` int64 (N,) or more, P shared out over cameras.

    Args:
        people: (N,) pseudo-identity of each crop, -1 for none.
        pool: all targets' crops and what teachers say of them.
        settings: weights and steps.
        run: gives folder, seed and device.

    Raises:
        DataError: no camera shows two.
    """
    cameras, seed = int(pool.camera.max()) + 1, run.child_seed("target")
    p, k = max(2, settings.target_identities // cameras), settings.target_pictures
    samplers = []
    for camera in range(cameras):
        own = np.where(pool.camera == camera, people, NOISE)
        found = len(np.unique(own[own >= 0]))
        if found == 1:
            log.warning("KD-ReID: a camera shows one person alone, who is in no batch")
        if found > 1:
            samplers.append(pk_sampler(own, p=p, k=k, seed=seed + camera, where="target"))
    if not samplers:
        raise DataError(
            f"{', '.join(pool.names)}: got 1 identities or tracklets in each camera at most, expected 2+; "
            "harvest more footage"
        )
    return tuple(samplers)
