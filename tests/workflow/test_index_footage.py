"""The same footage twice, under other names and dates, changes nothing in a gallery."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_model import write_colour_model

from reid_mtda.camera_settings import Camera
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.site import Site
from reid_mtda.vision.fingerprint import footage_fingerprint
from reid_mtda.vision.video import read_frames
from reid_mtda.workflow.footage import index_site

STATED = "2026-03-01T08:00:00+00:00"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of a minute of the drawn street."""
    path = tmp_path_factory.mktemp("clip") / "gate.mp4"
    writer = None
    for frame in read_frames("synthetic://street?camera=gate&duration=15", camera="gate", fps=5):
        height, width = frame.image.shape[:2]
        writer = writer or cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (width, height))
        writer.write(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def index(folder: Path, clip: Path, start_time: str | None = None, name: str = "gate") -> dict[int, tuple]:
    """Index the clip; the sightings that stand then, by number."""
    site = Site("site", folder, {name: Camera(url=str(clip), start_time=start_time)})
    if not (folder / "model").exists():
        write_colour_model(folder / "model")
    reports, failures = index_site(site, folder / "model", folder / "gallery")
    assert failures == {} and reports[name].sightings > 0
    with Gallery.open(folder / "gallery") as gallery:
        return {number: (row.start_s, row.end_s) for number, row in gallery.sightings().items()}


@pytest.mark.parametrize("start_time", [None, STATED])
def test_a_copy_under_another_name_and_date_changes_nothing(start_time: str | None, clip: Path, tmp_path: Path) -> None:
    os.utime(clip, (1_700_000_000, 1_700_000_000))
    before = index(tmp_path, clip, start_time)
    copy = Path(shutil.copy(clip, tmp_path / "copy of gate (2).mp4"))
    os.utime(copy, (1_700_090_000, 1_700_090_000))  # 25 h later
    assert index(tmp_path, copy, start_time) == before
    assert index(tmp_path, clip, start_time) == before


def test_another_start_time_moves_the_sightings_and_leaves_none_behind(clip: Path, tmp_path: Path) -> None:
    os.utime(clip, (1_700_000_000, 1_700_000_000))
    guessed = index(tmp_path, clip)
    moved = index(tmp_path, clip, STATED)
    shift = 1_772_352_000 - (1_700_000_000 - 15)
    np.testing.assert_allclose(sorted(moved.values()), np.array(sorted(guessed.values())) + shift, atol=1e-3, rtol=0)
    assert index(tmp_path, clip) == moved  # what was stated once is remembered


def test_footage_of_two_cameras_at_once_is_said(clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index(tmp_path, clip, STATED)
    index(tmp_path, clip, STATED, name="plaza")
    assert "camera plaza: this very footage stands in the gallery as camera gate, too" in caplog.text


def test_a_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "a.mp4").write_bytes(data)
    (tmp_path / "b.avi").write_bytes(data)
    (tmp_path / "c.mp4").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (tmp_path / "d.mp4").write_bytes(data[:-1])
    prints = [footage_fingerprint(str(tmp_path / name)) for name in ("a.mp4", "b.avi", "c.mp4", "d.mp4")]
    assert prints[0] == prints[1] and len(set(prints)) == 3
    assert footage_fingerprint("rtsp://cam/1") is None and footage_fingerprint("device:0") is None


def test_a_detector_that_fails_stops_its_own_camera_alone(clip: Path, tmp_path: Path) -> None:
    """A network that reads past its own rows: what its runtime raises is of no kind that is known here."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["nobody"]),
            helper.make_node("ReduceSum", ["images"], ["light"], keepdims=1),
            helper.make_node("Cast", ["light"], ["row"], to=kind.INT64),
            helper.make_node("Reshape", ["row", "one"], ["index"]),
            helper.make_node("Gather", ["nobody", "index"], ["output"]),  # of a batch of one
        ],
        "net",
        [helper.make_tensor_value_info("images", kind.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", kind.FLOAT, [1, 84, 85])],
        [
            helper.make_tensor("shape", kind.INT64, [3], [1, 84, 85]),
            helper.make_tensor("one", kind.INT64, [1], [1]),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "net.onnx"
    )
    cameras = {
        "a": Camera(url=str(clip), start_time=STATED, detector="net.onnx"),
        "b": Camera(url=str(clip), start_time=STATED, detector="hog"),
        "c": Camera(url=str(clip), start_time=STATED),
    }
    write_colour_model(tmp_path / "model")
    site = Site("site", tmp_path, cameras)
    reports, failures = index_site(site, tmp_path / "model", tmp_path / "gallery")
    assert set(reports) == {"c"} and reports["c"].sightings > 0
    assert "net.onnx: the network fails on a picture" in failures["a"] and "input_type in net.json" in failures["a"]
    assert "detector hog: OpenCV has none any more" in failures["b"]
