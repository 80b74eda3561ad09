"""Crops written for other programs, read back by programs of other people: COCO's, torchreid's and a plain parse."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from builders import reid_mtda
from PIL import Image

from reid_mtda.data.crop_export import export_crops
from reid_mtda.data.crop_table import write_crop_table
from reid_mtda.data.footage import write_crops
from reid_mtda.data.reid import load_market1501
from reid_mtda.errors import DataError, StorageError
from reid_mtda.types import Tracklet


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Two cameras; tracks 3 and 7 in each, of three and two crops."""
    folder = tmp_path / "crops"
    for place, camera in enumerate(("gate", "plaza")):
        (folder / camera).mkdir(parents=True)
        rows = []
        for track, count in ((3, 3), (7, 2)):
            frames = np.arange(count, dtype=np.int64) * 5 + place
            boxes = np.stack([np.array([10 + f, 20, 30 + f, 80], np.float32) for f in frames])
            pictures = tuple(np.full((60, 20, 3), 10 * track, np.uint8) for _ in frames)
            rows += write_crops([Tracklet(camera, track, pictures, boxes, frames, frames / 5.0)], folder / camera)
        write_crop_table(folder / camera, rows)
    return folder


def test_market1501_is_read_as_one_identity_for_each_tracklet(crops: Path, tmp_path: Path) -> None:
    report = export_crops(crops, tmp_path / "out", "market1501")
    assert (report.crops, report.tracklets, report.cameras) == (10, 4, 2)
    names = sorted(path.name for path in (tmp_path / "out" / "bounding_box_train").glob("*.jpg"))
    # The pattern that torchreid, fast-reid and boxmot read.
    found = [tuple(map(int, re.search(r"([-\d]+)_c(\d)", name).groups())) for name in names]
    assert sorted(set(found)) == [(1, 1), (2, 1), (3, 2), (4, 2)] and len(names) == 10
    train, _ = load_market1501(tmp_path / "out", half="train")
    assert len(train) == 10 and train.num_classes == 4 and train.tracklets is not None
    assert len({(int(a), int(b)) for a, b in zip(train.labels, train.tracklets, strict=True)}) == 4


def test_coco_is_read_by_its_own_library(crops: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    export_crops(crops, tmp_path / "out", "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        read = coco.COCO(str(tmp_path / "out" / "annotations.json"))
    assert len(read.getImgIds()) == 10 and read.loadCats(read.getCatIds())[0]["name"] == "person"
    for image in read.loadImgs(read.getImgIds()):
        with Image.open(tmp_path / "out" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
    notes = read.loadAnns(read.getAnnIds())
    assert {note["track_id"] for note in notes} == {1, 2, 3, 4}
    assert notes[0]["attributes"] == {"camera": "gate", "frame": 0, "box_in_frame": [10.0, 20.0, 30.0, 80.0]}


def test_mot_has_frames_from_one_and_boxes_by_size(crops: Path, tmp_path: Path) -> None:
    export_crops(crops, tmp_path / "out", "mot")
    rows = np.loadtxt(tmp_path / "out" / "gate" / "gt" / "gt.txt", delimiter=",")
    assert rows.shape == (5, 9) and rows[0].tolist() == [1, 1, 10, 20, 20, 60, 1, 1, 1]
    assert sorted(set(rows[:, 1])) == [1, 2] and (np.diff(rows[:, 0]) >= 0).all()
    other = np.loadtxt(tmp_path / "out" / "plaza" / "gt" / "gt.txt", delimiter=",")
    assert not set(other[:, 1]) & set(rows[:, 1]) and other[0, 0] == 2  # nobody is known across cameras


def test_the_command_line_writes_one(crops: Path, tmp_path: Path) -> None:
    told = reid_mtda("export-crops", crops, "--out", tmp_path / "out", "--layout", "mot")
    assert told.stdout.startswith("10 crops of 4 tracklets of 2 cameras")


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected coco, market1501, mot"):
        export_crops(crops, tmp_path / "out", "voc")
    with pytest.raises(DataError, match="no such folder"):
        export_crops(tmp_path / "none", tmp_path / "out", "mot")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no crops"):
        export_crops(tmp_path / "empty", tmp_path / "out", "mot")
    next((crops / "gate").glob("*.jpg")).unlink()
    with pytest.raises(DataError, match="is gone, though"):
        export_crops(crops, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*.part"))
    with pytest.raises(StorageError, match="is there already"):
        export_crops(crops, tmp_path / "empty", "mot")
