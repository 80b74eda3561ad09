"""Clustering: a teacher learns from the groups it finds itself among a target's crops, anew in every epoch.

Dai et al. 2022, "Cluster Contrast for Unsupervised Person Re-Identification", with four departures: tracklets join
crops where there are some, embeddings are normalised by camera before clusters are sought, the labelled source is
learnt beside the target, so that its identities stay a class space that all teachers share, and the two domains pass
BatchNorm separately, the target's own statistics being set before clusters are sought and at the end.
"""

from __future__ import annotations

import copy
import logging

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reid_mtda.data.augment import DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.data.batches import Pictures, load_pictures, pictures_of
from reid_mtda.data.pseudo_labels import (
    NOISE,
    density_clusters,
    jaccard_dist,
    join_tracklets,
    normalise_cameras,
    number_clusters,
    shrunk_k1,
    single_camera,
)
from reid_mtda.data.samplers import pk_sampler
from reid_mtda.errors import DataError, ModelError, TrainingError
from reid_mtda.losses.cluster_memory import cluster_means, memory_loss, moved_memory
from reid_mtda.losses.identity import identity_loss, triplet_loss
from reid_mtda.models.device import on_host
from reid_mtda.models.embedder import Embedder
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    cosine_decay,
    embed_pictures,
    frozen,
    optimise,
    recompute_batchnorm,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
    trainable,
    update_average,
)
from reid_mtda.train.resume import CHECKPOINT_SECONDS, Kept, Resumable
from reid_mtda.types import FloatArray, IntArray, LabelledSet, Preprocess, UnlabelledSet

log = logging.getLogger(__name__)


class ClusterContrastSettings(Strict):
    """Source losses, and InfoNCE of the target's crops against the memory of the clusters found in this epoch."""

    epochs: int = Field(
        default=4,
        ge=0,
        description="clusters are sought at the start of each; 0: the target's BatchNorm statistics are all that is "
        "learnt (AdaBN, Li et al. 2016)",
    )
    steps_per_epoch: int = Field(default=15, ge=1, description="optimiser steps")
    identities_per_batch: int = Field(default=12, ge=2, description="P of P x K, source identities and clusters alike")
    pictures_per_identity: int = Field(default=4, ge=2, description="K of P x K")
    learning_rate: float = Field(default=5e-4, gt=0, le=1, description="Adam, cosine")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    k1: int = Field(default=30, ge=2, description="neighbours whose reciprocity counts; fewer in a small target")
    k2: int = Field(default=6, ge=1, description="neighbours averaged in query expansion")
    eps: float = Field(
        default=0.5, gt=0, lt=1, description="DBSCAN: Jaccard distance of neighbours; 0.6 is usual for whole data sets"
    )
    min_samples: int = Field(default=4, ge=1, description="DBSCAN: crops that make a place dense")
    temperature: float = Field(default=0.05, gt=0, description="tau of InfoNCE")
    momentum: float = Field(default=0.1, ge=0, le=1, description="share of a memory slot that one batch leaves")
    camera_normalise: bool = Field(default=True, description="standardise embeddings by camera before clustering")
    single_camera_weight: float = Field(
        default=0.5, ge=0, le=1, description="of clusters that one of several cameras has seen; 0 drops them"
    )
    source_weight: float = Field(default=1.0, ge=0, description="of identity and triplet loss on the source; 0: none")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of averaged weights, which are returned; 0: the last"
    )
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0)
    augmentation: tuple[str, ...] = DEFAULT_AUGMENTATION
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")


@telling_what_fits("identities_per_batch")
def adapt_cluster_contrast(
    model: Embedder,
    source: LabelledSet | None,
    target: UnlabelledSet,
    preprocess: Preprocess,
    settings: ClusterContrastSettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Adapt a copy of ``model`` to ``target`` by Cluster Contrast; the weights after the last step are the result.

    With ``ema`` it is their running average. An epoch in which no two clusters are found learns from the source alone
    and says so.

    Args:
        model: what the source left; it stays as it is.
        source: labelled crops whose identities the classifier of ``model`` knows; None: the target is
            all there is to learn from.
        target: the camera's unlabelled crops, with or without tracklets.
        preprocess: size and colours of the networks' input.
        settings: weights, steps and batches.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.

    Returns:
        The adapted copy on the CPU, in eval mode, with the target's BatchNorm statistics.

    Raises:
        DataError: a target of fewer than two crops.
        ModelError: a network without a classifier, which cannot learn the source's identities.
        TrainingError: a loss or an embedding that is not finite, or a device with too little memory for a batch.

    Reference:
        Dai et al. 2022, "Cluster Contrast for Unsupervised Person Re-Identification", eq. 2 and 4; departures stand at
        the top of this file.
    """
    device = torch.device(run.compute.device)
    if len(target) < 2:
        raise DataError(f"{target.domain}: got {len(target)} crops, expected 2 or more; harvest more footage")
    if source is not None and settings.source_weight and model.classifier is None:
        raise ModelError(
            f"clusters on {target.domain}: the network has no logits of source identities, expected some to learn "
            "them; set source_weight to 0"
        )
    model = trainable(copy.deepcopy(model), run.compute)
    p, k = settings.identities_per_batch, settings.pictures_per_identity
    of_target = load_pictures(target.paths, preprocess)
    if source is not None:
        of_source, identities = pictures_of(source, preprocess), torch.from_numpy(source.labels).to(device)
        pick_source = pk_sampler(source.labels, p=p, k=k, seed=run.child_seed("source"), where=source.domain)
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    clusters, memory = Kept(torch.full((len(target),), NOISE)), Kept(torch.zeros(0, model.embedding_dim, device=device))
    averaged = frozen(copy.deepcopy(model))
    kept = {"model": model, "clusters": clusters, "memory": memory} | ({"averaged": averaged} if settings.ema else {})
    state = Resumable(run, kept, {"model": optimiser}, settings.checkpoint_seconds)
    total, where = settings.epochs * settings.steps_per_epoch, f"clusters on {target.domain}"

    for step in range(first := state.start(), total):
        epoch, place = divmod(step, settings.steps_per_epoch)
        if place == 0:
            clusters.tensor, found = seek_clusters(model, of_target, target, settings, run, epoch)
            memory.tensor = found.to(device)
        if step == first or place == 0:
            labels, weights = clusters.tensor.to(device), cluster_weights(clusters.tensor, target, settings).to(device)
            pick_target = None
            if len(memory.tensor) > 1:
                pick_target = pk_sampler(clusters.tensor.numpy(), p=p, k=k, seed=run.child_seed("target"), where=where)
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, step / total))
        parts: dict[str, Tensor] = {}
        with seeded_step(run, step):
            if source is not None and settings.source_weight:
                rows = pick_source.batch(step)
                output = model(of_source.normalised(augment(of_source.unit(rows, device))))
                parts = source_parts(output.logits, output.embedding, identities[rows], settings)
            if pick_target:
                rows = pick_target.batch(step)
                own, seen = labels[rows], model(of_target.normalised(augment(of_target.unit(rows, device)))).embedding
                parts["memory"] = memory_loss(
                    embeddings=seen,
                    labels=own,
                    memory=memory.tensor,
                    temperature=settings.temperature,
                    weights=weights[own],
                )
        if parts:
            run.record("cluster", step=step, **optimise(optimiser, parts, where=where, step=step))
        if pick_target:
            memory.tensor = moved_memory(memory=memory.tensor, embeddings=seen, labels=own, momentum=settings.momentum)
        if settings.ema:
            update_average(averaged, model, min(settings.ema, (step + 1) / (step + 10)))
        state.save(step + 1)
        progress(f"teacher {target.domain}", step + 1, total)
    result = averaged if settings.ema else model
    recompute_batchnorm(result, of_target, seed=run.child_seed("batchnorm"))
    state.finish()
    return on_host(result).eval()


def source_parts(
    logits: Tensor, embeddings: Tensor, labels: Tensor, settings: ClusterContrastSettings
) -> dict[str, Tensor]:
    """Identity loss on logits (B, C) and triplet loss on embeddings (B, D) of source labels (B,), weighted.

    Args:
        logits: (B, C), or None of a network without a classifier.
        embeddings: (B, D) rows of length 1.
        labels: (B,) classes of the source's pictures.
        settings: weights and steps.
    """
    identity = identity_loss(logits=logits, labels=labels, smoothing=settings.smoothing)
    triplet = triplet_loss(embeddings=embeddings, labels=labels, margin=settings.margin)
    return {"identity": settings.source_weight * identity, "triplet": settings.source_weight * triplet}


def seek_clusters(
    model: Embedder, pictures: Pictures, target: UnlabelledSet, settings: ClusterContrastSettings, run: Run, epoch: int
) -> tuple[Tensor, Tensor]:
    """Look at all crops in eval mode: their pseudo-labels int64 (N,) and the memory (C, D) to begin the epoch with.

    The memory holds fewer than two slots when there is nothing to tell apart, which is said aloud.

    Args:
        model: the network.
        pictures: the set's.
        target: the camera's crops.
        settings: weights and steps.
        run: gives folder, seed and device.
        epoch: its number, from 0.
    """
    recompute_batchnorm(model, pictures, seed=run.child_seed("batchnorm"))
    embeddings = embed_pictures(model, pictures).embedding
    if not bool(embeddings.isfinite().all()):
        raise TrainingError(
            f"clusters on {target.domain}, epoch {epoch + 1}: an embedding is not finite, expected numbers; "
            "lower the learning rate"
        )
    labels = pseudo_labels(np.asarray(embeddings.numpy(), np.float32), target, settings)
    count = int(labels.max()) + 1
    run.record("clusters", epoch=epoch + 1, clusters=count, clustered=float((labels != NOISE).mean()))
    if count < 2:
        log.warning(
            "%s, epoch %d: got %d clusters among %d crops, expected 2 or more; this epoch learns from the source "
            "alone: harvest more footage, or raise eps (%g) if crops stay alone, lower it if all are one cluster",
            target.domain, epoch + 1, count, len(target), settings.eps,
        )  # fmt: skip
        return torch.from_numpy(labels), embeddings[:0]
    found = torch.from_numpy(labels)
    return found, cluster_means(embeddings=embeddings, labels=found)


def pseudo_labels(embeddings: FloatArray, target: UnlabelledSet, settings: ClusterContrastSettings) -> IntArray:
    """Clusters 0..C-1 of two crops or more, NOISE elsewhere, int64 (N,), from embeddings (N, D).

    Where crops make less than two clusters, the tracklets alone are taken, if there are any.

    Args:
        embeddings: (N, D) rows of length 1.
        target: the camera's crops.
        settings: weights and steps.
    """
    rows = normalise_cameras(embeddings, target.cameras) if settings.camera_normalise else embeddings
    dist = jaccard_dist(rows, k1=shrunk_k1(settings.k1, len(rows)), k2=settings.k2)
    clusters = density_clusters(dist, eps=settings.eps, min_samples=settings.min_samples)
    if target.tracklets is not None:
        clusters = join_tracklets(clusters, target.tracklets)
        if len(np.unique(clusters[clusters != NOISE])) < 2:
            clusters = target.tracklets
    clusters = number_clusters(clusters)
    if settings.single_camera_weight == 0:
        alone = single_camera(clusters, target.cameras)
        clusters = number_clusters(np.where(np.append(alone, False)[clusters], NOISE, clusters))
    return clusters


def cluster_weights(clusters: Tensor, target: UnlabelledSet, settings: ClusterContrastSettings) -> Tensor:
    """How much each cluster's crops count (C,): less where one of several cameras alone has seen it.

    Args:
        clusters: (N,) cluster of each crop, -1 for none.
        target: the camera's crops.
        settings: weights and steps.
    """
    alone = torch.from_numpy(single_camera(clusters.numpy(), target.cameras))
    return torch.where(alone, settings.single_camera_weight, 1.0)
