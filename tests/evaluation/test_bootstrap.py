"""Intervals over people: against closed forms, and blind to nothing that they should see."""

import numpy as np
import pytest

from reid_mtda.errors import ShapeError
from reid_mtda.evaluation.average_precision import rank_scores
from reid_mtda.evaluation.bootstrap import interval, paired_interval
from reid_mtda.scores import PersonScores


def people(ap, rank1=None, queries=None, first=0):
    ap = np.asarray(ap, np.float64)
    queries = np.ones(len(ap), np.int64) if queries is None else np.asarray(queries, np.int64)
    return PersonScores(
        np.arange(first, first + len(ap)), queries, ap, ap if rank1 is None else np.asarray(rank1, float)
    )


def test_the_interval_is_that_of_a_mean_of_independent_people():
    """Of 400 people with scores of deviation s, a mean has deviation s / 20: two normal quantiles on either side."""
    values = np.random.default_rng(0).uniform(0, 1, 400)
    low, high = interval([people(values)], "ap")
    np.testing.assert_allclose([low, high], values.mean() + np.array([-1.96, 1.96]) * values.std() / 20, atol=2e-3)


def test_queries_of_one_person_stand_or_fall_together():
    """Ten queries of each person tell no more than one when they agree: by query, the interval would be narrower."""
    values = np.random.default_rng(0).integers(0, 2, 100).astype(float)
    one, ten = interval([people(values)], "ap"), interval([people(10 * values, queries=np.full(100, 10))], "ap")
    np.testing.assert_allclose(one, ten)
    by_query = interval([people(np.repeat(values, 10))], "ap")
    assert by_query[1] - by_query[0] < 0.4 * (ten[1] - ten[0])


def test_a_difference_of_rows_is_surer_than_the_rows():
    """One row is the other plus two points for everybody: people differ widely, the difference does not."""
    values = np.random.default_rng(0).uniform(0, 0.9, 60)
    row, better = people(values), people(values + 0.02)
    np.testing.assert_allclose(paired_interval([better], [row], "ap"), (0.02, 0.02))
    low, high = interval([row], "ap")
    assert high - low > 0.1


def test_seeds_of_the_same_people_are_drawn_together_and_others_apart():
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, 50)
    alone = interval([people(values)], "ap")
    np.testing.assert_allclose(interval([people(values)] * 3, "ap"), alone)
    apart = interval([people(values, first=100 * number) for number in range(4)], "ap")
    assert apart[1] - apart[0] < 0.65 * (alone[1] - alone[0])  # a half, were there no chance in the draws


def test_scores_of_a_ranking_tell_each_persons_share():
    rng = np.random.default_rng(0)
    pids, cams = np.repeat(np.arange(12), 4), np.tile([0, 1], 24)
    rows = rng.standard_normal((48, 8)).astype(np.float32) + np.repeat(rng.standard_normal((12, 8)), 4, axis=0)
    scores = rank_scores((rows, pids, cams), (rows, pids, cams))
    found = scores.per_person
    assert found.pids.tolist() == list(range(12)) and found.queries.sum() == scores.num_valid_queries == 48
    np.testing.assert_allclose(found.ap.sum() / 48, scores.mAP)
    np.testing.assert_allclose(found.rank1.sum() / 48, scores.cmc[0])
    alone = rank_scores((rows[:4], pids[:4], cams[:4]), (rows, pids, cams))
    np.testing.assert_allclose(found.ap[0] / 4, alone.mAP)
    low, high = interval([found], "ap")
    assert low < scores.mAP < high


def test_a_person_without_a_right_answer_has_no_share():
    rows = np.eye(3, 4, dtype=np.float32)
    scores = rank_scores((rows, [1, 2, 1], [0, 0, 1]), (rows, [1, 2, 1], [0, 0, 1]))
    assert scores.per_person.pids.tolist() == [1] and scores.per_person.queries.tolist() == [2]


def test_rows_of_other_people_are_not_compared():
    with pytest.raises(ShapeError, match="test 0 has other people or queries on its two sides"):
        paired_interval([people([1, 2])], [people([1, 2], first=1)], "ap")
    with pytest.raises(ShapeError, match="got 2 tests and 1 others"):
        paired_interval([people([1, 2])] * 2, [people([1, 2])], "ap")
