"""The one network type of the project: backbone, BNNeck, optional embedding layer, optional classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda.models.backbones import build_backbone
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
    """``embedding`` (B, D) with rows of length 1; ``logits`` (B, C) over source identities, or None."""

    embedding: Tensor
    logits: Tensor | None

    def at(self, rows: Tensor) -> EmbedderOutput:
        """The output of the crops numbered ``rows`` int64 (R,), on the same device."""
        return EmbedderOutput(self.embedding[rows], None if self.logits is None else self.logits[rows])

    def to(self, device: torch.device | str) -> EmbedderOutput:
        """The output on another device."""
        return EmbedderOutput(self.embedding.to(device), None if self.logits is None else self.logits.to(device))

    def split(self, sizes: list[int]) -> list[EmbedderOutput]:
        """The output of a joint batch, cut into its parts."""
        parts = torch.split(self.embedding, sizes)
        logits = [None] * len(sizes) if self.logits is None else torch.split(self.logits, sizes)
        return [EmbedderOutput(embedding, own) for embedding, own in zip(parts, logits, strict=True)]


def joined_outputs(outputs: Sequence[EmbedderOutput]) -> EmbedderOutput:
    """Several outputs as one; without logits where one of them has none."""
    logits = [output.logits for output in outputs if output.logits is not None]
    return EmbedderOutput(
        embedding=torch.cat([output.embedding for output in outputs]),
        logits=torch.cat(logits) if len(logits) == len(outputs) else None,
    )


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

    def forward(self, crops: Tensor) -> EmbedderOutput:
        """Embed crops (B, 3, h, w), preprocessed."""
        feature = self.neck(self.project(run_backbone(self.backbone, crops, self.precision)))
        logits = self.classifier(feature) if self.classifier is not None else None
        return EmbedderOutput(embedding=functional.normalize(feature, dim=1), logits=logits)


def build_embedder(spec: EmbedderSpec, *, seed: int) -> Embedder:
    """Build an Embedder with weights drawn from ``seed``, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Embedder(spec)
