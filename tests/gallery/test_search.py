"""A picture finds its person, whether it is a crop or a whole scene."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.errors import GalleryError, ImageError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.search import answer_to_json, is_blank, largest_person, search_picture
from reid_mtda.model import Model
from reid_mtda.types import Detections, FloatArray, ImageArray, ModelManifest, Preprocess
from reid_mtda.vision.preprocess import decode_image

SMALL = Preprocess(height=16, width=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CARD = ModelManifest("a1b2c3d4e5f6", "colours", 3, SMALL, "nothing")
COLOURS = {"gate": (250, 5, 5), "hall": (5, 250, 5), "yard": (5, 5, 250)}


def embed(crops: FloatArray) -> FloatArray:
    rows = crops.mean(axis=(2, 3)) + np.float32(1.001)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


MODEL = Model(CARD, embed)


def person(camera: str, height: int = 24, width: int = 12) -> ImageArray:
    return np.full((height, width, 3), COLOURS[camera], np.uint8)


def scene() -> ImageArray:
    """A small person in red on the left, a large one in blue that the right edge cuts."""
    image = np.full((100, 160, 3), 128, np.uint8)
    image[20:40, 10:20] = COLOURS["gate"]
    image[10:90, 130:160] = COLOURS["yard"]
    return image


def detect(image: ImageArray) -> Detections:
    return Detections(np.array([[10, 20, 20, 40], [129.6, 9.7, 171.2, 90.2]], np.float32), np.ones(2, np.float32))


def nobody(image: ImageArray) -> Detections:
    return Detections.empty()


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "gallery", CARD) as opened:
        for number, camera in enumerate(COLOURS):
            row = MODEL.embed(person(camera))[0]
            opened.add(row, camera, number, 100.0 * number, 100.0 * number + 7.25, person(camera))
        yield opened


@pytest.mark.parametrize("camera", list(COLOURS))
def test_a_crop_finds_its_person(gallery: Gallery, camera: str) -> None:
    answer = search_picture(person(camera), MODEL, gallery)
    assert answer.hits[0].sighting.camera == camera
    assert len(answer.hits) == 3
    assert answer.hits[0].score == pytest.approx(1, abs=1e-5)


def test_in_a_scene_the_largest_person_is_meant(gallery: Gallery) -> None:
    np.testing.assert_array_equal(largest_person(scene(), detect, CARD), scene()[9:91, 129:160])
    assert search_picture(scene(), MODEL, gallery, detect, 1).hits[0].sighting.camera == "yard"


def test_a_picture_without_people_is_taken_whole_and_that_is_said(
    gallery: Gallery, caplog: pytest.LogCaptureFixture
) -> None:
    assert largest_person(scene(), nobody, CARD) is None
    assert len(search_picture(scene(), MODEL, gallery, nobody).hits) == 3
    assert "no person was found in it" in caplog.text


@pytest.mark.parametrize("size", [(20, 10), (128, 64), (480, 640), (2, 2000)])
def test_a_bare_wall_is_blank_and_somebody_before_it_is_not(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    light = 90 + 80 * rows / size[0] + 40 * columns / size[1] + np.random.default_rng(0).normal(0, 4, size)
    wall = np.clip(light[..., None] * [1.0, 0.9, 0.8], 0, 255).astype(np.uint8)
    assert is_blank(wall)
    if size[0] > 20:
        wall[size[0] // 4 :, size[1] // 3 : 2 * size[1] // 3] //= 2
        assert not is_blank(wall)


@pytest.mark.data
def test_no_crop_of_a_real_person_is_blank(data_folder: Path) -> None:
    for name in ("market1501_six_cameras", "cuhk03_two_cameras", "prid", "caviar4reid"):
        with np.load(data_folder / "reid" / f"{name}.npz", allow_pickle=False) as stored:
            buf, off = stored["buf"], stored["off"]
        for i in range(0, len(off) - 1, 40):
            assert not is_blank(decode_image(buf[off[i] : off[i + 1]].tobytes(), where=f"{name} {i}")), (name, i)


def test_a_crop_is_not_cut_again(gallery: Gallery) -> None:
    def must_not_run(image: ImageArray) -> Detections:
        raise AssertionError("a crop needs no detector")

    assert search_picture(person("hall"), MODEL, gallery, must_not_run, 1).hits[0].sighting.camera == "hall"


def test_filters_reach_the_gallery(gallery: Gallery) -> None:
    def cameras(k: int = 10, **filters: object) -> list[str]:
        answer = search_picture(person("gate"), MODEL, gallery, k=k, where=Filter(**filters))  # type: ignore[arg-type]
        return sorted(hit.sighting.camera for hit in answer.hits)

    assert cameras(cameras=["hall", "yard"]) == ["hall", "yard"]
    assert cameras(start_s=107.25) == ["hall", "yard"]
    assert cameras(end_s=99.0) == ["gate"]
    assert cameras(min_score=0.99) == ["gate"]
    assert cameras(k=2, cameras=[]) == []


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((1, 1, 3), np.uint8), "too small, got 1x1 px"),
        (np.broadcast_to(np.uint8(0), (30_000, 30_000, 3)), "too large, got 30000x30000 px"),
    ],
)
def test_pictures_out_of_bounds_are_refused(gallery: Gallery, picture: ImageArray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        search_picture(picture, MODEL, gallery)


def test_another_model_is_refused(gallery: Gallery) -> None:
    other = ModelManifest("ffffffffffff", "colours", 3, SMALL, "nothing")
    with pytest.raises(GalleryError, match="was built with model a1b2c3d4e5f6, this is ffffffffffff"):
        search_picture(person("gate"), replace(MODEL, manifest=other), gallery)


def test_an_answer_as_json(gallery: Gallery) -> None:
    value = json.loads(json.dumps(answer_to_json(search_picture(person("hall"), MODEL, gallery, k=1))))
    (hit,) = value.pop("hits")
    assert value == {"model_id": "a1b2c3d4e5f6", "gallery_size": 3}
    assert hit.pop("score") == pytest.approx(1, abs=1e-5)
    assert Path(hit.pop("thumbnail")).is_file()
    assert hit == {
        "rank": 1,
        "sighting_id": 2,
        "camera": "hall",
        "track_id": 1,
        "start_s": 100.0,
        "end_s": 107.25,
        "start": "1970-01-01T00:01:40.000Z",
        "end": "1970-01-01T00:01:47.250Z",
    }
