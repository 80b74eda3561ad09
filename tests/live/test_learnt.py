"""Whom a model learnt from is known by time, and by the content of footage whatever its times; they are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_mtda.camera_means import LearntFrom, read_learnt, write_cameras
from reid_mtda.live.learnt import LearntPeople, learnt_from
from reid_mtda.model import Model
from reid_mtda.types import ModelManifest, Preprocess

CARD = ModelManifest("a1b2c3d4e5f6", "given", 4, Preprocess(8, 8), "nothing")
MEANS = {"gate": np.ones((3, 4), np.float32), "plaza": np.ones((2, 4), np.float32)}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    gate = learnt_from({"1": (10.0, 14.0), "2": (12.0, 20.0), "3": (50.0, 50.0)}, "f" * 32)
    write_cameras(tmp_path, CARD, MEANS, {"gate": 3, "plaza": 2}, {"gate": gate})
    return Model(CARD, lambda crops: crops[:, 0, 0, :4], "cpu", tmp_path)


def test_it_travels_with_the_model(model: Model, tmp_path: Path) -> None:
    spans = ((10.0, 20.0), (50.0, 50.0))
    assert read_learnt(tmp_path, CARD) == {"gate": LearntFrom(spans, "f" * 32), "plaza": LearntFrom()}


@pytest.mark.parametrize(
    ("camera", "start", "end", "expected"),
    [
        ("gate", 0, 9.9, False),
        ("gate", 0, 10, True),
        ("gate", 15, 16, True),
        ("gate", 20, 30, True),
        ("gate", 20.1, 49, False),
        ("gate", 0, 100, True),
        ("gate", 50, 50, True),
        ("gate", 51, 60, False),
        ("plaza", 10, 20, False),
        ("yard", 10, 20, False),
    ],
)
def test_by_time_camera_by_camera(model: Model, camera: str, start: float, end: float, expected: bool) -> None:
    assert LearntPeople(model).include(camera, start, end) is expected


def test_a_recording_is_known_by_its_content_under_any_time_and_camera(model: Model) -> None:
    footage = {("gate", "f" * 32): (1000.0, 1060.0), ("hall", "f" * 32): (70.0, 80.0), ("gate", "e" * 32): (2e3, 3e3)}
    learnt = LearntPeople(model, footage)
    assert learnt.include("gate", 1001, 1002) and learnt.include("hall", 75, 76) and learnt.include("gate", 11, 12)
    assert not learnt.include("gate", 2500, 2501) and not learnt.include("plaza", 1001, 1002)


def test_a_model_without_a_folder_learnt_from_nobody_here() -> None:
    assert not LearntPeople(Model(CARD, lambda crops: crops[:, 0, 0, :4])).include("gate", 0, 1e9)
