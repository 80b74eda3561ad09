"""Ranking against a loop that anyone can read, and against torchreid's evaluator."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_mtda.errors import DataError, ShapeError
from reid_mtda.evaluation import average_precision
from reid_mtda.evaluation.average_precision import rank_matrix, rank_scores
from reid_mtda.evaluation.cosine import unit_rows


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def loop(scores, q_pids, q_camids, g_pids, g_camids, max_rank=50, query_camera=None, gallery_camera=None):
    """The definition, one query and one gallery entry at a time; None where no query has an answer."""
    aps, inps, curves = [], [], []
    for q in range(len(q_pids)):
        if query_camera is not None and q_camids[q] != query_camera:
            continue
        entries = [
            g
            for g in range(len(g_pids))
            if not (g_pids[g] == q_pids[q] and g_camids[g] == q_camids[q])
            and (gallery_camera is None or g_camids[g] == gallery_camera)
        ]
        entries.sort(key=lambda g: (-scores[q][g], g_pids[g] == q_pids[q]))  # of equal scores wrong answers first
        right = [g_pids[g] == q_pids[q] for g in entries]
        if not any(right):
            continue
        found, precisions = 0, []
        for place, is_right in enumerate(right, start=1):
            if is_right:
                found += 1
                precisions.append(found / place)
        aps.append(sum(precisions) / found)
        inps.append(precisions[-1])
        width = min(max_rank, len(g_pids))
        curves.append([any(right[: r + 1]) for r in range(width)])
    if not aps:
        return None
    return np.mean(aps), np.mean(inps), np.mean(curves, axis=0), len(aps)


def problem(rng, queries, gallery, people, cameras, dim=4, levels=None):
    """Random sides; ``levels`` rounds the numbers so that scores collide."""

    def rows(n):
        x = rng.standard_normal((n, dim))
        return x if levels is None else np.round(x * levels) / levels

    return (
        rows(queries),
        rng.integers(0, people, queries),
        rng.integers(0, cameras, queries),
        rows(gallery),
        rng.integers(0, people, gallery),
        rng.integers(0, cameras, gallery),
    )


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 12),
    gallery=st.integers(1, 30),
    people=st.integers(1, 8),
    cameras=st.integers(1, 4),
    levels=st.sampled_from([1, 2, 1000]),
    max_rank=st.integers(1, 40),
    is_dist=st.booleans(),
    chunk_bytes=st.sampled_from([1, 1000, 2**20]),
)
def test_equals_the_loop(seed, queries, gallery, people, cameras, levels, max_rank, is_dist, chunk_bytes):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.standard_normal((queries, gallery)) * levels) / levels
    q_pids, g_pids = rng.integers(-1, people, queries), rng.integers(-1, people, gallery)
    q_camids, g_camids = rng.integers(0, cameras, queries), rng.integers(0, cameras, gallery)
    wanted = loop(scores, q_pids, q_camids, g_pids, g_camids, max_rank)
    matrix = -scores if is_dist else scores
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(average_precision, "_CHUNK_BYTES", chunk_bytes)
        if wanted is None:
            with pytest.raises(DataError):
                rank_matrix(matrix, (q_pids, q_camids), (g_pids, g_camids), is_dist=is_dist)
            return
        got = rank_matrix(matrix, (q_pids, q_camids), (g_pids, g_camids), is_dist=is_dist, max_rank=max_rank)
    assert (got.num_queries, got.num_valid_queries) == (queries, wanted[3])
    assert got.mAP == pytest.approx(wanted[0], abs=1e-12)
    assert got.mINP == pytest.approx(wanted[1], abs=1e-12)
    assert got.cmc.dtype == np.float32
    np.testing.assert_allclose(got.cmc, wanted[2], rtol=0, atol=1e-7)
    tables = {(row.query_camid, row.gallery_camid): row for row in got.per_camera + got.per_camera_pair}
    for a in range(cameras):
        for b in [None, *range(cameras)]:
            truth = loop(scores, q_pids, q_camids, g_pids, g_camids, max_rank, a, b)
            if truth is None:
                assert (a, b) not in tables
            else:
                row = tables.pop((a, b))
                assert (row.mAP, row.rank1) == pytest.approx((truth[0], truth[2][0]), abs=1e-12)
                assert row.num_valid_queries == truth[3]
    assert not tables


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cosine_of_rows_of_any_length(rng, dtype):
    query, q_pids, q_camids, gallery, g_pids, g_camids = problem(rng, 20, 60, 8, 3)
    query, gallery = query.astype(dtype), gallery.astype(dtype)
    exact = query.astype(np.float64) @ gallery.astype(np.float64).T
    exact /= np.linalg.norm(query.astype(np.float64), axis=1)[:, None]
    exact /= np.linalg.norm(gallery.astype(np.float64), axis=1)
    wanted = loop(exact, q_pids, q_camids, g_pids, g_camids)
    got = rank_scores((query, q_pids.astype(np.int32), q_camids.astype(np.uint8)), (gallery, list(g_pids), g_camids))
    assert (got.mAP, got.mINP) == pytest.approx(wanted[:2], abs=1e-12)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_of_equal_embeddings_wrong_ones_come_first_and_a_row_of_zeros_scores_zero(order):
    gallery = np.array([[0.0, 0.0], [1, 0], [1, 0], [1, 0], [-1, 0]], np.float32)[order]
    pids, camids = np.array([1, 2, 1, 3, 1])[order], np.array([1, 1, 2, 2, 3])[order]
    got = rank_scores((np.array([[3.0, 0]]), [1], [0]), (gallery, pids, camids))
    assert got.mAP == pytest.approx((1 / 3 + 2 / 4 + 3 / 5) / 3)
    assert (got.mINP, got.tied) == (pytest.approx(3 / 5), pytest.approx(1 / 3))


def test_a_collapsed_embedder_is_worth_the_same_in_any_order_and_is_told(rng, caplog):
    """Seen before: 0.25 to 1.0 on the same rows, by the order of the files."""
    pids, camids = np.arange(40) % 4, np.arange(40) // 20
    found = set()
    for order in [np.arange(40), np.arange(40)[::-1], rng.permutation(40), np.argsort(pids)]:
        got = rank_scores((np.ones((4, 3)), np.arange(4), [9] * 4), (np.ones((40, 3)), pids[order], camids[order]))
        found.add((round(got.mAP, 12), got.mINP, float(got.cmc[0]), got.tied))
    assert found == {(round(sum((i + 1) / (31 + i) for i in range(10)) / 10, 12), 10 / 40, 0.0, 1.0)}
    assert caplog.messages[0].startswith("100.0 % of the right answers score exactly as a wrong one does")


def test_few_ties_are_counted_but_not_told(rng, caplog):
    gallery = rng.standard_normal((300, 8))
    pids = np.arange(300)
    gallery[1] = gallery[0]
    got = rank_scores((gallery + 0.0, pids, np.zeros(300, int)), (gallery, pids, np.ones(300, int)))
    assert got.tied == pytest.approx(2 / 300) and not caplog.messages
    assert got.cmc[0] == pytest.approx(298 / 300)


def test_right_answers_that_tie_among_themselves_are_no_ties():
    got = rank_scores(([[1.0, 0]], [1], [0]), ([[1.0, 0], [1.0, 0], [0, 1.0]], [1, 1, 2], [1, 1, 1]))
    assert (got.mAP, got.tied) == (1.0, 0.0)


def test_junk_and_unmatched_queries_by_hand():
    scores = [[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]]
    got = rank_matrix(scores, ([1, 9], [0, 0]), ([1, 2, 1, 3], [0, 1, 1, 1]), is_dist=False)
    # query 0: entry 0 is its own camera's, then 1 (wrong), 2 (right), 3 (wrong); query 1 has no answer
    assert (got.num_queries, got.num_valid_queries) == (2, 1)
    assert (got.mAP, got.mINP) == (0.5, 0.5)
    assert got.cmc.tolist() == [0, 1, 1, 1]
    assert [dataclasses.astuple(row) for row in got.per_camera] == [(0, None, 0.5, 0.0, 1)]
    assert [dataclasses.astuple(row) for row in got.per_camera_pair] == [(0, 1, 0.5, 0.0, 1)]


def test_tables_of_many_cameras_are_kept_and_what_is_left_out_is_said(rng, caplog):
    query, q_pids, _, gallery, g_pids, _ = problem(rng, 10, 2000, 5, 1)
    camids = np.arange(2000)
    hundred = rank_scores((query, q_pids, np.full(10, 3000)), (gallery, g_pids, camids % 100))
    assert len(hundred.per_camera) == 1 and len(hundred.per_camera_pair) == 100 and not caplog.messages
    without = rank_scores((query, q_pids, np.full(10, 3000)), (gallery, g_pids, camids % 64), per_camera=False)
    assert not (without.per_camera or without.per_camera_pair or caplog.messages)
    beyond = rank_scores((query, q_pids, np.full(10, 3000)), (gallery, g_pids, camids % 1025))
    assert len(beyond.per_camera) == 1 and not beyond.per_camera_pair
    assert caplog.messages == [
        "camera pairs are left out: 1025 gallery cameras, expected at most 1024; the table per query camera is made"
    ]
    assert hundred.mAP == pytest.approx(beyond.mAP, abs=1e-12) == without.mAP


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query_embeddings": np.zeros((0, 4)), "query_pids": [], "query_camids": []}, DataError, "query: got no pict"),
        ({"gallery_embeddings": np.zeros((0, 4)), "gallery_pids": [], "gallery_camids": []}, DataError, "gallery: got"),
        ({"query_embeddings": np.zeros((2, 4))}, DataError, "query embeddings: all rows are zero, expected directions"),
        ({"gallery_embeddings": np.zeros((3, 4))}, DataError, "gallery embeddings: all rows are zero"),
        ({"query_pids": np.array([1, 2**63], np.uint64)}, ShapeError, r"query_pids: got 9223372036854775808, expected"),
        ({"query_embeddings": np.ones((2, 5))}, ShapeError, "query rows have 5 numbers, gallery rows 4"),
        ({"query_embeddings": np.zeros(8)}, ShapeError, r"query embeddings: got float64 \(8,\)"),
        ({"query_embeddings": np.zeros((2, 4), complex)}, ShapeError, "got complex128"),
        (
            {"gallery_embeddings": np.full((3, 4), np.nan)},
            ShapeError,
            "gallery embeddings: row 0 holds NaN or infinity",
        ),
        ({"query_pids": [1]}, ShapeError, r"query_pids: got int64 \(1,\), expected integers \(2,\)"),
        ({"gallery_camids": [1, 2, 3, 4]}, ShapeError, r"gallery_camids: got int64 \(4,\), expected integers \(3,\)"),
        ({"gallery_pids": [1.0, 2.0, 3.0]}, ShapeError, "gallery_pids: got float64"),
        ({"max_rank": 0}, ShapeError, "max_rank: got 0"),
        ({"gallery_pids": [7, 8, 9]}, DataError, r"share no identity: query has 1, 2, gallery has 7, 8, 9; take both"),
        ({"gallery_camids": [5, 5, 5]}, DataError, "two cameras: .* hold identity 1 in camera 5, 2 in camera 5 alone"),
    ],
)
def test_refusals_say_what_is_wrong(change, error, message):
    good = {
        "query_embeddings": np.eye(2, 4),
        "query_pids": [1, 2],
        "query_camids": [5, 5],
        "gallery_embeddings": np.eye(3, 4),
        "gallery_pids": [1, 2, 3],
        "gallery_camids": [5, 6, 6],
    }

    def scores(max_rank=50, **sides):
        values = list(sides.values())
        return rank_scores(tuple(values[:3]), tuple(values[3:]), max_rank=max_rank)

    assert scores(**good).mAP == 1.0
    with pytest.raises(error, match=message):
        scores(**{**good, **change})


def test_many_ids_at_fault_are_cut_short():
    with pytest.raises(DataError, match=r"query has 0, 1, 2, 3, 4, \.\.\. \(9 in all\), gallery has 50;"):
        rank_scores((np.eye(9), range(9), [0] * 9), (np.eye(1, 9), [50], [1]))


def test_matrix_that_is_not_finite_is_refused():
    with pytest.raises(ShapeError, match="matrix: holds values that are not finite"):
        rank_matrix([[0.0, np.inf]], ([1], [0]), ([1, 2], [1, 1]), is_dist=True)


def test_input_is_left_as_it_was(rng):
    matrix = rng.standard_normal((5, 20)).astype(np.float32)
    before = matrix.copy()
    pids, camids = rng.integers(0, 2, 20), rng.integers(0, 2, 20)
    for is_dist in (False, True):
        rank_matrix(matrix, (pids[:5], camids[:5]), (pids, camids), is_dist=is_dist)
    np.testing.assert_array_equal(matrix, before)


def test_equals_torchreid(rng):
    pytest.importorskip("torch")
    from reid_mtda.models.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchreid.reid.metrics.rank import eval_market1501

    query, q_pids, q_camids, gallery, g_pids, g_camids = problem(rng, 60, 500, 25, 4, dim=16)
    q_pids[:3] = 99  # not in the gallery
    dist = 1 - unit_rows("q", query) @ unit_rows("g", gallery).T
    cmc, mean_ap = eval_market1501(dist, q_pids, g_pids, q_camids, g_camids, 50)
    for got in (
        rank_matrix(dist, (q_pids, q_camids), (g_pids, g_camids), is_dist=True),
        rank_scores((query, q_pids, q_camids), (gallery, g_pids, g_camids)),
    ):
        assert got.mAP == pytest.approx(mean_ap, abs=1e-12)
        np.testing.assert_array_equal(got.cmc, cmc)
        assert got.num_valid_queries == 57


@pytest.mark.parametrize("fault", ["junk kept", "ties by order", "unmatched scored 0"])
def test_the_oracle_notices(fault):
    """Mutants of the rules; each must give other numbers than ours, or the oracle tests prove nothing."""
    scores = np.array([[0.9, 0.8, 0.8, 0.7], [0.1, 0.2, 0.3, 0.4]])
    q_pids, q_camids, g_pids, g_camids = [1, 9], [0, 0], [1, 2, 1, 3], [0, 1, 1, 1]
    by_order = scores - np.array([0, 2, 1, 3]) * 1e-9
    got = rank_matrix(scores, (q_pids, q_camids), (g_pids, g_camids), is_dist=False)
    mutant = {
        "junk kept": lambda: loop(scores, q_pids, [5, 5], g_pids, g_camids)[0],
        "ties by order": lambda: loop(by_order, q_pids, q_camids, g_pids, g_camids)[0],
        "unmatched scored 0": lambda: loop(scores, q_pids, q_camids, g_pids, g_camids)[0] / 2,
    }[fault]()
    assert got.mAP == loop(scores, q_pids, q_camids, g_pids, g_camids)[0] == 0.5
    assert got.mAP != mutant
