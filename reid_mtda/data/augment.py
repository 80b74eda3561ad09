"""Training augmentation on tensors with kornia; every name resolves or raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import kornia.augmentation as ka
import torch
from torch import Tensor, nn

from reid_mtda.errors import ConfigError


class ChannelGain(nn.Module):
    """Multiply each colour channel of each picture by its own random gain: cameras differ in white balance."""

    def __init__(self, spread: float = 0.35) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (B, 3, h, w) in [0, 1] to the same."""
        gains = torch.exp((torch.rand(len(pictures), 3, 1, 1) * 2 - 1) * self.spread).to(pictures)
        return (pictures * gains).clamp(0.0, 1.0)


AUGMENTATIONS: dict[str, Callable[[tuple[int, int]], nn.Module]] = {
    "flip": lambda size: ka.RandomHorizontalFlip(p=0.5),
    "crop": lambda size: ka.RandomCrop(size, padding=max(2, size[0] // 16), padding_mode="replicate"),
    "colour": lambda size: ka.ColorJitter(0.3, 0.3, 0.3, 0.05, p=0.8),
    "channel_gain": lambda size: ChannelGain(),
    "gamma": lambda size: ka.RandomGamma((0.6, 1.6), (1.0, 1.0), p=0.5),
    "blur": lambda size: ka.RandomGaussianBlur((3, 3), (0.3, 1.2), p=0.3),
    "noise": lambda size: ka.RandomGaussianNoise(std=0.03, p=0.3),
    "erasing": lambda size: ka.RandomErasing(scale=(0.02, 0.25), ratio=(0.3, 3.3), p=0.5),
}


DEFAULT_AUGMENTATION = ("flip", "crop", "colour", "channel_gain", "erasing")


def build_augmentation(names: Sequence[str], size: tuple[int, int]) -> nn.Module:
    """Compose augmentations by name, in the order given, for pictures (B, 3, h, w) in [0, 1].

    Randomness comes from torch's generator: call it inside ``train.common.seeded_step``.

    Raises:
        ConfigError: a name that is not known; nothing is ever left out silently.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise ConfigError(f"augmentation: got {name!r}, expected one of {', '.join(AUGMENTATIONS)}")
    return nn.Sequential(*(AUGMENTATIONS[name](size) for name in names))
