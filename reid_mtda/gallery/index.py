"""The nearest vectors, fast: a FAISS index in memory, made from the store and thrown away with the process.

It is never written to disk. Reading 100,000 rows back takes about a second, a file would be a second place from
which deleted people must vanish, and index files of unknown origin are a way into the process.
"""

from __future__ import annotations

import threading
from typing import Any

import faiss
import numpy as np

from reid_mtda.types import FloatArray, IntArray

# Below this many vectors exact search takes a few milliseconds at most.
CLUSTERED_FROM = 50_000

_PROBES = 16
_TRAINING_PER_LIST = 40
_REGROWTH = 4


class Index:
    """Vectors of length 1 by number; cosine search, safe to use from several threads.

    Args:
        dim: length D of a vector.
        training: float32 (N, D) typical of what will be added: vectors are then kept in clusters of which an
            unfiltered search visits the nearest ones (IVF-Flat). None: every search is exact.
        planned: how many vectors the clusters are for.
    """

    def __init__(self, dim: int, training: FloatArray | None = None, planned: int = 0) -> None:
        self._lock = threading.Lock()
        self._present = np.zeros(1024, np.bool_)
        self._planned = planned
        self.last = 0
        self._flat = faiss.IndexFlatIP(dim)
        self._faiss: Any = faiss.IndexIDMap(self._flat)  # faiss's own stubs do not know its Python side
        if training is not None:
            clusters = clusters_for(planned, len(training))
            self._faiss = faiss.IndexIVFFlat(self._flat, dim, clusters, faiss.METRIC_INNER_PRODUCT)
            self._faiss.cp.spherical = True
            self._faiss.cp.niter = 10
            # The number of samples was chosen on purpose; FAISS would warn on standard error.
            self._faiss.cp.min_points_per_centroid = 1
            self._faiss.train(training)
        self._is_clustered = training is not None

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    @property
    def is_outgrown(self) -> bool:
        """So many vectors came that clusters, or new ones, are worth their making."""
        return len(self) >= max(CLUSTERED_FROM, _REGROWTH * self._planned)

    def ids(self) -> IntArray:
        """Numbers of all vectors, int64 (N,), rising."""
        with self._lock:
            return np.flatnonzero(self._present).astype(np.int64)

    def add(self, ids: IntArray, vectors: FloatArray) -> None:
        """Add vectors (N, D) under new numbers (N,)."""
        if len(ids) == 0:
            return
        with self._lock:
            self._faiss.add_with_ids(np.ascontiguousarray(vectors), ids)
            self.last = max(self.last, int(ids.max()))
            if self.last >= len(self._present):
                grown = np.zeros(2 * self.last, np.bool_)
                grown[: len(self._present)] = self._present
                self._present = grown
            self._present[ids] = True

    def remove(self, ids: IntArray) -> None:
        """Remove vectors; unknown numbers are left out."""
        if len(ids) == 0:
            return
        with self._lock:
            self._faiss.remove_ids(faiss.IDSelectorBatch(ids))
            self._present[ids[ids < len(self._present)]] = False

    def search(
        self, query: FloatArray, k: int, *, allowed: IntArray | None = None, exact: bool = False
    ) -> tuple[FloatArray, IntArray]:
        """The ``k`` best of the vectors, or of those ``allowed``.

        Args:
            query: float32 (D,) of length 1.
            k: how many; fewer come back when there are fewer.
            allowed: numbers int64 (N,) that may be answered; such a search is exact.
            exact: look at every vector.

        Returns:
            Cosines float32 (K,), falling, equal ones by rising number; numbers int64 (K,).
        """
        selector = None if allowed is None else _selector(allowed)
        with self._lock:
            k = min(k, len(self) if allowed is None else len(allowed))
            if k == 0:
                return np.zeros(0, np.float32), np.zeros(0, np.int64)
            kind: Any = faiss.SearchParametersIVF if self._is_clustered else faiss.SearchParameters
            params = kind(sel=selector)
            if self._is_clustered:
                params.nprobe = self._faiss.nlist if exact or selector is not None else _PROBES
            scores, ids = self._faiss.search(query[None], k, params=params)
        found = ids[0] >= 0
        scores, ids = scores[0][found], ids[0][found]
        order = np.lexsort((ids, -scores))
        return scores[order], ids[order]


def clusters_for(planned: int, samples: int) -> int:
    """How many clusters serve ``planned`` vectors well and can be found from ``samples`` of them."""
    return max(1, min(int(3 * planned**0.5), samples // _TRAINING_PER_LIST))


def samples_for(planned: int) -> int:
    """How many training vectors that many clusters want."""
    return int(3 * planned**0.5) * _TRAINING_PER_LIST


def _selector(allowed: IntArray) -> Any:
    """A bitmap: one look-up a vector, however many are allowed."""
    bits = np.zeros(int(allowed.max(initial=0)) + 1, np.bool_)
    bits[allowed] = True
    bitmap: Any = faiss.IDSelectorBitmap
    return bitmap(np.packbits(bits, bitorder="little"))
