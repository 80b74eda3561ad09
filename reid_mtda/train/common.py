"""What the loops share: frozen teachers, seeded steps, exact resume, a stop at the first bad number, progress."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reid_mtda.data.batches import Pictures
from reid_mtda.errors import TrainingError
from reid_mtda.models.checkpoint import RUN_AGAIN, load_tensors, save_tensors
from reid_mtda.models.classifier import Classifier, ClassifierOutput
from reid_mtda.models.embedder import Embedder, EmbedderOutput
from reid_mtda.runs import Run

log = logging.getLogger(__name__)

BatchNormSets = Literal["shared", "per_domain"]
Output = TypeVar("Output", ClassifierOutput, EmbedderOutput)


def frozen(model: Embedder) -> Embedder:
    """Make ``model`` a teacher: eval mode, so BatchNorm cannot drift, and no gradient anywhere."""
    return model.eval().requires_grad_(False)


def trainable(model: Embedder) -> Embedder:
    """Undo ``frozen``: train mode and gradients everywhere but in the BNNeck's shift, which stays 0.

    The layout is that of ``Pictures.normalised``, whether the weights come from memory or from disk: another layout
    is another order of summation, and a resumed run would differ from an uninterrupted one in the last bits.
    """
    model.train().requires_grad_(True)
    if isinstance(model.neck, nn.BatchNorm1d):
        model.neck.bias.requires_grad_(False)
    return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


@contextlib.contextmanager
def seeded_step(run: Run, step: int) -> Iterator[None]:
    """Give one step its own randomness from (run seed, step) and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.child_seed(f"step {step}"))
        yield


def optimise(optimiser: Optimizer, parts: Mapping[str, Tensor], *, where: str, step: int) -> dict[str, float]:
    """Sum the weighted loss parts, step the optimiser, return the parts as numbers.

    Raises:
        TrainingError: a part is not finite; it is named with the step, and the weights stay as they were.
    """
    numbers = {name: float(part.detach()) for name, part in parts.items()}
    for name, number in numbers.items():
        if not np.isfinite(number):
            raise TrainingError(
                f"{where}, step {step}: loss part {name!r} is {number}, expected a finite number; "
                "lower the learning rate or look at the crops of this step"
            )
    optimiser.zero_grad(set_to_none=True)
    total = torch.stack(list(parts.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return numbers


@dataclass(frozen=True, eq=False)
class Resumable:
    """Everything a loop changes, saved together: networks, optimiser, extra tensors, step."""

    run: Run
    networks: Mapping[str, nn.Module]
    optimiser: Optimizer
    every: int

    def start(self) -> int:
        """Restore the last saved state if there is one; return the step to go on with (0 when fresh).

        Raises:
            ModelError: the saved state is damaged or of another network.
        """
        path = self._path
        if not path.exists():
            self.run.forget_records(0)
            return 0
        tensors, card = load_tensors(path, kind="resume", remedy=RUN_AGAIN)
        for name, network in self.networks.items():
            try:
                network.load_state_dict(_under(tensors, f"network.{name}."))
            except RuntimeError as error:
                raise TrainingError(
                    f"{path}: another network {name!r} ({str(error).splitlines()[0]}); remove {self.run.folder}"
                ) from None
        state = self.optimiser.state_dict()
        state["state"] = {
            int(index): {
                key: tensors[f"optimiser.{index}.{key}"] if kind == "tensor" else kind for key, kind in keys.items()
            }
            for index, keys in card["optimiser"].items()
        }
        for group, saved in zip(state["param_groups"], card["groups"], strict=True):
            group.update(saved)
        self.optimiser.load_state_dict(state)
        self.run.forget_records(card.get("recorded_bytes", self.run.recorded_bytes()))
        log.info("resuming %s at step %d", self.run.folder, card["step"])
        return int(card["step"])

    def save(self, step: int) -> None:
        """Save the state reached after ``step`` steps when ``step`` is a multiple of ``every``."""
        if step % self.every:
            return
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= {f"network.{name}.{key}": value for key, value in network.state_dict().items()}
        state = self.optimiser.state_dict()
        described: dict[str, dict[str, Any]] = {}
        for index, entries in state["state"].items():
            described[str(index)] = {}
            for key, value in entries.items():
                described[str(index)][key] = "tensor" if isinstance(value, Tensor) else value
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{index}.{key}"] = value
        groups = [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
        card = {
            "step": step,
            "optimiser": described,
            "groups": groups,
            "recorded_bytes": self.run.recorded_bytes(),
        }
        save_tensors(self._path, tensors, kind="resume", card=card)

    def finish(self) -> None:
        """Remove the state: the loop's result stands elsewhere now."""
        self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Any:
        return self.run.checkpoints / "resume.safetensors"


class Kept(nn.Module):
    """A tensor that changes its size from epoch to epoch, saved with the networks."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor

    def get_extra_state(self) -> Tensor:
        """What is saved."""
        return self.tensor

    def set_extra_state(self, state: Tensor) -> None:
        """Take what was saved, of whatever size."""
        self.tensor = state


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def embed_pictures(model: Embedder, pictures: Pictures, *, batch: int = 128) -> EmbedderOutput:
    """Embed a whole set in eval mode without augmentation: embedding (N, D), logits (N, C) or None."""
    was_training = model.training
    model.eval()
    outputs = [
        model(pictures.normalised(pictures.unit(np.arange(start, min(start + batch, len(pictures))))))
        for start in range(0, len(pictures), batch)
    ]
    model.train(was_training)
    logits = [output.logits for output in outputs if output.logits is not None]
    return EmbedderOutput(
        embedding=torch.cat([output.embedding for output in outputs]), logits=torch.cat(logits) if logits else None
    )


@torch.no_grad()
def update_average(averaged: nn.Module, student: nn.Module, decay: float) -> None:
    """Move ``averaged`` towards ``student``: weights and BatchNorm buffers alike."""
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
    """
    if batchnorm == "shared":
        return model(pictures).split(list(sizes))
    return [model(part) for part in torch.split(pictures, list(sizes))]


@torch.no_grad()
def recompute_batchnorm(model: nn.Module, pictures: Pictures, *, batch: int = 64, seed: int = 0) -> None:
    """Set every BatchNorm's running statistics to those of ``pictures`` (AdaBN, Li et al. 2016); weights stay.

    Pictures come in a shuffled order, in full batches where there are enough, so that no batch is one tracklet. What
    else differs in training (dropout) stays as in use.
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
        model(pictures.normalised(pictures.unit(order[start : start + batch])))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


def inverse_decay(initial: float, progress: float) -> float:
    """lr = lr0 * (1 + 10 p)^-0.75 for progress p in [0, 1] (P1, P2; Ganin & Lempitsky 2015)."""
    return float(initial * (1.0 + 10.0 * progress) ** -0.75)


def cosine_decay(initial: float, progress: float, *, warm_up: float = 0.05) -> float:
    """Linear warm-up, then half a cosine to zero, for progress p in [0, 1]."""
    if progress < warm_up:
        return initial * (progress + 1e-3) / (warm_up + 1e-3)
    return float(initial * 0.5 * (1.0 + np.cos(np.pi * (progress - warm_up) / (1.0 - warm_up))))


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate ``rate``, times its own ``factor`` if it has one."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def rate_groups(network: Classifier, *new: nn.Module, head_rate: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser: the backbone, and with ``factor`` head_rate the head and ``new`` modules.

    What starts from nothing learns faster than what was pre-trained, ten times in DAN (Long et al. 2015) and after.
    """
    fresh = [parameter for module in (network.head, *new) for parameter in module.parameters()]
    return [{"params": list(network.backbone.parameters())}, {"params": fresh, "factor": head_rate}]
