"""Whole-run settings: the parts' settings put together, from a preset file and ``--set`` overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from reid_mtda.data.archive import Split
from reid_mtda.data.enough_people import LEAST_PEOPLE
from reid_mtda.models.embedder import EmbedderSpec
from reid_mtda.schema import Strict, parse
from reid_mtda.train import find_method
from reid_mtda.train.camera_proxies import CameraProxySettings
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.kd_reid import KdReidSettings
from reid_mtda.train.source import SourceSettings
from reid_mtda.types import Preprocess

Tracklets = Literal["none", "given", "camera", "identity"]
"""What groups a data set's crops."""


class InputSize(Strict):
    """Size of the crops that the networks see; colours are normalised with ImageNet's mean and std."""

    height: int = Field(default=256, ge=16, le=1024)
    width: int = Field(default=128, ge=8, le=1024)

    def preprocess(self) -> Preprocess:
        """The manifest's form of it."""
        return Preprocess(height=self.height, width=self.width)


class SourceData(Strict):
    """The labelled source: ``lab`` is drawn, anything else is a data set of ``data.reid`` at ``root``.

    ``none``: the networks' weights are all there is of it.
    """

    name: str = "lab"
    root: str | None = None
    identities: int = Field(default=120, ge=4, description="of the drawn lab")


class TestData(Strict):
    """Labelled pictures for scoring alone; never reaches training. ``street`` is drawn, others lie at ``root``."""

    name: str = "street"
    root: str | None = None
    people: int = Field(default=40, ge=2, description="identities of the drawn test street")


class TargetData(Strict):
    """Unlabelled targets that are no site's footage: the training half of a labelled data set, its labels taken away.

    ``street`` is drawn (crops cut at true boxes), ``archive`` is an ``.npz`` file of crops, others are data sets of
    ``data.reid`` or torchreid's. Their other half is what is scored.
    """

    name: str = "street"
    root: str | None = None
    by: Literal["camera", "set"] = Field(default="camera", description="each camera a target, or the set as a whole")
    tracklets: Tracklets = Field(
        default="none",
        description="what groups crops: nothing, the data set's own tracklets, a perfect tracker that never loses a "
        "person within a camera, or true identities over all cameras, which is the leak that tables measure",
    )
    people: int = Field(default=40, ge=2, description="identities of the drawn test street")
    test_share: float = Field(default=0.5, gt=0, le=1, description="identities of an archive that are scored")
    identity: str = Field(default="pid", description="the archive's array of identities")
    split: Split = Field(
        default="drawn",
        description="who of an archive is scored: people drawn by the seed, its own test people, or, to choose "
        "settings, a fixed quarter of its other people",
    )
    options: dict[str, bool | int] = Field(
        default_factory=dict, description="for torchreid's class, e.g. cuhk03_classic_split: true"
    )

    @property
    def title(self) -> str:
        """What tables call it."""
        return Path(self.root).stem if self.name == "archive" and self.root else self.name.removeprefix("torchreid:")


class Network(Strict):
    """A network and, optionally, the weights it starts from (torchreid's parameter names)."""

    arch: str = "osnet_x0_25"
    pooling: Literal["avg", "gem"] = "avg"
    neck: bool = True
    embedding_dim: int | None = Field(default=None, ge=1, le=65536)
    weights: str | None = None

    def spec(self, num_classes: int | None) -> EmbedderSpec:
        """What ``models.embedder`` builds."""
        fields = self.model_dump(exclude={"weights"})
        return EmbedderSpec(**fields, num_classes=num_classes)


class TeacherMethod(Strict):
    """How a teacher adapts to its camera: a method by name, as ``train.find_method`` takes it, and its settings."""

    method: str = "dmmd"
    settings: dict[str, Any] = Field(default_factory=dict)

    def parsed(self, where: str = "adapt") -> Strict:
        """The method's own settings class, checked."""
        return parse(find_method(self.method, f"{where}.method")[0], self.settings, where=f"{where}.settings")


class Variant(Strict):
    """The student distilled once more with something changed: a row of an ablation table."""

    distillation: Literal["distil", "camera_proxies", "kd_reid"] | None = Field(
        default=None, description="another loop than the preset's"
    )
    distil: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the preset's")
    kd_reid: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the preset's")
    adapt: TeacherMethod | None = Field(
        default=None, description="teachers adapted by this method, in place of the preset's"
    )
    camera_proxies: dict[str, Any] = Field(default_factory=dict, description="settings that differ from the preset's")
    ready_made: str | None = Field(
        default=None,
        description="an exported model's folder, or a name of 'reid-mtda models', as teacher of every camera",
    )
    tracklets: Tracklets | None = Field(
        default=None, description="other tracklets than the targets'; identity is the leak"
    )


class HarvestSettings(Strict):
    """How crops are taken from footage."""

    max_crops: int = Field(default=8, ge=1, le=100, description="best crops kept of one tracklet")


class AdaptConfig(Strict):
    """Everything ``reid-mtda adapt`` does, in the order it does it."""

    kind: Literal["reid"] = Field(default="reid", exclude=True, description="what a preset of a benchmark is of")
    seed: int = Field(default=0, ge=0)
    input: InputSize = InputSize()
    teacher_input: InputSize | None = Field(
        default=None, description="size of the crops that own teachers see, where it is not the student's"
    )
    source: SourceData = SourceData()
    harvest: HarvestSettings = HarvestSettings()
    least_people: int = Field(
        default=LEAST_PEOPLE,
        ge=1,
        description="a camera with fewer, about, is named, and the student is not called better; 16 people over six "
        "cameras cost 10 mAP",
    )
    teacher: Network = Network(arch="osnet_x1_0")
    student: Network = Network()
    teacher_source: SourceSettings = SourceSettings()
    student_source: SourceSettings = SourceSettings()
    adapt: TeacherMethod = TeacherMethod()
    ready_made: dict[str, str] = Field(
        default_factory=dict,
        description="exported model folders, or names of 'reid-mtda models', that stand in for cameras' teachers, by "
        "camera; '*': all others",
    )
    distillation: Literal["distil", "camera_proxies", "kd_reid"] = Field(
        default="distil", description="the loop that makes the student; its settings stand under the same name"
    )
    distil: DistilSettings = DistilSettings()
    camera_proxies: CameraProxySettings = Field(
        default=CameraProxySettings(), description="of targets alone, over camera-aware proxies"
    )
    kd_reid: KdReidSettings = Field(default=KdReidSettings(), description="the baseline: distance matrices alone")
    targets: tuple[TargetData, ...] = Field(default=(), description="data sets instead of a site's footage")
    variants: dict[str, Variant] = Field(default_factory=dict, description="rows of an ablation table, by name")
    test: TestData | None = None
    mean_of_teachers: bool = Field(
        default=True, description="score every teacher on all cameras, too: as many passes over the test as teachers"
    )
    baselines: tuple[Literal["blending", "per_camera", "merged", "oracle"], ...] = Field(
        default=(), description="students trained beside the distilled one, for tables; the oracle needs labels"
    )

    def teacher_preprocess(self) -> Preprocess:
        """What own teachers' crops look like."""
        return (self.teacher_input or self.input).preprocess()

    def student_training(self) -> DistilSettings | CameraProxySettings:
        """The settings whose steps, batches and learning rate baselines get: those of the student's loop.

        Beside KD-ReID they are distil's, whose rate is of the optimiser that baselines use.
        """
        return self.camera_proxies if self.distillation == "camera_proxies" else self.distil
