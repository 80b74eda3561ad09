"""The running site: cameras' readers and workers, one embedder, one supervisor; no other file starts a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import numpy as np
from pydantic import Field

from reid_mtda.errors import ConfigError, ModelError, ReidError, StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.batcher import Batcher, BatcherSettings
from reid_mtda.live.camera import AddedSighting, CameraWorker, Serving
from reid_mtda.live.disk import Disk, Room
from reid_mtda.live.events import Events
from reid_mtda.live.gate import GateSamples
from reid_mtda.live.gating import when_something_moves
from reid_mtda.live.keep import KeptCrops
from reid_mtda.live.observe import Observations
from reid_mtda.live.state import CameraState, RunningCamera
from reid_mtda.live.streams import CameraStream, StreamSettings
from reid_mtda.schema import Strict
from reid_mtda.site import NAME, Camera, Site, resolve
from reid_mtda.types import Detect, Embed, FloatArray, Frame, ImageArray, ModelManifest
from reid_mtda.vision.detect import load_detector

log = logging.getLogger(__name__)

_LOOK_S = 0.25
_SEARCH_WAIT_S = 10.0


class LiveSettings(Strict):
    """The live system's settings."""

    streams: StreamSettings = Field(default_factory=StreamSettings)
    batcher: BatcherSettings = Field(default_factory=BatcherSettings)
    retention_every_s: float = Field(default=300.0, gt=0, description="Seconds between two looks for old sightings.")
    min_free_pictures_mb: float = Field(
        default=500.0, ge=0, description="Below this much free disk sightings are stored without their pictures."
    )
    min_free_mb: float = Field(default=200.0, ge=0, description="Below this much free disk no sightings are stored.")
    kept_tracklets: int = Field(
        default=500, ge=1, description="Tracklets of one camera whose crops are kept to adapt to, where it is opted in."
    )
    max_cameras: int = Field(default=128, ge=1, description="Cameras at most.")


class LiveSystem:
    """All cameras of a site at work. ``start`` it, ask it, ``stop`` it.

    Args:
        site: the cameras to begin with.
        embed: the model.
        manifest: its card.
        gallery: where sightings go; bound to the same model. The system closes it in the end.
        settings: how it works.
        crops: folder for the crops of cameras that are opted in to be adapted to; None: none are kept.
        open_frames: (url, camera, fps) -> frames, for tests.
        clock: seconds that never step back, for tests.
    """

    def __init__(
        self,
        site: Site,
        embed: Embed,
        manifest: ModelManifest,
        gallery: Gallery,
        settings: LiveSettings | None = None,
        *,
        crops: Path | None = None,
        open_frames: Callable[[str, str, float], Iterator[Frame]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or LiveSettings()
        self.site, self.events, self.observed, self.samples = site, Events(), Observations(), GateSamples()
        self.batches = self.batched_crops = 0
        self.embed_seconds = 0.0
        self.started_s = time.time()
        self.disk = Disk(
            lambda: self.gallery.folder,
            pictures_mb=self.settings.min_free_pictures_mb,
            vectors_mb=self.settings.min_free_mb,
            clock=clock,
        )
        self.set_aside: Gallery | None = None  # the former model's, kept for a rollback; erasure and retention reach it
        self.former: dict[str, float] = {}  # retention_days of cameras that are gone: their sightings still grow old
        self.kept = None if crops is None else KeptCrops(crops, self.settings.kept_tracklets)
        self._open_frames, self._clock = open_frames, clock
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._cameras: dict[str, RunningCamera] = {}
        self._threads: list[threading.Thread] = []
        self._embedders: list[threading.Thread] = []
        self._running = False
        self._serving = self._make_serving(embed, manifest, gallery)
        for name, camera in site.cameras.items():
            self._cameras[name] = self._make_camera(name, camera)

    # ------------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Start all threads; returns at once."""
        with self._lock:
            self._running = True
            self._start_embedder(self._serving)
            for name in self._cameras:
                self._start_worker(name)
            self._threads.append(self._thread(self._supervise, "supervisor"))

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop reading, add what is under way, close the gallery; a reader that hangs in a driver is left behind."""
        deadline = time.monotonic() + timeout_s
        self._stop.set()
        with self._lock:
            cameras = list(self._cameras.values())
            self._running = False
        for camera in cameras:
            camera.stream.stop()
            camera.stop.set()
        for camera in cameras:
            _join(camera.thread, deadline)
        self._serving.batcher.close()
        # Readers see at their next frame that they are out of date. One that hangs in a driver is given two seconds:
        # it holds nothing, but a thread that wakes in foreign code while Python ends would abort the process.
        patience = min(deadline, time.monotonic() + 2.0)
        for camera in cameras:
            for reader in camera.readers:
                _join(reader, patience)
        for thread in (*self._embedders, *self._threads):
            _join(thread, deadline)
        self._serving.gallery.close()
        if self.set_aside is not None:
            self.set_aside.close()

    def run_aside(self, work: Callable[[], None], name: str) -> None:
        """Run a long job on a thread of its own; it must ask ``is_stopping`` from time to time."""
        with self._lock:
            self._threads.append(self._thread(work, name))

    def is_stopping(self) -> bool:
        """``stop`` was called."""
        return self._stop.is_set()

    def __enter__(self) -> LiveSystem:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --------------------------------------------------------------------------------------------- cameras

    def cameras(self) -> dict[str, CameraState]:
        """All cameras by name."""
        with self._lock:
            return {name: camera.state(name) for name, camera in sorted(self._cameras.items())}

    def camera(self, name: str) -> CameraState:
        """One camera.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            return self._known(name).state(name)

    def add_camera(self, name: str, camera: Camera) -> None:
        """Add a camera while running; its address must have passed a ``UrlPolicy`` where it comes from outside.

        Raises:
            ConfigError: a bad or taken name, or too many cameras.
        """
        if not NAME.match(name):
            raise ConfigError(f"camera {name!r}: not a name, expected a-z 0-9 _ - beginning with a letter or digit")
        with self._lock:
            if name in self._cameras:
                raise ConfigError(f"camera {name!r}: is there already; choose another name or remove it first")
            if len(self._cameras) >= self.settings.max_cameras:
                raise ConfigError(f"camera {name!r}: {len(self._cameras)} cameras are there, no more are allowed")
            self._cameras[name] = self._make_camera(name, camera)
            self.former.pop(name, None)
            if self._running:
                self._start_worker(name)
        self.events.tell("camera_added", name)

    def remove_camera(self, name: str) -> None:
        """Stop a camera and take it from the list; its sightings stay until they are old or erased.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            camera = self._known(name)
            del self._cameras[name]
            self.former[name] = camera.settings.retention_days
        camera.stream.stop()
        camera.stop.set()
        _join(camera.thread, time.monotonic() + 5.0)
        self.events.tell("camera_removed", name)

    def pause(self, name: str) -> None:
        """Let go of a camera until ``resume``."""
        with self._lock:
            self._known(name).stream.pause()

    def resume(self, name: str) -> None:
        """Open a paused or ended camera again."""
        with self._lock:
            self._known(name).stream.resume()

    def worker(self, name: str) -> CameraWorker:
        """The worker of a camera, for its newest picture.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            return self._known(name).worker

    # ---------------------------------------------------------------------------------------- model, gallery

    @property
    def manifest(self) -> ModelManifest:
        """Card of the model that answers."""
        return self._serving.manifest

    @property
    def gallery(self) -> Gallery:
        """The gallery that answers."""
        return self._serving.gallery

    @property
    def crops_waiting(self) -> int:
        """Crops in front of the model."""
        return self._serving.batcher.depth

    def embed_one(self, crop: ImageArray, *, key: str = "search") -> FloatArray:
        """The embedding float32 (D,) of a crop uint8 (h, w, 3), through the same queue as the cameras'.

        Raises:
            ModelError: the model is too busy or fails.
        """
        future = self._serving.batcher.submit([crop], key=key)
        if future is None:
            raise ModelError("search: too many searches wait for the model; try again in a few seconds")
        try:
            return np.asarray(future.result(_SEARCH_WAIT_S)[0], np.float32)
        except FutureTimeoutError:
            future.cancel()
            raise ModelError(f"search: the model did not answer within {_SEARCH_WAIT_S:.0f} s; try again") from None

    def switch(self, embed: Embed, manifest: ModelManifest, gallery: Gallery) -> Gallery:
        """Answer with another model and its gallery from now on; returns the old gallery, still open.

        What is under way is still added to the old gallery: switch first, then carry over what is new in it.
        """
        serving = self._make_serving(embed, manifest, gallery)
        with self._lock:
            old, self._serving = self._serving, serving
            if self._running:
                self._start_embedder(serving)
        old.batcher.close()
        self.observed.forget()
        self.events.tell("model_switched", None, model_id=manifest.model_id)
        return old.gallery

    def _make_serving(self, embed: Embed, manifest: ModelManifest, gallery: Gallery) -> Serving:
        if gallery.model_id != manifest.model_id:
            raise ModelError(f"gallery {gallery.folder} holds model {gallery.model_id}, got {manifest.model_id}")
        batcher = Batcher(embed, manifest, self.settings.batcher, on_batch=self._count_batch)
        return Serving(manifest, batcher, gallery)

    def _count_batch(self, crops: int, seconds: float) -> None:
        self.batches += 1
        self.batched_crops += crops
        self.embed_seconds += seconds
        self.observed.batch(crops, seconds)

    # --------------------------------------------------------------------------------------------- inside

    def _known(self, name: str) -> RunningCamera:
        if name not in self._cameras:
            raise ConfigError(f"camera {name!r}: no such camera; known: {', '.join(sorted(self._cameras)) or 'none'}")
        return self._cameras[name]

    def _make_camera(self, name: str, camera: Camera) -> RunningCamera:
        stream = CameraStream(
            name,
            resolve(self.site, camera.url),
            camera.fps,
            self.settings.streams,
            open_frames=self._open_frames,
            clock=self._clock,
        )

        def detector() -> Detect:
            detect = load_detector(
                resolve(self.site, camera.detector),
                min_score=camera.min_score,
                min_height_px=camera.min_height_px,
                threads=1,
            )
            # A motion detector must see every frame to learn the background.
            return detect if camera.detector == "motion" else when_something_moves(detect)

        worker = CameraWorker(
            stream,
            detector,
            lambda: self._serving,
            fps=camera.fps,
            first_track_id=int(time.time() * 10) - 17_000_000_000,
            room=lambda: self.disk.room,
            on_refused=self._refused,
            on_added=lambda added: self._added(added, keep_crops=camera.keep_for_adaptation),
        )
        return RunningCamera(camera, stream, worker)

    def _added(self, added: AddedSighting, *, keep_crops: bool) -> None:
        tracklet = added.tracklet
        if keep_crops and self.kept is not None and self.disk.room is Room.PICTURES:
            try:
                self.kept.take(tracklet)
            except StorageError as error:  # the sighting stands all the same
                self._refused(Room.PICTURES, error)
        self.samples.take(tracklet)
        self.observed.sighting(tracklet.camera, added.vector, added.rows)
        self.events.tell(
            "sighting",
            tracklet.camera,
            sighting_id=added.number,
            track_id=tracklet.track_id,
            start_s=tracklet.start_s,
            end_s=tracklet.end_s,
        )

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def _start_embedder(self, serving: Serving) -> None:
        self._embedders = [thread for thread in self._embedders if thread.is_alive()]
        self._embedders.append(self._thread(serving.batcher.run, "embedder"))

    def _start_worker(self, name: str) -> None:
        camera = self._cameras[name]
        camera.thread = self._thread(lambda: camera.worker.run(camera.stop), f"work {name}")

    def _supervise(self) -> None:
        """Give cameras their readers, tell of changed states, let old sightings go, watch the disk."""
        states: dict[str, str] = {}
        next_look = next_retention = self._clock()
        while not self._stop.wait(_LOOK_S):
            with self._lock:
                cameras = dict(self._cameras)
            for name, camera in cameras.items():
                generation = camera.stream.needs_reader()
                if generation is not None:
                    # Bound by default argument: each thread keeps its own camera and number.
                    work = lambda stream=camera.stream, number=generation: stream.read(number)  # noqa: E731
                    camera.readers.append(self._thread(work, f"read {name}"))
                status = camera.stream.status
                if states.get(name) != status.state:
                    states[name] = status.state
                    self.events.tell("camera_state", name, state=status.state.value, message=status.message)
            now = self._clock()
            if now >= next_look:
                next_look = now + 5.0
                self._look_at_disk()
            if now >= next_retention:
                next_retention = now + self.settings.retention_every_s
                self.forget_old()

    def forget_old(self) -> dict[str, int]:
        """Delete sightings past their camera's retention; how many by camera."""
        self._keep_only_opted_in()
        gone: dict[str, int] = {}
        present = {name: state.settings.retention_days for name, state in self.cameras().items()}
        for name, days in sorted((self.former | present).items()):
            try:
                limit = time.time() - days * 86400
                if self.kept is not None:
                    self.kept.forget_before(name, limit)
                removed = self.gallery.forget_before(name, limit)
                if self.set_aside is not None:
                    self.set_aside.forget_before(name, limit)
            except ReidError as error:
                log.error("retention of camera %s: %s", name, error)
                continue
            if removed:
                gone[name] = len(removed)
                self.events.tell("retention", name, removed=len(removed))
        return gone

    def _keep_only_opted_in(self) -> None:
        """Let the crops go of cameras that were opted out or removed."""
        if self.kept is None:
            return
        opted_in = {name for name, state in self.cameras().items() if state.settings.keep_for_adaptation}
        try:
            self.kept.keep_only(opted_in)
        except StorageError as error:
            log.error("%s", error)

    def _refused(self, what: Room, error: StorageError) -> None:
        self.disk.refused(what, error)
        self._look_at_disk()

    def _look_at_disk(self) -> None:
        if self.disk.look():
            message = self.disk.message or "there is room on the disk again, everything is stored"
            log.log(logging.WARNING if self.disk.room is Room.PICTURES else logging.ERROR, "%s", message)
            self.events.tell("disk", None, room=self.disk.room.name.lower(), message=message)


def _join(thread: threading.Thread | None, deadline: float) -> None:
    if thread is not None:
        thread.join(max(0.05, deadline - time.monotonic()))
