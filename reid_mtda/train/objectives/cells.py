"""Objectives over maps: what teacher and student pool, cell by cell or half by half."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda.losses.distillation.maps import (
    block_loss,
    channel_loss,
    context_loss,
    draw_tokens,
    frequency_loss,
    halves_of,
    token_graph_loss,
    tokens_of,
)
from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.train.objectives.features import connector
from reid_mtda.train.objectives.objective import Context, Need, Objective, ObjectiveSettings, Sizes, given


class OverMaps(Objective):
    """One that reads both networks' maps; the student's are brought to the teacher's channels and size."""

    needs: ClassVar[frozenset[Need]] = frozenset({"maps"})

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        same = sizes.student_maps == sizes.teacher_maps
        self.connector: nn.Module = (
            nn.Identity() if same else nn.Conv2d(sizes.student_maps, sizes.teacher_maps, 1, bias=False)
        )

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Compare maps (B, C, h, w)."""
        said: Tensor = given(teacher.maps, "maps")
        own = self.connector(given(student.maps, "maps"))
        if own.shape[2:] != said.shape[2:]:
            own = functional.interpolate(own, said.shape[2:], mode="bilinear", align_corners=False)
        return self.compare(own, said)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Give one number for maps of one shape."""
        raise NotImplementedError


class ChannelSettings(ObjectiveSettings):
    """Of ``channels``."""

    temperature: float = Field(default=4.0, gt=0, description="of a channel's cells")


class Channels(OverMaps):
    """`channel_loss`."""

    def __init__(self, settings: ChannelSettings, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.settings = settings

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare where each channel looks."""
        return channel_loss(student=student, teacher=teacher, temperature=self.settings.temperature)


class Frequencies(OverMaps):
    """`frequency_loss`."""

    def __init__(self, settings: ObjectiveSettings, sizes: Sizes) -> None:
        super().__init__(sizes)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare maps with and without their mean."""
        return frequency_loss(student=student, teacher=teacher)


class TokenSettings(ObjectiveSettings):
    """Of ``token_graph``."""

    tokens: int = Field(default=4, ge=2, le=1024, description="cells drawn of a map, the same of all maps of a step")
    neighbours: int = Field(default=8, ge=1, description="of each token, over all pictures")
    sigma: float = Field(default=1.0, gt=0, description="of the affinity of two tokens")
    context_weight: float = Field(default=1.0, ge=0, description="of the relations within a picture")


class TokenGraph(Objective):
    """`token_graph_loss` and `context_loss` of cells drawn at each step. Departure from TRG: no contrastive term."""

    needs: ClassVar[frozenset[Need]] = frozenset({"maps"})

    def __init__(self, settings: TokenSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Compare how cells relate to each other."""
        said: Tensor = given(teacher.maps, "maps")
        own: Tensor = given(student.maps, "maps")
        if own.shape[2:] != said.shape[2:]:
            own = functional.interpolate(own, said.shape[2:], mode="bilinear", align_corners=False)
        cells = draw_tokens(said, self.settings.tokens)
        tokens = {"student": tokens_of(own, cells), "teacher": tokens_of(said, cells)}
        graph = token_graph_loss(**tokens, neighbours=self.settings.neighbours, sigma=self.settings.sigma)
        return graph + self.settings.context_weight * context_loss(**tokens)


class Blocks(Objective):
    """`block_loss`: the halves of the student's maps follow what the teacher says of the halves of the crop.

    A ready-made teacher will do: nothing but its embeddings of two more pictures of each crop is needed.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"halves"})

    def __init__(self, settings: ObjectiveSettings, sizes: Sizes) -> None:
        super().__init__()
        self.connector = connector(sizes.student_maps, sizes.teacher)

    def forward(self, *, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> Tensor:
        """Compare the upper halves, and the lower ones."""
        own = self.connector(halves_of(given(student.maps, "the student's maps")))
        return block_loss(student=own, teacher=given(context.halves, "halves"))
