"""What a closed-set benchmark is: data, budget, networks, rows, selection rule."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from reid_mtda.models.classifier import Arch
from reid_mtda.schema import Strict, parse
from reid_mtda.train.alignment import AlignmentSettings
from reid_mtda.train.common import geometric_ramp, inverse_decay
from reid_mtda.train.offline_kd import OfflineKDSettings
from reid_mtda.train.progressive_settings import ProgressiveSettings


class Net(Strict):
    """A network of ``models.classifier`` and the file of ImageNet weights it starts from, below ``--weights``."""

    arch: Arch = "lenet"
    width: float = 1.0
    dropout: float = 0.5
    weights: str | None = None
    head_batchnorm: bool = Field(default=True, description="of an ImageNet network's head; the papers' have none")


class Budget(Strict):
    """What every row gets alike: the comparison is of methods, not of budgets."""

    epochs: int = Field(default=20, ge=1)
    steps_per_epoch: int = Field(default=0, ge=0, description="0: one pass over the source")
    batch_size: int = Field(default=32, ge=2)
    head_rate: float = Field(default=1.0, gt=0, le=100, description="10 where backbones start from ImageNet")
    augmentation: tuple[str, ...] = ()


Init = Literal["drawn", "source_only"]

Selection = Literal["last", "entropy", "mutual_information", "oracle"]


class Row(Strict):
    """One method of the table: its kind, and where its settings differ from those of the kind."""

    kind: Literal[
        "source_only",
        "blending",
        "per_target",
        "merged",
        "twin_merged",
        "teachers",
        "mean_of_teachers",
        "progressive",
        "progressive_single",
        "progressive_teachers",
        "staged",
        "oracle",
    ]
    settings: dict[str, Any] = Field(default_factory=dict)
    teacher: dict[str, Any] = Field(default_factory=dict, description="where this row's teachers differ")
    student: Net | None = Field(default=None, description="another student than the preset's")
    teacher_net: Net | None = Field(default=None, description="another teachers' network than the preset's")
    selection: Selection | None = Field(default=None, description="another rule than the table's")
    quirks: tuple[str, ...] = Field(
        default=(), description="of the published code, by the names of bench.closed.published; progressive rows alone"
    )
    keep: float = Field(
        default=0.2, ge=0, le=1, description="twin_merged alone: share of a target's network that stays its own"
    )
    own_batchnorm: bool = Field(
        default=False, description="scored with the BatchNorm statistics of each target's unlabelled pictures (AdaBN)"
    )


class BenchmarkConfig(Strict):
    """A whole table."""

    kind: Literal["closed_set"] = Field(default="closed_set", exclude=True, description="what the table is of")
    data: Literal["digits", "office31", "officehome", "imageclef"] = "digits"
    size: int = Field(default=28, ge=28, le=512, description="pictures are (size, size)")
    max_pictures: int = Field(default=0, ge=0, description="training pictures kept of each domain; 0: all")
    sources: tuple[str, ...] = Field(default=(), description="empty: every domain in turn")
    seeds: tuple[int, ...] = (0, 1, 2)
    selection: Selection = Field(
        default="last", description="which epoch's weights are scored; oracle looks at target test labels"
    )
    teacher: Net = Net()
    student: Net = Net()
    init: Init = Field(
        default="drawn",
        description="where every network starts: drawn (or ImageNet's weights), or trained on the source first, by the "
        "settings of source_only and the common budget; rows of one network share one start",
    )
    budget: Budget = Budget()
    source_only: AlignmentSettings = AlignmentSettings(alignment="none")
    alignment: AlignmentSettings = AlignmentSettings()
    progressive: ProgressiveSettings = ProgressiveSettings()
    staged: OfflineKDSettings = OfflineKDSettings()
    rows: dict[str, Row]


def row_settings(config: BenchmarkConfig, row: Row, *, where: str = "rows") -> Any:
    """The settings of a row: those of its kind, the common budget, the row's own differences.

    Args:
        config: settings of the whole benchmark.
        row: of the table.
        where: opens the message.
    """
    base: Strict = {
        "source_only": config.source_only,
        "oracle": config.source_only,
        "progressive": config.progressive,
        "progressive_single": config.progressive,
        "progressive_teachers": config.progressive,
        "staged": config.staged,
    }.get(row.kind, config.alignment)
    return parse(type(base), {**base.model_dump(), **config.budget.model_dump(), **row.settings}, where=where)


def teacher_settings(config: BenchmarkConfig, row: Row) -> AlignmentSettings:
    """The settings of a row's teachers: the preset's, the common budget, the row's own differences."""
    values = {**config.alignment.model_dump(), **config.budget.model_dump(), **row.teacher}
    return parse(AlignmentSettings, values, where="rows.*.teacher")


def source_settings(config: BenchmarkConfig) -> AlignmentSettings:
    """How a start learns the source: as ``source_only`` does, within the common budget."""
    values = {**config.source_only.model_dump(), **config.budget.model_dump()}
    return parse(AlignmentSettings, values, where="source_only")


def source_mass(config: BenchmarkConfig, row: Row, *, targets: int) -> float | None:
    """How much a row's student learns from source labels: learning rate times weight, summed over its steps.

    It is 1 for ``source_only`` at the preset's settings, whose budget all rows have. Rates of another optimiser than
    SGD say nothing of its steps, so a staged row, and one without a student of its own, has None. With ``init:
    source_only`` every row has the start's mass, 1, beside its own.

    Args:
        config: settings of the whole benchmark.
        row: of the table.
        targets: how many.
    """
    base = config.source_only.learning_rate
    settings = row_settings(config, row)
    if row.kind in ("progressive", "progressive_single"):
        ends = settings.beta_start, settings.beta_end
        begins = [epoch / settings.epochs for epoch in range(settings.epochs)]
        weight = (targets if row.kind == "progressive" else 1) * (1 - settings.alpha)
        rates = [weight * geometric_ramp(*ends, p) * inverse_decay(settings.student_learning_rate, p) for p in begins]
        return float(sum(rates) / sum(inverse_decay(base, p) for p in begins))
    if row.kind in ("source_only", "oracle", "blending", "per_target", "merged", "twin_merged"):
        return float(settings.learning_rate / base)
    return None
