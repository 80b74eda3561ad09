"""What passes between store, index and gallery: rows, a filter on them, and what a write did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_mtda.types import DoubleArray, FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Filter:
    """Which sightings count: of these ``cameras`` (None: all), on view at some moment of ``start_s .. end_s``."""

    cameras: tuple[str, ...] | None = None
    start_s: float | None = None
    end_s: float | None = None

    def where(self) -> tuple[str, list[str | float]]:
        """The filter as an SQL condition and its values."""
        parts: list[str] = ["1"]
        values: list[str | float] = []
        if self.cameras is not None:
            parts.append(f"camera IN ({','.join('?' * len(self.cameras))})")
            values += self.cameras
        if self.start_s is not None:
            parts.append("end_s >= ?")
            values.append(self.start_s)
        if self.end_s is not None:
            parts.append("start_s <= ?")
            values.append(self.end_s)
        return " AND ".join(parts), values

    def passes(
        self, cameras: IntArray, codes: Mapping[str, int], start_s: DoubleArray, end_s: DoubleArray
    ) -> BoolArray:
        """The filter on columns (N,): ``cameras`` holds ``codes[camera]`` of each."""
        passing = np.ones(len(cameras), np.bool_)
        if self.cameras is not None:
            passing &= np.isin(cameras, [codes[camera] for camera in self.cameras if camera in codes])
        if self.start_s is not None:
            passing &= end_s >= self.start_s
        if self.end_s is not None:
            passing &= start_s <= self.end_s
        return passing

    @property
    def is_open(self) -> bool:
        """Everything passes."""
        return self == Filter()


@dataclass(frozen=True, eq=False)
class Rows:
    """What an index needs of sightings: ``ids`` int64 (N,), ``vectors`` float32 (N, D), camera and times of each."""

    ids: IntArray
    vectors: FloatArray
    cameras: tuple[str, ...]
    start_s: DoubleArray
    end_s: DoubleArray


@dataclass(frozen=True)
class Change:
    """What one write did: number of changes to the gallery so far, rows that came and rows that went."""

    changes: int
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
