import numpy as np
import pytest

from reid_mtda.evaluation.average_precision import rank_matrix, rank_scores
from reid_mtda.evaluation.cosine import unit_rows
from reid_mtda.k_reciprocal import rerank_dist


def people(seed, queries=40, gallery=150, ids=15, dim=16, spread=0.5):
    """Noisy people: embeddings around one centre for each identity."""
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, ids, queries + gallery)
    rows = unit_rows("x", rng.standard_normal((ids, dim))[pids] + spread * rng.standard_normal((len(pids), dim)))
    camids = np.arange(queries + gallery) % 3
    sides = slice(0, queries), slice(queries, None)
    return [(rows[side].astype(np.float32), pids[side], camids[side]) for side in sides]


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (20, 1, 0.3), (7, 3, 0.0), (5, 2, 1.0), (60, 6, 0.3)])
def test_equals_torchreid(k1, k2, weight, monkeypatch):
    pytest.importorskip("torch")
    from reid_mtda.models.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchreid.reid.utils.rerank import re_ranking

    monkeypatch.setattr("reid_mtda.k_reciprocal._CHUNK_BYTES", 10_000)
    (query, *_), (gallery, *_) = people(3)
    wanted = re_ranking(
        1 - query @ gallery.T, 1 - query @ query.T, 1 - gallery @ gallery.T, k1=k1, k2=k2, lambda_value=weight
    )
    got = rerank_dist(query, gallery, k1=k1, k2=k2, weight=weight)
    assert got.shape == (len(query), len(gallery)) and got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5)


def test_helps_where_people_form_clusters():
    query, gallery = people(11, spread=1.2)
    plain, better = rank_scores(query, gallery), rank_scores(query, gallery, rerank=True)
    assert better.mAP > plain.mAP + 0.05
    again = rank_matrix(rerank_dist(query[0], gallery[0]), query[1:], gallery[1:], is_dist=True)
    assert again.mAP == better.mAP


def test_tiny_sides_and_equal_rows():
    one = np.ones((1, 4), np.float32) / 2
    assert rerank_dist(one, one).shape == (1, 1)
    assert np.isfinite(rerank_dist(np.repeat(one, 3, 0), np.repeat(one, 5, 0))).all()
