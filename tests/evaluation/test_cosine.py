import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_mtda.errors import ShapeError
from reid_mtda.evaluation.cosine import as_floats, cosine_scores, unit_rows


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 70), st.integers(1, 300))
def test_equal_gallery_rows_score_exactly_equally(seed, queries, gallery, dim):
    rng = np.random.default_rng(seed)
    source = rng.integers(0, gallery, gallery)
    query = unit_rows("q", rng.standard_normal((queries, dim), dtype=np.float32))
    rows = unit_rows("g", rng.standard_normal((gallery, dim), dtype=np.float32)[source])
    scores = cosine_scores(query, rows)(slice(0, queries))
    assert scores.shape == (queries, gallery) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, query @ rows.T, rtol=0, atol=1e-6)
    for origin in np.unique(source):
        same = np.flatnonzero(source == origin)
        np.testing.assert_array_equal(scores[:, same], np.repeat(scores[:, same[:1]], len(same), axis=1))


def test_scores_are_a_new_array_each_time():
    rows = np.eye(3, dtype=np.float32)
    chunk = cosine_scores(rows, rows)
    chunk(slice(0, 2))[:] = -np.inf
    np.testing.assert_array_equal(chunk(slice(0, 3)), rows)


def test_rows_get_length_one_whatever_their_scale():
    rows = unit_rows("x", np.array([[3.0, 4.0], [0, 0], [3e38, 3e38], [1e-40, 0]], np.float32))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 0, 1, 1], atol=1e-6)
    assert rows.dtype == np.float32
    assert unit_rows("x", np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[1.0, np.inf]], "x: row 0 holds NaN or infinity"),
        ([[0, 1], [1]], "x: rows differ in length"),
        ([["a"]], r"x: got <U1 \(1, 1\), expected numbers in rows and columns"),
        ([1.0], r"x: got float64 \(1,\)"),
    ],
)
def test_refusals(array, message):
    with pytest.raises(ShapeError, match=message):
        unit_rows("x", array)


def test_float64_is_kept_and_the_rest_is_float32():
    assert [as_floats("x", np.zeros((1, 1), t)).dtype for t in ("f2", "f4", "f8", "i8")] == ["f4", "f4", "f8", "f4"]
