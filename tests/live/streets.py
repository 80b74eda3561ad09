"""A live system over drawn cameras in fast forward: what the tests of the running system share."""

import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from colour_model import write_colour_model

from reid_mtda.camera_settings import Camera
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.settings import LiveSettings
from reid_mtda.live.streams import StreamSettings
from reid_mtda.live.surroundings import Surroundings
from reid_mtda.live.system import LiveSystem
from reid_mtda.model import load_model
from reid_mtda.site import Site
from reid_mtda.types import Frame
from reid_mtda.vision.video import read_frames

FAST = LiveSettings(streams=StreamSettings(stall_s=1.5, retry_s=0.2, retry_max_s=0.5, restarts_per_minute=200))


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def hurried(url: str, camera: str, fps: float) -> Iterator[Frame]:
    """The street in fast forward: its frames carry times that say they are due."""
    for frame in read_frames(url, camera=camera, fps=fps):
        time.sleep(0.002)
        yield Frame(camera, frame.index, frame.time_s, frame.image)


def street(*names: str) -> dict[str, Camera]:
    return {name: Camera(url=f"synthetic://street?camera={name}&duration=40", detector="motion") for name in names}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LiveSystem]]:
    made = []
    # Recordings are taken for live ones: they come as fast as they can be drawn.
    monkeypatch.setattr("reid_mtda.live.streams.is_live", lambda url: True)

    def build(cameras: dict[str, Camera], **arguments) -> LiveSystem:
        write_colour_model(tmp_path / "model")
        model = load_model(tmp_path / "model", threads=1)
        gallery = Gallery.open(arguments.pop("folder", tmp_path / "gallery"), model)
        around = {"open_frames": hurried}
        for one in fields(Surroundings):
            if one.name in arguments:
                around[one.name] = arguments.pop(one.name)
        arguments.setdefault("settings", FAST)
        site = arguments.pop("site", Site("site", tmp_path, cameras))
        system = LiveSystem(site, model, gallery, around=Surroundings(**around), **arguments)
        made.append(system)
        return system

    yield build
    for system in made:
        system.stop(3)
