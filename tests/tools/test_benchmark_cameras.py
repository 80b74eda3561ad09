"""The benchmark of cameras: which targets it takes, what it makes of its measurements."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "benchmark_cameras.py"))


def row(cameras, **changes):
    numbers = {"crops": 48 * cameras, "pictures_mb": 0.3 * cameras, "before_mb": 400.0}
    seconds = {"teachers_s_per_camera": 2.0, "student_s_per_camera": 1.0}
    seconds |= {"teachers_cpu_s_per_camera": 1.8, "student_cpu_s_per_camera": 0.9}
    return {"cameras": cameras, **numbers, "teachers_mb": 600.0, "student_mb": 500.0, **seconds, **changes}


def test_cameras_come_from_as_many_streets_as_it_takes(tmp_path):
    for street in range(2):
        folder = tmp_path / str(street) / "bounding_box_train"
        folder.mkdir(parents=True)
        for person in (1, 2):
            for camera in (1, 2, 3, 4):
                cv2.imwrite(str(folder / f"{person:04d}_c{camera}s1_000001_00.jpg"), np.zeros((16, 8, 3), np.uint8))
    targets = TOOL["targets_of"](tmp_path, 6)
    assert list(targets)[3:] == ["street0_camera3", "street1_camera0", "street1_camera1"]
    for name, target in targets.items():
        assert target.tracklets.tolist() == [0, 1], name
        assert {path.parents[1].name for path in target.paths} == {name[len("street")]}


def test_repeated_measurements_become_median_seconds_and_the_largest_peak():
    rounds = [row(4, teachers_s_per_camera=s, teachers_mb=mb) for s, mb in ((9.0, 600.0), (2.0, 640.0), (3.0, 610.0))]
    found = TOOL["summary"](rounds)
    assert (found["teachers_s_per_camera"], found["teachers_mb"], found["cameras"]) == (3.0, 640.0, 4)


def test_the_table_has_a_line_for_each_number_of_cameras():
    assert TOOL["table"]([row(2), row(16)]).splitlines()[2:] == [
        "| 2 | 96 | 0.6 | 600 | 500 | 2.0 (1.8) | 1.0 (0.9) |",
        "| 16 | 768 | 4.8 | 600 | 500 | 2.0 (1.8) | 1.0 (0.9) |",
    ]


def test_the_picture_is_written(tmp_path):
    TOOL["plot"]([row(2), row(16)], tmp_path / "cameras.png")
    assert cv2.imread(str(tmp_path / "cameras.png")).std() > 10


@pytest.mark.parametrize("steps", [3, 7])
def test_networks_and_input_are_those_of_the_demo(steps):
    from reid_mtda.presets import load_config

    demo = load_config(Path(__file__).parents[2] / "configs" / "adapt" / "demo.yaml")
    ours = TOOL["settings"](steps, 2 * steps)
    assert (ours.teacher, ours.student, ours.input) == (demo.teacher, demo.student, demo.input)
    assert (ours.adapt.method, ours.adapt.parsed().steps, ours.distil.steps) == (demo.adapt.method, steps, 2 * steps)
