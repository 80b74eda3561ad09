"""Paired differences and their correction against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from reid_mtda.errors import ShapeError
from reid_mtda.evaluation.paired import holm, paired_difference


def test_a_paired_difference_is_students():
    draw = np.random.default_rng(0)
    ours, others = draw.normal(1, 1, 8), draw.normal(0, 1, 8)
    found = paired_difference(ours.tolist(), others.tolist())
    test = stats.ttest_rel(ours, others)
    bounds = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue) and found.mean == pytest.approx((ours - others).mean())
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))


def test_one_pair_has_a_mean_alone_and_none_is_refused():
    found = paired_difference([2.0], [1.5])
    assert found.mean == 0.5 and np.isnan([found.low, found.high, found.p]).all()
    assert paired_difference([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).p == 0.0
    with pytest.raises(ShapeError, match="got 0 values and 0 others, expected as many"):
        paired_difference([], [])
    with pytest.raises(ShapeError, match="got 2 values and 1 others"):
        paired_difference([1.0, 2.0], [1.0])


def test_holm_multiplies_the_smallest_most_and_never_falls():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    found = holm([0.01, float("nan"), 0.02])
    assert found[0] == pytest.approx(0.02) and np.isnan(found[1]) and found[2] == pytest.approx(0.02)
    assert holm([]) == []
