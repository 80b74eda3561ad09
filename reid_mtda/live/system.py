"""The running site: cameras' readers and workers, one embedder, one supervisor; no other file starts a thread."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.active_model import ModelServer
from reid_mtda.live.alerts import Alerts
from reid_mtda.live.camera import AddedSighting, CameraWorker
from reid_mtda.live.cameras import CameraPool, join
from reid_mtda.live.clock_watch import ClockWatch
from reid_mtda.live.crop_store import CropStore
from reid_mtda.live.disk_guard import Disk, StorageLevel
from reid_mtda.live.events import Events
from reid_mtda.live.gallery_watch import GalleryWatch
from reid_mtda.live.model_gate import GateSamples
from reid_mtda.live.retention import LetGo, Turns, expire_sightings, keep_only, strays_message
from reid_mtda.live.settings import LiveSettings
from reid_mtda.live.site_reload import SiteReloader
from reid_mtda.live.state import RunningCamera, doubt_of_detectors
from reid_mtda.live.streams import CameraStream
from reid_mtda.live.surroundings import Surroundings
from reid_mtda.model import Model
from reid_mtda.site import Site, resolve
from reid_mtda.types import Detect, FloatArray
from reid_mtda.vision.camera_detector import load_camera_detector

log = logging.getLogger(__name__)

_LOOK_S = 0.25


class LiveSystem:
    """All cameras of a site at work. ``start`` it, ask it, ``stop`` it.

    Args:
        site: the cameras to begin with.
        model: the model.
        gallery: where sightings go; bound to the same model. The system closes it in the end.
        settings: how it works.
        adapted: what the cameras looked like when the model was adapted to them, as in ``DriftMonitor``.
        around: folders, the source of frames, clocks.
    """

    def __init__(
        self,
        site: Site,
        model: Model,
        gallery: Gallery,
        settings: LiveSettings | None = None,
        *,
        adapted: Mapping[str, FloatArray] | None = None,
        around: Surroundings | None = None,
    ) -> None:
        self._around = around = around or Surroundings()
        self.settings = settings or LiveSettings()
        self.events, self.samples = Events(), GateSamples()
        self.started_s = time.time()
        self.model_server = ModelServer(
            model, gallery, self.settings.batcher, self._thread, references=around.references, adapted=adapted
        )
        self.disk = Disk(
            lambda: self.gallery.folder,
            pictures_mb=self.settings.min_free_pictures_mb,
            vectors_mb=self.settings.min_free_mb,
            clock=around.clock,
        )
        self.kept = None if around.crops is None else CropStore(around.crops, self.settings.kept_tracklets)
        kept = around.references
        self._clock_watch = ClockWatch(around.wall, around.clock, kept and kept / "clock.json")
        self._turns = Turns(kept and kept / "retention.json", by_sighting=self.settings.retention_from == "sighting")
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        make = partial(self._make_camera, site)
        self.pool = CameraPool(make, self._thread, self.events, most=self.settings.max_cameras)
        for name, camera in site.cameras.items():
            self.pool.add(name, camera)
        self.alerts = Alerts(self.events)
        self.follower = SiteReloader(site, self.pool, self.alerts)
        watch = GalleryWatch(lambda: self.gallery, self.alerts)
        self.periodic_checks: list[Callable[[], None]] = [self.follower.follow, self._keep_opted_in, watch.poll]
        # What others do when sightings grow old, set by them: before and after these go, and before a turn deletes any.
        self.on_letting_go: LetGo = lambda rows: None
        self.on_retention: Callable[[dict[str, int]], object] = lambda counts: None

    # ------------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Start all threads; returns at once."""
        self.model_server.start()
        self.pool.start()
        self.spawn(self._supervise, "supervisor")
        self.spawn(self._run_checks, "lookout")

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop reading, add what is under way, close the gallery; a reader that hangs in a driver is left behind."""
        deadline = time.monotonic() + timeout_s
        self._stop.set()
        readers = self.pool.stop(deadline)
        self.model_server.stop(deadline)
        # Readers see at their next frame that they are out of date. One that hangs in a driver is given two seconds:
        # it holds nothing, but a thread that wakes in foreign code while Python ends would abort the process.
        patience = min(deadline, time.monotonic() + 2.0)
        for reader in readers:
            join(reader, patience)
        for thread in self._threads:
            join(thread, deadline)
        self.model_server.close()

    def spawn(self, work: Callable[[], None], name: str) -> None:
        """Run a long job on a thread of its own; it must ask ``is_stopping`` from time to time."""
        self._threads = [*(thread for thread in self._threads if thread.is_alive()), self._thread(work, name)]

    def announce_stop(self) -> None:
        """Let long jobs end; cameras and searches go on until ``stop``."""
        self._stop.set()

    def is_stopping(self) -> bool:
        """``stop`` was announced or called."""
        return self._stop.is_set()

    def __enter__(self) -> LiveSystem:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---------------------------------------------------------------------------------------- model, gallery

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self.model_server.serving.model

    @property
    def gallery(self) -> Gallery:
        """The gallery that answers."""
        return self.model_server.serving.gallery

    @contextlib.contextmanager
    def writes_paused(self) -> Iterator[None]:
        """No gallery is exchanged inside the block and none gets a sighting: what goes, goes whole."""
        with self.model_server.galleries_lock, self.model_server.serving.adding:
            yield

    def switch(
        self,
        model: Model,
        gallery: Gallery,
        adapted: Mapping[str, FloatArray] | None = None,
    ) -> Gallery:
        """Answer with another model and its gallery from now on; returns the old gallery, still open.

        Args:
            model: the model.
            gallery: where sightings stand.
            adapted: what the cameras looked like when the model was adapted to them, embeddings (N, D) by camera.
        """
        old = self.model_server.switch(model, gallery, adapted)
        self._turns.follow(old, gallery)
        self.events.publish("model_switched", None, model_id=model.model_id)
        return old

    # --------------------------------------------------------------------------------------------- inside

    def _make_camera(self, site: Site, name: str, camera: Camera) -> RunningCamera:
        stream = CameraStream(
            name,
            resolve(site, camera.url),
            camera.fps,
            self.settings.streams,
            open_frames=self._around.open_frames,
            clock=self._around.clock,
        )

        def detector() -> Detect:
            worker.found_by, detect = load_camera_detector(site, camera, threads=1, gated=True)
            return detect

        worker = CameraWorker(
            stream,
            detector,
            lambda: self.model_server.serving,
            fps=camera.fps,
            first_track_id=int(time.time() * 10) - 17_000_000_000,
            level=lambda: self.disk.level,
            on_refused=self._refused,
            on_added=lambda added: self._added(added, keep_crops=camera.keep_for_adaptation),
            masks=camera.masks,
            zones=camera.zones,
            on_visit=lambda visit: self.events.publish("zone_visit", name, **asdict(visit)),
        )
        return RunningCamera(camera, stream, worker)

    def _added(self, added: AddedSighting, *, keep_crops: bool) -> None:
        tracklet = added.tracklet
        if keep_crops and self.kept is not None and self.disk.level is StorageLevel.PICTURES:
            try:
                self.kept.take(tracklet)
            except StorageError as error:  # the sighting stands all the same
                self._refused(StorageLevel.PICTURES, error)
        self.samples.take(tracklet)
        added.drift_monitor.sighting(tracklet.camera, added.vector, added.rows)
        self.events.publish(
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

    def _supervise(self) -> None:
        """Look after the cameras, let old sightings go, watch the disk."""
        next_look = next_retention = self._around.clock()
        while not self._stop.wait(_LOOK_S):
            guarded(self.pool.poll)
            now = self._around.clock()
            if now >= next_look:
                next_look = now + 5.0
                guarded(self._check_disk)
                self.alerts.put("detector", doubt_of_detectors(self.pool.states().values()))
            if now >= next_retention:
                next_retention = now + self.settings.retention_every_s
                guarded(self._expire)

    def _expire(self) -> None:
        try:
            self.expire_sightings()
        except StorageError as error:  # nothing was deleted, and the next turn tries again
            log.error("retention: %s", error)

    def _run_checks(self) -> None:
        """Ask whatever looks after files that others may change, one by one: cameras come and go in their own time."""
        while not self._stop.wait(self.settings.site_every_s):
            for look in self.periodic_checks:
                guarded(look)

    def _keep_opted_in(self) -> None:
        keep_only({name for name, state in self.pool.states().items() if state.settings.keep_for_adaptation}, self.kept)

    def expire_sightings(
        self, *, accept: bool = False, note: Callable[[dict[str, int]], object] | None = None
    ) -> dict[str, int]:
        """Delete sightings past their camera's retention; how many by camera.

        None while the clock is in doubt, and none that were past it at the turn before already: alerts of ``clock`` and
        ``old sightings`` then say what waits.

        Args:
            accept: the clock is right, and what waits may go.
            note: told how many will go by camera, before any does; None: ``on_retention`` is.

        Raises:
            StorageError: it could not be noted; nothing was deleted.
        """
        present = {name: state.settings for name, state in self.pool.states().items()}
        self._keep_opted_in()
        if accept:
            self._clock_watch.accept()
        self.alerts.put("clock", doubt := self._clock_watch.poll())
        if doubt:
            return {}
        days = self.pool.former | {name: camera.retention_days for name, camera in present.items()}
        self.alerts.put("retention", strays_message(self.gallery.cameras(), days))
        # What is added meanwhile is new, or goes at the next turn: no camera waits for this.
        with self.model_server.galleries_lock:
            gallery, now_s = self.gallery, self._around.wall()
            due = self._turns.due(days, gallery, now_s, accept=accept)
            if due.counts:
                (note or self.on_retention)(due.counts)
            gone, is_whole = expire_sightings(
                due,
                self._turns,
                gallery,
                self.model_server.previous_gallery,
                self.kept,
                self.samples,
                self.on_letting_go,
            )
            if is_whole:  # else what was left is due at the next turn again, and must not count as a past
                self._turns.note(gallery, now_s)
        self.alerts.put("old sightings", due.message)
        for name, count in gone.items():
            self.events.publish("retention", name, removed=count)
        return gone

    def _refused(self, what: StorageLevel, error: StorageError) -> None:
        self.disk.refused(what, error)
        self._check_disk()

    def _check_disk(self) -> None:
        if self.disk.poll():
            message = self.disk.message or "there is room on the disk again, everything is stored"
            log.log(logging.WARNING if self.disk.level is StorageLevel.PICTURES else logging.ERROR, "%s", message)
            self.events.publish("disk", None, level=self.disk.level.name.lower(), message=message)


def guarded(work: Callable[[], object]) -> None:
    """Do what is done again and again: one that fails must end neither its next turn nor the others."""
    try:
        work()
    except Exception:
        log.exception("looking after cameras, disk and files")
