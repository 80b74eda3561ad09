"""A gallery's files: of version 0.1, emptied, removed while open, and read by others while something is deleted."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.errors import GalleryError, StorageError
from reid_mtda.gallery.gallery import Gallery

DIM, MODEL = 16, "a1b2c3d4e5f6"
VECTORS = np.eye(DIM, dtype=np.float32)
PICTURE = np.zeros((40, 20, 3), np.uint8)
# As version 0.1 made its galleries.
SCHEMA_1 = """
CREATE TABLE meta (model_id TEXT NOT NULL, dim INTEGER NOT NULL, changes INTEGER NOT NULL);
CREATE TABLE sightings (
    id INTEGER PRIMARY KEY AUTOINCREMENT, camera TEXT NOT NULL, track_id INTEGER NOT NULL, start_s REAL NOT NULL,
    end_s REAL NOT NULL, vector BLOB NOT NULL, UNIQUE (camera, track_id, start_s)
);
CREATE INDEX by_camera_and_time ON sightings (camera, start_s, end_s);
CREATE INDEX by_time ON sightings (start_s, end_s);
CREATE TABLE doomed (id INTEGER PRIMARY KEY);
CREATE INDEX by_camera ON sightings (camera);
PRAGMA application_id = 0x52654964;
PRAGMA user_version = 1;
"""


def gallery_of_0_1(folder: Path, rows: int = 4) -> None:
    (folder / "thumbnails" / "0").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA_1)
        connection.execute("INSERT INTO meta VALUES (?, ?, ?)", (MODEL, DIM, rows))
        for number in range(rows):
            connection.execute(
                "INSERT INTO sightings (camera, track_id, start_s, end_s, vector) VALUES ('gate', ?, ?, ?, ?)",
                (number, 100.0 * number, 100.0 * number + 5, VECTORS[number].tobytes()),
            )
            (folder / "thumbnails" / "0" / f"{number + 1}.jpg").write_bytes(b"jpeg")


def test_a_gallery_of_0_1_is_carried_over(tmp_path: Path) -> None:
    gallery_of_0_1(tmp_path)
    for _ in range(2):
        with Gallery.open(tmp_path, MODEL, DIM) as gallery:
            rows = gallery.sightings()
            assert [row.track_id for row in rows.values()] == [0, 1, 2, 3]
            assert all(row.added_s is None and row.thumbnail.read_bytes() == b"jpeg" for row in rows.values())
            assert gallery.search(VECTORS[2], k=1).hits[0].sighting.track_id == 2
            # When they came in is not known: their end counts.
            assert list(gallery.due("gate", 105.1)) == [1, 2] and gallery.count_due("gate", 1e9) == 4
    with Gallery.open(tmp_path, MODEL, DIM) as gallery:
        new = gallery.add(VECTORS[5], "gate", 9, 50.0, 55.0, PICTURE)
        assert list(gallery.due("gate", 1e9)) == [1, 2, 3, 4] and gallery.delete([2]) == (2,)
        assert abs((gallery.lookup([new])[new].added_s or 0) - time.time()) < 60
    with contextlib.closing(sqlite3.connect(tmp_path / "gallery.sqlite")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_gallery_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Gallery.open(tmp_path / "g", MODEL, DIM).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "g" / "gallery.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(GalleryError, match="got gallery format 3, expected 1 to 2"):
        Gallery.open(tmp_path / "g", MODEL, DIM)


def test_one_that_takes_anothers_place_came_in_when_that_did(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g", MODEL, DIM) as gallery:
        gallery.add(VECTORS[0], "gate", 1, 10.0, 15.0, PICTURE, added_s=500.0)
        again = gallery.add(VECTORS[1], "gate", 1, 10.0, 16.0, PICTURE)  # indexed again with other settings
        assert gallery.lookup([again])[again].added_s == 500.0


@pytest.mark.parametrize("has_pictures", [True, False])
def test_an_emptied_gallery_is_damage_and_no_new_one(tmp_path: Path, has_pictures: bool) -> None:
    folder = tmp_path / "g"
    with Gallery.open(folder, MODEL, DIM) as gallery:
        gallery.add(VECTORS[0], "gate", 1, 10.0, 15.0, PICTURE if has_pictures else None)
    (folder / "gallery.sqlite").write_bytes(b"")
    for arguments in ((MODEL, DIM), (None, None)):
        with pytest.raises(GalleryError, match="0 bytes"):
            Gallery.open(folder, *arguments)


def test_a_kill_while_a_gallery_is_made_leaves_none_and_the_next_start_makes_it(tmp_path: Path) -> None:
    part = tmp_path / ".gallery.sqlite.123.part"
    part.write_bytes(b"half")
    os.utime(part, (1e9, 1e9))
    with Gallery.open(tmp_path, MODEL, DIM) as gallery:
        assert len(gallery) == 0
    assert not part.exists()


def test_nothing_is_written_to_a_gallery_whose_file_went(tmp_path: Path) -> None:
    gallery = Gallery.open(tmp_path / "g", MODEL, DIM)
    (tmp_path / "g" / "gallery.sqlite").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="removed or replaced"):
        gallery.add(VECTORS[0], "gate", 1, 10.0, 15.0, PICTURE)
    gallery.close()


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("gallery.sqlite*"))


def test_what_a_foreign_reader_keeps_on_the_disk_is_told_and_removed_later(tmp_path: Path) -> None:
    vector = np.random.default_rng(0).normal(size=DIM).astype(np.float32)
    vector /= np.linalg.norm(vector)
    with Gallery.open(tmp_path / "g", MODEL, DIM) as gallery:
        gallery.add(VECTORS[0], "gate", 1, 10.0, 15.0, PICTURE)
        number = gallery.add(vector, "gate", 2, 20.0, 25.0, PICTURE)
        reader = sqlite3.connect(tmp_path / "g" / "gallery.sqlite", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sightings").fetchone()
        began = time.monotonic()
        assert gallery.delete([number]) == (number,)
        assert time.monotonic() - began < 5  # it does not wait for the reader
        assert "another process reads" in gallery.left_of_deleted and vector.tobytes() in bytes_of(tmp_path / "g")
        assert "another process reads" in gallery.finish_deleting()
        reader.close()
        assert gallery.finish_deleting() == "" == gallery.left_of_deleted
        assert vector.tobytes() not in bytes_of(tmp_path / "g")


def test_a_picture_that_cannot_be_removed_is_told_and_removed_later(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g", MODEL, DIM) as gallery:
        number = gallery.add(VECTORS[0], "gate", 1, 10.0, 15.0, PICTURE)
        thumbnail = gallery.lookup([number])[number].thumbnail
        thumbnail.unlink()
        thumbnail.mkdir()  # stands for a disk that refuses
        assert gallery.delete([number]) == (number,) and len(gallery) == 0
        assert str(thumbnail) in gallery.left_of_deleted
        thumbnail.rmdir()
        assert gallery.finish_deleting() == ""


def test_an_open_gallery_that_was_left_unfinished_finishes_at_the_next_start(tmp_path: Path) -> None:
    gallery = Gallery.open(tmp_path / "g", MODEL, DIM)
    number = gallery.add(VECTORS[3], "gate", 1, 10.0, 15.0, PICTURE)
    reader = sqlite3.connect(tmp_path / "g" / "gallery.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sightings").fetchone()
    gallery.delete([number])
    again = Gallery.open(tmp_path / "g", MODEL, DIM)
    assert "another process reads" in again.left_of_deleted
    reader.close()
    assert again.finish_deleting() == ""
    again.close(), gallery.close()
