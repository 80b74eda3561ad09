"""What the teachers say of their cameras' crops, kept so that each crop passes its teacher once."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_mtda.data.association import match_cameras
from reid_mtda.data.batches import Pictures, load_pictures
from reid_mtda.data.part_mix import mix_parts
from reid_mtda.data.pseudo_labels import (
    NOISE,
    density_clusters,
    jaccard_dist,
    normalise_cameras,
    number_clusters,
    shrunk_k1,
)
from reid_mtda.errors import DataError
from reid_mtda.models.embedder import Embedder, EmbedderOutput
from reid_mtda.progress import Progress, silent
from reid_mtda.train.common import embed_pictures, frozen, recompute_batchnorm
from reid_mtda.train.crop_halves import embed_halves
from reid_mtda.types import DoubleArray, FloatArray, ImageArray, IntArray, Preprocess, UnlabelledSet


@dataclass(frozen=True, eq=False)
class TeacherOutputs:
    """What a teacher says of its camera's crops.

    ``embedding`` (N, D_t), rows of length 1; ``logits`` (N, C) over source identities, None for a ready-made teacher.
    ``teacher_id`` names the space of the embeddings where one teacher serves several cameras: then similarity is taught
    across them too. Empty: the camera's own. ``part_mixed`` uint8 (M, h, w, 3) are further pictures, not of the
    target's, that the last M of the N rows speak of.

    Where an objective asks for them: ``feature`` (N, D_t), embeddings before scaling; ``maps`` (N, C', h', w'),
    float16, what the teacher pools; ``halves`` (N, 2, D_t), embeddings of each crop's upper and lower half;
    ``everyone`` (N, n, C), the logits of all n cameras' teachers in the cameras' order.
    """

    embedding: Tensor
    logits: Tensor | None
    teacher_id: str = ""
    part_mixed: ImageArray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    feature: Tensor | None = None
    maps: Tensor | None = None
    halves: Tensor | None = None
    everyone: Tensor | None = None

    def at(self, rows: Tensor) -> EmbedderOutput:
        """What is said of the crops numbered ``rows`` int64 (B,)."""
        logits, feature, maps = (_rows(part, rows) for part in (self.logits, self.feature, self.maps))
        return EmbedderOutput(self.embedding[rows], logits, feature, None if maps is None else maps.float())

    def tensors(self) -> dict[str, Tensor]:
        """By name, those that it has."""
        parts = {name: getattr(self, name) for name in TENSORS}
        return {name: part for name, part in parts.items() if part is not None}

    def parted(self) -> tuple[TeacherOutputs, TeacherOutputs]:
        """What is said of the target's own crops, and of the part-mixed ones."""
        count = len(self.embedding) - len(self.part_mixed)
        nothing = np.zeros((0, 1, 1, 3), np.uint8)
        cut: list[TeacherOutputs] = []
        for rows in (slice(count), slice(count, None)):
            parts: dict[str, Any] = {name: part[rows] for name, part in self.tensors().items()}
            cut.append(replace(self, part_mixed=nothing, **parts))
        return cut[0], replace(cut[1], part_mixed=self.part_mixed)


TENSORS = ("embedding", "logits", "feature", "maps", "halves", "everyone")
"""The tensors of a teacher's output, a row each crop."""


def _rows(part: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if part is None else part[rows]


def compute_teacher_outputs(
    teacher: Embedder,
    target: UnlabelledSet,
    preprocess: Preprocess,
    *,
    part_mixed: int = 0,
    seed: int = 0,
    progress: Progress = silent,
    wants: Collection[str] = (),
) -> TeacherOutputs:
    """Pass every crop of ``target``, and crops made of them, through the frozen ``teacher`` once.

    Args:
        teacher: an adapted network, on its device; frozen here.
        target: N crops of one camera.
        preprocess: what the teacher's crops look like.
        part_mixed: how many crops to make of two people each.
        seed: of these.
        progress: told ("embed", crops done, crops in all).
        wants: of ``feature``, ``maps`` and ``halves``, what is kept beside embeddings and logits.

    Returns:
        Embeddings (N + part_mixed, D) and logits, on the CPU.
    """
    pictures = load_pictures(target.paths, preprocess)
    extra = mix_parts(pictures.resized, part_mixed, seed)
    everything = Pictures(np.concatenate([pictures.resized, extra]), preprocess)
    output = embed_pictures(frozen(teacher), everything, progress=progress, wants_maps="maps" in wants)
    return TeacherOutputs(
        embedding=output.embedding,
        logits=output.logits,
        part_mixed=extra,
        feature=output.feature if "feature" in wants else None,
        maps=output.maps,
        halves=embed_halves(teacher, everything) if "halves" in wants else None,
    )


def check_names(teacher_outputs: Mapping[str, TeacherOutputs], targets: Mapping[str, UnlabelledSet]) -> None:
    """Refuse teacher outputs of other cameras than the targets', and no cameras at all.

    Raises:
        DataError: they are.
    """
    if not targets or teacher_outputs.keys() != targets.keys():
        got = f"got teacher outputs of {sorted(teacher_outputs)} for cameras {sorted(targets)}"
        raise DataError(f"distillation: {got}, expected the same names")


@dataclass(frozen=True, eq=False)
class TargetPool:
    """The crops of all targets in one row of numbers, target after target, with their teacher outputs.

    ``target`` int64 (N,) is the number of a crop's target in ``names``; ``camera`` int64 (N,) tells crops of one
    camera: the target itself, or the cameras that a target of several knows. ``place`` int64 (N,) is where the crop
    stands in its teacher's output; ``spans`` float64 (N, 2) are the targets'. ``spaces`` gives per teacher its targets'
    numbers and its output for all their crops. Part-mixed crops belong to no target and are not numbered.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    target: IntArray
    camera: IntArray
    place: IntArray
    tracklets: IntArray
    spans: DoubleArray
    spaces: dict[str, tuple[tuple[int, ...], TeacherOutputs]]

    @classmethod
    def of(
        cls,
        targets: Mapping[str, UnlabelledSet],
        teacher_outputs: Mapping[str, TeacherOutputs],
        *,
        shared_numbers: bool = False,
    ) -> TargetPool:
        """Number the crops of ``targets``; tracklets of different targets stay apart unless they share numbers.

        Args:
            targets: unlabelled crops by camera.
            teacher_outputs: what each camera's teacher says of its crops.
            shared_numbers: a tracklet's number means one person in every camera.

        Raises:
            DataError: a teacher output of more or fewer crops than its target has.
        """
        teacher_outputs = {name: teacher_output.parted()[0] for name, teacher_output in teacher_outputs.items()}
        for name, target in targets.items():
            if len(teacher_outputs[name].embedding) != len(target):
                raise DataError(
                    f"distillation: got a teacher output for {len(teacher_outputs[name].embedding)} crops, expected "
                    f"{len(target)}, those of {name}; compute it again"
                )
        names = tuple(targets)
        number = np.repeat(np.arange(len(names)), [len(target) for target in targets.values()]).astype(np.int64)
        camera, tracklets = np.full_like(number, NOISE), np.full_like(number, NOISE)
        for n, target in enumerate(targets.values()):
            rows = np.flatnonzero(number == n)
            within = np.zeros(len(rows), np.int64) if target.cameras is None else target.cameras
            camera[rows] = np.unique(within, return_inverse=True)[1] + camera.max(initial=NOISE) + 1
            if target.tracklets is not None:
                own = target.tracklets
                if not shared_numbers:
                    own = np.unique(own, return_inverse=True)[1] + tracklets.max(initial=NOISE) + 1
                tracklets[rows] = np.where(target.tracklets >= 0, own, NOISE)
        place, spaces = np.zeros_like(number), {}
        for space in dict.fromkeys(teacher_outputs[name].teacher_id or name for name in names):
            members = tuple(n for n, name in enumerate(names) if (teacher_outputs[name].teacher_id or name) == space)
            parts = [teacher_outputs[names[n]] for n in members]
            found = [part.tensors() for part in parts]
            common = {
                name: torch.cat([own[name] for own in found]) for name in TENSORS if all(name in f for f in found)
            }
            whole: dict[str, Any] = {**dict.fromkeys(TENSORS), **common}
            spaces[space] = members, replace(parts[0], **whole)
            mine = np.flatnonzero(np.isin(number, members))
            place[mine] = np.arange(len(mine))
        paths = tuple(path for target in targets.values() for path in target.paths)
        spans = [
            np.full((len(target), 2), np.nan) if target.spans is None else target.spans for target in targets.values()
        ]
        return cls(names, paths, number, camera, place, tracklets, np.concatenate(spans), spaces)

    def embeddings(self) -> list[dict[str, FloatArray]]:
        """Each target's crops as its teacher embeds them, apart by spaces in which people can be compared.

        Adapted teachers start from one network, whose source identities they keep: theirs is one space. That of a
        ready-made teacher is another, even where the sizes agree.
        """
        found: dict[str, dict[str, FloatArray]] = {}
        for members, teacher_output in self.spaces.values():
            for number in members:
                rows = teacher_output.embedding.numpy()[self.place[self.target == number]]
                found.setdefault(teacher_output.teacher_id, {})[self.names[number]] = rows
        return list(found.values())

    def pseudo_identities(
        self,
        spaces: Sequence[Mapping[str, FloatArray]],
        *,
        cross_camera: bool,
        normalised: bool = True,
        negative_quantile: float = 0.0,
    ) -> IntArray:
        """Which crops are taken for one person, int64 (N,), -1: for nobody.

        With tracklets: tracklets, joined across cameras where ``match_cameras`` finds them to be the same. Without
        any: density clusters of the camera-normalised embeddings, over all cameras or, without ``cross_camera``,
        within each. Where some cameras have tracklets, the clusters within each of the others stand for theirs.

        Args:
            spaces: embeddings by target (N_i, D); people of different spaces are not compared.
            cross_camera: seek people in several cameras.
            normalised: standardise each camera's embeddings first.
            negative_quantile: as ``match_cameras`` takes it; of tracklets alone.
        """
        found = np.full(len(self.target), NOISE, np.int64)
        for space in spaces:
            members = [self.names.index(name) for name in space]
            rows = np.concatenate([np.flatnonzero(self.target == number) for number in members])
            people = _people(
                np.concatenate(list(space.values())),
                self.camera[rows],
                self.tracklets[rows],
                cross_camera=cross_camera,
                normalised=normalised,
                spans=self.spans[rows],
                negative_quantile=negative_quantile,
            )
            found[rows] = np.where(people >= 0, people + int(found.max(initial=NOISE)) + 1, NOISE)
        return found


def _people(
    embeddings: FloatArray,
    cameras: IntArray,
    tracklets: IntArray,
    *,
    cross_camera: bool,
    normalised: bool,
    spans: DoubleArray,
    negative_quantile: float,
) -> IntArray:
    """Pseudo-identities int64 (N,) of crops in one space."""
    rows = normalise_cameras(embeddings, cameras) if normalised else embeddings
    tracked = (tracklets >= 0).any()
    if cross_camera and not tracked:
        return _clusters(rows)
    own = tracklets.copy()
    for camera in np.unique(cameras):
        mine = np.flatnonzero(cameras == camera)
        if not (tracklets[mine] >= 0).any():
            clusters = _clusters(rows[mine])
            own[mine] = np.where(clusters >= 0, clusters + int(own.max(initial=NOISE)) + 1, NOISE)
    if not cross_camera:
        return own
    by_camera = {str(camera): np.flatnonzero(cameras == camera) for camera in np.unique(cameras)}
    joined = match_cameras(
        {camera: embeddings[mine] for camera, mine in by_camera.items()},
        {camera: own[mine] for camera, mine in by_camera.items()},
        normalised=normalised,
        spans={camera: spans[mine] for camera, mine in by_camera.items()},
        negative_quantile=negative_quantile,
    )
    for camera, mine in by_camera.items():
        own[mine] = joined[camera]
    return own


def _clusters(rows: FloatArray) -> IntArray:
    """Clusters int64 (N,) at the settings usual for whole data sets: k1 30, k2 6, eps 0.6, 4 crops."""
    dist = jaccard_dist(rows, k1=shrunk_k1(30, len(rows)), k2=6)
    return number_clusters(density_clusters(dist, eps=0.6, min_samples=4))


def embed_targets(
    model: Embedder, pictures: Pictures, pool: TargetPool, *, own_statistics: bool = False
) -> dict[str, FloatArray]:
    """Each target's crops (N_i, D) as ``model`` embeds them now, with BatchNorm statistics of each where wanted.

    Args:
        model: the network.
        pictures: the set's.
        pool: all targets' crops and what teachers say of them.
        own_statistics: with BatchNorm statistics of each domain's own.
    """
    found = {name: np.zeros((0, model.embedding_dim), np.float32) for name in pool.names}
    for number in np.unique(pool.target):
        own, seen = Pictures(pictures.resized[pool.target == number], pictures.preprocess), model
        if own_statistics and len(own) > 1:  # one crop has no statistics
            seen = copy.deepcopy(model)
            recompute_batchnorm(seen, own)
        found[pool.names[number]] = embed_pictures(seen, own).embedding.numpy()
    return found
