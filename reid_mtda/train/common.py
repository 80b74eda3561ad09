"""What the loops share: frozen teachers, seeded steps, a stop at the first bad number, schedules, statistics."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reid_mtda.data.batches import Pictures
from reid_mtda.errors import TrainingError
from reid_mtda.models.classifier import Classifier, ClassifierOutput
from reid_mtda.models.device import device_of, forked_generators, is_out_of_memory, placed
from reid_mtda.models.embedder import Embedder, EmbedderOutput, joined_outputs
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import HOST, Compute, Run

log = logging.getLogger(__name__)

BatchNormSets = Literal["shared", "per_domain"]
Output = TypeVar("Output", ClassifierOutput, EmbedderOutput)
Given = ParamSpec("Given")
Result = TypeVar("Result")


class EpochCallback(Protocol):
    """Called with the epoch's number (1..N) and the network being trained; gives nothing back to the loop."""

    def __call__(self, epoch: int, model: Classifier) -> None:
        """Look at the network, e.g. keep a copy."""


def keep_last(epoch: int, model: Classifier) -> None:
    """Keep nothing: the last weights are the result, which is the default rule."""


def frozen(model: Embedder) -> Embedder:
    """Make ``model`` a teacher: eval mode, so BatchNorm cannot drift, and no gradient anywhere."""
    return model.eval().requires_grad_(False)


def trainable(model: Embedder, compute: Compute = HOST) -> Embedder:
    """Undo ``frozen`` on a device: train mode and gradients everywhere but in the BNNeck's shift, which stays 0.

    The layout is that of ``Pictures.normalised``, whether the weights come from memory or from disk: another layout
    is another order of summation, and a resumed run would differ from an uninterrupted one in the last bits.
    """
    model.train().requires_grad_(True)
    if isinstance(model.neck, nn.BatchNorm1d):
        model.neck.bias.requires_grad_(False)
    return placed(model, compute).to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


@contextlib.contextmanager
def seeded_step(run: Run, step: int) -> Iterator[None]:
    """Give one step its own randomness from (run seed, step) and leave the generators as they were.

    Those of the CPU and of the run's device: what a device draws differs from what the CPU draws, batches do not.
    """
    with forked_generators(torch.device(run.compute.device)):
        torch.manual_seed(run.child_seed(f"step {step}"))
        yield


def optimise(optimiser: Optimizer, parts: Mapping[str, Tensor], *, where: str, step: int) -> dict[str, float]:
    """Sum the weighted loss parts, step the optimiser, return the parts as numbers.

    Args:
        optimiser: over the network's weights.
        parts: weighted losses, one number each, by name.
        where: opens the message.
        step: its number, from 0.

    Raises:
        TrainingError: a part is no number, or not finite; it is named with the step, and the weights stay as they were.
    """
    for name, part in parts.items():
        if part.ndim:
            raise TrainingError(
                f"{where}, step {step}: loss part {name!r} has the shape {tuple(part.shape)}, expected one number; "
                "return the mean over the batch"
            )
    losses = torch.stack(list(parts.values()))
    numbers = dict(zip(parts, losses.detach().tolist(), strict=True))
    for name, number in numbers.items():
        if not np.isfinite(number):
            raise TrainingError(
                f"{where}, step {step}: loss part {name!r} is {number}, expected a finite number; "
                "lower the learning rate or look at the crops of this step"
            )
    optimiser.zero_grad(set_to_none=True)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return numbers


def telling_what_fits(batch: str) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Decorate a loop: where memory is too small for a step, the error says which batch to try.

    Args:
        batch: the setting on which the size of a batch depends.
    """

    def decorate(loop: Callable[Given, Result]) -> Callable[Given, Result]:
        @functools.wraps(loop)
        def guarded(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            try:
                return loop(*args, **kwargs)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                given = inspect.signature(loop).bind(*args, **kwargs).arguments
                size, device = getattr(given["settings"], batch), given["run"].compute.device
                what = f"{given['run'].folder}: {device} has too little memory for a step of {batch} {size}"
                remedy = f"try {batch}={size // 2}" if size >= 4 else "try smaller pictures or a smaller network"
                raise TrainingError(f"{what}; {remedy}, and run the same command in another folder") from error

        return guarded

    return decorate


@torch.no_grad()
def embed_pictures(
    model: Embedder, pictures: Pictures, *, batch: int = 128, progress: Progress = silent, wants_maps: bool = False
) -> EmbedderOutput:
    """Embed a whole set in eval mode without augmentation, on the model's device.

    Args:
        model: left in the mode that it was in.
        pictures: N of them.
        batch: how many go through it at once.
        progress: told ("embed", pictures done, N) after each batch.
        wants_maps: keep what is pooled, too, as float16.

    Returns:
        embedding (N, D), logits (N, C) or None, feature (N, D) and, where asked, maps, on the CPU.
    """
    was_training = model.training
    model.eval()
    outputs = []
    for start in range(0, len(pictures), batch):
        rows = np.arange(start, min(start + batch, len(pictures)))
        shown = pictures.normalised(pictures.unit(rows, device_of(model)))
        output: EmbedderOutput = model(shown, wants_maps=True) if wants_maps else model(shown)
        outputs.append(output.to("cpu") if output.maps is None else replace(output, maps=output.maps.half()).to("cpu"))
        progress("embed", int(rows[-1]) + 1, len(pictures))
    model.train(was_training)
    return joined_outputs(outputs)


@torch.no_grad()
def update_average(averaged: nn.Module, student: nn.Module, decay: float) -> None:
    """Move ``averaged`` towards ``student``: weights and BatchNorm buffers alike.

    Args:
        averaged: the running average, changed in place.
        student: the network being trained.
        decay: share that the average keeps, 0..1.
    """
    current = student.state_dict()
    for name, value in averaged.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1.0 - decay)
        else:
            value.copy_(current[name])


def pass_domains(
    model: Callable[[Tensor], Output], pictures: Tensor, sizes: Sequence[int], batchnorm: BatchNormSets
) -> list[Output]:
    """Pass the domains' pictures (B, 3, h, w), ``sizes`` of each, in one batch or each alone.

    Alone, BatchNorm sees each domain's own statistics while its scale and shift are shared (Chang et al. 2019,
    "Domain-Specific Batch Normalization", with the statistics alone specific): a domain is told by its statistics.

    Args:
        model: the network.
        pictures: (B, 3, h, w), normalised.
        sizes: pictures of each domain.
        batchnorm: whether domains share the statistics of a batch or pass alone.
    """
    if batchnorm == "shared":
        return model(pictures).split(list(sizes))
    return [model(part) for part in torch.split(pictures, list(sizes))]


@contextlib.contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """While it lasts BatchNorm uses each batch's statistics and keeps none of them; other layers stay in their mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    try:
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, (training, tracked) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracked


@torch.no_grad()
def recompute_batchnorm(model: nn.Module, pictures: Pictures, *, batch: int = 64, seed: int = 0) -> None:
    """Set every BatchNorm's running statistics to those of ``pictures`` (AdaBN, Li et al. 2016); weights stay.

    Pictures come in a shuffled order, in full batches where there are enough, so that no batch is one tracklet. What
    else differs in training (dropout) stays as in use.

    Args:
        model: the network.
        pictures: the set's.
        batch: how many pictures go through at once.
        seed: of what is drawn.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over the batches
    was_training = model.training
    model.eval()
    for norm in norms:
        norm.train()
    order = np.random.default_rng(seed).permutation(len(pictures))
    for start in range(0, max(len(order) - batch + 1, 1), batch):
        model(pictures.normalised(pictures.unit(order[start : start + batch], device_of(model))))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


def geometric_ramp(start: float, end: float, progress: float) -> float:
    """Grow from ``start`` at progress 0 to ``end`` at 1 by equal factors: s * (f / s)^p (P1, eq. 9; P2).

    Args:
        start: the value at progress 0.
        end: the value at progress 1.
        progress: how much of training is over, 0..1.
    """
    return float(start * (end / start) ** progress)


def inverse_decay(initial: float, progress: float) -> float:
    """lr = lr0 * (1 + 10 p)^-0.75 for progress p in [0, 1] (P1, P2; Ganin & Lempitsky 2015)."""
    return float(initial * (1.0 + 10.0 * progress) ** -0.75)


def cosine_decay(initial: float, progress: float, *, warm_up: float = 0.05) -> float:
    """Linear warm-up, then half a cosine to zero, for progress p in [0, 1].

    Args:
        initial: the rate at its highest.
        progress: how much of training is over, 0..1.
        warm_up: share of the steps in which the rate rises.
    """
    if progress < warm_up:
        return initial * (progress + 1e-3) / (warm_up + 1e-3)
    return float(initial * 0.5 * (1.0 + np.cos(np.pi * (progress - warm_up) / (1.0 - warm_up))))


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate ``rate``, times its own ``factor`` if it has one."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def rate_groups(
    network: Classifier,
    discriminator: nn.Module | None = None,
    *,
    head_rate: float,
    discriminator_rate: float | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser: the backbone, and with a ``factor`` each the head and the discriminator.

    What starts from nothing learns faster than what was pre-trained, ten times in DAN (Long et al. 2015) and after;
    so the discriminator's factor is the head's unless another is given.

    Args:
        network: the network.
        discriminator: the adversary; None: there is none.
        head_rate: factor on the rate of the head.
        discriminator_rate: factor on the rate of the discriminator; None: the head's.
    """
    groups: list[dict[str, Any]] = [
        {"params": list(network.backbone.parameters())},
        {"params": list(network.head.parameters()), "factor": head_rate},
    ]
    if discriminator is not None:
        factor = head_rate if discriminator_rate is None else discriminator_rate
        groups.append({"params": list(discriminator.parameters()), "factor": factor})
    return groups
