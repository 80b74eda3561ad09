"""k-reciprocal encoding: a row of a set described by weights over the rows that have the same neighbours.

One encoder for re-ranking (`rerank_dist`) and for pseudo-labels (``data.pseudo_labels``), which differ in how they
weigh. Where the authors' code keeps dense matrices of N^2 numbers, rows here hold their few neighbours alone.

Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, equations 3 to 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from scipy import sparse

from reid_mtda.types import FloatArray, IntArray

Matrix = sparse.csr_array
Weigh = Callable[[IntArray, FloatArray], FloatArray]
"""Rows int64 (P,) and their cosines float32 (P,) with as many neighbours -> weights float32 (P,)."""

_CHUNK_PAIRS = 2**20
_CHUNK_BYTES = 32 * 2**20


def nearest_rows(rows: FloatArray, count: int) -> IntArray:
    """Find the ``count`` nearest rows of each row (N, D) by cosine, itself first: int64 (N, count)."""
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(np.ascontiguousarray(rows))
    found: IntArray = index.search(np.ascontiguousarray(rows), count)[1]
    # Among equal rows a row need not be found, or not first.
    own = np.arange(len(rows))[:, None]
    others = np.argsort(found == own, axis=1, kind="stable")[:, : count - 1]
    return np.concatenate([own, np.take_along_axis(found, others, axis=1)], axis=1)


def encode_rows(rows: FloatArray, nearest: IntArray, *, half: int, k2: int, weigh: Weigh) -> Matrix:
    """Encode each row as weights over its expanded k-reciprocal neighbours.

    Args:
        rows: (N, D) of length 1.
        nearest: (N, k) the neighbourhood whose reciprocity counts, each row itself first.
        half: size of the smaller neighbourhood that expands it.
        k2: neighbours averaged in query expansion, the row itself included; 1 for none.
        weigh: what a neighbour weighs; weights of a row are scaled to sum 1.

    Returns:
        Sparse (N, N), each row's sum 1.
    """
    wide, narrow = (_reciprocal(nearest[:, :k]) for k in (nearest.shape[1], half))
    encoded = _weights(rows, _expanded(wide, narrow), weigh)
    if k2 > 1:
        few = nearest[:, :k2]
        encoded = Matrix(_listed(few) @ encoded)
        encoded.data /= few.shape[1]
    return encoded


def overlaps(encoded: Matrix, others: Matrix) -> Iterator[tuple[int, int, Matrix]]:
    """Yield sums of the smaller weights of every pair of encodings: (begin, end, sparse (end - begin, M)).

    Blocks of rows of ``encoded`` (N, K), in order, against all rows of ``others`` (M, K). Each encoding sums to 1, so
    the Jaccard distance is 1 - overlap / (2 - overlap).
    """
    columns = sparse.csc_array(others)
    height = np.diff(columns.indptr)
    # How many pairs the rows make together decides how many rows are taken at once.
    pairs = np.add.reduceat(height[encoded.indices], encoded.indptr[:-1]).cumsum()
    begin = 0
    while begin < len(pairs):
        done = pairs[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(pairs, done + _CHUNK_PAIRS, side="right")))
        yield begin, end, _overlap(encoded, columns, begin, end)
        begin = end


def _overlap(encoded: Matrix, columns: sparse.csc_array, begin: int, end: int) -> Matrix:
    entries = slice(encoded.indptr[begin], encoded.indptr[end])
    ids, own = encoded.indices[entries], encoded.data[entries]
    row = np.repeat(np.arange(end - begin), np.diff(encoded.indptr[begin : end + 1]))
    height = np.diff(columns.indptr)[ids]
    # Positions of all entries of each column named, one column after the other.
    place = np.arange(height.sum()) + np.repeat(columns.indptr[ids] - np.cumsum(height) + height, height)
    smaller = np.minimum(columns.data[place], np.repeat(own, height))
    shape = (end - begin, columns.shape[0])
    return Matrix(sparse.coo_array((smaller, (np.repeat(row, height), columns.indices[place])), shape=shape))


def _listed(ids: IntArray) -> Matrix:
    """Sparse (N, N) with a one where row i lists j in ``ids`` (N, k)."""
    n, k = ids.shape
    return Matrix((np.ones(ids.size, np.float32), ids.ravel(), np.arange(0, ids.size + 1, k)), shape=(n, n))


def _reciprocal(nearest: IntArray) -> Matrix:
    """One where two rows list each other."""
    near = _listed(nearest)
    return Matrix(near.multiply(near.T))


def _expanded(wide: Matrix, narrow: Matrix) -> Matrix:
    """Neighbours, and those of each neighbour that shares more than two thirds of its own with the row."""
    shared = Matrix((wide @ narrow.T).multiply(wide))
    size = np.diff(narrow.indptr)
    shared.data = (3 * shared.data > 2 * size[shared.indices]).astype(np.float32)
    grown = Matrix(wide + shared @ narrow)
    grown.eliminate_zeros()
    return grown


def _weights(rows: FloatArray, members: Matrix, weigh: Weigh) -> Matrix:
    """The weight of each row's members, sum 1."""
    first = np.repeat(np.arange(len(rows)), np.diff(members.indptr))
    data = np.empty(members.nnz, np.float32)
    step = max(1, _CHUNK_PAIRS // rows.shape[1])
    for begin in range(0, members.nnz, step):
        pairs = slice(begin, begin + step)
        data[pairs] = weigh(first[pairs], np.einsum("nd,nd->n", rows[first[pairs]], rows[members.indices[pairs]]))
    data /= np.bincount(first, data, len(rows))[first]
    return Matrix((data, members.indices, members.indptr), shape=members.shape)


def rerank_dist(
    query: npt.NDArray[np.floating[Any]],
    gallery: npt.NDArray[np.floating[Any]],
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> FloatArray:
    """Re-ranked distances float32 (Q, G), smaller is better: pictures with the same neighbours are close.

    It looks at all queries and all of the gallery given at once: numbers of a whole test belong beside those of plain
    ranking, not in place of them. A live search has one query, and gives its nearest candidates as gallery.

    Args:
        query: (Q, D) rows of length 1.
        gallery: (G, D) rows of length 1.
        k1: size of the neighbourhood whose reciprocity counts.
        k2: neighbours averaged in query expansion; 1 for none.
        weight: share of the original distance, 0..1; the rest is the Jaccard distance.

    Reference: Zhong et al. 2017, equations 11 and 12, with squared distances scaled by each row's largest, as the
    authors' code has it.
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
