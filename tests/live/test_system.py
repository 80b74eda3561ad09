"""The live system on drawn cameras: the gallery fills, cameras come and go, one that breaks disturbs no other."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from streets import FAST, hurried, street, until

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError, VideoError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.state import CameraState
from reid_mtda.live.system import LiveSystem
from reid_mtda.types import Frame

BAD = "rtsp://user:pa55word@127.0.0.1:1/x"


def test_two_cameras_fill_one_gallery_that_finds_the_sighting_itself(make: Callable[..., LiveSystem]) -> None:
    system = make(street("gate", "market"))
    system.start()
    until(lambda: all(state.counts.sightings >= 3 for state in system.pool.states().values()))
    gallery = system.gallery
    number, sighting = next(iter(gallery.sightings().items()))
    assert gallery.search(gallery.vector(number), 1).hits[0].sighting_id == number
    assert sighting.thumbnail.is_file()
    kinds = {event.kind for event in system.events.after(0)}
    assert {"sighting", "camera_state"} <= kinds
    assert system.model_server.batched_crops > system.model_server.batches


def test_stopping_keeps_everything_that_was_acknowledged(make: Callable[..., LiveSystem], tmp_path: Path) -> None:
    system = make(street("gate"))
    system.start()
    until(lambda: system.pool.states()["gate"].counts.sightings >= 3)
    began = time.monotonic()
    system.stop()
    assert time.monotonic() - began < 8
    told = sum(event.kind == "sighting" for event in system.events.after(0))
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert len(gallery) == told >= 3


def test_a_camera_that_is_not_there_disturbs_no_other(make: Callable[..., LiveSystem]) -> None:
    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        if url == BAD:
            raise VideoError(f"{url}: refused")
        return hurried(url, camera, fps)

    system = make({**street("gate"), "broken": Camera(url=BAD)}, open_frames=open_frames)
    system.start()
    until(
        lambda: system.pool.states()["broken"].stream.restarts >= 2 and system.pool.states()["gate"].counts.frames > 20
    )
    seen: list[CameraState] = []

    def is_down() -> bool:  # between two tries: while it connects nobody knows yet
        seen.append(system.pool.states()["broken"])
        return not seen[-1].is_healthy

    until(is_down)
    assert "refused" in seen[-1].stream.message
    assert "pa55word" not in repr(seen[-1].stream) + seen[-1].url


def test_cameras_are_added_paused_resumed_and_removed_while_running(make: Callable[..., LiveSystem]) -> None:
    system = make(street("gate"))
    system.start()
    system.pool.add("plaza", street("plaza")["plaza"])
    until(lambda: system.pool.states()["plaza"].counts.frames > 0)
    system.pool.pause("plaza")
    until(lambda: system.pool.states()["plaza"].stream.state == "paused")
    time.sleep(0.3)
    seen = system.pool.states()["plaza"].counts.frames
    time.sleep(0.3)
    assert system.pool.states()["plaza"].counts.frames == seen
    system.pool.resume("plaza")
    until(lambda: system.pool.states()["plaza"].counts.frames > seen)
    system.pool.remove("plaza")
    assert list(system.pool.states()) == ["gate"]
    with pytest.raises(ConfigError, match="no such camera; known: gate"):
        system.pool.pause("plaza")
    with pytest.raises(ConfigError, match="is there already"):
        system.pool.add("gate", street("gate")["gate"])
    with pytest.raises(ConfigError, match="not a name"):
        system.pool.add("../x", street("gate")["gate"])


def test_a_person_in_the_newest_picture_can_be_cut_out_and_embedded(make: Callable[..., LiveSystem]) -> None:
    system = make(street("gate"))
    system.start()
    crops = []

    def somebody() -> bool:
        picture = system.pool.worker("gate").picture
        if picture is not None and picture.people.track_id is not None and len(picture.people):
            crops.append(picture.crop(int(picture.people.track_id[0])))
        return bool(crops)

    until(somebody)
    vector = system.model_server.embed_one(crops[0])
    assert vector.shape == (system.model.manifest.embedding_dim,)
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_a_missing_detector_is_named_and_the_other_camera_works(make: Callable[..., LiveSystem]) -> None:
    cameras = {**street("gate"), "plaza": Camera(url="synthetic://street?camera=plaza", detector="nowhere.onnx")}
    system = make(cameras)
    system.start()
    until(
        lambda: (
            "no such detector file" in system.pool.states()["plaza"].fault
            and system.pool.states()["gate"].counts.frames > 5
        )
    )


def test_old_sightings_are_let_go(make: Callable[..., LiveSystem]) -> None:
    system = make({"gate": Camera(url="synthetic://street?camera=gate&duration=40", retention_days=1.0)})
    vector = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0]
    picture = np.zeros((40, 20, 3), np.uint8)
    now = time.time()
    system.gallery.add(vector, "gate", 1, now - 90_000, now - 89_000, picture, added_s=now - 89_000)
    kept = system.gallery.add(vector, "gate", 2, now - 100, now - 90, picture, added_s=now - 90)
    assert system.expire_sightings(accept=True) == {"gate": 1}
    assert list(system.gallery.sightings()) == [kept]


def test_cameras_and_retention_are_looked_after_however_often_that_fails(
    make: Callable[..., LiveSystem], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    system = make(street("gate"), settings=FAST.model_copy(update={"retention_every_s": 0.3}))
    turns = Counter()

    def fails(name: str, work: Callable[[], object]) -> None:
        def work_or_fail() -> None:
            turns[name] += 1
            if turns[name] < 3:
                raise RuntimeError("can't start new thread")
            work()

        place = system.pool if name == "poll" else system
        monkeypatch.setattr(place, name, work_or_fail)

    fails("poll", system.pool.poll)
    fails("expire_sightings", system.expire_sightings)
    system.start()
    until(lambda: system.pool.states()["gate"].counts.frames > 0 and turns["expire_sightings"] > 3)
    assert caplog.text.count("can't start new thread") >= 4


def test_a_clock_that_jumps_ahead_deletes_nobody_until_it_stays(make: Callable[..., LiveSystem]) -> None:
    hours = {"wall": 1e6, "steady": 5.0}
    system = make(
        {"gate": Camera(url="synthetic://street?camera=gate&duration=40", retention_days=2.0)},
        clock=lambda: 3600 * hours["steady"],
        wall=lambda: 3600 * hours["wall"],
    )
    vector = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0]
    for track_id, ago in ((1, 49), (2, 47)):
        seen = 3600 * (hours["wall"] - ago)
        system.gallery.add(vector, "gate", track_id, seen, seen, np.zeros((40, 20, 3), np.uint8), added_s=seen)

    def turn(*, wall: float, steady: float, accept: bool = False) -> tuple[dict[str, int], bool]:
        hours["wall"], hours["steady"] = hours["wall"] + wall, hours["steady"] + steady
        gone = system.expire_sightings(accept=accept)
        return gone, "jumped" in system.alerts.of("clock")

    assert turn(wall=0.1, steady=0.1, accept=True) == ({"gate": 1}, False)
    assert turn(wall=960.1, steady=0.1) == ({}, True)
    assert "960.0 hours ahead" in system.alerts.of("clock")
    assert turn(wall=-960, steady=0) == ({}, False)  # set right again
    assert turn(wall=-30, steady=0) == ({}, False)
    assert turn(wall=30, steady=0) == ({}, True)
    assert turn(wall=23, steady=23) == ({}, True)
    assert turn(wall=1, steady=1) == ({"gate": 1}, False)  # it stayed


def test_no_thread_outlives_the_system(make: Callable[..., LiveSystem]) -> None:
    before = set(threading.enumerate())
    system = make(street("gate", "market"))
    system.start()
    until(lambda: system.pool.states()["gate"].counts.frames > 3)
    assert len(set(threading.enumerate()) - before) >= 6
    system.stop()
    assert set(threading.enumerate()) <= before


def test_a_reader_started_while_others_look_is_waited_for(make: Callable[..., LiveSystem]) -> None:
    """A look at the cameras must not lose a reader from the list that ``stop`` waits for."""
    done = threading.Event()

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        while not done.wait(0.01):
            yield Frame(camera, 0, time.time(), np.zeros((120, 160, 3), np.uint8))

    system = make(street("gate", "plaza"), open_frames=open_frames)
    running = list(system.pool._cameras.values())
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    for camera in running:
        camera.readers = [ended]
    listed = [camera.readers for camera in running]
    system.pool.states()  # only looks: whoever appends to these lists meanwhile appends to the ones that are kept
    assert all(camera.readers is readers for camera, readers in zip(running, listed, strict=True))
    system.start()
    until(lambda: all(state.counts.frames for state in system.pool.states().values()))
    done.set()
    assert all(len(camera.readers) == 1 and camera.readers[0] is not ended for camera in running)
