"""Adaptation of a classifier to one unlabelled target by a named alignment: DAN (MMD), DANN, CDAN, MCC, or none.

Without alignment it is source training; given labelled targets as source it is the supervised oracle; given all
targets as one it is the blending baseline.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from reid_mtda.data.augment import build_augmentation
from reid_mtda.data.batches import Pictures
from reid_mtda.data.closed_domain import LabelledPictures, UnlabelledPictures
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.errors import DataError
from reid_mtda.losses.adversarial import reversal_delta
from reid_mtda.losses.alignment import ADVERSARIAL, ALIGNMENTS
from reid_mtda.models.classifier import Classifier
from reid_mtda.models.device import forked_generators, on_host, placed
from reid_mtda.models.discriminator import Discriminator
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    BatchNormSets,
    EpochCallback,
    inverse_decay,
    keep_last,
    optimise,
    pass_domains,
    rate_groups,
    recompute_batchnorm,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
)
from reid_mtda.train.resume import CHECKPOINT_SECONDS, Resumable
from reid_mtda.types import Preprocess


class AlignmentSettings(Strict):
    """L = CE(source) + weight * alignment(source, target)."""

    alignment: Literal["none", "mmd", "dann", "cdan", "mcc"] = "mcc"
    weight: float = Field(default=1.0, ge=0, description="of the alignment loss")
    epochs: int = Field(default=20, ge=1)
    steps_per_epoch: int = Field(default=0, ge=0, description="0: one pass over the source")
    batch_size: int = Field(default=32, ge=2, description="source pictures a step, and target pictures a step")
    target_batch_size: int = Field(default=0, ge=0, description="0: as batch_size")
    learning_rate: float = Field(default=1e-2, gt=0, le=1, description="SGD with momentum 0.9")
    head_rate: float = Field(default=1.0, gt=0, le=100, description="factor on the rate of head and discriminator")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    discriminator_width: int = Field(default=4096, ge=1)
    batchnorm: BatchNormSets = Field(default="shared", description="statistics of the batch, or of each domain in it")
    augmentation: tuple[str, ...] = ()
    checkpoint_seconds: float = Field(default=CHECKPOINT_SECONDS, ge=0, description="between resumable states")


@telling_what_fits("batch_size")
def align_classifier(
    model: Classifier,
    source: LabelledPictures,
    target: UnlabelledPictures | None,
    preprocess: Preprocess,
    settings: AlignmentSettings,
    run: Run,
    progress: Progress = silent,
    after_epoch: EpochCallback = keep_last,
) -> Classifier:
    """Adapt a copy of ``model`` to ``target``; the weights after the last epoch are the result.

    Both domains pass the network as one batch, so that BatchNorm learns the statistics of their mixture, which are
    those it uses afterwards; with ``per_domain`` each passes alone, and the target's own statistics are used.

    Args:
        model: where training starts; it stays as it is.
        source: N labelled pictures.
        target: M unlabelled pictures, or None for training on the source alone.
        preprocess: colours of the networks' input; pictures have their size already.
        settings: weights, epochs and batches.
        run: gives folder, seed and device; a state in it is gone on with.
        progress: called after each step.
        after_epoch: called after each epoch with its number and the network, e.g. to keep a copy of the best.

    Returns:
        The adapted copy on the CPU, in eval mode.

    Raises:
        DataError: an empty source or target.
        TrainingError: a loss that is not finite, or a device with too little memory for a batch.
    """
    device = torch.device(run.compute.device)
    if target is not None and not len(target):
        raise DataError(f"{target.domain}: got no pictures to adapt to, expected some")
    if settings.alignment == "none":
        target = None
    model = placed(copy.deepcopy(model).requires_grad_(True).train(), run.compute)
    of_source = Pictures(source.pictures, preprocess)
    of_target = Pictures(target.pictures, preprocess) if target else None
    labels = torch.from_numpy(source.labels).to(device)
    pick_source = ShuffleSampler(len(source), settings.batch_size, run.child_seed("source"))
    batch_t = settings.target_batch_size or settings.batch_size
    pick_target = ShuffleSampler(len(target), batch_t, run.child_seed("target")) if target else None
    augment = build_augmentation(settings.augmentation, source.pictures.shape[1:3])
    with forked_generators(device):
        torch.manual_seed(run.child_seed("discriminator"))
        judged = model.spec.num_classes if settings.alignment == "cdan" else 0
        hidden = settings.discriminator_width if settings.alignment in ADVERSARIAL else 1
        discriminator = Discriminator(model.feature_dim, num_classes=judged, hidden=hidden).train().to(device)
    optimiser = torch.optim.SGD(
        rate_groups(model, discriminator, head_rate=settings.head_rate),
        lr=settings.learning_rate,
        momentum=0.9,
        weight_decay=settings.weight_decay,
    )
    networks = {"model": model, "discriminator": discriminator}
    state = Resumable(run, networks, {"both": optimiser}, settings.checkpoint_seconds)
    per_epoch = settings.steps_per_epoch or pick_source.steps_per_epoch
    total = settings.epochs * per_epoch
    where = f"{settings.alignment} on {target.domain if target else source.domain}"

    for step in range(state.start(), total):
        set_learning_rate(optimiser, inverse_decay(settings.learning_rate, (step // per_epoch) / settings.epochs))
        rows_s = pick_source.batch(step)
        units = [of_source.unit(rows_s, device)]
        if of_target is not None and pick_target is not None:
            units.append(of_target.unit(pick_target.batch(step), device))
        with seeded_step(run, step):
            seen = of_source.normalised(augment(torch.cat(units)))
            out_s, *out_t = pass_domains(model, seen, [len(unit) for unit in units], settings.batchnorm)
        parts: dict[str, Tensor] = {"classes": functional.cross_entropy(out_s.logits, labels[rows_s])}
        if out_t:
            parts["alignment"] = settings.weight * ALIGNMENTS[settings.alignment](
                source_features=out_s.feature,
                source_logits=out_s.logits,
                target_features=out_t[0].feature,
                target_logits=out_t[0].logits,
                discriminator=discriminator,
                delta=reversal_delta(step / total),
            )
        numbers = optimise(optimiser, parts, where=where, step=step)
        if (step + 1) % per_epoch == 0:
            run.record("alignment", epoch=step // per_epoch + 1, **numbers)
            after_epoch(step // per_epoch + 1, model)
        state.save(step + 1)
        progress(where, step + 1, total)
    if settings.batchnorm == "per_domain" and of_target is not None:
        recompute_batchnorm(model, of_target, seed=run.child_seed("batchnorm"))
    state.finish()
    return on_host(model).eval()
