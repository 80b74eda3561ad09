"""D-MMD on tracklets: one teacher per camera, adapted from the labelled source without labels of the camera.

Mekhazni et al. 2020, "Unsupervised Domain Adaptation in the Dissimilarity Space for Person Re-identification", with
two departures: the target's classes are tracklets instead of the true identities that the public code used, and the
two domains pass BatchNorm separately, which ends with the target's own statistics.
"""

from __future__ import annotations

import copy

import torch
from pydantic import Field

from reid_mtda.data.augment import DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.data.batches import load_pictures, pictures_of
from reid_mtda.data.samplers import pk_sampler
from reid_mtda.errors import DataError
from reid_mtda.losses.identity import identity_loss, triplet_loss
from reid_mtda.losses.mmd import dissimilarity_mmd_loss
from reid_mtda.models.device import on_host
from reid_mtda.models.embedder import Embedder
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    cosine_decay,
    frozen,
    optimise,
    recompute_batchnorm,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
    trainable,
    update_average,
)
from reid_mtda.train.resume import CHECKPOINT_SECONDS, Resumable
from reid_mtda.types import LabelledSet, Preprocess, UnlabelledSet


class DmmdSettings(Strict):
    """Source losses, D-MMD between source and camera, and triplets among the camera's own tracklets."""

    steps: int = Field(default=60, ge=1, description="optimiser steps")
    identities_per_batch: int = Field(default=12, ge=2, description="P of P x K, source identities and tracklets alike")
    pictures_per_identity: int = Field(default=4, ge=2, description="K of P x K")
    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of averaged weights, which are returned; 0: the last"
    )
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0)
    alignment_weight: float = Field(default=0.5, ge=0, description="of the D-MMD loss")
    tracklet_weight: float = Field(default=0.5, ge=0, description="of the triplets among tracklets")
    augmentation: tuple[str, ...] = DEFAULT_AUGMENTATION
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")


@telling_what_fits("identities_per_batch")
def adapt_dmmd(
    model: Embedder,
    source: LabelledSet | None,
    target: UnlabelledSet,
    preprocess: Preprocess,
    settings: DmmdSettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Adapt a copy of ``model`` to ``target`` by D-MMD; the weights after the last step are the result.

    With ``ema`` it is their running average.

    Args:
        model: what the source left; it stays as it is.
        source: labelled crops whose identities the classifier of ``model`` knows.
        target: the camera's unlabelled crops, with tracklets.
        preprocess: size and colours of the networks' input.
        settings: weights, steps and batches.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.

    Returns:
        The adapted copy on the CPU, in eval mode, with the target's BatchNorm statistics.

    Raises:
        DataError: no source, a target without tracklets, or with fewer than two.
        TrainingError: a loss that is not finite, or a device with too little memory for a batch.

    Reference:
        Mekhazni et al. 2020, "Unsupervised Domain Adaptation in the Dissimilarity Space for Person
        Re-identification", eq. 1-6; departures stand at the top of this file.
    """
    device = torch.device(run.compute.device)
    if source is None:
        raise DataError(f"D-MMD on {target.domain}: got no labelled source, expected one to align to; use 'cluster'")
    if target.tracklets is None:
        raise DataError(f"{target.domain}: got crops without tracklets, expected a crops.csv; harvest them from video")
    model = trainable(copy.deepcopy(model), run.compute)
    size = (preprocess.height, preprocess.width)
    p, k = settings.identities_per_batch, settings.pictures_per_identity
    of_source, of_target = pictures_of(source, preprocess), load_pictures(target.paths, preprocess)
    pick_source = pk_sampler(source.labels, p=p, k=k, seed=run.child_seed("source"), where=source.domain)
    pick_target = pk_sampler(target.tracklets, p=p, k=k, seed=run.child_seed("target"), where=target.domain, min_size=2)
    augment = build_augmentation(settings.augmentation, size)
    labels, tracklets = (torch.from_numpy(numbers).to(device) for numbers in (source.labels, target.tracklets))
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    averaged = frozen(copy.deepcopy(model))
    networks = {"model": model} | ({"averaged": averaged} if settings.ema else {})
    state = Resumable(run, networks, {"model": optimiser}, settings.checkpoint_seconds)

    for step in range(state.start(), settings.steps):
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, step / settings.steps))
        rows_s, rows_t = pick_source.batch(step), pick_target.batch(step)
        with seeded_step(run, step):
            out_s = model(of_source.normalised(augment(of_source.unit(rows_s, device))))
            out_t = model(of_target.normalised(augment(of_target.unit(rows_t, device))))
        parts = {
            "identity": identity_loss(logits=out_s.logits, labels=labels[rows_s], smoothing=settings.smoothing),
            "triplet": triplet_loss(embeddings=out_s.embedding, labels=labels[rows_s], margin=settings.margin),
            "alignment": settings.alignment_weight
            * dissimilarity_mmd_loss(
                source_embeddings=out_s.embedding,
                source_labels=labels[rows_s],
                target_embeddings=out_t.embedding,
                target_tracklets=tracklets[rows_t],
            ),
            "tracklet": settings.tracklet_weight
            * triplet_loss(embeddings=out_t.embedding, labels=tracklets[rows_t], margin=settings.margin),
        }
        numbers = optimise(optimiser, parts, where=f"D-MMD on {target.domain}", step=step)
        run.record("dmmd", step=step, **numbers)
        if settings.ema:
            update_average(averaged, model, min(settings.ema, (step + 1) / (step + 10)))
        state.save(step + 1)
        progress(f"teacher {target.domain}", step + 1, settings.steps)
    result = averaged if settings.ema else model
    recompute_batchnorm(result, of_target, seed=run.child_seed("batchnorm"))
    state.finish()
    return on_host(result).eval()
