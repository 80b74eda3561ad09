"""Supervised training on a labelled set: the source pre-training of every method, and the oracle's upper bound."""

from __future__ import annotations

import copy

import torch
from pydantic import Field

from reid_mtda.data.augment import DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.data.batches import pictures_of
from reid_mtda.data.samplers import pk_sampler
from reid_mtda.losses.identity import identity_loss, triplet_loss
from reid_mtda.models.device import on_host
from reid_mtda.models.embedder import Embedder
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    cosine_decay,
    frozen,
    optimise,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
    trainable,
    update_average,
)
from reid_mtda.train.resume import CHECKPOINT_SECONDS, Resumable
from reid_mtda.types import LabelledSet, Preprocess


class SourceSettings(Strict):
    """Identity loss with label smoothing plus batch-hard triplets (P4, step 1)."""

    steps: int = Field(default=400, ge=1, description="optimiser steps")
    identities_per_batch: int = Field(default=16, ge=2, description="P of P x K")
    pictures_per_identity: int = Field(default=4, ge=2, description="K of P x K")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Adam's peak learning rate")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="label smoothing")
    margin: float = Field(default=0.3, ge=0, description="of the triplet loss")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of averaged weights, which are returned; 0: the last"
    )
    augmentation: tuple[str, ...] = Field(default=DEFAULT_AUGMENTATION, description="names of data.augment")
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")


@telling_what_fits("identities_per_batch")
def train_source(
    model: Embedder,
    source: LabelledSet,
    preprocess: Preprocess,
    settings: SourceSettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Train ``model`` on a labelled set; the weights after the last step are the result (selection rule: last).

    With ``ema`` it is their running average after the last step.

    Args:
        model: with a classifier over the identities of ``source``; it is trained in place.
        source: N labelled crops.
        preprocess: size and colours of the network's input.
        settings: steps, batches and rates.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.

    Returns:
        ``model``, or its average, on the CPU and in eval mode.

    Raises:
        DataError: fewer than two identities.
        TrainingError: a loss that is not finite, or a device with too little memory for a batch.

    Reference:
        Luo et al. 2019, "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", without centre loss.
    """
    device = torch.device(run.compute.device)
    pictures = pictures_of(source, preprocess)
    p, k = settings.identities_per_batch, settings.pictures_per_identity
    sampler = pk_sampler(source.labels, p=p, k=k, seed=run.child_seed("source"), where=source.domain)
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    labels = torch.from_numpy(source.labels).to(device)
    trainable(model, run.compute)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    averaged = frozen(copy.deepcopy(model))
    networks = {"model": model} | ({"averaged": averaged} if settings.ema else {})
    state = Resumable(run, networks, {"model": optimiser}, settings.checkpoint_seconds)

    for step in range(state.start(), settings.steps):
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, step / settings.steps))
        rows = sampler.batch(step)
        with seeded_step(run, step):
            output = model(pictures.normalised(augment(pictures.unit(rows, device))))
        parts = {
            "identity": identity_loss(logits=output.logits, labels=labels[rows], smoothing=settings.smoothing),
            "triplet": triplet_loss(embeddings=output.embedding, labels=labels[rows], margin=settings.margin),
        }
        numbers = optimise(optimiser, parts, where=f"source training on {source.domain}", step=step)
        run.record("source", step=step, **numbers)
        if settings.ema:
            update_average(averaged, model, min(settings.ema, (step + 1) / (step + 10)))
        state.save(step + 1)
        progress(f"source {source.domain}", step + 1, settings.steps)
    state.finish()
    return on_host(averaged if settings.ema else model).eval()
