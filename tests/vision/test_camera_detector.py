"""What 'auto' stands for: the best measured person network that is here and works, else motion, which is said."""

import hashlib
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_detect import onnx_file

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError
from reid_mtda.site import Site
from reid_mtda.vision import camera_detector
from reid_mtda.vision.camera_detector import (
    BY_MOTION,
    choose_detector,
    load_camera_detector,
    with_named_detectors,
)
from reid_mtda.workflow.add_model import add_model
from reid_mtda.zoo.table import WeightFile, load_table

STILL = np.full((64, 64, 3), 90, np.uint8)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty models folder."""
    monkeypatch.setenv("REID_MTDA_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def add(tmp_path, name, classes=80):
    file = onnx_file(tmp_path / f"{name}.onnx", [1, 4 + classes, 84], [1, 3, 64, 64])
    return add_model(file, name, task="detector")


def test_without_a_network_it_is_motion_and_says_so(models, tmp_path, caplog):
    assert choose_detector().name == "motion" and "models pull" in choose_detector().reason
    site = Site("shop", tmp_path, {"gate": Camera(url="a"), "yard": Camera(url="b", detector="motion")})
    with caplog.at_level(logging.WARNING):
        named = with_named_detectors(site)
    assert {camera.detector for camera in named.cameras.values()} == {"motion"} and caplog.messages == [BY_MOTION]
    caplog.clear()
    with_named_detectors(replace(site, cameras={"yard": site.cameras["yard"]}))  # asked for: nothing to be told
    assert not caplog.messages
    # A camera for whose network a GPU is asked is no fault while motion stands in for it.
    assert load_camera_detector(site, Camera(url="a", device="cuda"))[0] == "motion"


def test_the_best_measured_network_is_taken_whatever_its_name(models, tmp_path, monkeypatch):
    unmeasured = add(tmp_path, "aaa")
    assert choose_detector().name == "aaa" and "not measured by us" in choose_detector().reason
    best = add(tmp_path, "zzz", classes=2)
    known = (best / "model.onnx").read_bytes()
    file = WeightFile(url="http://here/x", bytes=len(known), sha384=hashlib.sha384(known).hexdigest())
    entry = load_table()["yolox-nano"].model_copy(update={"files": {"model.onnx": file}, "idf1": 0.5})
    monkeypatch.setattr(camera_detector, "load_table", lambda: {"known": entry})
    chosen = choose_detector()
    assert chosen.name == "zzz" and chosen.reason.startswith("IDF1 0.50 in our measurements, the first of 2")
    (best / "model.onnx").write_bytes(known[:-1] + b"?")  # not what came in any more
    assert choose_detector().name == "aaa"
    shutil.rmtree(unmeasured)
    assert choose_detector().name == "motion"


def test_a_network_that_does_not_work_here_is_passed_over(models, tmp_path, monkeypatch):
    for name in ("first", "second"):
        add(tmp_path, name)
    found = camera_detector.load_detector

    def broken(name_or_path, **more):
        if Path(name_or_path).parent.name == "first":
            raise ConfigError("its runtime is missing")
        return found(name_or_path, **more)

    monkeypatch.setattr(camera_detector, "load_detector", broken)
    assert choose_detector().name == "second"


def test_a_network_stands_behind_the_motion_gate_and_motion_sees_every_frame(models, tmp_path, monkeypatch):
    looked = []

    def gated(detect):
        looked.append(detect)
        return detect

    monkeypatch.setattr(camera_detector, "motion_gated", gated)
    site = Site("shop", tmp_path, {})
    assert load_camera_detector(site, Camera(url="a"), gated=True)[0] == "motion" and not looked
    add(tmp_path, "people")
    name, detect = load_camera_detector(site, Camera(url="a"), gated=True, threads=1)
    assert name == "people" and len(looked) == 1 and len(detect(STILL)) == 0
    load_camera_detector(site, Camera(url="a"), threads=1)
    assert len(looked) == 1  # footage is looked at whole


@pytest.mark.parametrize("name", ["auto", "motion"])
def test_a_name_that_means_something_else_is_refused(models, tmp_path, name):
    with pytest.raises(ConfigError, match=f"--name: got '{name}', which camera files have for something else"):
        add(tmp_path, name)


def test_every_detector_of_the_table_has_its_measurement_or_none():
    measured = {name: entry.idf1 for name, entry in load_table().items() if entry.idf1 is not None}
    assert measured and all(load_table()[name].task == "detector" for name in measured)
    assert max(measured, key=measured.__getitem__) == "yolox-nano"  # the one that is fetched without a name
