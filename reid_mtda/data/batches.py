"""From sets on disk to batches: all pictures of a set at model size, kept in memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_mtda.errors import DataError
from reid_mtda.types import ImageArray, IntArray, LabelledSet, Preprocess
from reid_mtda.vision.preprocess import read_image, resize_crop


@dataclass(frozen=True, eq=False)
class Pictures:
    """All pictures of a set at model size: ``resized`` uint8 (N, h, w, 3)."""

    resized: ImageArray
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.resized)

    def unit(self, indices: IntArray, device: torch.device | None = None) -> Tensor:
        """Pictures (B, 3, h, w) float32 in [0, 1] on ``device`` (None: the CPU), before augmentation."""
        return torch.from_numpy(self.resized[indices]).to(device).permute(0, 3, 1, 2).float().div_(255.0)

    def normalised(self, unit: Tensor) -> Tensor:
        """Pictures in [0, 1] to model input, as ``vision.preprocess.to_model_input`` does it."""
        if self.preprocess.channels == "BGR":
            unit = unit.flip(1)
        mean, std = (
            torch.tensor(numbers, dtype=torch.float32, device=unit.device).view(1, 3, 1, 1)
            for numbers in (self.preprocess.mean, self.preprocess.std)
        )
        return ((unit - mean) / std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, eq=False)
class DecodedSet(LabelledSet):
    """A labelled set whose ``pictures`` are decoded when first asked for, at one size, and then kept in memory."""

    preprocess: Preprocess = field(kw_only=True)

    @functools.cached_property
    def pictures(self) -> Pictures:
        """All its pictures at model size."""
        return load_pictures(self.paths, self.preprocess)


def decode_once(labelled: LabelledSet, preprocess: Preprocess) -> DecodedSet:
    """Have the pictures of ``labelled`` decoded once for all that learn from it at the size of ``preprocess``."""
    own = {entry.name: getattr(labelled, entry.name) for entry in fields(LabelledSet)}
    return DecodedSet(**own, preprocess=preprocess)


def pictures_of(labelled: LabelledSet, preprocess: Preprocess) -> Pictures:
    """Load a labelled set's pictures, or take those that a ``DecodedSet`` of that size has; as ``load_pictures``."""
    if isinstance(labelled, DecodedSet) and labelled.preprocess == preprocess:
        return labelled.pictures
    return load_pictures(labelled.paths, preprocess)


def load_pictures(paths: Sequence[Path], preprocess: Preprocess) -> Pictures:
    """Read and resize every picture once, as ``vision.preprocess.to_model_input`` does.

    Raises:
        DataError: no pictures.
        ImageError: one that cannot be read, by name.
    """
    if not paths:
        raise DataError("pictures: got none, expected at least one; check the data set's folder")
    resized = np.empty((len(paths), preprocess.height, preprocess.width, 3), np.uint8)
    for row, path in enumerate(paths):
        resized[row] = resize_crop(read_image(path), preprocess.height, preprocess.width)
    return Pictures(resized=resized, preprocess=preprocess)
