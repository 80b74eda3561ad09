"""Types refuse what they do not promise, by name, and take the empty case as a value."""

from pathlib import Path

import numpy as np
import pytest

from reid_mtda.errors import ShapeError
from reid_mtda.types import (
    Detections,
    Frame,
    IdentitySet,
    LabelledSet,
    Preprocess,
    Tracklet,
    UnlabelledSet,
    check_array,
)

CROP = np.zeros((20, 10, 3), np.uint8)


def tracklet(**changes):
    fields = {
        "camera": "gate",
        "track_id": 4,
        "crops": (CROP, CROP),
        "xyxy": np.zeros((2, 4), np.float32),
        "frame_index": np.arange(2),
        "time_s": np.array([1.0, 3.0]),
    }
    return Tracklet(**{**fields, **changes})


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([1, 2], r"box: got list, expected a NumPy array of float32"),
        (np.zeros(4), r"box: got float64 \(4,\), expected float32 \(any, 4\)"),
        (np.zeros((2, 5), np.float32), r"box: got float32 \(2, 5\), expected float32 \(any, 4\)"),
    ],
)
def test_check_array_names_what_it_got(array, message):
    with pytest.raises(ShapeError, match=message):
        check_array("box", array, np.float32, (None, 4))


def test_no_people_is_a_value():
    assert len(Detections.empty()) == 0 and Detections.empty().xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"xyxy": np.zeros((2, 4))}, r"Detections\.xyxy: got float64"),
        ({"score": np.zeros(3, np.float32)}, r"Detections\.score: got float32 \(3,\), expected float32 \(2\)"),
        ({"track_id": np.zeros(2, np.int32)}, r"Detections\.track_id: got int32"),
    ],
)
def test_detections_refuse(fields, message):
    good = {"xyxy": np.zeros((2, 4), np.float32), "score": np.zeros(2, np.float32)}
    with pytest.raises(ShapeError, match=message):
        Detections(**{**good, **fields})


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "picture"])
def test_a_frame_is_a_colour_picture(image):
    with pytest.raises(ShapeError, match=r"Frame 3 of camera 'gate': got"):
        Frame("gate", 3, 0.0, image)


def test_a_tracklet_knows_when_it_was_seen():
    assert (tracklet().start_s, tracklet().end_s) == (1.0, 3.0)
    assert (tracklet(start_s=0.5, end_s=9.0).start_s, tracklet(start_s=0.5, end_s=9.0).end_s) == (0.5, 9.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crops": ()}, r"Tracklet 4 of camera 'gate': got no crops"),
        ({"crops": (CROP, CROP[..., 0])}, r"Tracklet 4 of camera 'gate': got uint8 \(20, 10\)"),
        ({"xyxy": np.zeros((1, 4), np.float32)}, r"xyxy: got float32 \(1, 4\)"),
        ({"frame_index": np.arange(2, dtype=np.int32)}, r"frame_index: got int32"),
        ({"time_s": np.array([3.0, 1.0])}, r"crops are not in time order"),
    ],
)
def test_a_tracklet_refuses(changes, message):
    with pytest.raises(ShapeError, match=message):
        tracklet(**changes)


def test_labels_stay_in_range():
    paths = (Path("a"), Path("b"))
    assert len(LabelledSet(paths, np.array([0, 1]), 2, "lab")) == 2
    with pytest.raises(ShapeError, match=r"LabelledSet 'lab': labels out of range, got 0\.\.2, expected 0\.\.1"):
        LabelledSet(paths, np.array([0, 2]), 2, "lab")
    with pytest.raises(ShapeError, match=r"labels out of range, got -1\.\.0"):
        LabelledSet(paths, np.array([-1, 0]), 2, "lab")
    with pytest.raises(ShapeError, match=r"camids: got int64 \(1,\)"):
        LabelledSet(paths, np.array([0, 1]), 2, "lab", camids=np.array([0]))


def test_the_unlabelled_target_has_no_place_for_a_label():
    assert set(UnlabelledSet.__dataclass_fields__) == {"paths", "domain", "tracklets", "cameras", "spans", "site"}
    with pytest.raises(ShapeError, match=r"UnlabelledSet 'gate', tracklets: got int64 \(2,\), expected int64 \(1\)"):
        UnlabelledSet((Path("a"),), "gate", np.array([1, 2]))
    with pytest.raises(ShapeError, match=r"UnlabelledSet 'gate', cameras: got int32 \(1,\), expected int64 \(1\)"):
        UnlabelledSet((Path("a"),), "gate", cameras=np.array([1], np.int32))
    with pytest.raises(ShapeError, match=r"UnlabelledSet 'gate', spans: got float64 \(2,\), expected float64 \(1, 2\)"):
        UnlabelledSet((Path("a"),), "gate", spans=np.zeros(2))


def test_identity_sets_are_of_one_length():
    with pytest.raises(ShapeError, match=r"IdentitySet\.camids: got int64 \(2,\), expected int64 \(1\)"):
        IdentitySet((Path("a"),), np.array([1]), np.array([1, 2]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"height": 4}, r"got size 4x128, expected 8\.\.2048"),
        ({"std": (1.0, 0.0, 1.0)}, r"std .* expected three numbers > 0"),
        ({"channels": "GRB"}, r"got channels 'GRB'"),
    ],
)
def test_preprocess_refuses(fields, message):
    with pytest.raises(ShapeError, match=message):
        Preprocess(**fields)


def test_types_are_frozen():
    with pytest.raises(AttributeError):
        Preprocess().height = 3
