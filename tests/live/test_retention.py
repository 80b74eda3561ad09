"""Nothing is deleted that nobody asked to delete: clocks that run ahead, pasts that nobody saw, late footage."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import StorageError
from reid_mtda.live.clock_watch import ClockWatch
from reid_mtda.live.settings import LiveSettings
from reid_mtda.live.system import LiveSystem

DAY_S = 86400.0
CAMERAS = {"gate": Camera(url="synthetic://street?camera=gate&duration=40", retention_days=30.0)}


class Clocks:
    """A wall clock that somebody sets, and a steady one."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = 1.8e9, 50.0

    def go_on(self, seconds: float, *, ahead: float = 0.0) -> None:
        self.wall_s, self.steady_s = self.wall_s + seconds + ahead, self.steady_s + seconds

    def watch(self, file: Path | None) -> ClockWatch:
        return ClockWatch(lambda: self.wall_s, lambda: self.steady_s, file)


def test_a_start_far_beyond_the_last_time_is_doubted_until_somebody_says_yes(tmp_path: Path) -> None:
    clocks, file = Clocks(), tmp_path / "clock.json"
    assert clocks.watch(file).poll() == ""
    clocks.go_on(60, ahead=40 * DAY_S)
    assert "960.0 hours ahead" in clocks.watch(file).poll()
    for _ in range(40):  # neither restarts nor time make it believed
        clocks.go_on(DAY_S)
        watch = clocks.watch(file)
        assert "hours ahead" in watch.poll()
        clocks.go_on(DAY_S)
        assert "hours ahead" in watch.poll()
    watch.accept()
    assert watch.poll() == "" and clocks.watch(file).poll() == ""


def test_a_clock_that_is_set_right_is_believed_at_once(tmp_path: Path) -> None:
    clocks, file = Clocks(), tmp_path / "clock.json"
    clocks.watch(file).poll()
    clocks.go_on(0, ahead=40 * DAY_S)
    watch = clocks.watch(file)
    assert watch.poll()
    clocks.go_on(300, ahead=-40 * DAY_S)
    assert watch.poll() == ""


@pytest.mark.parametrize(("off_days", "is_doubted"), [(0.9, False), (3.0, True)])
def test_a_service_that_was_off(tmp_path: Path, off_days: float, is_doubted: bool) -> None:
    clocks, file = Clocks(), tmp_path / "clock.json"
    clocks.watch(file).poll()
    clocks.go_on(0, ahead=off_days * DAY_S)
    watch = clocks.watch(file)
    assert bool(watch.poll()) == is_doubted
    clocks.go_on(0.6 * DAY_S)
    assert bool(watch.poll()) == is_doubted
    watch = clocks.watch(file)  # the day goes on over a restart
    clocks.go_on(0.5 * DAY_S)
    assert watch.poll() == ""


def test_a_doubt_of_hours_survives_a_restart(tmp_path: Path) -> None:
    clocks, file = Clocks(), tmp_path / "clock.json"
    watch = clocks.watch(file)
    watch.poll()
    clocks.go_on(60, ahead=5 * 3600)
    assert watch.poll()
    clocks.go_on(60)
    assert watch.poll() and clocks.watch(file).poll()


def test_a_clock_not_set_yet_makes_no_doubt_once_it_is(tmp_path: Path) -> None:
    """A small machine begins in 1970 until the network tells it the time."""
    clocks, file = Clocks(), tmp_path / "clock.json"
    clocks.watch(file).poll()
    now_s, clocks.wall_s = clocks.wall_s + 600, 0.0
    watch = clocks.watch(file)
    assert watch.poll() == ""
    clocks.steady_s, clocks.wall_s = clocks.steady_s + 60, now_s
    assert watch.poll() == ""


def test_a_damaged_time_file_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "clock.json").write_text("{")
    assert Clocks().watch(tmp_path / "clock.json").poll() == ""


def add(system: LiveSystem, track_id: int, *, seen_days: float, came_days: float, camera: str = "gate") -> int:
    vector, now = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0], time.time()
    seen = now - seen_days * DAY_S
    return system.gallery.add(vector, camera, track_id, seen, seen + 5, None, added_s=now - came_days * DAY_S)


def tracks(system: LiveSystem) -> list[int]:
    return sorted(row.track_id for row in system.gallery.sightings().values())


def test_a_past_is_counted_and_waits_for_a_yes(make: Callable[..., LiveSystem], tmp_path: Path) -> None:
    system = make(CAMERAS, references=tmp_path)
    for track_id in range(5):
        add(system, track_id, seen_days=40 + track_id, came_days=40 + track_id)
    add(system, 9, seen_days=1, came_days=1)
    noted: list[dict[str, int]] = []
    system.on_retention = noted.append
    for _ in range(3):
        assert system.expire_sightings() == {}
        assert "5 sightings (gate: 5) are older" in system.alerts.of("old sightings")
    assert len(tracks(system)) == 6 and noted == []
    assert system.expire_sightings(accept=True) == {"gate": 5}
    assert tracks(system) == [9] and noted == [{"gate": 5}] and system.alerts.of("old sightings") == ""


def test_what_grows_old_from_turn_to_turn_goes_without_a_question(
    make: Callable[..., LiveSystem], tmp_path: Path
) -> None:
    wall = {"s": time.time()}
    system = make(CAMERAS, references=tmp_path, wall=lambda: wall["s"], clock=lambda: wall["s"])
    add(system, 1, seen_days=29.999, came_days=29.999)
    add(system, 2, seen_days=100, came_days=100)
    assert system.expire_sightings() == {}
    wall["s"] += 300
    assert system.expire_sightings() == {"gate": 1} and tracks(system) == [2]  # the other one still waits
    assert "1 sightings (gate: 1)" in system.alerts.of("old sightings")


def test_a_lowered_retention_asks_first(make: Callable[..., LiveSystem]) -> None:
    system = make(CAMERAS)
    add(system, 1, seen_days=20, came_days=20)
    assert system.expire_sightings() == {} and system.alerts.of("old sightings") == ""
    system.pool.replace("gate", CAMERAS["gate"].model_copy(update={"retention_days": 3.0}))
    assert system.expire_sightings() == {} and "gate: 1" in system.alerts.of("old sightings")
    system.pool.replace("gate", CAMERAS["gate"])  # it was a slip
    assert system.expire_sightings() == {} and system.alerts.of("old sightings") == ""
    assert tracks(system) == [1]


def test_a_retention_of_seconds_takes_nothing_that_was_there_at_the_turn_before(
    make: Callable[..., LiveSystem],
) -> None:
    system = make(CAMERAS)
    add(system, 1, seen_days=1e-3, came_days=1e-3)
    assert system.expire_sightings() == {}
    system.pool.replace("gate", CAMERAS["gate"].model_copy(update={"retention_days": 1e-5}))
    assert system.expire_sightings() == {} and "gate: 1" in system.alerts.of("old sightings")


def test_what_a_disk_refused_to_delete_goes_at_the_next_turn(make: Callable[..., LiveSystem]) -> None:
    wall = {"s": time.time()}
    system = make(CAMERAS, wall=lambda: wall["s"], clock=lambda: wall["s"])
    add(system, 1, seen_days=29.999, came_days=29.999)
    assert system.expire_sightings() == {}

    def refuse(rows: object) -> None:
        raise StorageError("the disk refused")

    system.on_letting_go, real = refuse, system.on_letting_go
    wall["s"] += 300
    assert system.expire_sightings() == {}
    system.on_letting_go = real
    wall["s"] += 300
    assert system.expire_sightings() == {"gate": 1}


def test_recordings_grow_old_from_when_they_came_in_unless_told_otherwise(
    make: Callable[..., LiveSystem], tmp_path: Path
) -> None:
    system = make(CAMERAS)
    add(system, 1, seen_days=400, came_days=1)
    assert system.expire_sightings(accept=True) == {} and system.alerts.of("old sightings") == ""
    other = make(CAMERAS, settings=LiveSettings(retention_from="sighting"), folder=tmp_path / "other")
    add(other, 1, seen_days=400, came_days=1)
    assert other.expire_sightings() == {} and "gate: 1" in other.alerts.of("old sightings")
    assert other.expire_sightings(accept=True) == {"gate": 1}


def test_a_clock_in_doubt_deletes_nobody_until_it_is_accepted(make: Callable[..., LiveSystem], tmp_path: Path) -> None:
    system = make(CAMERAS, references=tmp_path)
    system.expire_sightings()
    system.stop()
    ahead = make(CAMERAS, references=tmp_path, wall=lambda: time.time() + 40 * DAY_S)
    add(ahead, 1, seen_days=1, came_days=1)
    assert ahead.expire_sightings() == {} and "hours ahead" in ahead.alerts.of("clock")
    assert ahead.expire_sightings(accept=True) == {"gate": 1} and ahead.alerts.of("clock") == ""


def test_what_cannot_be_noted_is_not_deleted(make: Callable[..., LiveSystem]) -> None:
    system = make(CAMERAS)
    add(system, 1, seen_days=40, came_days=40)

    def refuse(counts: dict[str, int]) -> None:
        raise OSError("locked")

    system.on_retention = refuse
    with pytest.raises(OSError, match="locked"):
        system.expire_sightings(accept=True)
    assert tracks(system) == [1]


def test_pictures_and_the_file_that_go_while_running_are_told_of(make: Callable[..., LiveSystem]) -> None:
    system = make(CAMERAS)
    vector, now, picture = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0], time.time(), PICTURE
    numbers = [system.gallery.add(vector, "gate", track, now, now + 1, picture) for track in range(30)]
    without = system.gallery.add(vector, "gate", 99, now, now + 1, None)
    (watch,) = [check for check in system.periodic_checks if getattr(check, "__qualname__", "") == "GalleryWatch.poll"]
    watch(), watch()
    assert system.alerts.of("pictures") == ""  # one stored without a picture is not missing it
    rows = system.gallery.lookup([*numbers, without])
    held = {number: rows[number].thumbnail.read_bytes() for number in numbers}
    rows[numbers[0]].thumbnail.unlink()
    for _ in range(3):
        watch()
    assert "at least 1 sightings are gone" in system.alerts.of("pictures")
    for number in numbers[1:]:
        rows[number].thumbnail.unlink()
    for _ in range(3):
        watch()
    assert "at least 30 sightings are gone" in system.alerts.of("pictures")
    for number in numbers:
        rows[number].thumbnail.write_bytes(held[number])
    for _ in range(4):
        watch()
    assert system.alerts.of("pictures") == ""
    (system.gallery.folder / "gallery.sqlite").rename(system.gallery.folder / "elsewhere")
    watch()
    assert "removed or replaced" in system.alerts.of("gallery")


PICTURE = np.zeros((40, 20, 3), np.uint8)
