"""Pictures of one closed set of classes: with labels, without, and those of one domain together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reid_mtda.errors import ShapeError
from reid_mtda.types import ImageArray, IntArray, check_array


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """A labelled source: ``pictures`` uint8 (N, h, w, 3) RGB, ``labels`` int64 (N,) in 0..C-1."""

    pictures: ImageArray
    labels: IntArray
    num_classes: int
    domain: str

    def __post_init__(self) -> None:
        where = f"LabelledPictures {self.domain!r}"
        check_array(f"{where}, pictures", self.pictures, np.uint8, (None, None, None, 3))
        check_array(f"{where}, labels", self.labels, np.int64, (len(self.pictures),))
        if len(self.labels) and not (self.labels.min() >= 0 and self.labels.max() < self.num_classes):
            got = f"{self.labels.min()}..{self.labels.max()}"
            raise ShapeError(f"{where}: labels out of range, got {got}, expected 0..{self.num_classes - 1}")

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, eq=False)
class UnlabelledPictures:
    """An unlabelled target: ``pictures`` uint8 (N, h, w, 3) RGB and nothing else."""

    pictures: ImageArray
    domain: str

    def __post_init__(self) -> None:
        check_array(f"UnlabelledPictures {self.domain!r}", self.pictures, np.uint8, (None, None, None, 3))

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, eq=False)
class ScoredPictures:
    """Test pictures with their truth, for scoring alone: training never receives one."""

    pictures: ImageArray
    labels: IntArray
    num_classes: int
    domain: str

    def __post_init__(self) -> None:
        check_array(f"ScoredPictures {self.domain!r}", self.pictures, np.uint8, (None, None, None, 3))
        check_array(f"ScoredPictures {self.domain!r}, labels", self.labels, np.int64, (len(self.pictures),))

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, eq=False)
class ClosedDomain:
    """One domain in its three roles; which of them a method gets is the benchmark's to decide."""

    source: LabelledPictures
    target: UnlabelledPictures
    test: ScoredPictures

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.source.domain

    def limited(self, count: int, *, seed: int = 0) -> ClosedDomain:
        """At most ``count`` training pictures, drawn once from ``seed``; the test set stays whole."""
        if count >= len(self.source):
            return self
        rows = np.sort(np.random.default_rng((seed, len(self.source))).permutation(len(self.source))[:count])
        pictures = self.source.pictures[rows]
        return ClosedDomain(
            source=LabelledPictures(pictures, self.source.labels[rows], self.source.num_classes, self.name),
            target=UnlabelledPictures(pictures, self.name),
            test=self.test,
        )


def blended(targets: Sequence[UnlabelledPictures]) -> UnlabelledPictures:
    """All targets as one domain."""
    return UnlabelledPictures(
        np.concatenate([target.pictures for target in targets]), "+".join(target.domain for target in targets)
    )


def joined(sources: Sequence[LabelledPictures]) -> LabelledPictures:
    """All labelled domains as one: what the supervised oracle trains on."""
    return LabelledPictures(
        np.concatenate([source.pictures for source in sources]),
        np.concatenate([source.labels for source in sources]),
        sources[0].num_classes,
        "+".join(source.domain for source in sources),
    )
