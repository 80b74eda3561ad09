"""What a distillation objective is: a module from what student and teacher say of the same crops to one number.

An objective may have parameters of its own (a connector, a second head, a gate): they are trained, and saved with a
stopped run, beside the student's, and are no part of what is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reid_mtda.errors import TrainingError
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.schema import Strict

Need = Literal["logits", "feature", "maps", "halves", "everyone", "start", "people", "source"]
Over = Literal["teacher", "all", "source"]
"""What an objective reads beside embeddings, which every teacher gives.

``logits`` over the classes that student and teacher share, ``feature`` and ``maps`` of both networks, ``halves``: what
the teacher says of a crop's upper and lower half, ``everyone``: the logits of all teachers for every crop, ``start``:
what the student said before it learnt, ``people``: whose crop it is, as far as that was found, ``source``: the mean
of the teachers' logits for the labelled source.
"""


class ObjectiveSettings(Strict):
    """What every objective has: its weight beside the loop's own parts."""

    weight: float = Field(default=1.0, ge=0, description="factor on the objective; 0 takes it out")


@dataclass(frozen=True)
class Sizes:
    """What an objective of given networks is built for.

    ``student`` and ``teacher`` are sizes of features, ``classes`` that of the logits that both have (0: none),
    ``teachers`` how many there are, ``student_maps`` and ``teacher_maps`` channels of maps (0: none are told).
    """

    student: int
    teacher: int
    classes: int = 0
    teachers: int = 1
    student_maps: int = 0
    teacher_maps: int = 0


@dataclass(frozen=True, eq=False)
class Context:
    """What is known of the B crops that student and teacher speak of.

    ``progress`` of training in [0, 1]; ``rows`` int64 (B,), their numbers among all crops of the targets, -1: made of
    others; ``people`` int64 (B,), whom they show, -1: nobody knows; ``cameras`` int64 (B,); ``teacher`` the speaker's
    number; ``start`` what the student said of them before it learnt, ``halves`` (B, 2, D_t) what the teacher says of
    upper and lower half, ``everyone`` (B, n, C) all teachers' logits: each None where no objective asks for it. Of
    crops of the source ``labels`` int64 (B,) are known, and ``rows`` are numbers there.
    """

    progress: float
    rows: Tensor
    people: Tensor
    cameras: Tensor
    teacher: int = 0
    start: EmbedderOutput | None = None
    halves: Tensor | None = None
    everyone: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True, eq=False)
class AllCrops:
    """What is known of all N crops of the targets before the first step.

    ``embedding`` (N, D_t) in one space and ``logits`` (N, C) as the crops' own teachers give them, each None where the
    teachers have none in common; ``feature`` (N, D_t), before scaling; ``cameras`` and ``people`` int64 (N,), -1:
    nobody's. ``source_logits`` (M, C) are the teachers' mean for the M crops of the source, ``source_labels`` theirs.
    """

    embedding: Tensor | None
    logits: Tensor | None
    feature: Tensor | None
    cameras: Tensor
    people: Tensor
    source_logits: Tensor | None = None
    source_labels: Tensor | None = None


class Objective(nn.Module):
    """A distillation objective; a built-in one is a line of ``OBJECTIVES``.

    ``over`` tells on which crops it is called: those of one teacher after the other, all of a batch at once, or those
    of the labelled source.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    over: ClassVar[Over] = "teacher"

    def prepare(self, crops: AllCrops) -> None:
        """Look at all crops once, before the first step; what is kept belongs to no saved state."""

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Give one number for B crops: ``student`` with a gradient, ``teacher`` without."""
        raise NotImplementedError


class OfFunction(Objective):
    """A function of student and teacher as an objective; a user's own is one."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Call the function, which knows no context."""
        return self.function(student=student, teacher=teacher)


@dataclass(frozen=True)
class AskedObjective:
    """An objective that was asked for, before the networks' sizes are known; ``build`` makes it for them."""

    build: Callable[[Sizes], Objective]
    weight: float = 1.0
    needs: frozenset[Need] = frozenset()
    over: Over = "teacher"

    @classmethod
    def of(cls, function: Callable[..., Tensor], weight: float = 1.0) -> AskedObjective:
        """Ask for a function (student=EmbedderOutput, teacher=EmbedderOutput) -> one number."""
        return cls(lambda sizes: OfFunction(function), weight)


def needs_of(objectives: Mapping[str, AskedObjective]) -> frozenset[Need]:
    """All that the objectives read beside embeddings."""
    return frozenset(need for asked in objectives.values() for need in asked.needs)


def given(value: Any, what: str) -> Any:
    """Refuse what an objective needs and nobody gave.

    Raises:
        TrainingError: ``value`` is None.
    """
    if value is None:
        raise TrainingError(f"an objective needs {what}, which this teacher or student has not; take it out")
    return value


def checked_loss(name: str, loss: object) -> Tensor:
    """Refuse what an objective returned where it is no tensor of one number.

    Raises:
        TrainingError: naming the objective.
    """
    if not isinstance(loss, Tensor):
        raise TrainingError(f"objective {name!r}: got {type(loss).__name__}, expected a tensor of one number")
    if loss.ndim:
        raise TrainingError(
            f"objective {name!r}: got a tensor {tuple(loss.shape)}, expected one number; return the mean over the batch"
        )
    return loss


def detached(output: EmbedderOutput) -> EmbedderOutput:
    """What a teacher says, without a way for a gradient."""
    return output.each(torch.Tensor.detach)
