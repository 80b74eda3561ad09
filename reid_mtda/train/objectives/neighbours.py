"""Objectives over the graph of all cameras' crops, whose edges join a crop to its nearest neighbours."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reid_mtda.data.pseudo_labels import jaccard_dist, normalise_cameras, shrunk_k1
from reid_mtda.losses.distillation.graph import edge_difference_loss, neighbours_loss
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.train.objectives.objective import (
    AllCrops,
    Context,
    Need,
    Objective,
    ObjectiveSettings,
    Over,
    Sizes,
    given,
)


class NeighbourSettings(ObjectiveSettings):
    """Of ``neighbour_graph``."""

    neighbours: int = Field(default=5, ge=1, le=100, description="of each crop, over all cameras; itself comes on top")
    temperature: float = Field(default=1.0, gt=0, description="of what neighbours' teachers say")
    edge_temperature: float = Field(default=1.5, gt=0, description="of differences along edges")
    edge_weight: float = Field(default=1.0, ge=0, description="of differences beside what neighbours say")


class NeighbourGraph(Objective):
    """`neighbours_loss` and `edge_difference_loss`: re-ranking's neighbours, distilled into the student.

    Edges are the nearest by Jaccard distance of k-reciprocal neighbours among the teachers' camera-normalised
    embeddings: the one thing teachers can say of crops of two cameras.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})
    over: ClassVar[Over] = "all"

    def __init__(self, settings: NeighbourSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings
        self.near: Tensor
        self.said: Tensor
        self.register_buffer("near", torch.zeros(0, 1, dtype=torch.int64), persistent=False)
        self.register_buffer("said", torch.zeros(0, sizes.classes), persistent=False)

    def prepare(self, crops: AllCrops) -> None:
        """Find each crop's neighbours (N, k + 1), itself first."""
        embedding: Tensor = given(crops.embedding, "embeddings of one space")
        self.near = nearest_crops(embedding, crops.cameras, self.settings.neighbours)
        self.said = given(crops.logits, "logits")

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Follow neighbours' teachers, and differ from neighbours in the batch as teachers do."""
        logits: Tensor = given(student.logits, "logits")
        near = self.near[context.rows]
        low = neighbours_loss(student=logits, neighbours=self.said[near], temperature=self.settings.temperature)
        if not self.settings.edge_weight:
            return low
        joined = (near[:, 1:, None] == context.rows[None, None, :]).any(1)
        edges = joined.nonzero().T
        high = edge_difference_loss(
            student=logits,
            teacher=given(teacher.logits, "logits"),
            edges=edges,
            temperature=self.settings.edge_temperature,
        )
        return low + self.settings.edge_weight * high


def nearest_crops(embedding: Tensor, cameras: Tensor, count: int) -> Tensor:
    """Numbers int64 (N, count + 1) of each crop and its nearest by Jaccard distance; all where there are fewer.

    Args:
        embedding: (N, D).
        cameras: (N,) the number of each crop's camera.
        count: how many.
    """
    rows = normalise_cameras(embedding.numpy(), cameras.numpy())
    dist = jaccard_dist(rows, k1=shrunk_k1(30, len(rows)), k2=6)
    count = min(count, len(rows) - 1)
    near = np.zeros((len(rows), count + 1), np.int64)
    for number in range(len(rows)):
        own = dist[[number]].toarray()[0] if hasattr(dist, "toarray") else np.asarray(dist[number]).ravel()
        own[number] = -1.0
        near[number] = np.argsort(own, kind="stable")[: count + 1]
    return torch.from_numpy(near)
