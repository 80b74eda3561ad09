"""Crops kept to adapt to: only where opted in, bounded, gone with their sightings, whole after a kill."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streets import FAST, street, until

from reid_mtda.camera_settings import Camera
from reid_mtda.data.crop_table import read_crop_table, write_crop_table
from reid_mtda.data.reid import load_folder
from reid_mtda.errors import StorageError
from reid_mtda.live.crop_store import CropStore
from reid_mtda.live.system import LiveSystem
from reid_mtda.types import Tracklet


def tracklet(number: int, camera: str = "gate", time_s: float | None = None, crops: int = 3) -> Tracklet:
    pictures = tuple(np.full((32, 16, 3), 20 * number % 255, np.uint8) for _ in range(crops))
    times = np.arange(crops) + (100.0 * number if time_s is None else time_s)
    boxes = np.tile(np.array([1, 2, 17, 34], np.float32), (crops, 1))
    return Tracklet(camera, number, pictures, boxes, np.arange(crops, dtype=np.int64), times)


def standing(folder: Path, camera: str = "gate") -> dict[str, int]:
    """What an adaptation reads: crops by tracklet; reading refuses a table that is not true."""
    found = load_folder(folder)[camera]
    return {str(track): int(np.sum(found.tracklets == track)) for track in np.unique(found.tracklets)}


def test_kept_as_a_harvest_writes_them_and_the_oldest_go(tmp_path: Path) -> None:
    kept = CropStore(tmp_path, tracklets_each=3)
    for number in range(1, 6):
        kept.take(tracklet(number))
        kept.take(tracklet(number, "plaza"))
    assert standing(tmp_path) == {"3": 3, "4": 3, "5": 3}
    assert kept.count() == {"gate": 9, "plaza": 9}
    assert (tmp_path / "gate").stat().st_mode & 0o077 == 0
    assert CropStore(tmp_path, 3).count() == kept.count()


def test_erased_grown_old_or_opted_out(tmp_path: Path) -> None:
    kept = CropStore(tmp_path, 100)
    for number in range(1, 6):
        kept.take(tracklet(number))
        kept.take(tracklet(number, "plaza"))
    assert kept.forget("gate", [2, 77]) == 3 and kept.forget("nowhere", [2]) == 0
    assert kept.forget_before("gate", 400.0) == 6
    assert standing(tmp_path) == {"4": 3, "5": 3} and len(standing(tmp_path, "plaza")) == 5
    assert kept.keep_only({"gate"}) == 15
    assert kept.count() == {"gate": 6} and not (tmp_path / "plaza").exists()


def test_whole_again_after_a_kill(tmp_path: Path) -> None:
    kept = CropStore(tmp_path, 100)
    for number in (1, 2):
        kept.take(tracklet(number))
    gate = tmp_path / "gate"
    (gate / "000009_000000.jpg").write_bytes(b"never listed")
    (gate / "000001_000001.jpg").unlink()
    assert CropStore(tmp_path, 100).count() == {"gate": 5}
    assert standing(tmp_path) == {"1": 2, "2": 3}
    for damage in ("file,tracklet\nx.jpg\n", "", "\0"):
        (gate / "crops.csv").write_text(damage)
        assert CropStore(tmp_path, 100).count() == {"gate": 0}
        assert not any(gate.glob("*.jpg"))
        CropStore(tmp_path, 100).take(tracklet(7))
        assert standing(tmp_path) == {"7": 3}


def test_a_table_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    negative = tmp_path / "precious.jpg"
    negative.write_bytes(b"not ours")
    CropStore(tmp_path / "crops", 100).take(tracklet(1))
    rows = read_crop_table(tmp_path / "crops" / "gate")
    write_crop_table(tmp_path / "crops" / "gate", [{**rows[0], "file": "../../precious.jpg"}])
    CropStore(tmp_path / "crops", 100).forget("gate", [1])
    assert negative.read_bytes() == b"not ours"


def test_a_full_disk_keeps_what_was_there_and_still_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = CropStore(tmp_path, 2)
    kept.take(tracklet(1))
    kept.take(tracklet(2))

    def full(*_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr("reid_mtda.live.crop_store.write_crop_table", full)
    with pytest.raises(StorageError, match=r"could not be kept .*no space left"):
        kept.take(tracklet(3))
    assert standing(tmp_path) == {"1": 3, "2": 3}
    assert kept.forget("gate", [1]) == 3
    assert sorted(path.name[:6] for path in (tmp_path / "gate").glob("*.jpg")) == ["000002"] * 3
    monkeypatch.undo()
    kept.take(tracklet(3))
    assert standing(tmp_path) == {"2": 3, "3": 3}


def test_the_service_keeps_crops_of_the_camera_opted_in_alone(make: Callable[..., LiveSystem], tmp_path: Path) -> None:
    crops = tmp_path / "state" / "crops"
    cameras = {**street("market"), "gate": street("gate")["gate"].model_copy(update={"keep_for_adaptation": True})}
    system = make(cameras, crops=crops)
    system.start()
    until(lambda: all(state.counts.sightings >= 3 for state in system.pool.states().values()))
    system.pool.pause("gate")
    until(lambda: system.pool.states()["gate"].pending == 0)
    system.stop()
    assert [path.name for path in crops.iterdir()] == ["gate"]
    rows = [row for row in read_crop_table(crops / "gate")]
    sightings = {e.detail["track_id"] for e in system.events.after(0) if e.kind == "sighting" and e.camera == "gate"}
    assert {int(row["tracklet"]) for row in rows} == sightings


def test_retention_reaches_them(make: Callable[..., LiveSystem], tmp_path: Path) -> None:
    crops, now = tmp_path / "crops", time.time()
    CropStore(crops, 10).take(tracklet(1, "left"))
    camera = Camera(url="synthetic://street?camera=gate", retention_days=1.0, keep_for_adaptation=True)
    system = make({"gate": camera}, crops=crops)
    assert system.kept is not None
    system.kept.take(tracklet(1, time_s=now - 90_000))
    system.kept.take(tracklet(2, time_s=now - 100))
    system.expire_sightings()
    assert standing(crops) == {"2": 3} and not (crops / "left").exists()


def test_crops_stay_as_long_as_their_sighting(make: Callable[..., LiveSystem], tmp_path: Path) -> None:
    """Of a recording: seen long ago, come in just now."""
    camera = Camera(url="synthetic://street?camera=gate", retention_days=1.0, keep_for_adaptation=True)
    system = make({"gate": camera}, crops=tmp_path / "crops")
    vector, seen = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0], time.time() - 900_000
    number = system.gallery.add(vector, "gate", 1, seen, seen + 5, None)
    assert system.kept is not None
    system.kept.take(tracklet(1, time_s=seen))
    system.expire_sightings(accept=True)
    assert standing(tmp_path / "crops") == {"1": 3}
    system.gallery.delete([number])
    system.gallery.add(vector, "gate", 1, seen, seen + 5, None, added_s=seen)
    assert system.expire_sightings(accept=True) == {"gate": 1}
    assert standing(tmp_path / "crops") == {}


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    kept = CropStore(tmp_path / "crops", 10)
    kept.take(tracklet(1))
    part = tmp_path / "crops" / "gate" / ".crops.csv.ab12.part.csv"
    part.write_text("7,gone since")
    CropStore(tmp_path / "crops", 10)
    assert not part.exists() and standing(tmp_path / "crops") == {"1": 3}


def test_no_crops_are_kept_while_the_disk_fills_up(make: Callable[..., LiveSystem], tmp_path: Path) -> None:
    camera = street("gate")["gate"].model_copy(update={"keep_for_adaptation": True})
    settings = FAST.model_copy(update={"min_free_pictures_mb": 1e12})
    system = make({"gate": camera}, crops=tmp_path / "crops", settings=settings)
    system.disk.poll()
    system.start()
    until(lambda: system.pool.states()["gate"].counts.without_picture >= 2)
    assert system.kept is not None and system.kept.count() == {}
