"""k-reciprocal re-ranking: two pictures are close when they have the same neighbours.

It looks at all queries and the whole gallery at once, so its numbers belong beside those of plain ranking, not in
place of them: a live search has one query.

Reference: Zheng Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, equations 3
to 12, with squared distances scaled by each row's largest, as the authors' code has it. Where they keep three dense
matrices of (Q + G)^2 numbers, rows here hold their few neighbours alone.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from reid_mtda.evaluate.cosine import Floats
from reid_mtda.types import FloatArray, IntArray

_CHUNK_BYTES = 32 * 2**20


def rerank_dist(query: Floats, gallery: Floats, *, k1: int = 20, k2: int = 6, weight: float = 0.3) -> FloatArray:
    """Re-ranked distances float32 (Q, G), smaller is better.

    Args:
        query: (Q, D) rows of length 1.
        gallery: (G, D) rows of length 1.
        k1: size of the neighbourhood whose reciprocity counts.
        k2: neighbours averaged in query expansion; 1 for none.
        weight: share of the original distance, 0..1; the rest is the Jaccard distance.
    """
    rows = np.concatenate([query, gallery]).astype(np.float32)
    nearest, farthest = _neighbours(rows, min(k1 + 1, len(rows)))
    encoded = _encode(rows, nearest, farthest, k1)
    if k2 > 1:
        few = nearest[:, :k2]
        mean = np.full(few.size, 1 / few.shape[1], np.float32)
        starts = np.arange(0, few.size + 1, few.shape[1])
        encoded = sparse.csr_array((mean, few.ravel(), starts), shape=encoded.shape) @ encoded
    return _blend(rows, len(query), farthest, encoded, weight)


def _dist(rows: FloatArray, chunk: slice) -> FloatArray:
    """Squared cosine distances (chunk, N)."""
    dist: FloatArray = 1 - rows[chunk] @ rows.T
    return np.square(dist, out=dist)


def _neighbours(rows: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """The ``count`` nearest of each row, itself included, nearest first (N, count); and its largest distance (N,)."""
    nearest = np.empty((len(rows), count), np.int64)
    farthest = np.empty(len(rows), np.float32)
    step = max(1, _CHUNK_BYTES // (4 * len(rows)))
    for begin in range(0, len(rows), step):
        chunk = slice(begin, begin + step)
        dist = _dist(rows, chunk)
        farthest[chunk] = dist.max(axis=1)
        some = np.sort(np.argpartition(dist, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(np.take_along_axis(dist, some, axis=1), axis=1, kind="stable")
        nearest[chunk] = np.take_along_axis(some, order, axis=1)
    return nearest, np.maximum(farthest, np.finfo(np.float32).tiny)


def _reciprocal(nearest: IntArray) -> list[IntArray]:
    """Of each row's neighbours those that count it among theirs."""
    mutual = (nearest[nearest] == np.arange(len(nearest))[:, None, None]).any(axis=2)
    return [row[keep] for row, keep in zip(nearest, mutual, strict=True)]


def _encode(rows: FloatArray, nearest: IntArray, farthest: FloatArray, k1: int) -> sparse.csr_array:
    """Each row as weights over its expanded k-reciprocal neighbours, sum 1: sparse (N, N)."""
    wide = _reciprocal(nearest)
    half = [(set(ids.tolist()), ids) for ids in _reciprocal(nearest[:, : round(k1 / 2) + 1])]
    columns, values = [], []
    for row, near in enumerate(wide):
        mine = set(near.tolist())
        more = [ids for members, ids in (half[i] for i in mine) if 3 * len(members & mine) > 2 * len(members)]
        expanded = np.unique(np.concatenate([near, *more]))
        dist = np.square(1 - rows[expanded] @ rows[row])
        values.append(np.exp(-dist / farthest[row]))
        values[-1] /= values[-1].sum()
        columns.append(expanded)
    starts = np.cumsum([0, *map(len, columns)])
    return sparse.csr_array((np.concatenate(values), np.concatenate(columns), starts), shape=(len(rows), len(rows)))


def _blend(
    rows: FloatArray, num_queries: int, farthest: FloatArray, encoded: sparse.csr_array, weight: float
) -> FloatArray:
    """Weighted mean of Jaccard distance (Q, G), by overlap of the encodings, and original distance."""
    num_gallery = len(rows) - num_queries
    side = encoded[num_queries:].tocsc()
    result = np.empty((num_queries, num_gallery), np.float32)
    for q in range(num_queries):
        mine = slice(encoded.indptr[q], encoded.indptr[q + 1])
        neighbours, own = encoded.indices[mine], encoded.data[mine]
        parts = [slice(side.indptr[k], side.indptr[k + 1]) for k in neighbours]
        members = np.concatenate([side.indices[part] for part in parts])
        shared = np.concatenate([np.minimum(side.data[part], w) for part, w in zip(parts, own, strict=True)])
        overlap = np.bincount(members, shared, num_gallery)
        dist = np.square(1 - rows[num_queries:] @ rows[q])
        result[q] = (1 - overlap / (2 - overlap)) * (1 - weight) + dist / farthest[q] * weight
    return result
