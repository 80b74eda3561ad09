"""The numbers of a retrieval test: over all queries, by camera and by person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_mtda.types import DoubleArray, FloatArray, IntArray, check_array


@dataclass(frozen=True, eq=False)
class CameraScores:
    """One row of a per-camera or camera-pair table; ``query_camid`` or ``gallery_camid`` None means all of them."""

    query_camid: int | None
    gallery_camid: int | None
    mAP: float
    rank1: float
    num_valid_queries: int


@dataclass(frozen=True, eq=False)
class PersonScores:
    """Sums over the queries of each person, whom a bootstrap draws as a whole: all arrays (P,).

    ``pids`` int64, rising; ``queries`` int64, those with a right answer, >= 1; ``ap`` and ``rank1`` float64, the sums
    of their average precision and of their right first answers.
    """

    pids: IntArray
    queries: IntArray
    ap: DoubleArray
    rank1: DoubleArray

    def __post_init__(self) -> None:
        for name, dtype in (("pids", np.int64), ("queries", np.int64), ("ap", np.float64), ("rank1", np.float64)):
            check_array(f"PersonScores.{name}", getattr(self, name), dtype, (len(self.pids),))


@dataclass(frozen=True, eq=False)
class RetrievalScores:
    """Retrieval quality as fractions: ``cmc`` float32 (R,), ``cmc[0]`` is rank-1.

    ``tied`` is the share of right answers that score exactly as a wrong one does; such wrong ones are ranked first.
    """

    mAP: float
    mINP: float
    cmc: FloatArray
    num_queries: int
    num_valid_queries: int
    per_camera: tuple[CameraScores, ...] = ()
    per_camera_pair: tuple[CameraScores, ...] = ()
    per_person: PersonScores | None = None
    tied: float = 0.0
