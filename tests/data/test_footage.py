import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.data.footage import HarvestReport, harvest_crops
from reid_mtda.errors import DataError, StorageError, VideoError
from reid_mtda.types import Detections, Frame, ImageArray
from reid_mtda.vision.preprocess import read_image
from reid_mtda.vision.tracklets import TrackletBuilder


def footage(count: int = 20) -> Iterator[Frame]:
    """Smooth frames whose red channel tells their number."""
    for index in range(count):
        image = np.zeros((120, 320, 3), np.uint8)
        image[..., 0] = 10 * index
        image[..., 1] = np.linspace(0, 255, 320)
        yield Frame("gate", index, 1000 + index / 5, image)


def one_walker(image: ImageArray) -> Detections:
    """Somebody who walks right, 5 px a frame, found by the frame's number."""
    x = 20 + 5 * (int(image[0, 0, 0]) // 10)
    return Detections(np.array([[x, 20, x + 30, 100]], np.float32), np.ones(1, np.float32))


def nobody(image: ImageArray) -> Detections:
    return Detections.empty()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "crops.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_crops_table_and_report_agree(tmp_path: Path) -> None:
    report = harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path)
    folder = tmp_path / "gate"
    table = rows(folder)
    assert report == HarvestReport("gate", frames=20, detections=20, tracklets=1, crops=len(table))
    assert {row["file"] for row in table} == {path.name for path in folder.glob("*.jpg")}
    assert list(table[0]) == ["file", "tracklet", "frame", "time_s", "x0", "y0", "x1", "y1"]
    for row in table:
        index = int(row["frame"])
        assert row["file"] == f"000000_{index:06d}.jpg" and row["tracklet"] == "0"
        assert float(row["time_s"]) == pytest.approx(1000 + index / 5)
        assert [float(row[side]) for side in ("x0", "y0", "x1", "y1")] == [20 + 5 * index, 20, 50 + 5 * index, 100]
        crop = read_image(folder / row["file"])
        assert crop.shape == (80, 30, 3)  # as large as in the frame
        assert abs(float(crop[..., 0].mean()) - 10 * index) < 4  # RGB, and of this very frame
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate"]


def test_crops_per_tracklet_are_bounded(tmp_path: Path) -> None:
    assert harvest_crops(footage(), one_walker, TrackletBuilder("gate", max_crops=2), tmp_path).crops <= 2


def test_a_finished_harvest_is_returned_without_looking_at_frames(tmp_path: Path) -> None:
    def untouched() -> Iterator[Frame]:
        raise AssertionError("frames were read again")
        yield

    first = harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path, made_from={"url": "a.mp4"})
    assert (
        harvest_crops(untouched(), one_walker, TrackletBuilder("gate"), tmp_path, made_from={"url": "a.mp4"}) == first
    )


def test_a_harvest_of_other_settings_is_refused(tmp_path: Path) -> None:
    harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path, made_from={"url": "a.mp4"})
    with pytest.raises(
        DataError, match=r"gate: was harvested with other settings \(max_crops: got 4, expected 8\); remove it"
    ):
        harvest_crops(footage(), one_walker, TrackletBuilder("gate", max_crops=4), tmp_path, made_from={"url": "a.mp4"})
    with pytest.raises(DataError, match=r"other settings \(url: got b\.mp4, expected a\.mp4\)"):
        harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path, made_from={"url": "b.mp4"})


def test_of_a_camera_s_changed_settings_those_that_differ_are_named(tmp_path: Path) -> None:
    before = {"camera": {"url": "a.mp4", "min_score": 0.4, "fps": 5, "roi": None}}
    after = {"camera": {"url": "a.mp4", "min_score": 0.3, "fps": 5, "detector": "motion"}}
    harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path, made_from=before)
    with pytest.raises(DataError) as caught:
        harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path, made_from=after)
    differing = "camera.detector: got motion, expected none; camera.min_score: got 0.3, expected 0.4"
    assert f"({differing})" in str(caught.value) and "a.mp4" not in str(caught.value)


@pytest.mark.parametrize("card", [None, "", "[]", '{"report": {"frames": 1}}'])
def test_a_folder_that_is_no_harvest_is_left_alone(tmp_path: Path, card: str | None) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "holiday.jpg").write_text("keep me")
    if card is not None:
        (tmp_path / "gate" / "harvest.json").write_text(card)
    with pytest.raises(DataError, match=r"gate: stands there, but is no finished harvest .*choose another folder"):
        harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path)
    assert (tmp_path / "gate" / "holiday.jpg").read_text() == "keep me"


def test_nobody_found_is_a_valid_empty_harvest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = harvest_crops(footage(), nobody, TrackletBuilder("gate"), tmp_path)
    assert (report.frames, report.detections, report.crops) == (20, 0, 0)
    assert report.warnings == (
        "camera gate: nobody was found in 20 frames, so there are no crops; "
        "check the detector, min_height_px and min_score in its camera file",
    )
    assert report.warnings[0] in caplog.text
    assert rows(tmp_path / "gate") == []
    assert harvest_crops(footage(), nobody, TrackletBuilder("gate"), tmp_path) == report


def test_passing_detections_and_no_frames_are_told_apart(tmp_path: Path) -> None:
    short = harvest_crops(footage(2), one_walker, TrackletBuilder("short"), tmp_path)
    assert "2 detections never lasted long enough to be a person in 2 frames" in short.warnings[0]
    assert (
        "the footage held no frames" in harvest_crops(footage(0), nobody, TrackletBuilder("none"), tmp_path).warnings[0]
    )


def test_people_left_out_for_their_height_are_counted_and_told(tmp_path: Path) -> None:
    def some_low(image: ImageArray) -> Detections:
        return replace(one_walker(image), too_low=2)

    def all_low(image: ImageArray) -> Detections:
        return replace(Detections.empty(), too_low=1)

    report = harvest_crops(footage(), some_low, TrackletBuilder("gate"), tmp_path)
    low = "detections were lower than min_height_px and left out; lower it for more"
    assert (report.detections, report.too_low) == (20, 40) and report.warnings == (f"camera gate: 40 of 60 {low}",)
    assert harvest_crops(footage(), some_low, TrackletBuilder("gate"), tmp_path) == report
    assert harvest_crops(footage(), all_low, TrackletBuilder("yard"), tmp_path).warnings == (
        f"camera yard: 20 of 20 {low} people, there are no crops",
    )


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    harvest_crops(
        footage(5), nobody, TrackletBuilder("gate"), tmp_path, progress=lambda *step: told.append(step)
    )  # a plain iterator does not say how many there will be
    assert told == [("harvest gate", done, done) for done in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("error", [VideoError("gate.mp4: broken"), KeyboardInterrupt()])
def test_a_harvest_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def breaking() -> Iterator[Frame]:
        yield from footage(15)
        raise error

    with pytest.raises(type(error)):
        harvest_crops(breaking(), one_walker, TrackletBuilder("gate"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path).crops > 0


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"jpg: crops could not be written \(No space left on device\); free space"):
        harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_of_the_footage_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    def unplugged() -> Iterator[Frame]:
        yield from footage(2)
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as caught:
        harvest_crops(unplugged(), one_walker, TrackletBuilder("gate"), tmp_path)
    assert not isinstance(caught.value, StorageError)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_harvest_leaves_no_folder_and_can_be_repeated(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_footage import TrackletBuilder, footage, one_walker, harvest_crops
def kill(part, done, total):
    if done == 19: os.kill(os.getpid(), signal.SIGKILL)
harvest_crops(footage(), one_walker, TrackletBuilder("gate"), {str(tmp_path)!r}, progress=kill)
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "gate").exists()
    harvest_crops(footage(), one_walker, TrackletBuilder("gate"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate"]
    assert json.loads((tmp_path / "gate" / "harvest.json").read_text())["report"]["frames"] == 20
