"""What the teachers say of their cameras' crops, kept so that each crop passes its teacher once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_mtda.data.batches import Pictures, load_pictures
from reid_mtda.data.clusters import NOISE, density_clusters, jaccard_dist, normalise_cameras, number_clusters, shrunk_k1
from reid_mtda.data.identities import camera_normalised, match_cameras
from reid_mtda.models.embedder import Embedder
from reid_mtda.train.common import embed_pictures, frozen
from reid_mtda.types import FloatArray, IntArray, Preprocess, UnlabelledSet


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a teacher says of its camera's crops.

    ``embedding`` (N, D_t), rows of length 1; ``logits`` (N, C) over source identities, None for a ready-made teacher.
    ``space`` names the space of the embeddings where one teacher serves several cameras: then similarity is taught
    across them too. Empty: the camera's own.
    """

    embedding: Tensor
    logits: Tensor | None
    space: str = ""


def give_lesson(teacher: Embedder, target: UnlabelledSet, preprocess: Preprocess) -> Lesson:
    """Pass every crop of ``target`` through the frozen ``teacher`` once."""
    output = embed_pictures(frozen(teacher), load_pictures(target.paths, preprocess))
    return Lesson(embedding=output.embedding, logits=output.logits)


@dataclass(frozen=True, eq=False)
class Teaching:
    """The crops of all cameras in one row of numbers, camera after camera, with their lessons.

    ``camera`` int64 (N,) is the number of a crop's camera in ``names``; ``place`` int64 (N,) where the crop stands in
    its space's lesson; ``spaces`` gives per space its cameras' numbers and the lesson of all their crops.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    camera: IntArray
    place: IntArray
    tracklets: IntArray
    spaces: dict[str, tuple[tuple[int, ...], Lesson]]

    @classmethod
    def of(
        cls, targets: Mapping[str, UnlabelledSet], lessons: Mapping[str, Lesson], *, shared_numbers: bool = False
    ) -> Teaching:
        """Number the crops of ``targets``; tracklets of different cameras stay apart unless they share numbers."""
        names, spaces = tuple(targets), {}
        camera = np.repeat(np.arange(len(names)), [len(target) for target in targets.values()])
        place = np.zeros(len(camera), np.int64)
        for space in dict.fromkeys(lessons[name].space or name for name in names):
            members = tuple(n for n, name in enumerate(names) if (lessons[name].space or name) == space)
            parts = [lessons[names[n]] for n in members]
            logits = [part.logits for part in parts if part.logits is not None]
            joined = torch.cat(logits) if len(logits) == len(parts) else None
            spaces[space] = members, Lesson(torch.cat([part.embedding for part in parts]), joined, space)
            rows = np.flatnonzero(np.isin(camera, members))
            place[rows] = np.arange(len(rows))
        tracklets = np.full(len(camera), NOISE)
        for number, target in enumerate(targets.values()):
            if target.tracklets is not None:
                own = target.tracklets
                if not shared_numbers:
                    own = np.unique(own, return_inverse=True)[1] + int(tracklets.max(initial=NOISE)) + 1
                tracklets[camera == number] = np.where(target.tracklets >= 0, own, NOISE)
        paths = tuple(path for target in targets.values() for path in target.paths)
        return cls(names, paths, camera.astype(np.int64), place, tracklets.astype(np.int64), spaces)

    def embeddings(self) -> dict[str, FloatArray]:
        """Each camera's crops as its teacher embeds them."""
        return {
            self.names[number]: lesson.embedding.numpy()[self.place[self.camera == number]]
            for members, lesson in self.spaces.values()
            for number in members
        }

    def pseudo_identities(
        self, embeddings: Mapping[str, FloatArray], *, cross_camera: bool, normalised: bool = True
    ) -> IntArray:
        """Which crops are taken for one person, int64 (N,), -1: for nobody.

        With tracklets: tracklets, joined across cameras where ``match_cameras`` finds them to be the same. Without
        any: density clusters of the camera-normalised embeddings, over all cameras or, without ``cross_camera``,
        within each.
        """
        if (self.tracklets >= 0).any():
            if not cross_camera:
                return self.tracklets
            own = {name: self.tracklets[self.camera == number] for number, name in enumerate(self.names)}
            joined = match_cameras({name: embeddings[name] for name in self.names}, own, normalised=normalised)
            return np.concatenate([joined[name] for name in self.names]).astype(np.int64)
        if cross_camera and len({rows.shape[1] for rows in embeddings.values()}) == 1:
            rows = np.concatenate([embeddings[name] for name in self.names])
            return number_clusters(_clusters(normalise_cameras(rows, self.camera) if normalised else rows))
        found, first = np.full(len(self.camera), NOISE, np.int64), 0
        for number, name in enumerate(self.names):
            own_clusters = number_clusters(_clusters(camera_normalised(embeddings[name])))
            found[self.camera == number] = np.where(own_clusters >= 0, own_clusters + first, NOISE)
            first += int(own_clusters.max(initial=NOISE)) + 1
        return found


def _clusters(rows: FloatArray) -> IntArray:
    """Clusters int64 (N,) at the clustering teachers' settings: k1 30, k2 6, eps 0.6, 4 crops."""
    return density_clusters(jaccard_dist(rows, k1=shrunk_k1(30, len(rows)), k2=6), eps=0.6, min_samples=4)


def embed_cameras(model: Embedder, pictures: Pictures, teaching: Teaching) -> dict[str, FloatArray]:
    """Each camera's crops as ``model`` embeds them now."""
    rows = embed_pictures(model, pictures).embedding.numpy()
    return {name: rows[teaching.camera == number] for number, name in enumerate(teaching.names)}
