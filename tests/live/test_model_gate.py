"""The gate: an equal model passes, a bad one does not, and too little evidence is no evidence."""

from dataclasses import replace

import numpy as np
import pytest

from reid_mtda.camera_settings import Travel
from reid_mtda.errors import ModelError
from reid_mtda.live.between_cameras import possible_pairs
from reid_mtda.live.model_gate import GateSample, GateSamples, compare_models, pair_auc
from reid_mtda.model import Model
from reid_mtda.types import ModelManifest, Preprocess, Tracklet

CARD = ModelManifest("m" * 12, "colours", 3, Preprocess(8, 8, (0.5,) * 3, (0.5,) * 3), "nothing")


def colour(crops: np.ndarray) -> np.ndarray:
    rows = crops.mean(axis=(2, 3)) + 1e-3
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blind(crops: np.ndarray) -> np.ndarray:
    """Scores that have nothing to do with who is seen."""
    rows = np.array([np.random.default_rng(int(abs(crop.sum()) * 1e4)).normal(size=3) for crop in crops])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sample(camera: str, number: int, start: float | None = None) -> GateSample:
    rng = np.random.default_rng(number)
    coat = rng.integers(0, 255, 3)
    early, late = (
        np.clip(np.full((16, 8, 3), coat) + rng.integers(-8, 8, (16, 8, 3)), 0, 255).astype(np.uint8) for _ in range(2)
    )
    start = float(number) if start is None else start
    return GateSample(camera, number, start, start + 5, early, late)


@pytest.fixture
def samples() -> list[GateSample]:
    return [sample(camera, number) for camera in ("gate", "plaza") for number in range(60)]


def test_the_same_model_is_no_worse(samples: list[GateSample]) -> None:
    report = compare_models(samples, Model(CARD, colour), Model(CARD, colour))
    assert report.passes and set(report.cameras) == {"gate", "plaza"}
    assert report.cameras["gate"].current > 0.9


def test_a_blind_model_is_stopped_and_the_way_back_is_open(samples: list[GateSample]) -> None:
    report = compare_models(samples, Model(CARD, colour), Model(CARD, blind))
    assert not report.passes and "worse at gate" in report.reason and "plaza" in report.reason
    assert compare_models(samples, Model(CARD, blind), Model(CARD, colour)).passes


def test_it_ends_before_the_next_batch_when_stopped(samples: list[GateSample]) -> None:
    asked = []

    def counted(crops: np.ndarray) -> np.ndarray:
        asked.append(len(crops))
        return colour(crops)

    with pytest.raises(ModelError, match="stopped before the comparison"):
        compare_models(samples, Model(CARD, colour), Model(CARD, counted), stopped=lambda: len(asked) == 4)
    assert asked == [32, 28, 32, 28]  # of gate; plaza's were not begun


def test_one_worse_camera_is_enough(samples: list[GateSample]) -> None:
    def mixed(crops: np.ndarray) -> np.ndarray:
        return blind(crops) if calls.pop(0) else colour(crops)

    calls = [False] * 4 + [True] * 4  # two batches each: early and late of gate, then of plaza
    report = compare_models(samples, Model(CARD, colour), Model(CARD, mixed))
    assert not report.passes
    assert (report.cameras["gate"].is_worse, report.cameras["plaza"].is_worse) == (False, True)


def test_cameras_that_cannot_be_judged_are_named(samples: list[GateSample]) -> None:
    """One with few people, one that saw nobody: whoever reads that nothing got worse must know where."""
    few = [sample("yard", number) for number in range(9)]
    report = compare_models([*samples, *few], Model(CARD, colour), Model(CARD, colour), cameras=["gate", "attic"])
    assert report.passes and report.skipped == ("attic", "yard")
    assert report.reason == "no worse at gate, plaza; not judged, too few people seen at once: attic, yard"
    assert compare_models([*samples, *few], Model(CARD, colour), Model(CARD, blind)).reason.endswith(": yard")


def test_nobody_together_is_no_evidence() -> None:
    apart = [sample("gate", number, start=100.0 * number) for number in range(60)]
    assert np.isnan(pair_auc(apart, Model(CARD, colour))).all()
    report = compare_models(apart, Model(CARD, colour), Model(CARD, colour))
    assert not report.passes and report.skipped == ("gate",) and "too few" not in report.reason
    assert not compare_models([], Model(CARD, colour), Model(CARD, colour)).passes


def test_separation_is_the_share_of_others_below() -> None:
    """By hand: three people at once, embeddings on an axis."""
    angles = iter([[0.0, 0.5, 3.0], [0.1, 0.5, 0.4]])

    def embed(crops: np.ndarray) -> np.ndarray:
        turn = np.array(next(angles))
        return np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)

    rows = [sample("gate", number, start=0.0) for number in range(3)]
    assert pair_auc(rows, Model(replace(CARD, embedding_dim=2), embed)).tolist() == [1.0, 1.0, 0.5]


def test_samples_are_bounded_and_can_be_forgotten() -> None:
    kept = GateSamples(per_camera=5)
    picture = np.zeros((8, 8, 3), np.uint8)
    for number in range(20):
        for count in (1, 2):
            boxes, frames, times = np.zeros((count, 4), np.float32), np.zeros(count, np.int64), np.zeros(count)
            kept.take(Tracklet("gate", number, (picture,) * count, boxes, frames, times))
    assert [one.track_id for one in kept.all()] == [15, 16, 17, 18, 19]
    kept.forget("gate", [16, 17])
    assert [one.track_id for one in kept.all()] == [15, 18, 19]


def test_who_cannot_have_walked_there_is_no_pair() -> None:
    """Between two cameras a minute apart nobody is found at the same second, whoever looks most alike."""
    minute = Travel(min_s=50, max_s=70)
    samples = [sample("gate", number, start=200.0 * (number // 3)) for number in range(60)]
    samples += [replace(one, camera="plaza", start_s=one.start_s + 60, end_s=one.end_s + 60) for one in samples]
    where = [one.camera for one in samples], np.array([(one.start_s, one.end_s) for one in samples])
    can = possible_pairs(*where, {("gate", "plaza"): minute})
    same = np.arange(60)
    assert can[same, 60 + same].all() and (can == can.T).all() and can[:60, :60].all() and can[60:, 60:].all()
    assert can[:60, 60:].sum() == 20 * 3 * 3  # of those seen at once alone
    assert not possible_pairs(*where, {("plaza", "gate"): Travel(min_s=500)})[:60, 60:].diagonal().any()
    both = [Model(CARD, colour), Model(CARD, colour)]
    limited = compare_models(samples, *both, travel={("gate", "plaza"): minute})
    free = compare_models(samples, *both)
    assert limited.site["between cameras"].current >= free.site["between cameras"].current
    nobody = compare_models(samples, *both, travel={("gate", "plaza"): Travel(min_s=86400)})
    assert "between cameras" not in nobody.site and "within cameras" in nobody.site
