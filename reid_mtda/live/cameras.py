"""The running cameras by name: added, removed, replaced, paused; each with its worker's thread and its readers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reid_mtda.camera_settings import NAME, Camera
from reid_mtda.errors import ConfigError
from reid_mtda.live.camera import CameraWorker
from reid_mtda.live.events import Events
from reid_mtda.live.state import CameraState, RunningCamera
from reid_mtda.live.streams import StreamState

Start = Callable[[Callable[[], None], str], threading.Thread]
"""(work, name) -> the thread that does it; given by ``live.system``, which alone starts threads."""


_MOST_READERS = 4  # of one camera; those that hang in foreign code are left behind, but not any number of them


class CameraPool:
    """The cameras; safe to use from several threads.

    Args:
        make: (name, settings) -> a camera at rest.
        start_thread: starts the threads of cameras.
        events: told of cameras that come and go.
        most: cameras at most.
    """

    def __init__(
        self, make: Callable[[str, Camera], RunningCamera], start_thread: Start, events: Events, *, most: int
    ) -> None:
        self._make, self._start_thread, self._events, self._most = make, start_thread, events, most
        self._lock = threading.RLock()
        self._cameras: dict[str, RunningCamera] = {}
        self._states: dict[str, StreamState] = {}
        self._running = False
        self.former: dict[str, float] = {}  # retention_days of cameras that are gone: their sightings still grow old

    def states(self) -> dict[str, CameraState]:
        """All cameras."""
        with self._lock:
            return {name: camera.state(name) for name, camera in sorted(self._cameras.items())}

    def state(self, name: str) -> CameraState:
        """One camera.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            return self._known(name).state(name)

    def worker(self, name: str) -> CameraWorker:
        """The worker of a camera.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            return self._known(name).worker

    def add(self, name: str, camera: Camera) -> None:
        """Add a camera.

        Raises:
            ConfigError: a bad or taken name, or too many cameras.
        """
        with self._lock:
            self.check_new(name)
            self._put(name, camera)
            self.former.pop(name, None)
        self._events.publish("camera_added", name)

    def check_new(self, name: str) -> None:
        """See that a camera of that name can be added.

        Raises:
            ConfigError: a bad or taken name, or too many cameras.
        """
        if not NAME.match(name):
            raise ConfigError(f"camera {name!r}: not a name, expected a-z 0-9 _ - beginning with a letter or digit")
        with self._lock:
            if name in self._cameras:
                raise ConfigError(f"camera {name!r}: is there already; choose another name or remove it first")
            if len(self._cameras) >= self._most:
                raise ConfigError(f"camera {name!r}: {len(self._cameras)} cameras are there, no more are allowed")

    def remove(self, name: str) -> None:
        """Stop a camera and take it from the list; its sightings stay until they are old or erased.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            camera = self._known(name)
            del self._cameras[name]
            self.former[name] = camera.settings.retention_days
        _end(camera)
        self._events.publish("camera_removed", name)

    def replace(self, name: str, camera: Camera) -> None:
        """Start a camera anew with other settings; one that is paused stays so.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            old = self._known(name)
            is_paused = old.stream.status.state is StreamState.PAUSED
            old.stream.stop()  # a device must be free before it is opened again
            old.stop.set()
            self._put(name, camera)
            if is_paused:
                self._cameras[name].stream.pause()
        _end(old)
        self._events.publish("camera_changed", name)

    def pause(self, name: str) -> None:
        """Let go of a camera until ``resume``.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            self._known(name).stream.pause()

    def resume(self, name: str) -> None:
        """Open a paused or ended camera again.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            self._known(name).stream.resume()

    def start(self) -> None:
        """Let the cameras work."""
        with self._lock:
            self._running = True
            for name, camera in self._cameras.items():
                self._start_worker(name, camera)

    def poll(self) -> None:
        """Give cameras the readers that they need; tell of changed states."""
        with self._lock:
            cameras = dict(self._cameras)
        for name, camera in cameras.items():
            with self._lock:  # whoever stops or lists them sees every reader
                camera.readers = [reader for reader in camera.readers if reader.is_alive()]
                generation = camera.stream.needs_reader(may_open=len(camera.readers) < _MOST_READERS)
                if generation is not None:
                    # Bound by default argument: each thread keeps its own camera and number.
                    work = lambda stream=camera.stream, number=generation: stream.read(number)  # noqa: E731
                    camera.readers.append(self._start_thread(work, f"read {name}"))
            status = camera.stream.status
            if self._states.get(name) != status.state:
                self._states[name] = status.state
                self._events.publish("camera_state", name, state=status.state.value, message=status.message)

    def stop(self, deadline: float) -> list[threading.Thread]:
        """Stop reading, and wait for what is under way to be added; returns the readers, which may hang in a driver."""
        with self._lock:
            cameras = list(self._cameras.values())
            self._running = False
        for camera in cameras:
            camera.stream.stop()
            camera.stop.set()
        for camera in cameras:
            join(camera.thread, deadline)
        with self._lock:
            return [reader for camera in cameras for reader in camera.readers]

    def _known(self, name: str) -> RunningCamera:
        if name not in self._cameras:
            raise ConfigError(f"camera {name!r}: no such camera; known: {', '.join(sorted(self._cameras)) or 'none'}")
        return self._cameras[name]

    def _put(self, name: str, camera: Camera) -> None:
        self._cameras[name] = made = self._make(name, camera)
        if self._running:
            self._start_worker(name, made)

    def _start_worker(self, name: str, camera: RunningCamera) -> None:
        camera.thread = self._start_thread(lambda: camera.worker.run(camera.stop), f"work {name}")


def _end(camera: RunningCamera) -> None:
    camera.stream.stop()
    camera.stop.set()
    join(camera.thread, time.monotonic() + 5.0)


def join(thread: threading.Thread | None, deadline: float) -> None:
    """Wait for a thread until ``deadline`` (``time.monotonic``)."""
    if thread is not None:
        thread.join(max(0.05, deadline - time.monotonic()))
