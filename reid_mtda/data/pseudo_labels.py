"""Pseudo-identities of one target: density clusters of its crops, joined by the tracklets that come for free.

Two crops are close when they have the same k-reciprocal neighbours (Jaccard distance). Only pairs that share a
neighbour are ever stored, so a large target costs memory for its neighbourhoods, not for all its pairs.

Reference: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, equations 3 to 10,
with weights exp(-|a - b|^2) and DBSCAN on the distance as in Ge et al., Self-paced Contrastive Learning, NeurIPS 2020.
Zhong's re-ranking in ``k_reciprocal.rerank_dist`` weighs by squared distances scaled by the largest: other numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from reid_mtda.data.association import camera_normalised
from reid_mtda.k_reciprocal import Matrix, encode_rows, nearest_rows, overlaps
from reid_mtda.types import FloatArray, IntArray

NOISE = -1
"""Pseudo-label of a crop that belongs to no cluster."""


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
    nearest = nearest_rows(rows, min(k1, len(rows)))
    half = round(nearest.shape[1] / 2) + 1
    encoded = encode_rows(rows, nearest, half=half, k2=k2, weigh=lambda _, cosine: np.exp(2 * cosine - 2))
    dist: Matrix = sparse.vstack([block for *_, block in overlaps(encoded, encoded)], format="csr")
    dist.data = np.clip(1 - dist.data / (2 - dist.data), 0, 1)
    return dist


def density_clusters(dist: Matrix, *, eps: float, min_samples: int) -> IntArray:
    """DBSCAN on sparse distances (N, N): cluster int64 (N,), NOISE for crops without dense company.

    Args:
        dist: (N, N) sparse distances; what is not stored is far.
        eps: DBSCAN's radius.
        min_samples: crops that make a place dense.
    """
    if not dist.shape[0]:
        return np.zeros(0, np.int64)
    from sklearn.cluster import DBSCAN  # not at the top: a service counts people, too, and has no scikit-learn

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
    # Where two near crops make a cluster, DBSCAN's clusters are what is connected.
    pairs = sparse.coo_array(dist)
    is_near = pairs.data <= 0.4
    ones = np.ones(int(is_near.sum()), np.float64)
    near = sparse.csr_array((ones, (pairs.row[is_near], pairs.col[is_near])), shape=dist.shape)
    _, connected = connected_components(near, directed=False)
    found = number_clusters(np.asarray(connected, np.int64))
    if tracklets is not None:
        found = join_tracklets(found, tracklets)
    alone = found == NOISE
    followed = np.full(len(found), NOISE) if tracklets is None else tracklets
    tracks = np.unique(followed[alone & (followed >= 0)])
    return len(np.unique(found[~alone])) + len(tracks) + int((alone & (followed < 0)).sum())
