"""From sets on disk to batches: pictures kept in memory, and samplers that are pure functions of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_mtda.errors import DataError
from reid_mtda.types import ImageArray, IntArray, Preprocess
from reid_mtda.vision.preprocess import read_image, resize_crop


@dataclass(frozen=True, eq=False)
class Pictures:
    """All pictures of a set at model size: ``resized`` uint8 (N, h, w, 3)."""

    resized: ImageArray
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.resized)

    def unit(self, indices: IntArray) -> Tensor:
        """Pictures (B, 3, h, w) float32 in [0, 1], before augmentation."""
        return torch.from_numpy(self.resized[indices]).permute(0, 3, 1, 2).float().div_(255.0)

    def normalised(self, unit: Tensor) -> Tensor:
        """Pictures in [0, 1] to model input, as ``vision.preprocess.to_model_input`` does it."""
        if self.preprocess.channels == "BGR":
            unit = unit.flip(1)
        mean, std = (
            torch.tensor(numbers, dtype=torch.float32).view(1, 3, 1, 1)
            for numbers in (self.preprocess.mean, self.preprocess.std)
        )
        return ((unit - mean) / std).contiguous(memory_format=torch.channels_last)


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


@dataclass(frozen=True, eq=False)
class PKSampler:
    """P x K batches: P groups (identities or tracklets), K pictures each; a pure function of (seed, step).

    Being a function of the step it cannot run out, and a resumed run draws what an uninterrupted one would have
    drawn. No group comes twice in an epoch; where P does not divide their number, the remainder sits that epoch out,
    another one each time. Groups smaller than K repeat pictures.
    """

    groups: tuple[IntArray, ...]
    p: int
    k: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches of P different groups until fewer than P are left."""
        return max(1, len(self.groups) // self.p)

    def batch(self, step: int) -> IntArray:
        """Indices (P*K,) of batch ``step`` >= 0, group by group."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch, 0)).permutation(len(self.groups))
        chosen = order[place * self.p : (place + 1) * self.p]
        rng = np.random.default_rng((self.seed, step, 1))
        return np.concatenate(
            [rng.choice(self.groups[g], self.k, replace=len(self.groups[g]) < self.k) for g in chosen]
        )


def pk_sampler(labels: IntArray, *, p: int, k: int, seed: int, where: str, min_size: int = 1) -> PKSampler:
    """A PKSampler over ``labels`` int64 (N,); rows of label -1 belong to no group, small groups are left out.

    With fewer than ``p`` groups all of them are in every batch.

    Raises:
        DataError: fewer than two groups: nothing could be told apart.
    """
    groups = tuple(
        np.flatnonzero(labels == label).astype(np.int64)
        for label in np.unique(labels[labels >= 0])
        if int((labels == label).sum()) >= min_size
    )
    if len(groups) < 2:
        raise DataError(
            f"{where}: got {len(groups)} identities or tracklets with at least {min_size} pictures, expected 2+; "
            "harvest more footage"
        )
    return PKSampler(groups=groups, p=min(p, len(groups)), k=k, seed=seed)
