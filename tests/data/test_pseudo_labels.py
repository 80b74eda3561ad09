"""Pseudo-identities by clustering: a naive second opinion on every number, groups found, tracklets that join."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from reid_mtda import k_reciprocal as module
from reid_mtda.data.association import camera_normalised
from reid_mtda.data.pseudo_labels import (
    count_people,
    density_clusters,
    jaccard_dist,
    join_tracklets,
    normalise_cameras,
    number_clusters,
    shrunk_k1,
    single_camera,
)


def people(seed, rows=60, ids=6, dim=16, spread=0.5):
    """Noisy people: (embeddings of length 1 around one centre each, identities)."""
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, ids, rows)
    found = rng.standard_normal((ids, dim))[pids] + spread * rng.standard_normal((rows, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), pids


def naive_jaccard(rows, k1, k2):
    """Equations 3 to 10 word by word, dense."""
    n = len(rows)
    squared = 2 - 2 * rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(squared, 0)
    order = np.argsort(squared, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in order[i, :k] if i in order[j, :k]}

    encoded = np.zeros((n, n))
    for i in range(n):
        near = reciprocal(i, k1)
        expanded = set(near)
        for j in near:
            half = reciprocal(j, round(k1 / 2) + 1)
            if len(half & near) > 2 / 3 * len(half):
                expanded |= half
        for j in expanded:
            encoded[i, j] = np.exp(-squared[i, j])
        encoded[i] /= encoded[i].sum()
    encoded = np.stack([encoded[order[i, :k2]].mean(axis=0) for i in range(n)])
    return np.array(
        [[1 - np.minimum(a, b).sum() / np.maximum(a, b).sum() for b in encoded] for a in encoded], np.float32
    )


def dense(dist):
    """A pair that is not stored is at distance 1."""
    full = np.ones(dist.shape, np.float32)
    for row in range(dist.shape[0]):
        part = slice(dist.indptr[row], dist.indptr[row + 1])
        full[row, dist.indices[part]] = dist.data[part]
    return full


@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (10, 6), (8, 1), (5, 3), (60, 4), (2, 2), (1, 1)])
def test_jaccard_distance_equals_the_equations(k1, k2, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_PAIRS", 300)  # several chunks of either kind
    rows, _ = people(3)
    dist = jaccard_dist(rows, k1=k1, k2=k2)
    np.testing.assert_allclose(dense(dist), naive_jaccard(rows, k1, k2), rtol=0, atol=2e-6)
    assert dist.dtype == np.float32


@pytest.mark.parametrize("chunk", [1, 50, 10**9])
def test_chunks_change_nothing(chunk, monkeypatch):
    rows, _ = people(5, rows=40)
    whole = dense(jaccard_dist(rows, k1=9, k2=3))
    monkeypatch.setattr(module, "_CHUNK_PAIRS", chunk)
    np.testing.assert_allclose(dense(jaccard_dist(rows, k1=9, k2=3)), whole, rtol=0, atol=1e-6)


def test_strangers_are_not_stored():
    rows, pids = people(1, rows=200, ids=20, dim=64, spread=0.3)
    dist = jaccard_dist(rows, k1=10, k2=3)
    assert dist.nnz < 0.2 * 200 * 200
    first = np.repeat(np.arange(200), np.diff(dist.indptr))
    assert (pids[first] == pids[dist.indices])[dist.data < 0.3].all()


@pytest.mark.parametrize("rows", [np.zeros((0, 4)), np.eye(1, 4), np.ones((9, 4)) / 2, np.zeros((5, 4)), np.eye(6)])
def test_none_one_equal_and_empty_rows_are_values(rows):
    dist = jaccard_dist(rows.astype(np.float32), k1=4, k2=3)
    full = dense(dist)
    assert full.shape == (len(rows), len(rows)) and np.isfinite(full).all()
    assert full.min(initial=0) >= 0 and full.max(initial=1) <= 1
    np.testing.assert_allclose(np.diagonal(full), 0, atol=1e-6)
    assert density_clusters(dist, eps=0.5, min_samples=2).shape == (len(rows),)


def test_equal_rows_are_their_own_nearest():
    nearest = module.nearest_rows(np.ones((20, 4), np.float32) / 2, 5)
    assert np.array_equal(nearest[:, 0], np.arange(20)) and all(len(set(row)) == 5 for row in nearest.tolist())


def test_two_separated_groups_are_found():
    rows, pids = people(2, rows=40, ids=2, dim=32, spread=0.2)
    found = density_clusters(jaccard_dist(rows, k1=15, k2=6), eps=0.6, min_samples=4)
    assert set(found) == {0, 1}
    assert len({(a, b) for a, b in zip(found.tolist(), pids.tolist(), strict=True)}) == 2


@pytest.mark.parametrize(("eps", "min_samples"), [(0.3, 4), (0.5, 2), (0.6, 4), (0.6, 9)])
def test_labels_are_those_of_dbscan_on_the_dense_distances(eps, min_samples):
    rows, _ = people(8, rows=90, ids=9, spread=0.8)
    dist = jaccard_dist(rows, k1=12, k2=4)
    wanted = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(dense(dist))
    got = density_clusters(dist, eps=eps, min_samples=min_samples)
    assert got.dtype == np.int64 and np.array_equal(got, wanted)
    assert -1 in wanted or len(set(wanted)) > 1  # the case tells something


def test_a_neighbourhood_of_a_small_set_is_small():
    assert [shrunk_k1(30, n) for n in (10_000, 1200, 600, 320, 150, 0)] == [30, 30, 15, 8, 8, 8]
    assert shrunk_k1(4, 150) == 4


def test_cameras_are_normalised_each_by_itself():
    rows, _ = people(4)
    cameras = np.arange(60) % 3
    got = normalise_cameras(rows, cameras)
    for camera in range(3):
        assert np.array_equal(got[cameras == camera], camera_normalised(rows[cameras == camera]))
    assert np.array_equal(normalise_cameras(rows, None), camera_normalised(rows))
    assert not np.allclose(got, normalise_cameras(rows, None))


def test_a_camera_that_tints_everything_is_looked_through():
    """Two people in two cameras: without normalising the camera is what pictures have in common."""
    rng = np.random.default_rng(0)
    pids, cameras = np.arange(80) % 2, np.arange(80) // 40
    rows = rng.standard_normal((2, 32))[pids] + 6 * rng.standard_normal((2, 32))[cameras]
    rows = rows + 0.3 * rng.standard_normal((80, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def labels(some):
        return density_clusters(jaccard_dist(some, k1=30, k2=6), eps=0.6, min_samples=4)

    assert np.array_equal(labels(normalise_cameras(rows, cameras)), pids)
    assert not np.array_equal(labels(rows), pids)


NONE = -1


@pytest.mark.parametrize(
    ("clusters", "tracklets", "wanted"),
    [
        ([0, 0, 1, 1], [5, 5, 5, 6], [0, 0, 0, 1]),  # most votes
        ([1, 0, 2, 2], [5, 5, 6, 6], [0, 0, 2, 2]),  # as many votes: the first
        ([0, NONE, NONE, 1], [5, 5, 5, 6], [0, 0, 0, 1]),  # noise has no vote
        ([0, 0, NONE, NONE], [5, 5, 6, 6], [0, 0, 1, 1]),  # a tracklet of noise is a cluster
        ([NONE, NONE, NONE, NONE], [7, 7, 3, 3], [1, 1, 0, 0]),  # nothing but tracklets
        ([0, 0, NONE], [5, 5, 6], [0, 0, NONE]),  # one noisy crop stays noise
        ([0, NONE, 1, 1], [NONE, NONE, 6, 6], [0, NONE, 1, 1]),  # crops without tracklet stay
        ([], [], []),
    ],
)
def test_tracklets_join_crops(clusters, tracklets, wanted):
    given = np.array(clusters, np.int64)
    assert join_tracklets(given, np.array(tracklets, np.int64)).tolist() == wanted
    assert given.tolist() == clusters


def test_clusters_are_numbered_without_gaps_and_lonely_ones_are_noise():
    assert number_clusters(np.array([9, 3, 9, -1, 3, 5])).tolist() == [1, 0, 1, -1, 0, -1]
    assert number_clusters(np.array([9, 3, 9]), min_size=1).tolist() == [1, 0, 1]
    assert number_clusters(np.array([-1, -1])).tolist() == [-1, -1]
    assert number_clusters(np.zeros(0, np.int64)).tolist() == []


def test_clusters_of_one_camera_are_told_where_there_are_several():
    clusters = np.array([0, 0, 1, 1, -1, 2, 2])
    cameras = np.array([4, 7, 4, 4, 7, 7, 7])
    assert single_camera(clusters, cameras).tolist() == [False, True, True]
    assert single_camera(clusters, np.full(7, 4)).tolist() == [False] * 3
    assert single_camera(clusters, None).tolist() == [False] * 3
    assert single_camera(np.full(3, -1), np.arange(3)).tolist() == []


@pytest.mark.parametrize("ids", [3, 12, 60])
def test_people_are_counted_about(ids):
    """Six crops of each, in two tracklets: far fewer are counted than tracklets, and none melt into few."""
    rng = np.random.default_rng(ids)
    pids = np.repeat(np.arange(ids), 6)
    rows = rng.standard_normal((ids, 32))[pids] + 0.4 * rng.standard_normal((len(pids), 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    tracklets = np.repeat(np.arange(2 * ids), 3)
    assert 0.6 * ids <= count_people(rows, tracklets) <= 1.3 * ids
    assert 0.6 * ids <= count_people(rows) <= 2 * ids


def test_tracklets_and_crops_in_no_cluster_are_people_of_their_own():
    """40 crops without likeness: at most a few pairs are taken for one person by chance."""
    rows = np.random.default_rng(0).standard_normal((40, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    alone = count_people(rows)
    assert 20 < alone <= 40
    pairs = count_people(rows, np.repeat(np.arange(20), 2))
    assert 8 < pairs <= 20
    assert pairs < count_people(rows, np.append(np.repeat(np.arange(15), 2), [-1] * 10)) <= 25
    assert count_people(np.zeros((0, 4), np.float32)) == 0
