"""The nearest vectors, fast: a FAISS index in memory, made from the store and thrown away with the process.

It is never written to disk: making it anew takes seconds, a file would be one more place from which deleted people
must vanish, and index files of unknown origin are a way into the process.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import faiss
import numpy as np

from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.rows import Rows
from reid_mtda.types import FloatArray, IntArray

# Below this many vectors of length 512 exact search takes 25 ms at most, and clusters would be worth nothing.
CLUSTERED_FROM = 100_000

_CLUSTERS = 1024
# Half of all clusters: a missed answer costs an investigator more than ten milliseconds do.
_PROBES = 512
_TRAINING_PER_CLUSTER = 32
TRAINING_ROWS = _CLUSTERS * _TRAINING_PER_CLUSTER


class Index:
    """Vectors of length 1 by number, each with its camera and times; cosine search, safe from several threads.

    Args:
        dim: length D of a vector.
        training: float32 (N, D) typical of what will be added: vectors are then kept in clusters of which an
            unfiltered search visits the nearest ones (IVF-Flat). None: every search is exact.
    """

    def __init__(self, dim: int, training: FloatArray | None = None) -> None:
        self._lock = threading.Lock()
        self._codes: dict[str, int] = {}
        # Columns by number; numbers rise by one, so there are few gaps. -1: no vector of that number.
        self._camera = np.full(1024, -1, np.int64)
        self._start_s = np.zeros(1024)
        self._end_s = np.zeros(1024)
        self.last = 0
        self._is_clustered = training is not None
        self._flat = faiss.IndexFlatIP(dim)
        self._faiss: Any = faiss.IndexIDMap(self._flat)  # faiss's own stubs do not know its Python side
        if training is not None:
            clusters = max(1, min(_CLUSTERS, len(training) // _TRAINING_PER_CLUSTER))
            self._faiss = faiss.IndexIVFFlat(self._flat, dim, clusters, faiss.METRIC_INNER_PRODUCT)
            self._faiss.cp.spherical = True
            self._faiss.cp.niter = 6
            # The number of samples was chosen on purpose; FAISS would warn on standard error.
            self._faiss.cp.min_points_per_centroid = 1
            faiss.omp_set_num_threads(os.cpu_count() or 1)
            self._faiss.train(training)

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    @property
    def is_outgrown(self) -> bool:
        """So many vectors came that clusters are worth their making."""
        return not self._is_clustered and len(self) >= CLUSTERED_FROM

    def ids(self) -> IntArray:
        """Numbers of all vectors, int64 (N,), rising."""
        with self._lock:
            return np.flatnonzero(self._camera >= 0).astype(np.int64)

    def add(self, rows: Rows) -> None:
        """Add vectors under new numbers."""
        if len(rows.ids) == 0:
            return
        with self._lock:
            self._faiss.add_with_ids(np.ascontiguousarray(rows.vectors), rows.ids)
            self.last = max(self.last, int(rows.ids.max()))
            if self.last >= len(self._camera):
                more = 2 * self.last - len(self._camera)
                self._camera = np.pad(self._camera, (0, more), constant_values=-1)
                self._start_s, self._end_s = np.pad(self._start_s, (0, more)), np.pad(self._end_s, (0, more))
            self._camera[rows.ids] = [self._codes.setdefault(name, len(self._codes)) for name in rows.cameras]
            self._start_s[rows.ids] = rows.start_s
            self._end_s[rows.ids] = rows.end_s

    def remove(self, ids: IntArray) -> None:
        """Remove vectors; unknown numbers are left out."""
        if len(ids) == 0:
            return
        with self._lock:
            self._faiss.remove_ids(faiss.IDSelectorBatch(ids))
            self._camera[ids[ids < len(self._camera)]] = -1

    def search(
        self, query: FloatArray, k: int, chosen: Filter | None = None, *, exact: bool = False
    ) -> tuple[FloatArray, IntArray]:
        """The ``k`` best of the vectors, or of those that pass ``chosen``.

        Args:
            query: float32 (D,) of length 1.
            k: how many; fewer come back when there are fewer.
            chosen: what may be answered; a search with such a filter is exact.
            exact: look at every vector.

        Returns:
            Cosines float32 (K,), falling, equal ones by rising number; numbers int64 (K,).
        """
        with self._lock:
            k = min(k, len(self))
            options: dict[str, Any] = {}
            if chosen is not None and not chosen.lets_all_rows_pass:
                n = self.last + 1
                passing = chosen.passes(self._camera[:n], self._codes, self._start_s[:n], self._end_s[:n])
                passing &= self._camera[:n] >= 0
                k = min(k, int(passing.sum()))
                # A bitmap: one look-up a vector, however many may be answered.
                bitmap: Any = faiss.IDSelectorBitmap
                options["sel"] = bitmap(np.packbits(passing, bitorder="little"))
            if k == 0:
                return np.zeros(0, np.float32), np.zeros(0, np.int64)
            # One query is one thread's work; waiting for the others would only cost time. Set for this thread alone.
            faiss.omp_set_num_threads(1)
            if self._is_clustered:
                options["nprobe"] = self._faiss.nlist if exact or options else _PROBES
            kind: Any = faiss.SearchParametersIVF if self._is_clustered else faiss.SearchParameters
            scores, ids = self._faiss.search(query[None], k, params=kind(**options))
        found = ids[0] >= 0
        scores, ids = scores[0][found], ids[0][found]
        order = np.lexsort((ids, -scores))
        return scores[order], ids[order]
