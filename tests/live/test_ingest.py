"""Frames in, sightings out; the same footage twice leaves one set of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.errors import GalleryError, ShapeError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.ingest import add_tracklet, ingest_camera, mean_embedding
from reid_mtda.model import Model
from reid_mtda.types import Detections, FloatArray, Frame, ImageArray, ModelManifest, Preprocess, Tracklet
from reid_mtda.vision.tracklets import TrackletBuilder
from reid_mtda.vision.video import FrameSource

SMALL = Preprocess(height=16, width=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CARD = ModelManifest("a1b2c3d4e5f6", "colours", 3, SMALL, "nothing")
RED, BLUE = (250, 5, 5), (5, 5, 250)


def embed(crops: FloatArray) -> FloatArray:
    """A model that sees the mean colour: (B, 3, 16, 8) -> (B, 3)."""
    rows = crops.mean(axis=(2, 3)) + np.float32(1.001)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


MODEL = Model(CARD, embed)


def frames(camera: str = "gate", count: int = 40, start_s: float = 1000.0) -> Iterator[Frame]:
    """A red and a blue rectangle walk past each other's rows; red leaves after half the time."""
    for index in range(count):
        image = np.full((120, 200, 3), 128, np.uint8)
        if index < count // 2:
            image[10:50, 10 + 2 * index : 30 + 2 * index] = RED
        image[70:110, 170 - 2 * index : 190 - 2 * index] = BLUE
        yield Frame(camera, index, start_s + index / 5, image)


def detect(image: ImageArray) -> Detections:
    """Everything red or blue is a person."""
    boxes = []
    for channel in (0, 2):
        ys, xs = np.nonzero(image[..., channel] > 200)
        if len(ys):
            boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))


def blind(image: ImageArray) -> Detections:
    return Detections.empty()


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "gallery", CARD) as opened:
        yield opened


def unit(colour: tuple[int, int, int]) -> FloatArray:
    return MODEL.embed(np.full((40, 20, 3), colour, np.uint8))[0]


def test_two_people_become_two_sightings(gallery: Gallery) -> None:
    told: list[tuple[str, int, int]] = []
    source = FrameSource(iter(frames()), is_live=False, expected=40)
    report = ingest_camera(
        source, detect, TrackletBuilder("gate"), MODEL, gallery, progress=lambda *step: told.append(step)
    )
    assert (report.camera, report.frames, report.detections) == ("gate", 40, 60)
    assert (report.tracklets, report.sightings, report.removed) == (2, 2, 0)
    assert (report.start_s, report.end_s) == (1000.0, pytest.approx(1007.8))
    assert told == [("index gate", done, 40) for done in range(1, 41)]
    assert len(gallery) == 2
    red = gallery.search(unit(RED), 1).hits[0]
    assert red.score > 0.99
    assert red.sighting.camera == "gate"
    assert 1000.0 <= red.sighting.start_s < red.sighting.end_s <= 1004.0
    blue = gallery.search(unit(BLUE), 1).hits[0]
    assert blue.sighting_id != red.sighting_id
    assert blue.sighting.end_s > 1007


def test_the_same_footage_again_changes_nothing(gallery: Gallery) -> None:
    ingest_camera(frames(), detect, TrackletBuilder("gate"), MODEL, gallery)
    before = gallery.sightings()
    again = ingest_camera(frames(), detect, TrackletBuilder("gate"), MODEL, gallery)
    assert (again.sightings, again.removed) == (2, 0)
    assert gallery.sightings() == before


def test_a_pass_with_other_settings_takes_the_place_of_the_first(gallery: Gallery) -> None:
    ingest_camera(frames(), detect, TrackletBuilder("gate"), MODEL, gallery)
    ingest_camera(frames("hall"), detect, TrackletBuilder("hall"), MODEL, gallery)
    ingest_camera(frames(start_s=5000.0), detect, TrackletBuilder("gate"), MODEL, gallery)
    # Sightings that only reach into the time of this footage are of other footage.
    for track, start_s in ((90, 990.0), (91, 1007.0)):
        gallery.add(unit(RED), "gate", track, start_s, start_s + 15, np.zeros((8, 8, 3), np.uint8))
    before = set(gallery.sightings())
    changed = TrackletBuilder("gate", first_track_id=50)
    report = ingest_camera(frames(), detect, changed, MODEL, gallery)
    assert (report.sightings, report.removed) == (2, 2)
    assert len(gallery) == 8
    assert len(before & set(gallery.sightings())) == 6
    assert len(gallery.sightings(Filter(["hall"]))) == 2
    assert len(gallery.sightings(Filter(["gate"], 4000.0))) == 2


def test_nobody_and_nothing_are_fine(gallery: Gallery) -> None:
    report = ingest_camera(frames(), blind, TrackletBuilder("gate"), MODEL, gallery)
    assert (report.frames, report.detections, report.tracklets, report.sightings) == (40, 0, 0, 0)
    empty = ingest_camera(iter(()), detect, TrackletBuilder("gate"), MODEL, gallery)
    assert (empty.frames, empty.sightings, empty.removed) == (0, 0, 0)
    assert np.isnan(empty.start_s)


def test_a_stopped_pass_keeps_what_it_found_and_the_next_mends_the_rest(gallery: Gallery) -> None:
    def stopped() -> Iterator[Frame]:
        for frame in frames(count=60):
            if frame.index == 45:
                raise KeyboardInterrupt
            yield frame

    with pytest.raises(KeyboardInterrupt):
        ingest_camera(stopped(), detect, TrackletBuilder("gate", lost_s=1.0), MODEL, gallery)
    assert len(gallery) == 1
    ingest_camera(frames(count=60), detect, TrackletBuilder("gate", lost_s=1.0), MODEL, gallery)
    assert len(gallery) == 2


def test_people_left_out_for_their_height_are_counted(gallery: Gallery) -> None:
    def partly(image: ImageArray) -> Detections:
        return replace(detect(image), too_low=1)

    report = ingest_camera(frames(), partly, TrackletBuilder("gate"), MODEL, gallery)
    assert (report.detections, report.too_low, report.sightings) == (60, 40, 2)


def test_another_model_is_refused_before_any_work(gallery: Gallery) -> None:
    other = ModelManifest("ffffffffffff", "colours", 3, SMALL, "nothing")
    with pytest.raises(GalleryError, match="was built with model a1b2c3d4e5f6, this is ffffffffffff"):
        ingest_camera(frames(), detect, TrackletBuilder("gate"), replace(MODEL, manifest=other), gallery)
    assert len(gallery) == 0


def test_a_frame_of_another_camera_is_refused(gallery: Gallery) -> None:
    with pytest.raises(ShapeError, match="frame 0: got one of camera 'hall', expected 'gate'"):
        ingest_camera(frames("hall"), detect, TrackletBuilder("gate"), MODEL, gallery)


def test_a_tracklet_is_the_direction_of_its_mean(gallery: Gallery) -> None:
    rows = np.array([[1, 0, 0], [0, 1, 0], [0.8, 0.6, 0]], np.float32)
    expected = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    np.testing.assert_allclose(mean_embedding(rows), expected, atol=1e-6)
    opposite = np.array([[1, 0, 0], [-1, 0, 0]], np.float32)
    np.testing.assert_array_equal(mean_embedding(opposite), opposite[0])
    with pytest.raises(ShapeError, match="embeddings of a tracklet: got none"):
        mean_embedding(rows[:0])
    # The middle one of the three is nearest the mean, so its picture is shown.
    crops = tuple(np.full((30 + 10 * i, 20, 3), 80 * i, np.uint8) for i in range(3))
    tracklet = Tracklet(
        "gate", 7, crops, np.zeros((3, 4), np.float32), np.arange(3), np.array([1.0, 2.0, 3.0]), 0.5, 3.5
    )
    number = add_tracklet(gallery, tracklet, rows)
    np.testing.assert_allclose(gallery.vector(number), expected, atol=1e-6)
    sighting = gallery.sightings()[number]
    assert (sighting.track_id, sighting.start_s, sighting.end_s) == (7, 0.5, 3.5)
    import cv2

    assert cv2.imread(str(sighting.thumbnail)).shape[:2] == (50, 20)
