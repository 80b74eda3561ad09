"""Pseudo-identities of one target: density clusters of its crops, joined by the tracklets that come for free.

Two crops are close when they have the same k-reciprocal neighbours (Jaccard distance). Only pairs that share a
neighbour are ever stored, so a large target costs memory for its neighbourhoods, not for all its pairs.

Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, equations 3 to 10,
with weights exp(-|a - b|^2) and DBSCAN on the distance as in Ge et al., Self-paced Contrastive Learning, NeurIPS 2020.
Zhong's re-ranking in ``evaluate.rerank`` weighs by squared distances scaled by the largest: other numbers.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.cluster import DBSCAN

from reid_mtda.data.association import camera_normalised
from reid_mtda.types import FloatArray, IntArray

Matrix = sparse.csr_array
NOISE = -1
"""Pseudo-label of a crop that belongs to no cluster."""

_CHUNK_PAIRS = 2**20


def normalise_cameras(embeddings: FloatArray, cameras: IntArray | None) -> FloatArray:
    """Standardise embeddings (N, D) camera by camera; without ``cameras`` int64 (N,) they are one camera's."""
    if cameras is None:
        return camera_normalised(embeddings)
    rows = np.empty_like(embeddings)
    for camera in np.unique(cameras):
        rows[cameras == camera] = camera_normalised(embeddings[cameras == camera])
    return rows


def shrunk_k1(k1: int, num_rows: int) -> int:
    """``k1`` for a set of ``num_rows`` crops: a fortieth of them, 8 at least, where that is less.

    A neighbourhood is to be one person. On 40 people of 9 crops each, k1 30 at eps 0.6 melts six people into a
    cluster, k1 8 hardly two.
    """
    return min(k1, max(8, num_rows // 40))


def jaccard_dist(rows: FloatArray, *, k1: int = 30, k2: int = 6) -> Matrix:
    """Jaccard distances of k-reciprocal neighbourhoods: symmetric, in [0, 1].

    Args:
        rows: (N, D) of length 1 (a row of zeros is like nothing but itself).
        k1: size of the neighbourhood whose reciprocity counts, the row itself included.
        k2: neighbours averaged in query expansion, the row itself included; 1 for none.

    Returns:
        Sparse (N, N): a pair that is not stored shares no neighbour, its distance is 1; the diagonal is stored.
    """
    if not len(rows):
        return Matrix(np.zeros((0, 0), np.float32))
    nearest = _nearest(rows, min(k1, len(rows)))
    wide, half = (_reciprocal(nearest[:, :k]) for k in (nearest.shape[1], round(nearest.shape[1] / 2) + 1))
    encoded = _weights(rows, _expanded(wide, half))
    if k2 > 1:
        few = nearest[:, :k2]
        encoded = Matrix(_listed(few) @ encoded)
        encoded.data /= few.shape[1]
    return _dist(encoded)


def _nearest(rows: FloatArray, count: int) -> IntArray:
    """The ``count`` nearest rows of each row by cosine, itself first (N, count)."""
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(np.ascontiguousarray(rows))
    found: IntArray = index.search(np.ascontiguousarray(rows), count)[1]
    # Among equal rows a row need not be found, or not first.
    own = np.arange(len(rows))[:, None]
    others = np.argsort(found == own, axis=1, kind="stable")[:, : count - 1]
    return np.concatenate([own, np.take_along_axis(found, others, axis=1)], axis=1)


def _listed(ids: IntArray) -> Matrix:
    """Sparse (N, N) with a one where row i lists j in ``ids`` (N, k)."""
    n, k = ids.shape
    return Matrix((np.ones(ids.size, np.float32), ids.ravel(), np.arange(0, ids.size + 1, k)), shape=(n, n))


def _reciprocal(nearest: IntArray) -> Matrix:
    """One where two rows list each other."""
    near = _listed(nearest)
    return Matrix(near.multiply(near.T))


def _expanded(wide: Matrix, half: Matrix) -> Matrix:
    """Neighbours, and those of each neighbour that shares more than two thirds of its own with the row."""
    shared = Matrix((wide @ half.T).multiply(wide))
    size = np.diff(half.indptr)
    shared.data = (3 * shared.data > 2 * size[shared.indices]).astype(np.float32)
    grown = Matrix(wide + shared @ half)
    grown.eliminate_zeros()
    return grown


def _weights(rows: FloatArray, members: Matrix) -> Matrix:
    """exp(-|a - b|^2) of each row's members, sum 1."""
    first = np.repeat(np.arange(len(rows)), np.diff(members.indptr))
    data = np.empty(members.nnz, np.float32)
    step = max(1, _CHUNK_PAIRS // rows.shape[1])
    for begin in range(0, members.nnz, step):
        pairs = slice(begin, begin + step)
        cosine = np.einsum("nd,nd->n", rows[first[pairs]], rows[members.indices[pairs]])
        data[pairs] = np.exp(2 * cosine - 2)
    data /= np.bincount(first, data, len(rows))[first]
    return Matrix((data, members.indices, members.indptr), shape=members.shape)


def _dist(encoded: Matrix) -> Matrix:
    """1 - sum min / sum max of every pair of encodings that overlap; each sums to 1, so sum max = 2 - sum min."""
    columns = sparse.csc_array(encoded)
    height = np.diff(columns.indptr)
    # How many pairs the rows make together decides how many rows are taken at once.
    pairs = np.add.reduceat(height[encoded.indices], encoded.indptr[:-1]).cumsum()
    blocks, begin = [], 0
    while begin < len(pairs):
        done = pairs[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(pairs, done + _CHUNK_PAIRS, side="right")))
        blocks.append(_overlap(encoded, columns, begin, end))
        begin = end
    dist: Matrix = sparse.vstack(blocks, format="csr")
    dist.data = np.clip(1 - dist.data / (2 - dist.data), 0, 1)
    return dist


def _overlap(encoded: Matrix, columns: sparse.csc_array, begin: int, end: int) -> Matrix:
    """Sums of the smaller weight, rows ``begin`` to ``end`` against all."""
    entries = slice(encoded.indptr[begin], encoded.indptr[end])
    ids, own = encoded.indices[entries], encoded.data[entries]
    row = np.repeat(np.arange(end - begin), np.diff(encoded.indptr[begin : end + 1]))
    height = np.diff(columns.indptr)[ids]
    # Positions of all entries of each column named, one column after the other.
    place = np.arange(height.sum()) + np.repeat(columns.indptr[ids] - np.cumsum(height) + height, height)
    smaller = np.minimum(columns.data[place], np.repeat(own, height))
    shape = (end - begin, encoded.shape[0])
    return Matrix(sparse.coo_array((smaller, (np.repeat(row, height), columns.indices[place])), shape=shape))


def density_clusters(dist: Matrix, *, eps: float, min_samples: int) -> IntArray:
    """DBSCAN on sparse distances (N, N): cluster int64 (N,), NOISE for crops without dense company."""
    if not dist.shape[0]:
        return np.zeros(0, np.int64)
    found = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(sparse.csr_matrix(dist))
    return np.asarray(found, np.int64)


def join_tracklets(clusters: IntArray, tracklets: IntArray) -> IntArray:
    """Give all crops of a tracklet the cluster that most of them are in; a tracklet of noise is a cluster of its own.

    Of equally frequent clusters the first counts. A crop without tracklet (-1) keeps its cluster, a tracklet of one
    noisy crop stays noise: it has no second picture to learn from.

    Args:
        clusters: int64 (N,), NOISE where none.
        tracklets: int64 (N,), -1 where none.
    """
    joined = clusters.copy()
    new = int(clusters.max(initial=NOISE)) + 1
    for tracklet in np.unique(tracklets[tracklets >= 0]):
        rows = np.flatnonzero(tracklets == tracklet)
        votes = clusters[rows][clusters[rows] != NOISE]
        if len(votes):
            joined[rows] = np.bincount(votes).argmax()
        elif len(rows) > 1:
            joined[rows] = new
            new += 1
    return joined


def number_clusters(clusters: IntArray, *, min_size: int = 2) -> IntArray:
    """Number clusters 0..C-1 without gaps; those of fewer than ``min_size`` crops become noise."""
    ids, place, size = np.unique(clusters, return_inverse=True, return_counts=True)
    keep = (ids != NOISE) & (size >= min_size)
    return np.where(keep, np.cumsum(keep) - 1, NOISE)[place].astype(np.int64)


def single_camera(clusters: IntArray, cameras: IntArray | None) -> npt.NDArray[np.bool_]:
    """Which of the clusters 0..C-1 one camera alone has seen, bool (C,); none where there is one camera in all."""
    count = int(clusters.max(initial=NOISE)) + 1
    if cameras is None or len(np.unique(cameras)) < 2:
        return np.zeros(count, bool)
    return np.array([len(np.unique(cameras[clusters == cluster])) == 1 for cluster in range(count)], bool)


def count_people(embeddings: FloatArray, tracklets: IntArray | None = None) -> int:
    """About how many people one camera's crops (N, D) show: clusters, and tracklets or crops that are in none.

    With ``tracklets`` int64 (N,), -1 where none. Two near crops make a cluster here, at a stricter distance than for
    training. On Market-1501's six cameras, seen by OSNet x0.25 of MSMT17, this counts 1.0 to 1.2 times the people with
    tracklets, 1.4 to 2.4 times without.
    """
    if not len(embeddings):
        return 0
    dist = jaccard_dist(embeddings, k1=shrunk_k1(20, len(embeddings)), k2=6)
    found = density_clusters(dist, eps=0.4, min_samples=2)
    if tracklets is not None:
        found = join_tracklets(found, tracklets)
    alone = found == NOISE
    followed = np.full(len(found), NOISE) if tracklets is None else tracklets
    tracks = np.unique(followed[alone & (followed >= 0)])
    return len(np.unique(found[~alone])) + len(tracks) + int((alone & (followed < 0)).sum())
