"""Camera files that change while the service runs: followed when good, named when not, no camera lost by accident."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from streets import FAST, street, until

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import StorageError
from reid_mtda.live.site_reload import SiteChange, SiteWatcher
from reid_mtda.live.streams import StreamState
from reid_mtda.live.system import LiveSystem
from reid_mtda.site import load_site

URL = "synthetic://street?camera={}&duration=40"


def write(folder: Path, name: str, more: str = "", url: str = "") -> None:
    """A camera file, written anew even where the clock is coarse."""
    path = folder / name
    text = f"url: {url or URL.format(path.stem)}\ndetector: motion\n{more}"
    (folder / ".new").write_text(text)
    (folder / ".new").replace(path)


def kinds(changes: list[SiteChange]) -> list[tuple[str, str]]:
    return [(change.kind, change.name) for change in changes]


def settled(watch: SiteWatcher) -> list[SiteChange]:
    """What two looks agree on."""
    assert watch.poll() == []
    return watch.poll()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    for name in ("gate", "market"):
        write(tmp_path / "site", f"{name}.yaml")
    return tmp_path / "site"


@pytest.fixture
def watch(folder: Path) -> SiteWatcher:
    watch = SiteWatcher(load_site(folder))
    assert watch.poll() == watch.poll() == [] and watch.wrong == {}
    return watch


def test_added_changed_removed(watch: SiteWatcher, folder: Path) -> None:
    write(folder, "plaza.yaml")
    write(folder, "gate.yaml", "fps: 8\n")
    changes = settled(watch)
    assert kinds(changes) == [("changed", "gate"), ("added", "plaza")]
    assert changes[0].before == Camera(url=URL.format("gate"), detector="motion") and changes[0].after.fps == 8
    assert watch.poll() == []
    (folder / "market.yaml").unlink()
    assert kinds(settled(watch)) == [("removed", "market")]
    assert list(watch.site.cameras) == ["gate", "plaza"] and watch.site == load_site(folder)
    os.utime(folder / "gate.yaml", (1, 1))  # touched, and says the same
    assert settled(watch) == []


def test_a_file_that_is_still_being_written_waits(watch: SiteWatcher, folder: Path) -> None:
    write(folder, "gate.yaml", "fps: 8\n")
    assert watch.poll() == []
    write(folder, "gate.yaml", "fps: 9.5\n")
    assert kinds(settled(watch)) == [("changed", "gate")]
    assert watch.site.cameras["gate"].fps == 9.5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("fsp: 8\n", "gate.yaml: unknown key 'fsp'; did you mean 'fps'?; the camera goes on as it was"),
        ("fps: -5\n", "gate.yaml: fps: got -5, expected > 0; the camera goes on as it was"),
        ("fps: [\n", "gate.yaml: not valid YAML"),
        ("neighbours:\n  yard: {min_s: 1}\n", "no camera of this site"),
    ],
)
def test_a_broken_edit_is_named_and_the_old_settings_stay(
    watch: SiteWatcher, folder: Path, more: str, said: str
) -> None:
    write(folder, "gate.yaml", more)
    assert settled(watch) == []
    assert said in watch.wrong["gate"] and watch.site.cameras["gate"] == Camera(
        url=URL.format("gate"), detector="motion"
    )
    write(folder, "gate.yaml", "fps: 8\n")
    assert kinds(settled(watch)) == [("changed", "gate")] and watch.wrong == {}


def test_a_password_in_a_broken_file_is_not_repeated(watch: SiteWatcher, folder: Path) -> None:
    for url in ("[rtsp://ann:pa55word@cam/1]", "'rtsp://ann:pa55word@cam/1", "{a: rtsp://ann:pa55word@cam/1}"):
        write(folder, "gate.yaml", url=url)
        settled(watch)
        assert "gate.yaml" in watch.wrong["gate"] and "pa55" not in watch.wrong["gate"]


def test_bad_names_and_twins(watch: SiteWatcher, folder: Path) -> None:
    write(folder, "The Gate.yaml")
    write(folder, "gate.yml", "fps: 8\n")
    assert settled(watch) == []
    assert "a camera's name is its file name" in watch.wrong["The Gate"]
    assert "stands twice" in watch.wrong["gate"]
    (folder / "gate.yaml").unlink()
    (folder / "The Gate.yaml").unlink()
    assert kinds([*watch.poll(), *watch.poll()]) == [("changed", "gate")] and watch.wrong == {}


def test_a_folder_that_is_gone_or_empty_removes_nobody(watch: SiteWatcher, folder: Path) -> None:
    away = folder.with_name("away")
    folder.rename(away)
    for _ in range(3):
        assert watch.poll() == [] and "put it back" in watch.fault
    folder.mkdir()
    assert watch.poll() == [] and watch.fault
    (away / "market.yaml").rename(folder / "market.yaml")  # half of it is back
    assert watch.poll() == [] and watch.fault == ""
    (away / "gate.yaml").rename(folder / "gate.yaml")
    assert watch.poll() == watch.poll() == watch.poll() == []
    assert list(watch.site.cameras) == ["gate", "market"]


def test_a_neighbour_that_goes_is_missed_until_it_is_back(watch: SiteWatcher, folder: Path) -> None:
    write(folder, "gate.yaml", "neighbours:\n  market: {min_s: 1}\n")
    assert kinds(settled(watch)) == [("changed", "gate")] and watch.wrong == {}
    (folder / "market.yaml").rename(folder / "market.txt")
    assert kinds(settled(watch)) == [("removed", "market")]
    assert "'market', no camera of this site" in watch.wrong["gate"] and "could not be started" in watch.wrong["gate"]
    (folder / "market.txt").rename(folder / "market.yaml")
    assert kinds(settled(watch)) == [("added", "market")] and watch.wrong == {}


def test_the_system_follows_its_files(make: Callable[..., LiveSystem], folder: Path) -> None:
    site = load_site(folder)
    system = make(site.cameras, site=site, settings=FAST.model_copy(update={"site_every_s": 0.05}))
    system.start()
    until(lambda: all(state.counts.frames > 0 for state in system.pool.states().values()))

    write(folder, "gate.yaml", "fps: 8\nkeep_for_adaptation: true\n")
    until(lambda: system.pool.state("gate").settings.fps == 8)
    until(lambda: system.pool.state("gate").counts.frames > 0)
    write(folder, "plaza.yaml")
    until(lambda: "plaza" in system.pool.states() and system.pool.state("plaza").counts.frames > 0)

    system.pool.pause("plaza")
    write(folder, "plaza.yaml", "fps: 2\n")
    until(lambda: system.pool.state("plaza").settings.fps == 2)
    assert system.pool.state("plaza").stream.state is StreamState.PAUSED

    write(folder, "market.yaml", "fsp: 8\n")
    until(lambda: "unknown key 'fsp'" in system.alerts.of("camera market"))
    assert system.pool.state("market").settings.fps == 5
    (folder / "market.yaml").unlink()
    until(lambda: "market" not in system.pool.states() and not system.alerts.all())
    assert system.pool.former["market"] == 30.0  # what was seen there still grows old
    assert list(system.follower.site.cameras) == ["gate", "plaza"]
    assert {e.detail["subject"] for e in system.events.after(0) if e.kind == "alert"} == {"camera market"}

    folder.rename(folder.with_name("away"))
    until(lambda: "put it back" in system.alerts.of("site"))
    assert list(system.pool.states()) == ["gate", "plaza"]


def test_cameras_added_or_removed_while_running_are_left_as_they_are(
    make: Callable[..., LiveSystem], folder: Path
) -> None:
    site = load_site(folder)
    system = make(site.cameras, site=site)
    follow = system.follower.follow
    follow(), follow()
    system.pool.add("yard", street("plaza")["plaza"])
    system.pool.remove("gate")
    write(folder, "yard.yaml")
    write(folder, "gate.yaml", "fps: 8\n")
    follow(), follow()
    assert list(system.pool.states()) == ["market", "yard"] and "camera=plaza" in system.pool.state("yard").url
    assert "was added while running; remove it to take up the file" in system.alerts.of("camera yard")
    assert system.follower.site.cameras["gate"].fps == 8  # taken up when somebody puts the camera back
    (folder / "yard.yaml").unlink()
    follow(), follow()
    assert list(system.pool.states()) == ["market", "yard"] and system.alerts.all() == {}


def test_what_cannot_be_recorded_is_not_followed_until_it_can(make: Callable[..., LiveSystem], folder: Path) -> None:
    system, noted = make(load_site(folder).cameras, site=load_site(folder)), list[tuple[str, str]]()
    days = lambda: {n: state.settings.retention_days for n, state in system.pool.states().items()}  # noqa: E731
    follow, full = system.follower.follow, {"gate", "plaza"}

    def note(change: SiteChange) -> None:
        if change.name in full:
            raise StorageError("audit: no space left")
        noted.append((change.kind, change.name))

    system.follower.before_change = note
    for name in ("gate", "market", "plaza"):
        write(folder, f"{name}.yaml", "retention_days: 1\n")
    follow(), follow()
    assert days() == {"gate": 30.0, "market": 1.0} and noted == [("changed", "market")]
    assert "cannot be recorded (audit: no space left); it is followed once it can be" in system.alerts.of("camera gate")
    write(folder, "gate.yaml", "retention_days: 2\n")
    write(folder, "plaza.yaml", "retention_days: 3\n")
    follow(), follow()
    full.clear()
    follow()
    assert days() == {"gate": 2.0, "market": 1.0, "plaza": 3.0} and system.alerts.all() == {}
    assert noted[1:] == [("changed", "gate"), ("added", "plaza")]


def test_a_change_taken_back_before_it_could_be_recorded_is_none(make: Callable[..., LiveSystem], folder: Path) -> None:
    system = make(load_site(folder).cameras, site=load_site(folder))
    full = [True]

    def note(change: SiteChange) -> None:
        if full:
            raise StorageError("audit: no space left")
        raise AssertionError(change)

    system.follower.before_change = note
    follow = system.follower.follow
    write(folder, "gate.yaml", "retention_days: 1\n")
    write(folder, "plaza.yaml")
    follow(), follow()
    write(folder, "gate.yaml")
    (folder / "plaza.yaml").unlink()
    follow(), follow()
    full.clear()
    follow()
    assert system.alerts.all() == {} and list(system.pool.states()) == ["gate", "market"]


def test_an_editors_lock_is_no_camera(watch: SiteWatcher, folder: Path) -> None:
    (folder / ".#gate.yaml").symlink_to("somebody@host.123")  # as Emacs does it
    write(folder, "gate.yaml", "fps: 8\n")
    assert kinds(settled(watch)) == [("changed", "gate")] and watch.fault == ""
    assert list(load_site(folder).cameras) == ["gate", "market"]


def test_a_password_in_an_address_without_scheme_is_refused_while_running(watch: SiteWatcher, folder: Path) -> None:
    write(folder, "gate.yaml", url="rtsp:/user:pa55word@cam/1")
    assert settled(watch) == []
    assert "expected rtsp://" in watch.wrong["gate"] and "pa55word" not in watch.wrong["gate"]
