"""What passes between store, index and gallery: rows, and what a write did."""

from __future__ import annotations

from dataclasses import dataclass

from reid_mtda.types import DoubleArray, FloatArray, IntArray

Key = tuple[str, int, float, float]
"""Camera, track, start and end of a sighting."""


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
