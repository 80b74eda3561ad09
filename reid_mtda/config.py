"""Whole-run settings: the parts' settings put together, from a preset file and ``--set`` overrides."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from reid_mtda.errors import ConfigError
from reid_mtda.models.embedder import EmbedderSpec
from reid_mtda.schema import Strict, parse, read_value, read_yaml
from reid_mtda.train import METHODS
from reid_mtda.train.distil import DistilSettings
from reid_mtda.train.source import SourceSettings
from reid_mtda.types import Preprocess


class InputSize(Strict):
    """Size of the crops that the networks see; colours are normalised with ImageNet's mean and std."""

    height: int = Field(default=256, ge=16, le=1024)
    width: int = Field(default=128, ge=8, le=1024)

    def preprocess(self) -> Preprocess:
        """The manifest's form of it."""
        return Preprocess(height=self.height, width=self.width)


class SourceData(Strict):
    """The labelled source: ``lab`` is drawn, anything else is a data set of ``data.reid`` at ``root``."""

    name: str = "lab"
    root: str | None = None
    identities: int = Field(default=120, ge=4, description="of the drawn lab")


class TestData(Strict):
    """Labelled pictures for scoring alone; never reaches training. ``street`` is drawn, others lie at ``root``."""

    name: str = "street"
    root: str | None = None
    people: int = Field(default=40, ge=2, description="identities of the drawn test street")


class Network(Strict):
    """A network and, optionally, the weights it starts from (torchreid's parameter names)."""

    arch: str = "osnet_x0_25"
    pooling: Literal["avg", "gem"] = "avg"
    neck: bool = True
    embedding_dim: int | None = None
    weights: str | None = None

    def spec(self, num_classes: int) -> EmbedderSpec:
        """What ``models.embedder`` builds."""
        fields = self.model_dump(exclude={"weights"})
        return EmbedderSpec(**fields, num_classes=num_classes)


class TeacherMethod(Strict):
    """How a teacher adapts to its camera: a name of ``train.METHODS`` and that method's settings."""

    method: str = "dmmd"
    settings: dict[str, Any] = Field(default_factory=dict)

    def parsed(self) -> Strict:
        """The method's own settings class, checked."""
        if self.method not in METHODS:
            raise ConfigError(f"adapt.method: got {self.method!r}, expected one of {', '.join(METHODS)}")
        return parse(METHODS[self.method][0], self.settings, where="adapt.settings")


class HarvestSettings(Strict):
    """How crops are taken from footage."""

    max_crops: int = Field(default=8, ge=1, le=100, description="best crops kept of one tracklet")


class AdaptConfig(Strict):
    """Everything ``reid-mtda adapt`` does, in the order it does it."""

    seed: int = Field(default=0, ge=0)
    input: InputSize = InputSize()
    source: SourceData = SourceData()
    harvest: HarvestSettings = HarvestSettings()
    teacher: Network = Network(arch="osnet_x1_0")
    student: Network = Network()
    teacher_source: SourceSettings = SourceSettings()
    student_source: SourceSettings = SourceSettings()
    adapt: TeacherMethod = TeacherMethod()
    distil: DistilSettings = DistilSettings()
    test: TestData | None = None
    baselines: tuple[Literal["blending", "per_camera", "oracle"], ...] = Field(
        default=(), description="students trained beside the distilled one, for tables; the oracle needs labels"
    )


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> AdaptConfig:
    """Read a preset and apply ``--set key.path=value`` overrides.

    Raises:
        ConfigError: naming the file or override, the key path and the nearest known key.
    """
    values = read_yaml(path) if path else {}
    for override in overrides:
        values = _overridden(values, override)
    where = str(path) if path else "--set"
    config = parse(AdaptConfig, values, where=f"{where}, with --set" if path and overrides else where)
    config.adapt.parsed()
    return config


def _overridden(values: Mapping[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: got no 'key=value', expected e.g. --set distil.steps=100")
    result = copy.deepcopy(dict(values))
    place = result
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: {parent!r} is a value, not a section")
    place[last] = read_value(text)
    return result
