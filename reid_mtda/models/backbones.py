"""Networks from crops to features: torchreid's zoo by its names, and a small residual net that learns in minutes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_mtda import plugins
from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.models.torchvision_compat import ensure_torchvision

SMALL_ARCH = re.compile(r"^resnet10_w(\d{1,3})$")
BACKBONES: dict[str, Callable[[], tuple[nn.Module, int]]] = {}
"""Backbones of one's own by name: a function of nothing that gives a module, crops (B, 3, h, w) -> (B, D), and D."""
_UNFIT = {"hacnn": "runs on CUDA alone", "resnet50mid": "has no single feature"}


class ResNet10(nn.Module):
    """A four-stage residual net for small crops: 3x3 stem at stride 2, then one basic block per stage.

    Args:
        width: channels of the first stage; the others have 2, 4 and 4 times as many (He et al. 2016, basic block).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(
            *(
                BasicBlock(before, after, stride)
                for before, after, stride in zip((width, *widths), widths, (1, 2, 2, 1), strict=False)
            )
        )
        self.feature_dim = widths[-1]

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (B, 3, h, w) to a feature map (B, D, h/8, w/8)."""
        maps: Tensor = self.blocks(self.stem(crops))
        return maps


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        # oneDNN 3.12 writes past its buffers in the backward pass of a strided 1x1 convolution over fewer than eight
        # channels_last channels on CPUs without AVX-512: there the rows are left out before the convolution, not by it.
        self.skip = stride if before < 8 else 1
        if stride != 1 or before != after:
            convolution = nn.Conv2d(before, after, 1, stride=stride // self.skip, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(after))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H/stride, W/stride)."""
        inner = functional.relu(self.bn1(self.conv1(maps)), inplace=True)
        if self.skip > 1:
            maps = maps[:, :, :: self.skip, :: self.skip]
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps), inplace=True)


class GeM(nn.Module):
    """Generalised-mean pooling with a learnt exponent (Radenovic et al. 2018): p = 1 is the average."""

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 1, 1)."""
        powered = maps.clamp(min=1e-6).pow(self.p)
        return functional.adaptive_avg_pool2d(powered, 1).pow(1 / self.p)


class PooledNet(nn.Module):
    """A feature-map net with its pooling: crops (B, 3, h, w) to features (B, D)."""

    def __init__(self, net: ResNet10, pool: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.pool = pool

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (B, 3, h, w) to features (B, D)."""
        return self.pooled(self.maps(crops))

    def maps(self, crops: Tensor) -> Tensor:
        """Map crops (B, 3, h, w) to what is pooled (B, D, h', w')."""
        maps: Tensor = self.net(crops)
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """Pool maps (B, D, h', w') to features (B, D)."""
        pooled: Tensor = self.pool(maps)
        return pooled.flatten(1)


class ZooNet(nn.Module):
    """A torchreid model without its classifier; what it gives in eval mode is the feature, in train mode too."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (B, 3, h, w) to features (B, D)."""
        if self.tells_maps:
            return self.pooled(self.maps(crops))
        output = self.model(crops)
        while isinstance(output, tuple | list):  # a net with several heads gives (logits, feature)
            output = output[-1]
        return torch.as_tensor(output).flatten(1)

    @property
    def tells_maps(self) -> bool:
        """Whether the net has one map that it pools to its feature."""
        return hasattr(self.model, "featuremaps") and hasattr(self.model, "global_avgpool")

    def maps(self, crops: Tensor) -> Tensor:
        """Map crops (B, 3, h, w) to what is pooled (B, C, h', w')."""
        return torch.as_tensor(self.model.featuremaps(crops))

    def pooled(self, maps: Tensor) -> Tensor:
        """Pool maps (B, C, h', w') to features (B, D)."""
        feature: Tensor = self.model.global_avgpool(maps).flatten(1)
        head = getattr(self.model, "fc", None)
        return torch.as_tensor(head(feature)) if isinstance(head, nn.Module) else feature


def telling_maps(backbone: nn.Module) -> PooledNet | ZooNet:
    """Refuse a backbone that does not tell what it pools.

    Raises:
        ModelError: naming it.
    """
    if isinstance(backbone, PooledNet) or (isinstance(backbone, ZooNet) and backbone.tells_maps):
        return backbone
    name = type(backbone.model if isinstance(backbone, ZooNet) else backbone).__name__
    raise ModelError(f"backbone: {name} does not tell its maps; take another objective or e.g. osnet_x0_25")


def build_backbone(arch: str, *, pooling: str = "avg") -> tuple[nn.Module, int]:
    """Build an untrained backbone.

    Args:
        arch: ``resnet10_wN`` (our small net, N channels wide), a name of ``BACKBONES``, an entry point of
            ``reid_mtda.backbones``, or any name of torchreid's zoo.
        pooling: ``avg`` or ``gem``.

    Returns:
        A module crops (B, 3, h, w) -> features (B, D), and D.

    Raises:
        ModelError: an unknown name, a pooling the net cannot take, or a backbone of one's own that raises or is none.
    """
    if pooling not in ("avg", "gem"):
        raise ModelError(f"pooling: got {pooling!r}, expected 'avg' or 'gem'")
    small = SMALL_ARCH.match(arch)
    if small:
        width = int(small[1])
        if not 4 <= width <= 256:
            raise ModelError(f"arch: got {arch!r}, expected a width of 4..256 after resnet10_w")
        net = ResNet10(width)
        return PooledNet(net, GeM() if pooling == "gem" else nn.AdaptiveAvgPool2d(1)), net.feature_dim
    own = BACKBONES.get(arch) or _offered(arch)
    if own is not None:
        return _own_backbone(arch, own, pooling)
    model = _zoo_model(arch)
    if pooling == "gem":
        if not hasattr(model, "global_avgpool"):
            raise ModelError(f"pooling: {arch} has no average pooling to replace; use pooling: avg")
        model.global_avgpool = GeM()
    feature_dim = getattr(model.classifier, "in_features", None)
    if not isinstance(feature_dim, int):
        raise ModelError(f"arch: {arch} has no single feature; choose another, e.g. osnet_x0_25")
    model.classifier = nn.Identity()
    return ZooNet(model), feature_dim


def _offered(arch: str) -> Callable[[], Any] | None:
    """The backbone that an installed package offers under the name; a name in a file of weights imports no other."""
    if arch not in {entry.name for entry in entry_points(group=plugins.BACKBONES)}:
        return None
    try:
        found: Callable[[], Any] = plugins.find_part(plugins.BACKBONES, arch, where="arch", modules=False)
    except ConfigError as error:
        raise ModelError(str(error)) from error
    return found


def _own_backbone(arch: str, build: Callable[[], Any], pooling: str) -> tuple[nn.Module, int]:
    if pooling != "avg":
        raise ModelError(f"pooling: {arch} pools by itself, got {pooling!r}; use pooling: avg")
    try:
        made = build()
    except Exception as error:
        raise ModelError(f"arch: {arch!r} raised {plugins.describe(error)}; mend it or name another") from error
    fits = isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module) and isinstance(made[1], int)
    if not fits:
        raise ModelError(
            f"arch: {arch!r} returned {type(made).__name__}, expected a torch module and its features' number; mend it"
        )
    module, feature_dim = made
    return module, feature_dim


def _zoo_model(arch: str) -> Any:
    ensure_torchvision()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Cython evaluation")
        from torchreid.reid import models
    known = sorted(models.__dict__["__model_factory"])
    if arch not in known:
        raise ModelError(f"arch: got {arch!r}, expected resnet10_wN or one of torchreid's: {', '.join(known)}")
    if arch in _UNFIT:
        raise ModelError(f"arch: {arch} {_UNFIT[arch]}; choose another, e.g. osnet_x0_25")
    return models.build_model(arch, num_classes=1, loss="softmax", pretrained=False, use_gpu=False)
