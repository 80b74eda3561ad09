"""The street: the same address gives the same bytes, and the truth says what was drawn."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.synthetic import street as street_module
from reid_mtda.synthetic.camera import HEIGHT_PX, WIDTH_PX, camera_model
from reid_mtda.synthetic.crops import draw_crops, draw_lab
from reid_mtda.synthetic.street import (
    CAMERAS,
    LAB_CAMERAS,
    START_TIME_S,
    Street,
    SyntheticFrame,
    film,
    open_street,
    parse_url,
    street_frames,
)


def same(first: SyntheticFrame, second: SyntheticFrame) -> bool:
    return (
        (first.index, first.time_s) == (second.index, second.time_s)
        and first.image.tobytes() == second.image.tobytes()
        and np.array_equal(first.xyxy, second.xyxy)
        and np.array_equal(first.pid, second.pid)
        and np.array_equal(first.visible, second.visible)
    )


@pytest.mark.parametrize("camera", [*CAMERAS, LAB_CAMERAS[3]])
def test_frames_are_random_access(camera: str) -> None:
    slow = list(street_frames(camera, duration_s=3, fps=1))
    quick = {frame.index: frame for frame in street_frames(camera, duration_s=3, fps=5)}
    assert [frame.index for frame in slow] == [0, 25, 50]
    assert len(quick) == 15
    assert all(same(frame, quick[frame.index]) for frame in slow)
    draw = open_street(Street(camera, duration_s=3))
    assert all(same(draw(frame.index), frame) for frame in reversed(slow))
    assert slow[1].time_s == START_TIME_S + 1


def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from reid_mtda.synthetic.street import Street, open_street;"
        "print(hashlib.sha256(open_street(Street('plaza'))(1000).image.tobytes()).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    }
    assert len(printed) == 1


def test_seed_part_and_camera_each_change_the_picture() -> None:
    base = Street("gate")
    others = [Street("gate", seed=8), Street("gate", part="test"), Street("market")]
    image = open_street(base)(500).image
    assert all(not np.array_equal(image, open_street(other)(500).image) for other in others)


def test_every_rate_keeps_to_the_duration() -> None:
    for fps, count in ((1, 2), (3, 6), (12.5, 25), (None, 50), (60, 50)):
        frames = list(film(Street("gate", duration_s=2, people=1), fps))
        assert len(frames) == count
        assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
        assert frames[-1].index < 50


def people_by_camera(part: str) -> dict[str, set[int]]:
    """Who is well in view in each camera at some moment; only the truth is needed, at one frame in two seconds."""
    return {
        camera: {
            int(pid)
            for frame in film(Street(camera, part=part), 0.5)
            for pid, visible in zip(frame.pid, frame.visible, strict=True)
            if visible > 0.5
        }
        for camera in CAMERAS
    }


@pytest.fixture(scope="module")
def train_people() -> dict[str, set[int]]:
    return people_by_camera("train")


def test_everybody_passes_every_camera(train_people: dict[str, set[int]]) -> None:
    expected = set(Street("gate").pids)
    assert len(expected) == 40
    assert all(people == expected for people in train_people.values())
    assert Street("gate").duration_s == 120


def test_two_to_four_people_are_in_view() -> None:
    for camera in CAMERAS:
        counts = [len(frame.pid) for frame in film(Street(camera), 0.5)]
        assert 1.5 < np.mean(counts) < 4
        assert max(counts) <= 8


def test_nobody_is_in_two_places_at_once() -> None:
    draws = [open_street(Street(camera)) for camera in CAMERAS]
    for index in range(0, 3000, 125):
        seen = [int(pid) for draw in draws for pid in draw(index).pid]
        assert len(seen) == len(set(seen))


def test_parts_share_nobody() -> None:
    parts = [set(Street("gate", part=part, people=2000).pids) for part in ("lab", "train", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert max(max(part) for part in parts) <= 9999  # four digits in file names


def test_truth_is_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a faithful camera, the pixels that differ from the empty scene lie in the boxes, and reach their borders."""
    monkeypatch.setattr(street_module, "response", lambda model, seed: lambda scene, index, time_s: scene.copy())
    monkeypatch.setattr(street_module, "_paint_shadow", lambda *a: None)
    street = Street("lab1", part="lab", people=12)
    draw = open_street(street)
    empty = street_module.scenery.paint_backdrop(camera_model("lab1"), 7)
    for prop in street_module.scenery.make_props(camera_model("lab1"), 7):
        street_module._paint_prop(empty, np.zeros(empty.shape[:2], np.uint8), prop)
    alone = together = 0
    for index in range(0, 900, 10):
        frame = draw(index)
        changed = np.abs(frame.image.astype(int) - empty).max(axis=2) > 40
        inside = np.zeros_like(changed)
        for x0, y0, x1, y1 in frame.xyxy.astype(int):
            assert 0 <= x0 < x1 <= WIDTH_PX and 0 <= y0 < y1 <= HEIGHT_PX
            inside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = True
        assert not (changed & ~inside).any()
        assert ((frame.visible > 0) & (frame.visible <= 1)).all()
        together += len(frame.pid) > 1
        if len(frame.pid) == 1 and frame.visible[0] == 1:
            rows, columns = np.nonzero(changed)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            np.testing.assert_allclose(found, frame.xyxy[0], atol=12)  # clothes can match the wall
            alone += 1
    assert alone >= 5 and together >= 5


def test_hidden_people_are_less_visible() -> None:
    hidden = [
        (visible, box)
        for frame in film(Street("market"), 2)
        for visible, box in zip(frame.visible, frame.xyxy, strict=True)
        if visible < 0.7 and box[0] > 1 and box[2] < WIDTH_PX - 1 and box[3] < HEIGHT_PX - 1
    ]
    assert len(hidden) > 3  # somebody was behind somebody or something


def test_background_subtraction_finds_people() -> None:
    subtract = cv2.createBackgroundSubtractorMOG2(history=200, varThreshold=25, detectShadows=False)
    outside, inside = [], []
    for number, frame in enumerate(film(Street("gate", duration_s=20), 5)):
        moving = subtract.apply(cv2.GaussianBlur(frame.image, (5, 5), 0)) > 0
        if number < 40:
            continue
        still = np.ones_like(moving)
        for x0, y0, x1, y1 in frame.xyxy.astype(int):
            inside.append(moving[y0:y1, x0:x1].mean())
            still[max(0, y0 - 5) : y1 + 15, max(0, x0 - 15) : x1 + 15] = False
        outside.append(moving[still].mean())
    assert np.mean(outside) < 0.01
    assert np.median(inside) > 0.25


def test_a_frame_takes_milliseconds() -> None:
    draw = open_street(Street("market"))
    draw(0)
    began = time.process_time()
    for index in range(500, 620, 5):
        draw(index)
    assert (time.process_time() - began) / 24 < 0.1  # measured 0.005; this catches only a blunder


def test_url_is_read() -> None:
    assert parse_url("synthetic://street?camera=gate&seed=9&part=test&duration=60&people=10") == Street(
        "gate", seed=9, part="test", people=10, duration_s=60
    )
    assert parse_url("synthetic://street?camera=plaza") == Street("plaza")
    assert parse_url("synthetic://street?camera=gate&people=4").duration_s == 21


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("synthetic://street", "missing key 'camera'; add one of gate, market, tunnel, plaza"),
        ("synthetic://street?camera=gaet", "unknown camera 'gaet'; did you mean 'gate'?"),
        ("synthetic://street?camera=roof", "unknown camera 'roof'; expected one of gate, market, tunnel, plaza, lab1"),
        ("synthetic://street?camera=gate&sede=7", "unknown key 'sede'; did you mean 'seed'?"),
        ("synthetic://street?camera=gate&seed=7.5", "seed must be a whole number, got '7.5'"),
        ("synthetic://street?camera=gate&seed=", "seed must be a whole number, got ''"),
        ("synthetic://street?camera=gate&seed=-1", "seed must be 0..2^63-1, got -1"),
        ("synthetic://street?camera=gate&duration=long", "duration must be a number, got 'long'"),
        ("synthetic://street?camera=gate&duration=-1", "duration must be >= 0 seconds, got -1.0"),
        ("synthetic://street?camera=gate&duration=nan", "duration must be >= 0 seconds, got nan"),
        ("synthetic://street?camera=gate&duration=inf", "duration must be >= 0 seconds, got inf"),
        ("synthetic://street?camera=gate&people=0", "people must be 1..2000, got 0"),
        ("synthetic://street?camera=gate&part=tset", "unknown part 'tset'; did you mean 'test'?"),
        ("synthetic://street?camera=gate&seed=7&seed=8", "key 'seed' stands twice"),
        ("synthetic://road?camera=gate", "not a synthetic street"),
        ("rtsp://street?camera=gate", "not a synthetic street"),
    ],
)
def test_bad_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert str(caught.value).startswith(f"{url}: ")
    assert message in str(caught.value)


def test_bad_rate_is_refused() -> None:
    for fps in (0.0, -5.0, float("nan")):
        with pytest.raises(ConfigError, match="fps must be > 0"):
            next(film(Street("gate"), fps))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_lab_crops(tmp_path: Path) -> None:
    assert draw_lab(tmp_path, 3, 6, per_camera=2) == len(names(tmp_path / "bounding_box_train"))
    files = defaultdict(list)
    for path in sorted((tmp_path / "bounding_box_train").iterdir()):
        files[int(path.name[:4])].append(int(path.name.split("_c")[1][0]))
        crop = cv2.imread(str(path))
        assert crop.shape[0] > 40 and crop.shape[1] > 12
    assert set(files) == set(range(1, 7))
    assert all(len(set(cameras)) >= 2 for cameras in files.values())
    assert all(cameras.count(camid) <= 2 for cameras in files.values() for camid in cameras)


def test_target_crops_split_into_query_and_gallery(tmp_path: Path) -> None:
    drawn = draw_crops(tmp_path, part="train", people=4, per_camera=2)
    drawn |= draw_crops(tmp_path, part="test", people=4, per_camera=3)
    assert drawn == {folder.name: len(names(folder)) for folder in tmp_path.iterdir() if folder.is_dir()}
    assert (tmp_path / "cameras.txt").read_text(encoding="utf-8").split() == list(CAMERAS)
    assert sorted(drawn) == ["bounding_box_test", "bounding_box_train", "query"]
    pids = {folder: {int(name[:4]) for name in names(tmp_path / folder)} for folder in drawn}
    assert pids["query"] == pids["bounding_box_test"] == set(Street("gate", part="test", people=4).pids)
    assert not pids["query"] & pids["bounding_box_train"]
    asked = [name.split("s1_")[0] for name in names(tmp_path / "query")]
    assert len(asked) == len(set(asked))
    assert len({name[:4] for name in asked}) == 4
    assert not set(names(tmp_path / "query")) & set(names(tmp_path / "bounding_box_test"))


def test_crops_are_the_same_each_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        draw_crops(tmp_path / folder, part="train", people=2, per_camera=2)
    first, second = tmp_path / "a" / "bounding_box_train", tmp_path / "b" / "bounding_box_train"
    assert names(first) == names(second)
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names(first))


def test_crops_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="crops could not be written"):
        draw_lab(tmp_path / "file", identities=1, per_camera=1)
    assert names(tmp_path) == ["file"]


def histograms(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, pids, camids = [], [], []
    for path in sorted(folder.iterdir()):
        crop = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (32, 64)), cv2.COLOR_BGR2HSV)
        bands = [
            cv2.calcHist([crop[top : top + 16, 6:26]], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256]).ravel()
            for top in range(0, 64, 16)
        ]
        features.append(np.sqrt(np.concatenate(bands) / 1280))
        pids.append(int(path.name[:4]))
        camids.append(int(path.name.split("_c")[1][0]))
    return np.array(features), np.array(pids), np.array(camids)


def test_colour_alone_matches_within_a_camera_but_not_across(tmp_path: Path) -> None:
    """The domain gap is real: nearest neighbours by colour histogram hold in a camera, and fail between cameras."""
    draw_crops(tmp_path, part="train", people=16, per_camera=3)
    features, pids, camids = histograms(tmp_path / "bounding_box_train")
    score = features @ features.T
    np.fill_diagonal(score, -1)
    rank1 = {}
    for kind, allowed in (("within", camids[:, None] == camids), ("across", camids[:, None] != camids)):
        best = np.where(allowed, score, -1).argmax(axis=1)
        rank1[kind] = float((pids[best] == pids).mean())
    assert rank1["within"] > 0.5
    assert rank1["across"] < 0.5
    assert rank1["within"] > rank1["across"] + 0.25
