"""The state of a training loop on disk: saved every so many seconds, and gone on from to the last bit on the CPU."""

from __future__ import annotations

import io
import logging
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reid_mtda.errors import ModelError, TrainingError
from reid_mtda.files import atomic_write
from reid_mtda.models.checkpoint import RUN_AGAIN
from reid_mtda.runs import Run

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""Seconds between resumable states, where a preset does not say otherwise."""


def now() -> float:
    """Seconds of a clock that only goes forward."""
    return time.monotonic()


@dataclass(eq=False)
class Resumable:
    """Everything a loop changes, saved together every so many seconds: networks, optimisers, step.

    On the CPU a run that was stopped and resumed gives, to the last bit, what an uninterrupted one gives. Networks may
    be any modules; ``Kept`` is one around a tensor. Optimisers must not share a parameter.
    """

    run: Run
    networks: Mapping[str, nn.Module]
    optimisers: Mapping[str, Optimizer]
    seconds: float = CHECKPOINT_SECONDS
    _saved_s: float = field(init=False)

    def __post_init__(self) -> None:
        owned = [id(p) for o in self.optimisers.values() for group in o.param_groups for p in group["params"]]
        if len(owned) != len(set(owned)):
            raise ValueError("optimisers share a parameter; give each network its own")
        self._saved_s = now()

    @property
    def path(self) -> Path:
        """Where the state lies."""
        return self.run.checkpoints / "resume.pt"

    def start(self) -> int:
        """Restore the last saved state if there is one; return the step to go on with (0 when fresh).

        Raises:
            ModelError: the saved state is damaged, of another program or of reid-mtda 0.1.
            TrainingError: it is of other networks.
        """
        if self.path.with_name("resume.safetensors").exists():
            raise ModelError(
                f"{self.path.with_name('resume.safetensors')}: is a state of reid-mtda 0.1, which this version does "
                f"not go on with; {RUN_AGAIN}"
            )
        if not self.path.exists():
            self.run.forget_records(0)
            return 0
        state = _read_state(self.path)
        for kind, parts in (("networks", self.networks), ("optimisers", self.optimisers)):
            for name, part in parts.items():
                try:
                    part.load_state_dict(state[kind][name])
                except (KeyError, ValueError, RuntimeError) as error:
                    raise TrainingError(
                        f"{self.path}: another network {name!r} ({str(error).splitlines()[0]}); "
                        f"remove {self.run.folder}"
                    ) from None
        self.run.forget_records(state["recorded_bytes"])
        log.info("resuming %s at step %d", self.run.folder, state["step"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Save the state reached after ``step`` steps where the last one is ``seconds`` old."""
        if now() - self._saved_s < self.seconds:
            return
        state = {
            "kind": _RESUME,
            "step": step,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "recorded_bytes": self.run.recorded_bytes(),
        }
        # Through memory: on a full disk torch's own writer says "unexpected pos" in place of the disk's error.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        self._saved_s = now()

    def finish(self) -> None:
        """Remove the state: the loop's result stands elsewhere now."""
        self.path.unlink(missing_ok=True)


_RESUME = "reid_mtda resume"


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not a readable state ({said}); {RUN_AGAIN}") from None
    if not isinstance(state, dict) or state.get("kind") != _RESUME:
        raise ModelError(f"{path}: got a file of another program, expected a resumable state; {RUN_AGAIN}")
    return state


class Kept(nn.Module):
    """A tensor that changes its size from epoch to epoch, saved with the networks."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor

    def get_extra_state(self) -> Tensor:
        """What is saved."""
        return self.tensor

    def set_extra_state(self, state: Tensor) -> None:
        """Take what was saved, of whatever size, to the device of what was held."""
        self.tensor = state.to(self.tensor.device)
