"""One camera's stream kept alive: paced reading, the newest frame only, stalls seen, retries with back-off.

Nothing here starts a thread: ``CameraStream.read`` is a reader thread's body, ``CameraStream.needs_reader`` what the
supervisor of ``live.system`` asks. Clocks are arguments, so that an hour passes in a test at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import Field

from reid_mtda.errors import ReidError
from reid_mtda.live.playback import play_realtime
from reid_mtda.live.url_policy import hide_secrets, is_live
from reid_mtda.schema import Strict
from reid_mtda.types import Frame
from reid_mtda.vision.address import redact_url
from reid_mtda.vision.video import FrameSource, read_frames

log = logging.getLogger(__name__)

_RATE_FRAMES = 30
_LONGEST_GAP = 0.5  # of the stall limit: a recording's gap is played no longer, or it would pass for a stall


class StreamState(StrEnum):
    """What a camera is doing, as shown to people."""

    CONNECTING = "connecting"
    RUNNING = "running"
    STALLED = "stalled"
    WAITING = "waiting"
    PAUSED = "paused"
    ENDED = "ended"
    STOPPED = "stopped"


class StreamSettings(Strict):
    """How streams are kept alive."""

    stall_s: float = Field(
        default=20.0,
        gt=0,
        description="Seconds without a frame after which a stream is reopened; three frames where that is longer.",
    )
    retry_s: float = Field(default=10.0, gt=0, description="Seconds before the first retry; doubles with each failure.")
    retry_max_s: float = Field(default=60.0, gt=0, description="Seconds between retries at most.")
    restarts_per_minute: int = Field(default=5, ge=1, description="A stream is opened at most this often a minute.")
    loop_recordings: bool = Field(default=True, description="Play files and drawn streets again when they end.")


@dataclass(frozen=True)
class StreamStatus:
    """A camera's stream at one moment; ``message`` never holds a password.

    ``silent_s``: seconds that frames have been wanted and none came, whatever was tried meanwhile.
    """

    state: StreamState
    since_s: float
    message: str = ""
    frames: int = 0
    dropped: int = 0
    restarts: int = 0
    stalls: int = 0
    fps: float = 0.0
    last_frame_s: float | None = None
    silent_s: float = 0.0
    height_px: int = 0
    width_px: int = 0


class LatestFrame:
    """A letter box for one frame: a newer one replaces the one not yet taken, and that is counted."""

    def __init__(self) -> None:
        self._filled = threading.Condition()
        self._frame: Frame | None = None
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Lay ``frame`` in; never waits."""
        with self._filled:
            self.dropped += self._frame is not None
            self._frame = frame
            self._filled.notify()

    def take(self, timeout_s: float) -> Frame | None:
        """The frame, or None when none came in time."""
        with self._filled:
            if self._frame is None:
                self._filled.wait(timeout_s)
            frame, self._frame = self._frame, None
            return frame


class Backoff:
    """When a stream may be opened again: paced, with back-off, and never more often than allowed a minute."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._opened: deque[float] = deque(maxlen=settings.restarts_per_minute)

    def opened(self, now: float) -> None:
        """The stream is being opened."""
        self._opened.append(now)

    def proved(self) -> None:
        """Frames flow: the next failure is a first one."""
        self._failures = 0

    def failed(self, now: float) -> float:
        """The stream broke; returns the seconds to wait before it is opened again."""
        settings = self._settings
        self._failures += 1
        # 2 to the 16th is far beyond any limit and far from overflow.
        wait = min(settings.retry_s * 2.0 ** min(self._failures - 1, 16), settings.retry_max_s)
        if len(self._opened) == settings.restarts_per_minute:
            wait = max(wait, self._opened[0] + 60.0 - now)
        return wait


class CameraStream:
    """Reads one camera for as long as it is wanted and tells how it is.

    Args:
        camera: its name.
        url: where frames come from, resolved; may hold a password, which nothing here passes on.
        fps: frames a second.
        settings: stall limit, retries.
        open_frames: (url, camera, fps) -> frames; ``vision.video.read_frames`` but for tests.
        clock: seconds that never step back.
        wall: POSIX seconds.
    """

    def __init__(
        self,
        camera: str,
        url: str,
        fps: float,
        settings: StreamSettings,
        *,
        open_frames: Callable[[str, str, float], Iterator[Frame]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.camera, self.shown_url = camera, redact_url(url)
        self._url, self._fps, self._settings = url, fps, settings
        self._stall_s = max(settings.stall_s, 3 / fps)  # below a frame in stall_s a camera would stall for ever
        self._open = open_frames or (lambda url, camera, fps: read_frames(url, camera=camera, fps=fps))
        self._clock, self._wall = clock, wall
        self._lock = threading.Lock()
        self._generation, self._is_over = 0, False
        self._wake = threading.Event()
        self._plan = Backoff(settings)
        self._retry_at = clock()
        self._last_frame = self._silent_since = clock()
        self._ticks: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._status = StreamStatus(StreamState.STOPPED, wall())
        self.newest = LatestFrame()

    # ------------------------------------------------------------------------------------------- asked by others

    @property
    def status(self) -> StreamStatus:
        """How the stream is, now."""
        with self._lock:
            ticks, now = list(self._ticks), self._clock()
            alive = len(ticks) > 1 and now - ticks[-1] < self._stall_s
            fps = (len(ticks) - 1) / max(ticks[-1] - ticks[0], 1e-6) if alive else 0.0
            is_left = self._is_over or self._status.state in (StreamState.PAUSED, StreamState.ENDED)
            silent_s = 0.0 if is_left else now - self._silent_since
            return replace(self._status, fps=fps, dropped=self.newest.dropped, silent_s=silent_s)

    def needs_reader(self, *, may_open: bool = True) -> int | None:
        """Called by the supervisor: the number of a new reader to start, or None.

        A reader that has brought no frame for too long is given up: it may hang in a driver. Its number is then out
        of date and whatever it still brings is ignored. A new one follows when its time has come, and not before
        ``may_open``.
        """
        with self._lock:
            now, state = self._clock(), self._status.state
            if state in (StreamState.CONNECTING, StreamState.RUNNING):
                if now - self._last_frame < self._stall_s:
                    return None
                self._generation += 1
                self._wake.set()
                wait = self._plan.failed(now)
                self._retry_at = now + wait
                self._set(
                    StreamState.STALLED,
                    f"no frame for {self._stall_s:g} s; next try in {wait:.0f} s",
                    stalls=self._status.stalls + 1,
                )
                return None
            is_left = self._is_over or state in (StreamState.PAUSED, StreamState.ENDED)
            if is_left or now < self._retry_at or not may_open:
                return None
            restarted = state is not StreamState.STOPPED
            self._generation += 1
            self._wake = threading.Event()
            self._last_frame = now
            self._ticks.clear()
            self._plan.opened(now)
            self._set(StreamState.CONNECTING, "", restarts=self._status.restarts + restarted)
            return self._generation

    def pause(self) -> None:
        """Let go of the camera until ``resume``."""
        self._leave(StreamState.PAUSED, "paused by an operator")

    def stop(self) -> None:
        """Let go of the camera for good: whoever still asks for a reader gets none."""
        self._leave(StreamState.STOPPED, "")

    def resume(self) -> None:
        """Open a paused or ended camera again, at the supervisor's next look."""
        with self._lock:
            if self._status.state in (StreamState.PAUSED, StreamState.ENDED):
                self._retry_at = self._silent_since = self._clock()
                self._set(StreamState.STOPPED, "")

    def _leave(self, state: StreamState, message: str) -> None:
        with self._lock:
            self._is_over |= state is StreamState.STOPPED
            self._generation += 1
            self._wake.set()
            self._set(state, message)

    # ------------------------------------------------------------------------------------------ the reader thread

    def read(self, generation: int) -> None:
        """Read frames into ``newest`` until the stream breaks, ends or this reader is out of date."""
        wake = self._wake
        try:
            while self._read_once(generation, wake):
                pass
        except ReidError as error:
            self._broke(generation, str(error))
        except Exception as error:  # a driver's or decoder's: the other cameras must not notice
            log.error("camera %s: reading failed: %s", self.camera, hide_secrets(repr(error), self._url))
            self._broke(generation, f"reading failed ({type(error).__name__})")

    def _read_once(self, generation: int, wake: threading.Event) -> bool:
        """One pass over the source; True when it is to be played again."""
        source = self._open(self._url, self.camera, self._fps)
        live = source.is_live if isinstance(source, FrameSource) else is_live(self._url)
        frames = source
        if not live:
            gap_s = _LONGEST_GAP * self._stall_s
            frames = play_realtime(source, wait=wake.wait, clock=self._clock, wall=self._wall, longest_gap_s=gap_s)
        try:
            for frame in frames:
                if not self._take(generation, frame):
                    return False
        finally:
            if close := getattr(source, "close", None):
                close()
        if live:
            self._broke(generation, "the stream ended")
            return False
        with self._lock:
            if generation != self._generation:
                return False
            if not self._settings.loop_recordings:
                self._set(StreamState.ENDED, "the recording is over")
                return False
        # The last frame lasts as long as any other: a recording of one picture would be played without a pause.
        return not wake.wait(1 / self._fps)

    def _take(self, generation: int, frame: Frame) -> bool:
        with self._lock:
            if generation != self._generation:
                return False
            self._last_frame = self._silent_since = self._clock()
            self._ticks.append(self._last_frame)
            height, width = frame.image.shape[:2]
            if self._status.state is not StreamState.RUNNING:
                self._plan.proved()
                self._set(StreamState.RUNNING, "")
            self._status = replace(
                self._status,
                frames=self._status.frames + 1,
                last_frame_s=self._wall(),
                height_px=height,
                width_px=width,
            )
        self.newest.put(frame)
        return True

    def _broke(self, generation: int, message: str) -> None:
        with self._lock:
            if generation != self._generation:
                return
            now = self._clock()
            wait = self._plan.failed(now)
            self._retry_at = now + wait
            self._set(StreamState.WAITING, f"{hide_secrets(message, self._url)}; next try in {wait:.0f} s")
        log.warning("camera %s: %s", self.camera, self._status.message)

    def _set(self, state: StreamState, message: str, **counts: int) -> None:
        since = self._status.since_s if state is self._status.state else self._wall()
        self._status = replace(self._status, state=state, since_s=since, message=message, **counts)
