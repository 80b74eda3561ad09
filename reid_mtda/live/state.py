"""One running camera as the system holds it, and as others see it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from reid_mtda.camera_settings import AUTO, MOTION, Camera
from reid_mtda.live.camera import CameraWorker, Counts
from reid_mtda.live.streams import CameraStream, StreamStatus
from reid_mtda.live.zone_times import ZoneCount
from reid_mtda.vision.camera_detector import BY_MOTION


@dataclass(frozen=True)
class CameraState:
    """One camera as others see it."""

    name: str
    url: str  # redacted
    settings: Camera
    stream: StreamStatus
    fault: str
    counts: Counts
    pending: int
    hung_readers: int
    zones: dict[str, ZoneCount] = field(default_factory=dict)
    found_by: str = ""  # its detector's name, '' until that is there

    @property
    def message(self) -> str:
        """What is wrong with it, or what its stream is at."""
        return self.fault or self.stream.message

    @property
    def is_healthy(self) -> bool:
        """Frames flow and are worked on, or somebody paused it, or its recording is over."""
        return self.stream.state in ("running", "paused", "ended", "connecting") and not self.fault


def doubt_of_detectors(states: Iterable[CameraState]) -> str:
    """What is said when nothing better was there than motion, unless a camera's file asks for that; else ''."""
    by_motion = any(state.settings.detector == AUTO and state.found_by == MOTION for state in states)
    return BY_MOTION if by_motion else ""


@dataclass
class RunningCamera:
    """One camera with its threads; only ``live.system`` makes and runs it."""

    settings: Camera
    stream: CameraStream
    worker: CameraWorker
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    readers: list[threading.Thread] = field(default_factory=list)

    def state(self, name: str) -> CameraState:
        """How it is, now."""
        alive = sum(thread.is_alive() for thread in self.readers)
        return CameraState(
            name=name,
            url=self.stream.shown_url,
            settings=self.settings,
            stream=self.stream.status,
            fault=self.worker.fault,
            counts=self.worker.counts.snapshot(),
            pending=self.worker.pending,
            hung_readers=max(0, alive - 1),
            zones=self.worker.zones.counts() if self.worker.zones is not None else {},
            found_by=self.worker.found_by,
        )
