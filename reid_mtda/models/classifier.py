"""Networks for closed label sets: pictures in, logits and un-normalised features out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from reid_mtda.arrays import read_arrays
from reid_mtda.errors import ModelError
from reid_mtda.models.checkpoint import load_network, save_network
from reid_mtda.models.device import run_backbone
from reid_mtda.models.torchvision_compat import ensure_torchvision
from reid_mtda.schema import Strict

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Arch = Literal["lenet", "squeezenet1_1", "shufflenetv2_x0_5", "resnet18", "resnet34", "resnet50", "resnet101"]


class ClassifierSpec(Strict):
    """What is needed to build a Classifier again: it is stored beside its weights."""

    arch: Arch = "lenet"
    num_classes: int = Field(default=10, ge=2)
    width: float = Field(default=1.0, gt=0, le=4, description="factor on all channels of lenet; 0.5: a quarter")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of lenet")
    head_batchnorm: bool = Field(
        default=True,
        description="BatchNorm before the linear layer of an ImageNet head, which the papers lack; without, a "
        "new head learns nothing in a few hundred steps from some nets' small features",
    )


@dataclass(frozen=True, eq=False)
class ClassifierOutput:
    """``logits`` (B, C) and the pooled, un-normalised ``feature`` (B, D) under them."""

    logits: Tensor
    feature: Tensor

    def split(self, sizes: list[int]) -> list[ClassifierOutput]:
        """The output of a joint batch, cut into its parts."""
        parts = zip(torch.split(self.logits, sizes), torch.split(self.feature, sizes), strict=True)
        return [ClassifierOutput(logits=logits, feature=feature) for logits, feature in parts]


class Classifier(nn.Module):
    """Pictures (B, 3, h, w), preprocessed -> ClassifierOutput, in train and eval mode alike."""

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.spec = spec
        self.precision = "fp32"
        if spec.arch == "lenet":
            self.backbone, self.head, self.feature_dim = _lenet(spec)
        else:
            self.backbone, self.feature_dim = _imagenet_backbone(spec.arch)
            norm = nn.BatchNorm1d(self.feature_dim) if spec.head_batchnorm else nn.Identity()
            self.head = nn.Sequential(norm, nn.Linear(self.feature_dim, spec.num_classes))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor) -> ClassifierOutput:
        """Classify pictures (B, 3, h, w)."""
        feature = run_backbone(self.backbone, pictures, self.precision)
        return ClassifierOutput(logits=self.head(feature), feature=feature)


def build_classifier(spec: ClassifierSpec, *, seed: int) -> Classifier:
    """Build a Classifier with weights drawn from ``seed``, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(spec)


def _lenet(spec: ClassifierSpec) -> tuple[nn.Module, nn.Module, int]:
    """P2's digit network for 28x28: two 5x5 convolutions, head 800-100-100-C at width 1."""
    first, second, hidden = (max(4, round(n * spec.width)) for n in (64, 50, 100))
    backbone = nn.Sequential(
        nn.Conv2d(3, first, 5),
        nn.BatchNorm2d(first),
        nn.MaxPool2d(2),  # before ReLU: the two commute, and a quarter of the maps is left to rectify
        nn.ReLU(inplace=True),
        nn.Dropout(spec.dropout),
        nn.Conv2d(first, second, 5),
        nn.BatchNorm2d(second),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Dropout(spec.dropout),
        nn.Flatten(),
    )
    head = nn.Sequential(
        nn.Linear(16 * second, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(spec.dropout),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, spec.num_classes),
    )
    return backbone, head, 16 * second


def _imagenet_backbone(arch: str) -> tuple[nn.Module, int]:
    if arch == "squeezenet1_1":
        return _squeezenet()
    if arch == "shufflenetv2_x0_5":
        return _shufflenet()
    ensure_torchvision()
    from torchvision import models

    network = models.get_model(arch, weights=None)
    features = int(network.fc.in_features)
    network.fc = nn.Identity()
    return network, features


def _squeezenet() -> tuple[nn.Module, int]:
    ensure_torchvision()
    from torchvision.models import squeezenet1_1

    features = squeezenet1_1().features
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512


def _shufflenet() -> tuple[nn.Module, int]:
    stages: list[nn.Module] = [_Unit(), _conv_bn(3, 24, 3, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
    before = 24
    for channels, blocks in ((48, 4), (96, 8), (192, 4)):
        stages += [_ShuffleDown(before, channels), *(_ShuffleBlock(channels) for _ in range(blocks - 1))]
        before = channels
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()), before


class _Unit(nn.Module):
    """From ImageNet's mean and std back to [0, 1], which the stored ShuffleNet weights were trained on."""

    def __init__(self) -> None:
        super().__init__()
        for name, numbers in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(numbers).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures * self.get_buffer("std") + self.get_buffer("mean")


def _conv_bn(before: int, after: int, size: int, *, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, size, stride=stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def _branch(before: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(
        _conv_bn(before, after, 1),
        _conv_bn(after, after, 3, stride=stride, groups=after, relu=False),
        _conv_bn(after, after, 1),
    )


class _ShuffleBlock(nn.Module):
    """ShuffleNetV2 unit at stride 1 in the authors' order of channels (even ones pass, odd ones are transformed)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = _branch(channels // 2, channels // 2, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps[:, 0::2], self.main(maps[:, 1::2].contiguous())], dim=1)


class _ShuffleDown(nn.Module):
    """ShuffleNetV2 unit at stride 2: both branches see all channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = _branch(before, after // 2, 2)
        self.project = nn.Sequential(
            _conv_bn(before, before, 3, stride=2, groups=before, relu=False), _conv_bn(before, before, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([self.project(maps), self.main(maps)], dim=1)


def load_imagenet_weights(model: Classifier, path: Path) -> None:
    """Fill the backbone with ImageNet weights from an .npz of named arrays.

    SqueezeNet 1.1 in Caffe's names, ShuffleNetV2 x0.5 in its authors', ResNets in torchvision's.

    Caffe's SqueezeNet wants BGR 0..255 minus (104, 117, 123); its first layer is rewritten for RGB with ImageNet's
    mean and std, which is exact because that layer does not pad.

    Raises:
        ModelError: no such file, or weights of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; check the path")
    arrays = read_arrays(path, expected=f"expected the .npz weights of {model.spec.arch}")
    found = {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in arrays.items()}
    try:
        if model.spec.arch == "squeezenet1_1":
            _fill_squeezenet(model.backbone, found)
        elif model.spec.arch == "shufflenetv2_x0_5":
            wanted = model.backbone.state_dict()
            values = [v for name, v in found.items() if name.startswith(("first_conv", "stage"))]
            if len(values) != len(wanted):
                raise KeyError(f"{len(values)} tensors instead of {len(wanted)}")
            model.backbone.load_state_dict(_by_name(found, wanted))
        elif model.spec.arch == "lenet":
            raise KeyError("lenet has no ImageNet weights")
        else:
            wanted = model.backbone.state_dict()
            model.backbone.load_state_dict({n: v.to(wanted[n].dtype) for n, v in found.items() if n in wanted})
    except (KeyError, RuntimeError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"{path}: does not fit {model.spec.arch} ({first_line}); choose its own weights") from None


def _fill_squeezenet(backbone: nn.Module, found: dict[str, Tensor]) -> None:
    fires = (3, 4, 6, 7, 9, 10, 11, 12)
    state = {}
    std, mean = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (IMAGENET_STD, IMAGENET_MEAN))
    first = found["conv1.weight"].flip(1)
    shift = 255 * mean - torch.tensor([123.0, 117.0, 104.0]).view(1, 3, 1, 1)
    state["0.0.weight"] = first * 255 * std
    state["0.0.bias"] = found["conv1.bias"] + (first * shift).sum((1, 2, 3))
    for number, place in enumerate(fires, start=2):
        for theirs, ours in (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3")):
            for kind in ("weight", "bias"):
                state[f"0.{place}.{ours}.{kind}"] = found[f"fire{number}/{theirs}.{kind}"]
    backbone.load_state_dict(state)


def _by_name(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names (stage2.0.branch_main.5.weight) in our order of modules."""
    starts = {"stage2": 3, "stage3": 7, "stage4": 15}
    layers = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "5": "2.0", "6": "2.1"}
    projection = {"0": "0.0", "1": "0.1", "2": "1.0", "3": "1.1"}
    renamed = {}
    for name, value in found.items():
        part = name.split(".")
        if part[0] == "first_conv":
            renamed[f"1.{part[1]}.{part[2]}"] = value
        elif part[0] in starts:
            branch, inner = ("main", layers) if part[2] == "branch_main" else ("project", projection)
            renamed[f"{starts[part[0]] + int(part[1])}.{branch}.{inner[part[3]]}.{part[4]}"] = value
    return {name: value.to(wanted[name].dtype) if name in wanted else value for name, value in renamed.items()}


def save_classifier(path: Path, model: Classifier, **card: object) -> None:
    """Write a Classifier with its spec, so that ``load_classifier`` needs nothing else."""
    save_network(path, model, model.spec, kind="classifier", card=card)


def load_classifier(path: Path) -> Classifier:
    """Build the Classifier stored at ``path``, in eval mode; refusals as for ``models.checkpoint.load_network``."""
    return load_network(path, ClassifierSpec, build_classifier, kind="classifier")
