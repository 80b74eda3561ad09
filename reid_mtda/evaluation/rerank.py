"""k-reciprocal re-ranking: two pictures are close when they have the same neighbours.

It looks at all queries and the whole gallery at once, so its numbers belong beside those of plain ranking, not in
place of them: a live search has one query.

Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, equations 3 to 12,
with squared distances scaled by each row's largest, as the authors' code has it.
"""

from __future__ import annotations

import numpy as np

from reid_mtda.evaluation.cosine import Floats
from reid_mtda.k_reciprocal import encode_rows, nearest_rows, overlaps
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
    nearest, farthest = nearest_rows(rows, min(k1 + 1, len(rows))), _farthest(rows)

    def weigh(first: IntArray, cosine: FloatArray) -> FloatArray:
        return np.asarray(np.exp(-np.square(1 - cosine) / farthest[first]), np.float32)

    encoded = encode_rows(rows, nearest, half=round(k1 / 2) + 1, k2=k2, weigh=weigh)
    result = np.empty((len(query), len(gallery)), np.float32)
    for begin, end, block in overlaps(encoded[: len(query)], encoded[len(query) :]):
        overlap, chunk = block.toarray(), slice(begin, end)
        dist = np.square(1 - rows[chunk] @ rows[len(query) :].T) / farthest[chunk, None]
        result[chunk] = (1 - overlap / (2 - overlap)) * (1 - weight) + dist * weight
    return result


def _farthest(rows: FloatArray) -> FloatArray:
    """The largest squared cosine distance of each row to any (N,), above 0."""
    farthest = np.empty(len(rows), np.float32)
    step = max(1, _CHUNK_BYTES // (4 * len(rows)))
    for begin in range(0, len(rows), step):
        chunk = slice(begin, begin + step)
        farthest[chunk] = np.square(1 - rows[chunk] @ rows.T).max(axis=1)
    return np.maximum(farthest, np.finfo(np.float32).tiny)
