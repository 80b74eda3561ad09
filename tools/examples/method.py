"""A teacher method of one's own: the entropy of what the classifier says of the target, made small.

    PYTHONPATH=. reid-mtda adapt SITE --config PRESET --out OUT \\
        --set adapt.method=tools.examples.method:adapt_by_entropy

A package offers it by a name instead: ``[project.entry-points."reid_mtda.methods"]``.
"""

from __future__ import annotations

import copy

import torch
from pydantic import Field

from reid_mtda.data.batches import load_pictures
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.errors import ModelError
from reid_mtda.models.device import on_host
from reid_mtda.models.embedder import Embedder
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.schema import Strict
from reid_mtda.train.common import (
    optimise,
    recompute_batchnorm,
    seeded_step,
    trainable,
)
from reid_mtda.train.resume import Resumable
from reid_mtda.types import LabelledSet, Preprocess, UnlabelledSet


class EntropySettings(Strict):
    """The mean entropy of class probabilities of the target's crops, made small (Grandvalet & Bengio 2004)."""

    steps: int = Field(default=60, ge=1)
    batch_size: int = Field(default=48, ge=2)
    learning_rate: float = Field(default=1e-4, gt=0, le=1)


def adapt_by_entropy(
    model: Embedder,
    source: LabelledSet | None,
    target: UnlabelledSet,
    preprocess: Preprocess,
    settings: EntropySettings,
    run: Run,
    progress: Progress = silent,
) -> Embedder:
    """Adapt a copy of ``model`` to ``target``; called as the package's own methods are.

    Raises:
        ModelError: a network without a classifier has no probabilities.
        TrainingError: a loss that is not finite.
    """
    if model.classifier is None:
        raise ModelError(f"entropy on {target.domain}: the network has no classifier; use a source to learn")
    device = torch.device(run.compute.device)
    model = trainable(copy.deepcopy(model), run.compute)
    pictures = load_pictures(target.paths, preprocess)
    pick = ShuffleSampler(len(pictures), settings.batch_size, run.child_seed("target"))
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    state = Resumable(run, {"model": model}, {"model": optimiser})
    for step in range(state.start(), settings.steps):
        with seeded_step(run, step):
            logits = model(pictures.normalised(pictures.unit(pick.batch(step), device))).logits
        log_probability = torch.log_softmax(logits, dim=1)
        entropy = -(log_probability.exp() * log_probability).sum(1).mean()
        numbers = optimise(optimiser, {"entropy": entropy}, where=f"entropy on {target.domain}", step=step)
        run.record("entropy", step=step, **numbers)
        state.save(step + 1)
        progress(f"teacher {target.domain}", step + 1, settings.steps)
    recompute_batchnorm(model, pictures, seed=run.child_seed("batchnorm"))
    state.finish()
    return on_host(model).eval()
