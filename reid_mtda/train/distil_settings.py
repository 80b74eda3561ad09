"""The settings of distillation; each part has a weight, and an ablation takes it out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from reid_mtda.data.augment import DEFAULT_AUGMENTATION
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    BatchNormSets,
)
from reid_mtda.train.resume import CHECKPOINT_SECONDS


class DistilSettings(Strict):
    """L = (1 - beta) L_source + beta (L_people + mean_cameras(w_logits KD_logits + w_rows KD_rows + w_proto KD_proto)).

    L_people = w_identity triplets + w_memory InfoNCE, over pseudo-identities.
    """

    steps: int = Field(default=200, ge=1, description="optimiser steps; a batch is drawn over all cameras")
    source_identities: int = Field(default=8, ge=2, description="P of the source's P x K")
    target_identities: int = Field(default=16, ge=2, description="P of the targets' P x K, over all cameras")
    source_pictures: int = Field(default=4, ge=2, description="K of the source's P x K")
    target_pictures: int = Field(default=8, ge=2, description="K of the targets' P x K")
    cross_camera: bool = Field(
        default=True, description="join tracklets of different cameras that are mutual nearest neighbours"
    )
    negative_quantile: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="such neighbours must be more alike than this share of the pairs of one camera's tracklets; 0.995 "
        "where few people pass several cameras, 0: no threshold (precision and recall of both: benchmark/market.md)",
    )
    camera_normalised: bool = Field(
        default=True, description="standardise embeddings by camera before identities are sought"
    )
    easy_first: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the steps until the camera farthest from the source by MMD joins, the others before it "
        "in order; 0: all from the start",
    )
    tracklets_are_identities: bool = Field(
        default=False, description="a number means one person in every camera: true of labels alone, the leak"
    )
    batchnorm: BatchNormSets = Field(
        default="shared", description="statistics of the whole batch, or of the source and of each camera on its own"
    )
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Adam, cosine")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0)
    beta_start: float = Field(default=0.3, gt=0, lt=1, description="share of the targets at the first step")
    beta_end: float = Field(default=0.9, gt=0, lt=1, description="share of the targets at the last step")
    temperature: float = Field(default=4.0, gt=0, description="of source-identity soft targets")
    rows_temperature: float = Field(default=0.2, gt=0, description="of similarity rows")
    source_weight: float = Field(
        default=1.0, ge=0, description="of identity and triplets on the source; 0: no source picture is seen"
    )
    logits_weight: float = Field(default=1.0, ge=0)
    rows_weight: float = Field(default=1.0, ge=0)
    identity_weight: float = Field(default=1.0, ge=0, description="of triplets among pseudo-identities")
    prototype_weight: float = Field(
        default=0.0,
        ge=0,
        description="of soft targets over a teacher's people, softened like those over source identities",
    )
    memory_weight: float = Field(default=0.0, ge=0, description="of InfoNCE to the student's own centroids of people")
    memory_temperature: float = Field(default=0.05, gt=0, description="of likeness to a centroid, before softening")
    memory_momentum: float = Field(default=0.1, ge=0, le=1, description="share of a centroid that one batch leaves")
    part_mixed: int = Field(
        default=0, ge=0, description="crops made of two people of one camera, per camera, that its teacher sees too"
    )
    part_mixed_pictures: int = Field(default=32, ge=2, description="of them in a batch, over all cameras")
    negatives: Literal["camera", "all", "simultaneous"] = Field(
        default="camera",
        description="where triplets seek negatives: the anchor's own camera (pseudo-identities of two cameras may be "
        "one person), everywhere, or among the tracklets that its camera saw at the same time: certainly others",
    )
    objectives: dict[str, float | dict[str, Any]] = Field(
        default_factory=dict,
        description="further objectives: a weight, or settings with the weight among them, by the name of a built-in "
        "one, an entry point or module:function",
    )
    keep_share: float = Field(
        default=1.0, gt=0, le=1, description="of each target's crops that is learnt from, drawn; how many are needed?"
    )
    outputs_mb: int = Field(
        default=2048, ge=1, description="what teachers' maps may take on disk and in memory, over all cameras"
    )
    ema: float = Field(default=0.98, gt=0, lt=1, description="decay of the averaged student that is returned")
    augmentation: tuple[str, ...] = DEFAULT_AUGMENTATION
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")
