"""How KD-STDA and KD-MTDA train: weights of the parts, rates, schedules."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    BatchNormSets,
)
from reid_mtda.train.resume import CHECKPOINT_SECONDS


class ProgressiveSettings(Strict):
    """L_DA = (1 - beta) [CE + gamma L_align]; L_KD = beta [alpha tau^2 KL_s + (1 - alpha) CE + tau^2 KL_t (+ ...)].

    MMD's weight grows with training as in the published code (DAN's ramp); the equation of P1 has no such factor.
    """

    alignment: Literal["mmd", "dann", "cdan", "mcc"] = Field(
        default="dann", description="mmd: P1; dann: P2; cdan, mcc: as in train.alignment, to tell loop from alignment"
    )
    epochs: int = Field(default=20, ge=1)
    steps_per_epoch: int = Field(default=0, ge=0, description="0: one pass over the source")
    batch_size: int = Field(default=32, ge=2)
    teacher_learning_rate: float = Field(default=1e-3, gt=0, le=1)
    student_learning_rate: float = Field(default=1e-2, gt=0, le=1)
    head_rate: float = Field(default=1.0, gt=0, le=100, description="factor on the rate of the head")
    discriminator_rate: float | None = Field(
        default=None, gt=0, le=100, description="factor on the rate of the discriminator; none: as the head's"
    )
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    temperature: float = Field(default=20.0, gt=0, description="tau")
    alpha: float = Field(default=0.5, ge=0, le=1, description="KD against CE on the source; 0.3 in P1")
    gamma: float = Field(default=0.5, ge=0, description="weight of the alignment")
    beta_start: float = Field(default=0.1, gt=0, lt=1)
    beta_end: float = Field(default=0.5, gt=0, lt=1, description="0.9 in P1, 0.5 to 0.6 in P2")
    feature_weight: float = Field(
        default=0.0,
        ge=0,
        description="of distilling the pooled feature; P3's option distils four stages, and is not here",
    )
    discriminator_width: int = Field(default=4096, ge=1)
    augmentation: tuple[str, ...] = ()
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")
    reuse_teacher_output: bool = Field(
        default=False, description="the teacher's own step teaches, which saves its 2nd forward"
    )
    batchnorm: BatchNormSets = Field(
        default="per_domain", description="each domain forwarded alone, as published, or both in one batch"
    )
    teacher_statistics: Literal["own", "mixture"] = Field(
        default="own",
        description="BatchNorm of a teacher that teaches: each domain's own, of the batch, as in its training, or the "
        "running mixture of source and target; where both pass in one batch always the mixture",
    )
