"""Every augmentation by name, or none at all; randomness from torch's generator alone."""

import pytest
import torch

from reid_mtda.data.augment import AUGMENTATIONS, DEFAULT_AUGMENTATION, build_augmentation
from reid_mtda.errors import ConfigError

SIZE = (32, 16)


def pictures():
    ramp = torch.linspace(0.1, 0.9, 16).expand(32, 16)
    return torch.stack([ramp, ramp.flip(1), ramp * 0.5]).expand(64, 3, 32, 16).clone()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_name_resolves_keeps_shape_and_range_and_does_something(name):
    augment = build_augmentation([name], SIZE)
    torch.manual_seed(0)
    first = augment(pictures())
    torch.manual_seed(0)
    again = augment(pictures())
    torch.manual_seed(1)
    other = augment(pictures())
    assert first.shape == (64, 3, *SIZE) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, pictures()), f"{name} never does anything"
    slack = 0.3 if name == "noise" else 1e-4
    assert -slack <= float(first.min()) and float(first.max()) <= 1 + slack


def test_an_unknown_name_raises():
    with pytest.raises(ConfigError, match=r"augmentation: got 'random_erase', expected one of flip, crop, .*erasing"):
        build_augmentation(["flip", "random_erase"], SIZE)


def test_no_names_change_nothing():
    assert torch.equal(build_augmentation([], SIZE)(pictures()), pictures())


def test_the_default_is_made_of_known_names():
    assert len(build_augmentation(DEFAULT_AUGMENTATION, SIZE)) == len(DEFAULT_AUGMENTATION)


def test_flip_mirrors_and_channel_gain_scales_each_channel():
    torch.manual_seed(0)
    flipped = build_augmentation(["flip"], SIZE)(pictures())
    mirrored = [torch.allclose(picture, pictures()[0].flip(2)) for picture in flipped]
    same = [torch.allclose(picture, pictures()[0]) for picture in flipped]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and 10 < sum(mirrored) < 54
    dim = pictures() * 0.5
    ratio = build_augmentation(["channel_gain"], SIZE)(dim) / dim
    assert float(ratio.std(dim=(2, 3)).max()) < 1e-5 and float(ratio.mean(dim=(2, 3)).std()) > 0.05
