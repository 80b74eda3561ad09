"""Thresholds without labels: what the stated interval holds, and what is said where the data carry none."""

import math
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.live.thresholds import (
    POOLED,
    UNCALIBRATED,
    Negatives,
    TrackRecord,
    calibrate,
    simultaneous_pairs,
    tracklets_missing,
    upper_rate,
)

DIM = 8


def people(rng: np.random.Generator, count: int) -> np.ndarray:
    """Somebody's vectors; all look somewhat alike, as people do."""
    vectors = rng.normal(size=(count, DIM))
    vectors[:, 0] += 1
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def crowd(vectors: np.ndarray, *, camera: str = "gate", at_s: float = 0.0, first: int = 0) -> list[TrackRecord]:
    """All of them on view at once."""
    return [TrackRecord(camera, first + n, at_s, at_s + 1, vector) for n, vector in enumerate(vectors)]


def pairs_of(groups: list[np.ndarray]) -> Negatives:
    records = [record for n, group in enumerate(groups) for record in crowd(group, at_s=10.0 * n, first=1000 * n)]
    return simultaneous_pairs(records, frozenset())["gate", "gate"]


def truth_at(rate: float) -> float:
    """The score that pairs of different people reach at ``rate``, from 4.5 million of them."""
    some = people(np.random.default_rng(99), 3000)
    scores = np.sort((some @ some.T)[np.triu_indices(3000, 1)])
    return float(scores[int((1 - rate) * len(scores))])


@pytest.mark.parametrize(
    ("groups", "rate"),
    [([40], 0.01), ([100], 0.001), ([5] * 60, 0.01)],
    ids=["a crowd", "a large crowd, seldom", "small groups"],
)
def test_the_stated_interval_holds_the_true_rate_as_often_as_it_says(groups: list[int], rate: float) -> None:
    """400 sites; a threshold whose upper end meets the rate breaks it exactly where the end at the true score does."""
    rng, score = np.random.default_rng(5), truth_at(rate)
    holds = [upper_rate(pairs_of([people(rng, size) for size in groups]), score)[0] >= rate for _ in range(400)]
    # 95 % within two points, and what 400 draws of it deviate by chance (one standard error: 1.1 points)
    assert 0.93 - 0.011 <= np.mean(holds) <= 0.97 + 0.011


def test_a_threshold_keeps_to_its_rate_at_19_sites_of_20() -> None:
    """Selected and judged on the same people, as the service does it."""
    rng, fresh = np.random.default_rng(8), people(np.random.default_rng(98), 2000)
    others = (fresh @ fresh.T)[np.triu_indices(2000, 1)]
    kept = []
    for _ in range(100):
        made = calibrate(crowd(people(rng, 80)), {}, model_id="m", false_match_rate=0.01)
        assert made.is_calibrated
        assert made.pairs[POOLED].upper_rate <= 0.01
        kept.append(np.mean(others >= made.of(None, "gate")) <= 0.01)
    assert np.mean(kept) >= 0.9


def test_what_the_data_do_not_carry_is_said_with_how_many_more() -> None:
    """85 comparisons say nothing of one in a thousand, however high the threshold."""
    rng = np.random.default_rng(0)
    few = crowd(people(rng, 14))
    made = calibrate(few, {}, model_id="m", false_match_rate=0.001)
    assert not made.is_calibrated and made.of("gate", "hall") == UNCALIBRATED
    assert made.missing > 100 and f"it needs {made.missing} more simultaneous tracklets" in made.words
    assert math.isnan(made.expected_false_matches(100))
    groups = [people(rng, 14) for _ in range(1 + math.ceil(2 * made.missing / 14))]
    enough = [record for n, group in enumerate(groups) for record in crowd(group, at_s=10.0 * n, first=100 * n)]
    assert calibrate(enough, {}, model_id="m", false_match_rate=0.001).is_calibrated
    nobody = calibrate([], {}, model_id="m", false_match_rate=0.01)
    assert nobody.missing == 0 and nobody.words.startswith("cannot be calibrated yet: it needs simultaneous tracklets")


def test_comparisons_that_share_tracklets_count_for_fewer() -> None:
    """Somebody who looks like everybody makes a hundred comparisons go wrong: that is one person, not a hundred."""
    rng = np.random.default_rng(1)
    count = 100
    left, right = np.triu_indices(count, 1)
    scores = rng.uniform(0, 0.4, len(left))
    scores[(left == 0) | (right == 0)] += 0.5
    alone = rng.permutation(scores)
    shared, spread = (Negatives(row, left, right, count) for row in (scores, alone))
    assert upper_rate(shared, 0.5)[0] > 1.5 * upper_rate(spread, 0.5)[0]
    assert upper_rate(shared, 0.5)[1] < 0.1 * len(left) and upper_rate(spread, 0.5)[1] > 0.5 * len(left)


def test_two_cameras_that_share_nobody_keep_the_pooled_threshold() -> None:
    """Their low scores say that nobody walks from one to the other, not that a low score is somebody."""
    rng, records = np.random.default_rng(2), []
    for n in range(40):
        here, there = people(rng, 8), people(rng, 8)
        there[:, :2] = -there[:, :2] - 1.0  # another light
        there /= np.linalg.norm(there, axis=1, keepdims=True)
        records += crowd(here, at_s=10.0 * n, first=100 * n)
        records += crowd(there, camera="yard", at_s=10.0 * n, first=100 * n)
    made = calibrate(records, {}, model_id="m", false_match_rate=0.01)
    pooled, own = made.pairs[POOLED].threshold, made.pairs["gate", "yard"]
    negatives = simultaneous_pairs(records, frozenset())["gate", "yard"]
    assert np.quantile(negatives.scores, 0.999) < pooled - 0.2  # what its own scores alone would have said
    assert own.threshold == pytest.approx(pooled) and own.upper_rate <= 0.01


def test_more_tracklets_are_asked_for_where_they_depend_more() -> None:
    rng = np.random.default_rng(3)
    independent = pairs_of([people(rng, 2) for _ in range(50)])
    assert tracklets_missing(independent, 0.001) > tracklets_missing(independent, 0.01) >= 1


@pytest.mark.data
def test_the_interval_holds_on_people_of_six_real_cameras(data_folder: Path) -> None:
    """Groups of five of 125 real people on view at once, each from a camera of their own; 400 sites."""
    from reid_mtda.vision.preprocess import decode_image

    with np.load(data_folder / "reid" / "market1501_six_cameras.npz", allow_pickle=False) as stored:
        kept = {name: stored[name] for name in ("buf", "off", "pid", "cam", "split")}
    crops = np.flatnonzero((kept["split"] == "test") & (kept["cam"] == 1))
    buf, off = kept["buf"], kept["off"]
    # Colours by height: a plain descriptor that is quick; what is tested is the interval, not the model.
    rows = []
    for i in crops:
        image = decode_image(buf[off[i] : off[i + 1]].tobytes(), where=f"crop {i}").astype(np.float32) / 255
        rows.append(np.concatenate([band.reshape(-1, 3).mean(axis=0) for band in np.array_split(image, 8)]))
    vectors = np.stack(rows) - np.mean(rows, axis=0)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    pids = kept["pid"][crops]
    by_person = [np.flatnonzero(pids == pid) for pid in np.unique(pids)]
    rng = np.random.default_rng(4)

    def group(size: int) -> np.ndarray:
        chosen = rng.choice(len(by_person), size, replace=False)
        return vectors[[rng.choice(by_person[person]) for person in chosen]]

    many = pairs_of([group(5) for _ in range(20_000)])
    rate = 0.01
    score = float(np.sort(many.scores)[::-1][int(rate * len(many))])
    holds = [upper_rate(pairs_of([group(5) for _ in range(60)]), score)[0] >= rate for _ in range(400)]
    assert 0.93 - 0.011 <= np.mean(holds) <= 0.97 + 0.011
