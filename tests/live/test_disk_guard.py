"""A disk that fills up: pictures stop first, then sightings, searches go on; and all of it comes back."""

import contextlib
import errno
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from streets import FAST, street, until

from reid_mtda.errors import StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.thumbnails import Thumbnails
from reid_mtda.live.disk_guard import Disk, StorageLevel
from reid_mtda.live.system import LiveSystem


def free(monkeypatch: pytest.MonkeyPatch, mb: float) -> None:
    monkeypatch.setattr("reid_mtda.live.disk_guard.free_disk_mb", lambda folder: mb)


def finds_itself(gallery: Gallery) -> bool:
    number = int(gallery.numbers()[0])
    return gallery.search(gallery.vector(number), 1).hits[0].sighting_id == number


def test_pictures_are_given_up_before_sightings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk = Disk(lambda: tmp_path, pictures_mb=500, vectors_mb=200)
    for mb, level, words in (
        (501, StorageLevel.PICTURES, ""),
        (
            499,
            StorageLevel.VECTORS,
            "pictures are not stored, sightings are, searches go on while the audit can be written: 499 MB of disk",
        ),
        (199, StorageLevel.NOTHING, "sightings are not stored, searches go on while the audit can be written: 199 MB"),
        (900, StorageLevel.PICTURES, ""),
    ):
        free(monkeypatch, mb)
        disk.poll()
        assert disk.level is level
        assert words in disk.message and bool(words) == bool(disk.message)


def test_a_refused_write_counts_for_half_a_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 0.0
    free(monkeypatch, 1e6)  # a quota: the disk seems empty
    disk = Disk(lambda: tmp_path, pictures_mb=500, vectors_mb=200, clock=lambda: now)
    disk.refused(StorageLevel.PICTURES, StorageError("disk quota exceeded"))
    assert disk.poll() and disk.level is StorageLevel.VECTORS and "quota" in disk.message
    disk.refused(StorageLevel.VECTORS, StorageError("disk quota exceeded"))
    assert disk.poll() and disk.level is StorageLevel.NOTHING
    now = 29.0
    assert not disk.poll()
    now = 31.0
    assert disk.poll() and disk.level is StorageLevel.PICTURES and disk.message == ""


def test_writes_are_refused_while_somebody_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refusal told while the kept ones are gone through breaks nothing and is not forgotten."""
    free(monkeypatch, 1e6)
    workers: list[threading.Thread] = []
    disk = Disk(lambda: tmp_path, pictures_mb=500, vectors_mb=200, clock=lambda: 0.0)

    class Kept(dict):
        def items(self):
            for number, one in enumerate(super().items()):
                if not number:
                    workers.append(
                        threading.Thread(target=disk.refused, args=(StorageLevel.VECTORS, StorageError("full")))
                    )
                    workers[0].start()
                    workers[0].join(0.2)
                yield one

    disk._refusals = Kept({StorageLevel.PICTURES: (30.0, "disk quota exceeded")})
    disk.poll()
    workers[0].join(5)
    assert disk.poll() and disk.level is StorageLevel.NOTHING


def test_below_the_first_threshold_sightings_have_no_picture(make: Callable[..., LiveSystem]) -> None:
    settings = FAST.model_copy(update={"min_free_pictures_mb": 1e12})
    system = make(street("gate"), settings=settings)
    system.start()
    until(lambda: system.pool.states()["gate"].counts.without_picture >= 2)
    rows = system.gallery.sightings()
    assert len(rows) >= 2 and finds_itself(system.gallery)
    assert not any(row.thumbnail.exists() for row in list(rows.values())[1:])
    assert "pictures are not stored" in system.disk.message
    assert [e.detail["level"] for e in system.events.after(0) if e.kind == "disk"] == ["vectors"]


def test_below_the_second_nothing_is_stored_but_searched(make: Callable[..., LiveSystem]) -> None:
    system = make(street("gate"), settings=FAST.model_copy(update={"min_free_mb": 1e12}))
    system.start()
    until(lambda: system.disk.level is StorageLevel.NOTHING and system.pool.states()["gate"].counts.refused > 0)
    before = len(system.gallery)
    vector = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0]
    assert system.gallery.search(vector, 3).gallery_size == before
    assert "sightings are not stored, searches go on" in system.disk.message


def test_a_picture_that_no_longer_fits_costs_no_sighting(
    make: Callable[..., LiveSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Thumbnails, number: int, jpeg: bytes) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Thumbnails, "write", full)
    system = make(street("gate"))
    system.start()
    until(lambda: system.pool.states()["gate"].counts.without_picture >= 2)
    state = system.pool.states()["gate"]
    assert state.counts.failed == 0 and state.counts.sightings == state.counts.without_picture and state.fault == ""
    assert finds_itself(system.gallery)
    assert system.disk.level is StorageLevel.VECTORS and "No space left" in system.disk.message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here (needs root); run the tests as root to fill one up")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


def test_a_disk_that_is_really_full(make: Callable[..., LiveSystem], small_disk: Path) -> None:
    skew = 0.0
    settings = FAST.model_copy(update={"min_free_mb": 0.0, "min_free_pictures_mb": 0.0})
    system = make(
        street("gate", "market"),
        settings=settings,
        folder=small_disk / "gallery",
        clock=lambda: time.monotonic() + skew,
    )
    system.start()
    until(lambda: system.pool.states()["gate"].counts.sightings >= 2)
    ballast = small_disk / "ballast"
    fill_up(ballast)
    until(lambda: system.disk.level is StorageLevel.NOTHING)
    told = {e.detail["sighting_id"] for e in system.events.after(0) if e.kind == "sighting"}
    assert told <= set(system.gallery.sightings())
    assert finds_itself(system.gallery)
    assert "searches go on" in system.disk.message
    frames = system.pool.states()["gate"].counts.frames
    until(lambda: system.pool.states()["gate"].counts.frames > frames + 5)  # the cameras are still looked at

    ballast.unlink()
    skew = 60.0  # the patience after a refused write is over
    stored = system.pool.states()["gate"].counts.sightings
    until(lambda: system.pool.states()["gate"].counts.sightings > stored and system.disk.level is StorageLevel.PICTURES)
    rows = system.gallery.sightings()
    assert rows[max(rows)].thumbnail.is_file()
    system.stop()
    with Gallery.open(small_disk / "gallery") as gallery:
        assert set(rows) <= set(gallery.sightings())
