"""One running camera as the system holds it, and as others see it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from reid_mtda.live.camera import CameraWorker
from reid_mtda.live.streams import CameraStream, StreamStatus
from reid_mtda.site import Camera


@dataclass(frozen=True)
class CameraState:
    """One camera as others see it."""

    name: str
    url: str  # redacted
    settings: Camera
    stream: StreamStatus
    fault: str
    frames: int
    detections: int
    tracklets: int
    sightings: int
    refused: int
    failed: int
    without_picture: int
    pending: int
    hung_readers: int
    seconds: dict[str, float]
    delays_s: tuple[float, ...]

    @property
    def is_healthy(self) -> bool:
        """Frames flow and are worked on, or somebody paused it, or its recording is over."""
        return self.stream.state in ("running", "paused", "ended", "connecting") and not self.fault


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
        counts = self.worker.counts
        return CameraState(
            name=name,
            url=self.stream.shown_url,
            settings=self.settings,
            stream=self.stream.status,
            fault=self.worker.fault,
            frames=counts.frames,
            detections=counts.detections,
            tracklets=counts.tracklets,
            sightings=counts.sightings,
            refused=counts.refused,
            failed=counts.failed,
            without_picture=counts.without_picture,
            pending=self.worker.pending,
            hung_readers=max(0, alive - 1),
            seconds=dict(counts.seconds),
            delays_s=tuple(counts.delays_s),
        )
