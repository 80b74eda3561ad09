"""The one network type of the project: backbone, BNNeck, optional embedding layer, optional classifier."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda.models.backbones import build_backbone, telling_maps
from reid_mtda.models.device import run_backbone
from reid_mtda.schema import Strict


class EmbedderSpec(Strict):
    """What is needed to build an Embedder again: it is stored beside its weights."""

    arch: str = "osnet_x0_25"
    pooling: str = "avg"
    neck: bool = True
    embedding_dim: int | None = None
    num_classes: int | None = None


@dataclass(frozen=True, eq=False)
class EmbedderOutput:
    """What a network says of B crops.

    ``embedding`` (B, D) with rows of length 1; ``logits`` (B, C) over source identities, or None; ``feature`` (B, D),
    the embedding before it is scaled, or None where only embeddings are known; ``maps`` (B, C', h, w), what is pooled,
    or None where nobody asked.
    """

    embedding: Tensor
    logits: Tensor | None
    feature: Tensor | None = None
    maps: Tensor | None = None

    def at(self, rows: Tensor) -> EmbedderOutput:
        """The output of the crops numbered ``rows`` int64 (R,), on the same device."""
        return self.each(lambda part: part[rows])

    def to(self, device: torch.device | str) -> EmbedderOutput:
        """The output on another device."""
        return self.each(lambda part: part.to(device))

    def split(self, sizes: list[int]) -> list[EmbedderOutput]:
        """The output of a joint batch, cut into its parts."""
        ends = list(itertools.accumulate(sizes, initial=0))
        return [self.each(operator.itemgetter(slice(*cut))) for cut in itertools.pairwise(ends)]

    def each(self, change: Callable[[Tensor], Tensor]) -> EmbedderOutput:
        """The output with every tensor that it has changed in the same way."""
        changed: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            part = getattr(self, name)
            changed[name] = None if part is None else change(part)
        return EmbedderOutput(**changed)


def joined_outputs(outputs: Sequence[EmbedderOutput]) -> EmbedderOutput:
    """Several outputs as one; without the parts that one of them lacks."""
    joined: dict[str, Any] = {}
    for name in EmbedderOutput.__dataclass_fields__:
        parts = [getattr(output, name) for output in outputs]
        joined[name] = None if any(part is None for part in parts) else torch.cat(parts)
    return EmbedderOutput(**joined)


class Embedder(nn.Module):
    """Crops (B, 3, h, w) -> EmbedderOutput, the same type in train and eval mode.

    The BNNeck (Luo et al. 2019, "Bag of tricks") is a BatchNorm without shift between feature and classifier; the
    embedding is what leaves it, scaled to length 1.
    """

    def __init__(self, spec: EmbedderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.precision = "fp32"
        self.backbone, feature_dim = build_backbone(spec.arch, pooling=spec.pooling)
        self.embedding_dim = spec.embedding_dim or feature_dim
        self.project: nn.Module = (
            nn.Linear(feature_dim, spec.embedding_dim, bias=False) if spec.embedding_dim else nn.Identity()
        )
        self.neck: nn.Module = nn.Identity()
        if spec.neck:
            neck = nn.BatchNorm1d(self.embedding_dim)
            neck.bias.requires_grad_(False)
            self.neck = neck
        self.classifier: nn.Linear | None = None
        if spec.num_classes:
            self.classifier = nn.Linear(self.embedding_dim, spec.num_classes, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, crops: Tensor, *, wants_maps: bool = False) -> EmbedderOutput:
        """Embed crops (B, 3, h, w), preprocessed; with ``wants_maps`` the output carries what is pooled.

        Raises:
            ModelError: a backbone that does not tell its maps.
        """
        maps = None
        if wants_maps:
            backbone = telling_maps(self.backbone)
            maps = run_backbone(backbone.maps, crops, self.precision)
            pooled = run_backbone(backbone.pooled, maps, self.precision)
        else:
            pooled = run_backbone(self.backbone, crops, self.precision)
        feature = self.neck(self.project(pooled))
        logits = self.classifier(feature) if self.classifier is not None else None
        return EmbedderOutput(functional.normalize(feature, dim=1), logits, feature, maps)


def build_embedder(spec: EmbedderSpec, *, seed: int) -> Embedder:
    """Build an Embedder with weights drawn from ``seed``, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Embedder(spec)
