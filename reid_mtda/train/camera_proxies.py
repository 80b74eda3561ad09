"""Distillation over camera-aware proxies: people that the teachers of a site's cameras find together teach one student.

The teachers' embeddings, each camera's mean subtracted, are one space. In it crops of a site's cameras are clustered,
and a cluster has a proxy in each camera that saw it. The student tells people apart within each camera from the start,
and draws them together across cameras once its own proxies are of use. Two ideas made the student worse and are not
here: the teachers' likeness of a crop to all proxies as a soft target, and clusters of tracklets' means, though these
are purer. No source picture is needed.

Reference: Wang et al., Camera-aware Proxies for Unsupervised Person Re-Identification, AAAI 2021 (proxies, the two
losses), with departures: clusters are the teachers' and sought once, tracklets join crops, proxies follow the mean of
a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from reid_mtda.centring import camera_means, centre
from reid_mtda.data.augment import build_augmentation
from reid_mtda.data.batches import load_pictures
from reid_mtda.data.pseudo_labels import (
    NOISE,
    count_people,
    density_clusters,
    jaccard_dist,
    join_tracklets,
    number_clusters,
    shrunk_k1,
)
from reid_mtda.data.samplers import pk_sampler
from reid_mtda.errors import DataError
from reid_mtda.losses.cluster_memory import cluster_means, moved_memory
from reid_mtda.losses.proxies import cross_camera_loss, intra_camera_loss
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
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs, check_names
from reid_mtda.types import FloatArray, IntArray, Preprocess, UnlabelledSet

Sites = npt.NDArray[np.str_]


class CameraProxySettings(Strict):
    """L = w_intra L_intra + w_cross L_cross (from ``cross_from`` on), over the proxies."""

    steps: int = Field(default=600, ge=1, description="optimiser steps; a batch is drawn over all cameras")
    target_identities: int = Field(default=16, ge=2, description="P of P x K, over all cameras")
    target_pictures: int = Field(default=4, ge=2, description="K of P x K")
    learning_rate: float = Field(default=5e-4, gt=0, le=1, description="Adam, cosine")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    k1: int = Field(default=20, ge=2, description="neighbours whose reciprocity counts; fewer among few crops")
    k2: int = Field(default=6, ge=1, description="neighbours averaged in query expansion")
    eps: float = Field(default=0.5, gt=0, lt=1, description="DBSCAN: Jaccard distance of neighbours")
    min_samples: int = Field(default=4, ge=1, description="DBSCAN: crops that make a place dense")
    by_camera: bool = Field(
        default=True,
        description="a proxy for each person and camera; off: one for each person, told apart from all others (cluster "
        "contrast on the same pseudo-identities: the baseline that says what cameras' own proxies bring)",
    )
    temperature: float = Field(default=0.07, gt=0, description="tau of the intra-camera and the cross-camera loss")
    momentum: float = Field(default=0.2, ge=0, le=1, description="share of a proxy that one batch leaves")
    negatives: int = Field(default=50, ge=1, description="likest proxies of other people in the cross-camera loss")
    intra_weight: float = Field(default=1.0, ge=0)
    cross_weight: float = Field(default=1.0, ge=0)
    cross_from: float = Field(default=0.5, ge=0, le=1, description="share of the steps without the cross-camera loss")
    ema: float = Field(default=0.98, ge=0, lt=1, description="decay of the averaged student that is returned; 0: none")
    augmentation: tuple[str, ...] = ("flip", "crop", "erasing")
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")


@telling_what_fits("target_identities")
def distil_camera_proxies(
    student: Embedder,
    teacher_outputs: Mapping[str, TeacherOutputs],
    targets: Mapping[str, UnlabelledSet],
    preprocess: Preprocess,
    settings: CameraProxySettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Distil all cameras' teachers into a copy of ``student`` over proxies; return its averaged last weights.

    Args:
        student: the network to start from; its BatchNorm statistics are set to all targets' crops first.
        teacher_outputs: what each camera's teacher said of its crops; embeddings of one size.
        targets: crops by camera, with or without tracklets.
        preprocess: what the student's crops look like; the teachers' may have been larger.
        settings: weights, steps, how people are sought.
        run: folder, seed and record.
        progress: told of each step.

    Raises:
        DataError: no cameras, outputs that are not of the cameras' crops or of several sizes, or fewer than two people.
        TrainingError: a loss that is not finite, or a device with too little memory for a batch.
    """
    check_names(teacher_outputs, targets)
    pool = TargetPool.of(targets, teacher_outputs)
    sites = np.repeat([target.site for target in targets.values()], [len(target) for target in targets.values()])
    taught = site_embeddings(pool, sites)
    people = site_people(taught, pool, sites, settings)
    of_target = load_pictures(pool.paths, preprocess)
    device = torch.device(run.compute.device)
    student = trainable(copy.deepcopy(student), run.compute)
    recompute_batchnorm(student, of_target, seed=run.child_seed("batchnorm"))
    averaged = frozen(copy.deepcopy(student))
    p, k = settings.target_identities, settings.target_pictures
    pick = pk_sampler(people, p=p, k=k, seed=run.child_seed("target"), where=", ".join(pool.names))
    seen = embed_pictures(averaged, of_target).embedding
    cameras = pool.camera if settings.by_camera else np.zeros_like(pool.camera)
    proxies = CameraProxies.of(people, cameras, seen).to(device)
    optimiser = torch.optim.Adam(student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    networks = {"student": student, "averaged": averaged, "memory": proxies.memory}
    state = Resumable(run, networks, {"student": optimiser}, settings.checkpoint_seconds)
    augment = build_augmentation(settings.augmentation, (preprocess.height, preprocess.width))

    first = state.start()
    if first == 0:
        grouped = float((people >= 0).mean())
        run.record("proxies", people=int(people.max()) + 1, proxies=len(proxies.camera), grouped=grouped)
    for step in range(first, settings.steps):
        set_learning_rate(optimiser, cosine_decay(settings.learning_rate, step / settings.steps))
        numbers = pick.batch(step)
        rows = torch.from_numpy(numbers).to(device)
        with seeded_step(run, step):
            seen = student(of_target.normalised(augment(of_target.unit(numbers, device)))).embedding
        cross = settings.by_camera and step >= settings.cross_from * settings.steps
        parts = proxies.losses(seen, rows, settings, cross=cross)
        run.record("distil", step=step, **optimise(optimiser, parts, where="distillation", step=step))
        proxies.follow(seen, rows, momentum=settings.momentum)
        update_average(averaged, student, min(settings.ema, (step + 1) / (step + 10)))
        state.save(step + 1)
        progress("student", step + 1, settings.steps)
    state.finish()
    return on_host(averaged)


def site_embeddings(pool: TargetPool, sites: Sites) -> FloatArray:
    """The teachers' embeddings (N, D_t) of all crops, cameras of a site in one space: each camera's mean subtracted.

    A mean of few people is drawn towards its site's. ``sites`` (N,) are the crops'.

    Raises:
        DataError: teachers whose embeddings differ in size.
    """
    sizes = {space: outputs.embedding.shape[1] for space, (_, outputs) in pool.spaces.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"distillation: got teachers' embeddings of sizes {sizes}, expected one; use teachers of one size"
        )
    rows = np.zeros((len(pool.target), next(iter(sizes.values()))), np.float32)
    for members, outputs in pool.spaces.values():
        mine = np.flatnonzero(np.isin(pool.target, members))
        rows[mine] = outputs.embedding[torch.from_numpy(pool.place[mine])].numpy()
    names = pool.camera.astype(str)
    for site in np.unique(sites):
        here = sites == site
        by_camera = {str(name): rows[names == name] for name in np.unique(names[here])}
        counts = {name: count_people(own, pool.tracklets[names == name]) for name, own in by_camera.items()}
        rows[here] = centre(rows[here], names[here].tolist(), camera_means(by_camera, counts))
    return rows


def site_people(taught: FloatArray, pool: TargetPool, sites: Sites, settings: CameraProxySettings) -> IntArray:
    """Pseudo-identities int64 (N,) over the cameras of each site: density clusters of ``taught``, joined by tracklets.

    Nobody is one person with somebody of another of ``sites`` (N,).

    Args:
        taught: (N, D) the teachers' embeddings, in one space for each site.
        pool: all targets' crops and what teachers say of them.
        sites: (N,) the site of each crop.
        settings: weights and steps.
    """
    people = np.full(len(taught), NOISE, np.int64)
    for site in np.unique(sites):
        here = np.flatnonzero(sites == site)
        dist = jaccard_dist(taught[here], k1=shrunk_k1(settings.k1, len(here)), k2=settings.k2)
        found = density_clusters(dist, eps=settings.eps, min_samples=settings.min_samples)
        found = number_clusters(join_tracklets(found, pool.tracklets[here]))
        people[here] = np.where(found >= 0, found + int(people.max(initial=NOISE)) + 1, NOISE)
    return people


@dataclass(frozen=True, eq=False)
class CameraProxies:
    """A slot for each of C pairs of person and camera.

    ``slot``, ``crop_person``, ``crop_camera`` int64 (N,): of each crop, -1 where nobody was found. ``person``,
    ``camera`` int64 (C,): of each slot. ``memory`` holds the student's mean embeddings (C, D).
    """

    slot: Tensor
    crop_person: Tensor
    crop_camera: Tensor
    person: Tensor
    camera: Tensor
    memory: Kept

    @classmethod
    def of(cls, people: IntArray, cameras: IntArray, embeddings: Tensor) -> CameraProxies:
        """Number the slots of ``people`` (N,) in ``cameras`` (N,) and fill them from ``embeddings`` (N, D).

        Args:
            people: (N,) pseudo-identity of each crop, -1 for none.
            cameras: (N,) the number of each crop's camera.
            embeddings: (B, D) rows of length 1.
        """
        known = np.flatnonzero(people >= 0)
        pairs, place = np.unique(np.stack([people[known], cameras[known]]), axis=1, return_inverse=True)
        slot = np.full(len(people), NOISE, np.int64)
        slot[known] = place.reshape(-1)
        slots = torch.from_numpy(slot)
        return cls(
            slot=slots,
            crop_person=torch.from_numpy(people),
            crop_camera=torch.from_numpy(cameras),
            person=torch.from_numpy(pairs[0].copy()),
            camera=torch.from_numpy(pairs[1].copy()),
            memory=Kept(cluster_means(embeddings=embeddings, labels=slots)),
        )

    def to(self, device: torch.device) -> CameraProxies:
        """The same on another device."""
        own = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **own, memory=Kept(self.memory.tensor.to(device)))

    def losses(
        self, embeddings: Tensor, rows: Tensor, settings: CameraProxySettings, *, cross: bool
    ) -> dict[str, Tensor]:
        """The weighted parts for the crops numbered ``rows`` int64 (B,), embedded as ``embeddings`` (B, D).

        Args:
            embeddings: (B, D) rows of length 1.
            rows: (B,) numbers of the crops in the pool.
            settings: weights and steps.
            cross: with the cross-camera part.
        """
        memory, cameras = self.memory.tensor, self.crop_camera[rows]
        parts = {
            "intra-camera": settings.intra_weight
            * intra_camera_loss(
                embeddings=embeddings,
                own=self.slot[rows],
                cameras=cameras,
                proxies=memory,
                proxy_cameras=self.camera,
                temperature=settings.temperature,
            )
        }
        if cross and settings.cross_weight:
            parts["cross-camera"] = settings.cross_weight * cross_camera_loss(
                embeddings=embeddings,
                people=self.crop_person[rows],
                cameras=cameras,
                proxies=memory,
                proxy_people=self.person,
                proxy_cameras=self.camera,
                temperature=settings.temperature,
                negatives=settings.negatives,
            )
        return parts

    def follow(self, embeddings: Tensor, rows: Tensor, *, momentum: float) -> None:
        """Move the student's proxies towards the crops numbered ``rows``.

        Args:
            embeddings: (B, D) rows of length 1.
            rows: (B,) numbers of the crops in the pool.
            momentum: share that one batch leaves, 0..1.
        """
        self.memory.tensor = moved_memory(
            memory=self.memory.tensor, embeddings=embeddings, labels=self.slot[rows], momentum=momentum
        )
