"""Truth of footage is read strictly and reaches a tracklet by the vote of its crops."""

import csv

import cv2
import numpy as np
import pytest

from reid_mtda.data.mot_ground_truth import iou, label_tracklets, read_mot
from reid_mtda.errors import DataError


def naive_iou(a, b):
    grid = np.zeros((2, 100, 100), bool)
    for layer, (x0, y0, x1, y1) in zip(grid, (a, b), strict=True):
        layer[int(y0) : int(y1), int(x0) : int(x1)] = True
    return (grid[0] & grid[1]).sum() / max((grid[0] | grid[1]).sum(), 1)


def test_iou_is_that_of_counted_pixels():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 50, (20, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 50, (20, 2))], axis=1).astype(np.float32)
    expected = [naive_iou(boxes[0], box) for box in boxes]
    np.testing.assert_allclose(iou(boxes[0], boxes), expected, atol=1e-6)
    assert iou(boxes[0], np.zeros((0, 4), np.float32)).shape == (0,)


def test_mot_lines_become_boxes_from_frame_zero(tmp_path):
    path = tmp_path / "gate.txt"
    path.write_text("1,7,10,20,5,6,1,-1\n\n3,7,11,20.5,5,6\n3,8,1,2,3,4\n", encoding="utf-8")
    truth = read_mot(path)
    assert set(truth) == {0, 2} and truth[2][0].tolist() == [7, 8]
    np.testing.assert_array_equal(truth[0][1], np.array([[10, 20, 15, 26]], np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"gate\.txt: no such truth file; expected one CAMERA\.txt"),
        ("", r"gate\.txt: no boxes in it"),
        ("1,7,10,20,5,6\n1,7,10", r"gate\.txt, line 2: got '1,7,10', expected frame,id,left,top,w,h"),
        ("1,x,10,20,5,6", r"gate\.txt, line 1: got '1,x,10,20,5,6'"),
        ("nan,1,10,20,5,6", r"gate\.txt, line 1: got 'nan"),
        ("1,inf,10,20,5,6", r"gate\.txt, line 1: got '1,inf"),
    ],
)
def test_bad_truth_is_refused_by_its_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "gate.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_mot(tmp_path / "gate.txt")


def harvest(folder, rows):
    folder.mkdir(parents=True)
    for name, *_ in rows:
        cv2.imwrite(str(folder / name), np.zeros((20, 10, 3), np.uint8))
    with (folder / "crops.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "tracklet", "frame", "time_s", "x0", "y0", "x1", "y1"], *rows])


def box(frame, x):
    return [frame, 0.0, x, 0, x + 10, 20]


@pytest.fixture
def crops(tmp_path):
    harvest(tmp_path / "gate", [
        ["1.jpg", 4, *box(0, 0)], ["2.jpg", 4, *box(1, 1)], ["3.jpg", 4, *box(2, 50)],  # twice 7, once 8
        ["4.jpg", 6, *box(0, 90)], ["5.jpg", 6, *box(9, 0)],  # nobody there; a frame without truth
    ])  # fmt: skip
    harvest(tmp_path / "plaza", [["1.jpg", 0, *box(0, 52)]])
    return tmp_path


def truth_at(*boxes):
    """(frame, pid, x) -> truth."""
    found = {}
    for frame, pid, x in boxes:
        pids, places = found.get(frame, ([], []))
        found[frame] = ([*pids, pid], [*places, [x, 0, x + 10, 20]])
    return {frame: (np.array(p, np.int64), np.array(b, np.float32)) for frame, (p, b) in found.items()}


def test_a_tracklet_is_the_person_whom_most_of_its_crops_show(crops):
    gate = truth_at((0, 7, 0), (0, 8, 50), (1, 7, 0), (1, 8, 50), (2, 7, 0), (2, 8, 50))
    found = label_tracklets(crops, {"gate": gate, "plaza": truth_at((0, 8, 50))})
    assert found.pids.tolist() == [7, 8] and found.camids.tolist() == [0, 1] and found.cameras == ("gate", "plaza")
    assert [[path.name for path in paths] for paths in found.paths] == [["1.jpg", "2.jpg", "3.jpg"], ["1.jpg"]]
    assert found.unmatched == 1


def test_too_small_an_overlap_shows_nobody(crops):
    gate = truth_at((0, 7, 4), (1, 7, 5))  # IoU 6/14 and 6/14
    found = label_tracklets(crops, {"gate": gate, "plaza": truth_at((0, 8, 50))})
    assert found.pids.tolist() == [8] and found.unmatched == 2


def test_a_camera_without_truth_is_named(crops):
    with pytest.raises(DataError, match=r"plaza: no truth for this camera, got truth of gate"):
        label_tracklets(crops, {"gate": {}})


@pytest.mark.parametrize("cell", ["", "x", "nan"])
def test_a_damaged_table_is_refused(crops, cell):
    table = crops / "plaza" / "crops.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("52", cell, 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"plaza/crops\.csv, line 2: .*expected"):
        label_tracklets(crops, {"gate": {}, "plaza": truth_at((0, 8, 50))})


def test_a_table_without_boxes_is_refused(crops):
    (crops / "plaza" / "crops.csv").write_text("file,tracklet\n1.jpg,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"plaza/crops\.csv, line 2: .*expected"):
        label_tracklets(crops, {"gate": {}, "plaza": truth_at((0, 8, 50))})
