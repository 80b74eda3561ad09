"""Pseudo-identities across cameras: which tracklets of different cameras show the same person, without labels."""

from __future__ import annotations

from collections.abc import Mapping

import faiss
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from reid_mtda.types import DoubleArray, FloatArray, IntArray


def camera_normalised(embeddings: FloatArray) -> FloatArray:
    """Standardise one camera's embeddings (N, D) by their own mean and spread, rows of length 1 again.

    What all pictures of a camera have in common is the camera, not a person (camera-aware similarity as in Zhuang et
    al. 2020, "Rethinking the distribution gap of person re-identification with camera-based batch normalization").
    """
    centred = (embeddings - embeddings.mean(axis=0)) / (embeddings.std(axis=0) + 1e-6)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-12), np.float32)


def match_cameras(
    embeddings: Mapping[str, FloatArray],
    tracklets: Mapping[str, IntArray],
    *,
    normalised: bool = True,
    spans: Mapping[str, DoubleArray] | None = None,
    negative_quantile: float = 0.0,
) -> dict[str, IntArray]:
    """Give tracklets of different cameras one pseudo-identity where they are each other's nearest neighbour.

    Embeddings are normalised per camera and averaged per tracklet; two tracklets of different cameras match when each
    is the other's nearest in that camera (mutual nearest neighbours), and, with three cameras or more, when a tracklet
    of a third camera is matched with both. Matched tracklets form one identity; a tracklet without a match is its own.
    Matches that would make one person of two tracklets which one camera saw at the same time are all undone.

    Args:
        embeddings: per camera (N, D), one common space (one net, or teachers that share a class space).
        tracklets: per camera int64 (N,); -1 where a crop has none.
        normalised: standardise each camera's embeddings first; off only to measure what it brings.
        spans: per camera (N, 2), from when to when a crop's tracklet was in view; NaN where nobody knows.
        negative_quantile: share in [0, 1) of the pairs of one camera's tracklets, nearly all of them negatives, that a
            match must be more alike than; 0: no threshold. For cameras that many people pass alone.

    Returns:
        Per camera int64 (N,): pseudo-identities, numbered over all cameras; -1 where there is no tracklet.
    """
    owners: list[tuple[str, int]] = []
    times: list[DoubleArray] = []
    means: list[FloatArray] = []
    for camera, rows in embeddings.items():
        if not len(rows):
            continue
        rows = camera_normalised(rows) if normalised else rows
        for track in np.unique(tracklets[camera][tracklets[camera] >= 0]):
            mean = rows[tracklets[camera] == track].mean(axis=0)
            owners.append((camera, int(track)))
            times.append(np.full(2, np.nan) if spans is None else spans[camera][tracklets[camera] == track][0])
            means.append(mean / (np.linalg.norm(mean) + 1e-12))
    result = {camera: np.full(len(rows), -1, np.int64) for camera, rows in embeddings.items()}
    if not owners:
        return result
    cameras = np.unique([camera for camera, _ in owners], return_inverse=True)[1]
    joined = _mutual_neighbours(np.stack(means), cameras)
    if negative_quantile:
        joined = _more_alike(joined, np.stack(means), cameras, negative_quantile)
    if cameras.max() >= 2:
        joined = joined.multiply(joined @ joined)
    components = connected_components(joined, directed=False)[1].astype(np.int64)
    identity = _without_contradictions(components, cameras, np.stack(times))
    for (camera, track), number in zip(owners, identity, strict=True):
        result[camera][tracklets[camera] == track] = number
    return result


def _more_alike(joined: csr_array, means: FloatArray, cameras: IntArray, quantile: float) -> csr_array:
    """Keep the matches (N, N) that are more alike than ``quantile`` of the pairs within a camera, over all cameras."""
    within = [means[cameras == camera] for camera in np.unique(cameras)]
    pairs = np.concatenate([(own @ own.T)[np.triu_indices(len(own), 1)] for own in within])
    if not len(pairs):
        return joined
    rows, columns = joined.nonzero()
    keep = (means[rows] * means[columns]).sum(axis=1) > np.quantile(pairs, quantile)
    return csr_array((np.ones(int(keep.sum()), np.int32), (rows[keep], columns[keep])), shape=joined.shape)


def _without_contradictions(identity: IntArray, cameras: IntArray, spans: DoubleArray) -> IntArray:
    """Take identities (N,) apart that hold two tracklets which one camera saw at the same time."""
    identity, new = identity.copy(), int(identity.max(initial=0)) + 1
    for number in np.flatnonzero(np.bincount(identity) > 1):  # most tracklets are matched with none
        rows = np.flatnonzero(identity == number)
        same = cameras[rows, None] == cameras[rows]
        overlap = (spans[rows, None, 0] <= spans[rows, 1]) & (spans[rows, 0] <= spans[rows, None, 1])
        if np.triu(same & overlap, 1).any():
            identity[rows] = new + np.arange(len(rows))
            new += len(rows)
    return identity


def _mutual_neighbours(means: FloatArray, cameras: IntArray) -> csr_array:
    """Sparse (N, N): 1 where rows of different cameras are each other's nearest in the other's camera.

    A row has one nearest in each other camera, so memory grows with rows times cameras and not with pairs of rows.
    """
    rows, nearest = [], []
    for camera in np.unique(cameras):
        columns, others = np.flatnonzero(cameras == camera), np.flatnonzero(cameras != camera)
        index = faiss.IndexFlatIP(means.shape[1])
        index.add(np.ascontiguousarray(means[columns]))
        if len(others):
            rows.append(others)
            nearest.append(columns[index.search(np.ascontiguousarray(means[others]), 1)[1][:, 0]])
    shape = (len(means), len(means))
    nobody = np.zeros(0, np.int64)
    place = (np.concatenate([nobody, *rows]), np.concatenate([nobody, *nearest]))
    listed = csr_array((np.ones(len(place[0]), np.int32), place), shape=shape)
    return csr_array(listed.multiply(listed.T))
