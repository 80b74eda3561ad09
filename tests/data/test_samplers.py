import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.errors import DataError


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 1000))
def test_every_row_comes_once_before_any_comes_twice(count, batch, seed):
    rows = ShuffleSampler(count, batch, seed)
    drawn = np.concatenate([rows.batch(step) for step in range(3 * count)])
    for start in range(0, len(drawn) - count + 1, count):
        assert sorted(drawn[start : start + count]) == list(range(count))


def test_batches_survive_exhaustion_and_are_a_function_of_seed_and_step():
    rows = ShuffleSampler(5, 4, seed=1)
    assert len(rows.batch(1_000_000)) == 4
    assert np.array_equal(rows.batch(7), ShuffleSampler(5, 4, seed=1).batch(7))
    assert any(not np.array_equal(rows.batch(step), ShuffleSampler(5, 4, seed=2).batch(step)) for step in range(5))


def test_orders_differ_between_passes():
    rows = ShuffleSampler(50, 50, seed=0)
    assert not np.array_equal(rows.batch(0), rows.batch(1))


def test_an_empty_set_is_refused():
    with pytest.raises(DataError, match=r"batches: got a set without pictures, expected at least one"):
        ShuffleSampler(0, 4, seed=0)
