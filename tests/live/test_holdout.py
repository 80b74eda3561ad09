"""The check set: mAP per camera by labels; a model that falls at one camera is stopped, whatever the others gain."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from test_model_gate import CARD, blind, colour, sample

from reid_mtda.errors import ConfigError, DataError, ImageError
from reid_mtda.live.holdout import Holdout, load_holdout
from reid_mtda.live.model_gate import compare_models
from reid_mtda.model import Model

SAMPLES = [sample("gate", number) for number in range(60)]


def write_check_set(folder: Path, *, parts: tuple[str, ...] = ("query", "bounding_box_test")) -> Path:
    """Eight people, each a colour, once in each of two cameras."""
    rng = np.random.default_rng(0)
    for part in parts:
        (folder / part).mkdir(parents=True)
    for pid in range(1, 9):
        coat = rng.integers(0, 255, 3)
        for camera in (1, 2):
            for part in parts:
                picture = np.clip(coat + rng.integers(-6, 6, (32, 16, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / part / f"{pid:04d}_c{camera}s1_000001_00.png"), picture)
    (folder / "cameras.txt").write_text("gate\nplaza\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_check_set(tmp_path_factory.mktemp("check") / "set")


def test_labels_stop_what_the_label_free_half_lets_pass(folder: Path) -> None:
    check = load_holdout(str(folder), 0.01)
    calls = 0

    def candidate(crops: np.ndarray) -> np.ndarray:
        """The first four calls are the gate's own crops, early and late; then come the check set's."""
        nonlocal calls
        calls += 1
        return colour(crops) if calls <= 4 else blind(crops)

    report = compare_models(SAMPLES, Model(CARD, colour), Model(CARD, candidate), holdout=check)
    assert not report.cameras["gate"].is_worse and not report.passes
    assert set(report.checks) == {"gate", "plaza"} and report.checks["gate"].queries == 8
    assert "worse on the check set at gate (1.000 -> " in report.reason
    assert compare_models(SAMPLES, Model(CARD, blind), Model(CARD, colour), holdout=check).passes


def test_an_equal_model_passes_and_the_reason_says_where(folder: Path) -> None:
    check = load_holdout(f"market1501:{folder}", 0.0)
    report = compare_models(SAMPLES, Model(CARD, colour), Model(CARD, colour), holdout=check)
    assert report.passes and report.reason == "no worse at gate, nor on the check set at gate, plaza"
    assert compare_models(SAMPLES, Model(CARD, colour), Model(CARD, colour)).checks == {}


def test_one_camera_below_the_tolerance_is_enough(folder: Path) -> None:
    """By hand: the candidate confuses one person of camera 2 with another."""
    check = load_holdout(str(folder), 0.01)

    def confused(crops: np.ndarray) -> np.ndarray:
        rows = colour(crops)
        if len(crops) > 8 and not seen:  # all of the check set in one batch: queries by name, two to a person
            seen.append(len(rows))
            rows[1] = colour(crops)[3]
        return rows

    seen: list[int] = []
    comparisons = check.compare(Model(CARD, colour), Model(CARD, confused))
    assert seen == [32]
    assert comparisons["gate"].candidate == comparisons["gate"].current == 1 and not comparisons["gate"].is_worse
    assert comparisons["plaza"].candidate < 1 and comparisons["plaza"].is_worse
    drop = comparisons["plaza"].current - comparisons["plaza"].candidate
    seen.clear()
    assert not Holdout(check.split, drop + 1e-6).compare(Model(CARD, colour), Model(CARD, confused))["plaza"].is_worse


def test_what_is_no_check_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_holdout(str(tmp_path / "nowhere"), 0.01)
    with pytest.raises(ConfigError, match="expected FOLDER or NAME:FOLDER"):
        load_holdout("msmt17:", 0.01)
    train = write_check_set(tmp_path / "train", parts=("bounding_box_train",))
    with pytest.raises(DataError, match="got no test half"):
        load_holdout(str(train), 0.01)
    check = load_holdout(str(write_check_set(tmp_path / "set")), 0.01)
    next((tmp_path / "set" / "query").iterdir()).unlink()
    with pytest.raises(ImageError):
        check.compare(Model(CARD, colour), Model(CARD, colour))
