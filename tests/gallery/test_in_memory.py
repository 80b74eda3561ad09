"""A gallery as a script uses it: many rows at once, in memory or on disk, asked with pictures, lists and float64."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid_mtda.errors import GalleryError, ImageError, ShapeError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import Model
from reid_mtda.types import ModelManifest, Preprocess

SMALL = Preprocess(16, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def colours(crops: np.ndarray) -> np.ndarray:
    rows = crops.mean(axis=(2, 3)) + np.float32(1.001)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


MODEL = Model(ModelManifest("a1b2c3d4e5f6", "colours", 3, SMALL, "nothing"), colours)


def person(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((24, 12, 3), (red, green, blue), np.uint8)


PEOPLE = [person(250, 5, 5), person(5, 250, 5), person(5, 5, 250)]


@pytest.fixture(params=["on disk", "in memory"])
def gallery(request: pytest.FixtureRequest, tmp_path: Path) -> Gallery:
    return Gallery.open(tmp_path / "gallery", MODEL) if request.param == "on disk" else Gallery.in_memory(MODEL)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, PEOPLE, strict=True):
        cv2.imwrite(str(path), picture[..., ::-1])
    return paths


def test_pictures_are_added_and_found_as_a_script_writes_it(gallery: Gallery, files: list[Path]) -> None:
    before = time.time()
    numbers = gallery.add_many(MODEL.embed(files), camera="gate", pictures=files)
    assert numbers.tolist() == [1, 2, 3] and len(gallery) == 3
    for query in (str(files[1]), files[1], PEOPLE[1], MODEL.embed(files[1]), MODEL.embed(files[1])[0].tolist()):
        assert gallery.search(query, k=1).hits[0].sighting_id == 2
    rows = gallery.sightings()
    assert [row.track_id for row in rows.values()] == [0, 1, 2]
    assert all(before <= row.start_s == row.end_s <= time.time() for row in rows.values())
    assert all(row.thumbnail.is_file() for row in rows.values())
    assert not gallery.search(files[0], where=Filter(cameras=["hall"])).hits
    again = gallery.add_many(MODEL.embed(PEOPLE), camera=["hall", "hall", "gate"], start_s=[1, 2, 3], end_s=9)
    assert [row.track_id for row in gallery.lookup(again).values()] == [3, 4, 5]
    assert gallery.count(Filter(["hall"], end_s=1.5)) == 1
    place = gallery.folder
    gallery.close()
    assert place.exists() == (place.name == "gallery")


def test_rows_of_one_call_may_replace_what_is_there_and_each_other(gallery: Gallery) -> None:
    rows = MODEL.embed(PEOPLE)
    first = gallery.add(rows[0].astype(np.float64), "gate", 0, 1.0, 2.0, PEOPLE[0])
    given = {"track_ids": [0, 1, 1, 0], "start_s": [1.0, 5.0, 5.0, 1.0], "end_s": [2.0, 6.0, 6.0, 2.0]}
    numbers = gallery.add_many(rows[[0, 1, 2, 0]], "gate", **given)
    assert numbers[0] == numbers[3] == first and numbers[1] == numbers[2] and len(gallery) == 2
    assert gallery.search(rows[2], 1).hits[0].sighting_id == numbers[1]
    assert gallery.search(rows[1], 1).hits[0].score < 0.99
    assert gallery.add_many(rows[[0, 2]], "gate", track_ids=[0, 1], start_s=[1, 5], end_s=[2, 6]).tolist() == [
        first,
        numbers[1],
    ]
    assert gallery.add_many([], "gate").tolist() == [] and gallery.add_many(rows[0], "gate").shape == (1,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"camera": ["gate"]}, GalleryError, "got 1 of camera for 3 vectors, expected as many"),
        ({"track_ids": [1, 2]}, GalleryError, "got 2 of track_ids for 3 vectors"),
        ({"pictures": PEOPLE[:2]}, GalleryError, "got 2 of pictures for 3 vectors"),
        ({"start_s": [1, 2]}, GalleryError, r"got start_s \(2,\) for 3 vectors, expected one or as many"),
        ({"start_s": 5, "end_s": [6, 4, 6]}, GalleryError, "got a sighting from 5.0 to 4.0, expected start <= end"),
        ({"pictures": [PEOPLE[0], "nowhere.jpg", None]}, ImageError, r"nowhere\.jpg: no such file"),
        ({"pictures": [PEOPLE[0], PEOPLE[1] / 255, None]}, ShapeError, "got float64"),
    ],
)
def test_a_refused_row_adds_none(gallery: Gallery, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        gallery.add_many(MODEL.embed(PEOPLE), **{"camera": "gate", **arguments})
    assert len(gallery) == 0 and not list(gallery.folder.rglob("*.jpg"))


def test_a_picture_needs_the_model(tmp_path: Path, files: list[Path]) -> None:
    with (
        Gallery.open(tmp_path / "gallery", MODEL.manifest) as gallery,
        pytest.raises(GalleryError, match=r"got a picture to search for, but no model: open the gallery with load_mod"),
    ):
        gallery.search(files[0])


KILLED = """
import sys, numpy as np, os
from reid_mtda.gallery.gallery import Gallery
gallery = Gallery.open(sys.argv[1], "a1b2c3d4e5f6", 3)
class Slow(list):
    def __iter__(self):
        for n in range(len(self)):
            if n == 1500:
                print("half", flush=True)
                import time; time.sleep(60)
            yield np.zeros((8, 8, 3), np.uint8)
gallery.add_many(np.tile(np.array([1, 0, 0]), (2000, 1)), "gate", pictures=Slow([None] * 2000))
"""


def test_a_kill_within_leaves_nothing_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(folder.rglob("*.jpg"))) == 1500
    with Gallery.open(folder, MODEL) as gallery:
        assert len(gallery) == 0 and not list(folder.rglob("*.jpg"))
        number = gallery.add(MODEL.embed(PEOPLE[0])[0], "gate", 0, 1.0, 2.0)
        assert not gallery.lookup([number])[number].thumbnail.exists()


def test_ten_thousand_rows_take_one_transaction(gallery: Gallery) -> None:
    rows = np.random.default_rng(0).normal(size=(10_000, 3))
    began = time.perf_counter()
    numbers = gallery.add_many(rows / np.linalg.norm(rows, axis=1, keepdims=True), "gate")
    assert time.perf_counter() - began < 5  # one flush a row takes minutes
    assert len(gallery) == 10_000 and gallery._store.changes() == 1
    assert gallery.search(gallery.vector(int(numbers[77])), 1).hits[0].score > 0.9999


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None, True, np.float64(2)])
def test_how_many_is_an_integer(gallery: Gallery, k: object) -> None:
    with pytest.raises(GalleryError, match=r"got k = .*, expected an integer, 1 or more"):
        gallery.search([1.0, 0.0, 0.0], k=k)  # type: ignore[arg-type]


def test_an_integer_of_any_kind_is_one(gallery: Gallery) -> None:
    gallery.add_many(np.eye(3, dtype=np.float32), camera="gate")
    assert len(gallery.search([1.0, 0.0, 0.0], k=np.int64(2)).hits) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "  ", "../a", "a/b", "a\\b", "a\nb", None, 5])
def test_what_is_no_cameras_name_is_refused(gallery: Gallery, name: object) -> None:
    with pytest.raises(GalleryError, match="got a camera called"):
        gallery.add_many(np.eye(3, dtype=np.float32), camera=["gate", name, "gate"])  # type: ignore[list-item]
    assert len(gallery) == 0
