"""A user's own detector and data set plug in without a fork; what is unfit is named in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import ROOT
from colour_model import write_colour_model

from reid_mtda.data.datasets import load_dataset
from reid_mtda.errors import ConfigError, DataError, ModelError
from reid_mtda.vision.detect import load_detector

EXAMPLES = ROOT / "tools" / "examples"
FRAME = np.zeros((120, 160, 3), np.uint8)
FRAME[20:100, 30:60] = 255

BROKEN = """
from reid_mtda.types import Detections
def raises(): raise OSError("no weights")
def number(): return 7
def wrong(): return lambda image: [1, 2]
def fails(): return lambda image: image[10**9]
def none(root, *, half="both"): return None
def bad(root, *, half="both"): return 1 / 0
"""


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples and a broken module on Python's path, installed as a package that offers them by name."""
    (tmp_path / "broken_parts.py").write_text(BROKEN)
    info = tmp_path / "my_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[reid_mtda.detectors]\nbright = own_detector:bright_things\n[reid_mtda.datasets]\nmine = own_data_set:read\n"
    )
    for place in (tmp_path, EXAMPLES):
        monkeypatch.syspath_prepend(str(place))
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four people, two of them tests, in two cameras."""
    for camera in ("gate", "plaza"):
        (tmp_path / "pictures" / camera).mkdir(parents=True)
        for pid in range(4):
            cells = np.random.default_rng(pid).integers(40, 215, (6, 2, 3), np.uint8).repeat(8, 0).repeat(12, 1)
            cv2.imwrite(str(tmp_path / "pictures" / camera / f"{pid}_0.jpg"), cells)
    return tmp_path / "pictures"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLES}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100).stdout


def test_the_examples_run(tmp_path: Path, folder: Path) -> None:
    assert run("own_detector.py").strip() == "[[30.0, 20.0, 60.0, 100.0]]"
    write_colour_model(tmp_path / "model")
    assert float(run("own_data_set.py", tmp_path / "model", folder)) == 1


@pytest.mark.parametrize("name", ["bright", "own_detector:bright_things"])
def test_a_detector_is_found_by_name(on_path: Path, name: str) -> None:
    found = load_detector(name)(FRAME)
    assert found.xyxy.tolist() == [[30, 20, 60, 100]]
    assert len(load_detector(name, min_height_px=90)(FRAME)) == 0  # a camera's limits hold for it, too
    with pytest.raises(ConfigError, match=r"it chooses its own, leave device out"):
        load_detector(name, device="cuda")


@pytest.mark.parametrize("name", ["mine", "own_data_set:read"])
def test_a_data_set_is_found_by_name(on_path: Path, folder: Path, name: str) -> None:
    train, split = load_dataset(name, folder, where="--data")
    assert (len(train), train.num_classes, len(split.query)) == (4, 2, 4) and split.camera_names == ("gate", "plaza")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken_parts:raises", r"detector broken_parts:raises: raised OSError: no weights; mend it"),
        ("broken_parts:number", "gave int, expected a function of a picture"),
        ("broken_parts:gone", "'broken_parts:gone' cannot be loaded .AttributeError"),
        ("no_such_module:make", "'no_such_module:make' cannot be loaded .ModuleNotFoundError"),
    ],
)
def test_an_unfit_detector_is_refused_when_it_is_made(on_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_detector(name)


def test_a_detector_that_fails_on_a_picture_is_named(on_path: Path) -> None:
    with pytest.raises(ModelError, match=r"broken_parts:wrong: returned list, expected Detections"):
        load_detector("broken_parts:wrong")(FRAME)
    with pytest.raises(ModelError, match=r"broken_parts:fails: raised IndexError"):
        load_detector("broken_parts:fails")(FRAME)


def test_an_unfit_data_set_is_refused(on_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data set 'broken_parts:none' returned NoneType, expected .LabelledSet"):
        load_dataset("broken_parts:none", tmp_path, where="--data")
    with pytest.raises(DataError, match=r"data set 'broken_parts:bad' raised ZeroDivisionError: division by zero"):
        load_dataset("broken_parts:bad", tmp_path, where="--data")
