"""Cameras added, removed and paused while running: kept on disk, so that a restart finds them as they were left."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from reid_mtda.camera_settings import AUTO, MOTION, Camera
from reid_mtda.errors import ConfigError, ReidError, StorageError
from reid_mtda.live.camera_file_writer import Regions, camera_file, write_camera, write_regions
from reid_mtda.live.site_reload import SiteChange
from reid_mtda.live.state import CameraState
from reid_mtda.live.streams import StreamState
from reid_mtda.live.system import LiveSystem
from reid_mtda.live.url_policy import UrlPolicy
from reid_mtda.polygons import Point
from reid_mtda.schema import parse
from reid_mtda.service.audit import Audit
from reid_mtda.service.database import Database
from reid_mtda.service.roles import Principal
from reid_mtda.site import SITE_FILE, STREET, check_neighbours
from reid_mtda.vision.address import redact_url
from reid_mtda.zoo.folder import find_installed

FILE = "cameras.sqlite"

# ``settings`` is NULL for a camera of the site's own files; ``retention_days`` outlives the camera as its sightings do,
# also when its file goes while the service is down.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS cameras (
    name TEXT PRIMARY KEY, settings TEXT, retention_days REAL, is_removed INTEGER NOT NULL, is_paused INTEGER NOT NULL
);
"""
_SET = """
INSERT INTO cameras VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET settings = excluded.settings,
retention_days = excluded.retention_days, is_removed = excluded.is_removed, is_paused = excluded.is_paused
"""
_PAUSE = """
INSERT INTO cameras VALUES (?, NULL, NULL, 0, ?) ON CONFLICT (name) DO UPDATE SET is_paused = excluded.is_paused
"""
_RETENTION = """
INSERT INTO cameras VALUES (?, NULL, ?, 0, 0) ON CONFLICT (name) DO UPDATE SET retention_days = excluded.retention_days
"""


def added_and_opted_in(state: Path) -> list[str]:
    """Cameras that were added while the service of this ``state`` ran, are there, and are opted in to adaptation."""
    if not (state / FILE).is_file():
        return []
    database = Database(state / FILE, _SCHEMA)
    try:
        rows = database.read("SELECT name, settings FROM cameras WHERE settings IS NOT NULL AND NOT is_removed")
        return sorted(row["name"] for row in rows if json.loads(row["settings"]).get("keep_for_adaptation"))
    except (ValueError, AttributeError):
        raise StorageError(f"{state / FILE}: what is kept of its cameras cannot be read; add them again") from None
    finally:
        database.close()


class Cameras:
    """Changes the cameras of a live system and remembers it; every change is audited.

    Addresses with their passwords stand in one file of the state folder, readable by its owner alone.

    Args:
        system: the live system.
        state: folder of the service's files.
        policy: addresses that cameras added while running may have.
        audit: where changes are recorded.
    """

    def __init__(self, system: LiveSystem, state: Path, policy: UrlPolicy, audit: Audit) -> None:
        self._system, self._policy, self._audit = system, policy, audit
        self._database = Database(Path(state) / FILE, _SCHEMA)
        system.follower.before_change = self._note_file
        system.follower.on_change = self._file_changed
        self.refused: set[str] = set()  # kept, but not taken up again; they can be removed

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def restore(self) -> None:
        """Make the system's cameras what they were; one whose address is no longer allowed is named and left out."""
        retention: dict[str, float | None] = {}
        for row in self._database.read("SELECT * FROM cameras ORDER BY name"):
            retention[row["name"]] = row["retention_days"]
            try:
                self._restore(row)
            except ConfigError as error:
                self.refused.add(row["name"])
                message = f"camera {row['name']}, added while running, is left out: {error}"
                self._system.alerts.put(f"camera {row['name']}", message)
                self._audit.add("service", "camera_refused", camera=row["name"], reason=str(error))
        cameras = self._system.pool.states()
        former = {name: days for name, days in retention.items() if days is not None and name not in cameras}
        self._system.pool.former.update(former)
        for name, state in cameras.items():
            self._remember_retention(name, state.settings)

    def _remember_retention(self, name: str, camera: Camera) -> None:
        with self._database.write() as connection:
            connection.execute(_RETENTION, (name, camera.retention_days))

    def _restore(self, row: sqlite3.Row) -> None:
        name, is_there = row["name"], row["name"] in self._system.pool.states()
        camera = None if row["settings"] is None else self._checked(name, row["settings"])
        if is_there and (row["is_removed"] or camera is not None):
            self._system.pool.remove(name)
        if camera is not None:
            self._system.pool.add(name, camera)
        if row["is_paused"] and name in self._system.pool.states():
            self._system.pool.pause(name)

    def _checked(self, name: str, settings: str) -> Camera:
        try:
            camera = parse(Camera, json.loads(settings), where=f"camera {name}")
        except (ConfigError, ValueError, AttributeError):  # its message might show the address
            raise ConfigError(f"{FILE}: what is kept of camera {name!r} cannot be read; add it again") from None
        self._policy.check(camera.url)
        return camera

    def _note_file(self, change: SiteChange) -> None:
        """A camera file of the site changed: audited before it is followed."""
        self._audit.add("service", f"site_file_{change.kind}", camera=change.name)

    def _file_changed(self, change: SiteChange, problem: str) -> None:
        """How long the sightings of a camera that went are kept stays known; a file not followed is audited as that."""
        if change.after is not None and not problem:
            self._remember_retention(change.name, change.after)
        elif change.kind == "removed" and change.before is not None and change.name not in self._system.pool.states():
            with self._database.write() as connection:
                connection.execute(_SET, (change.name, None, change.before.retention_days, 0, 0))
        if problem:
            self._audit.add("service", "site_file_not_followed", camera=change.name, reason=problem)

    # What cannot be is refused first. Then a change is kept, audited and done, in this order and in one transaction:
    # when the disk or the audit refuses, nothing is kept and nothing is done.

    def add(self, user: str | Principal, name: str, camera: Camera) -> CameraState:
        """Add a camera.

        Args:
            user: who asks.
            name: how it is called.
            camera: its settings.

        Raises:
            ConfigError: an address that is not allowed, a detector that is not there, a bad or taken name, an unknown
                neighbour, too many cameras.
            StorageError: it could not be audited or kept; there is no such camera.
        """
        self._policy.check(camera.url)
        _check_detector(camera.detector)
        check_neighbours(name, camera, self._system.pool.states(), where=f"camera {name!r}: neighbours")
        self._system.pool.check_new(name)
        row, shown = (name, _settings_json(camera), camera.retention_days, 0, 0), redact_url(camera.url)
        with self._kept(_SET, row), self._audited(user, "camera_added", name, url=shown):
            self._system.pool.add(name, camera)
        self._forget_refusal(name)
        return self._system.pool.state(name)

    def check_look(self, user: str | Principal, name: str, camera: Camera) -> None:
        """See that a camera may be opened to show what it sees, and audit that.

        Args:
            user: who asks.
            name: the new camera's.
            camera: its settings.

        Raises:
            ConfigError: an address that is not allowed, a bad or taken name, too many cameras.
            StorageError: it could not be audited.
        """
        self._policy.check(camera.url)
        self._system.pool.check_new(name)
        self._audit.add(user, "camera_looked_at", camera=name, url=redact_url(camera.url))

    def add_file(self, user: str | Principal, name: str, camera: Camera) -> None:
        """Write a new camera's file into the site's folder, which is followed; offline jobs see it there, too.

        Args:
            user: who asks.
            name: the new camera's.
            camera: its settings.

        Raises:
            ConfigError: as ``add``; also a file of that name, or the embedded street.
            StorageError: it could not be audited or written; there is no such camera.
        """
        self._policy.check(camera.url)
        _check_detector(camera.detector)
        self._system.pool.check_new(name)
        folder = self._system.follower.site.folder
        if folder.resolve().is_relative_to(STREET.resolve()) or f"{name}.yaml" == SITE_FILE:
            raise ConfigError(f"camera {name!r}: {folder} cannot take its file; serve a folder of your own, other name")
        if (there := camera_file(folder, name)) is not None:
            raise ConfigError(f"{there}: is there already; choose another name, or remove it first")
        with self._audited(user, "camera_added", name, url=redact_url(camera.url)):
            write_camera(folder / f"{name}.yaml", {"url": camera.url, "detector": camera.detector, "fps": camera.fps})

    def remove(self, user: str | Principal, name: str) -> None:
        """Remove a camera: one of the site's files too, and one that was refused at the start.

        Raises:
            ConfigError: there is none of that name.
            StorageError: it could not be audited or kept; the camera goes on.
        """
        is_there = name in self._system.pool.states() or name not in self.refused
        days = self._system.pool.state(name).settings.retention_days if is_there else self._system.pool.former.get(name)
        with self._kept(_SET, (name, None, days, 1, 0)), self._audited(user, "camera_removed", name):
            if is_there:
                self._system.pool.remove(name)
        self._forget_refusal(name)

    def put_back(self, user: str | Principal, name: str) -> CameraState:
        """Take up a camera of the site's files again that was removed.

        Raises:
            ConfigError: the site has none of that name, or it is there.
            StorageError: it could not be audited or kept; nothing was changed.
        """
        if name not in self._system.follower.site.cameras:
            raise ConfigError(f"camera {name!r}: the site's folder has no such camera; add it with its address")
        self._system.pool.check_new(name)
        camera = self._system.follower.site.cameras[name]
        row = (name, None, camera.retention_days, 0, 0)
        with self._kept(_SET, row), self._audited(user, "camera_put_back", name):
            self._system.pool.add(name, camera)
        return self._system.pool.state(name)

    def set_regions(self, user: str | Principal, name: str, masks: Sequence[Sequence[Point]], zones: Regions) -> None:
        """Give a camera other masks and zones: in its file, which is then followed, or where it is kept.

        Args:
            user: who asks.
            name: the camera's.
            masks: polygons.
            zones: polygons by name.

        Raises:
            ConfigError: there is no such camera, polygons that are none, or a file that cannot be changed line by line.
            StorageError: it could not be audited or kept; nothing was changed.
        """
        state = self._system.pool.state(name)
        settings = {**state.settings.model_dump(mode="json"), "masks": masks, "zones": zones}
        camera = parse(Camera, settings, where=f"camera {name}").model_copy(
            update={"neighbours": state.settings.neighbours}
        )
        site = self._system.follower.site
        file = camera_file(site.folder, name) if site.cameras.get(name) == state.settings else None
        detail = {"masks": str(len(camera.masks)), "zones": ", ".join(camera.zones) or "none"}
        if file is not None:
            with self._audited(user, "camera_regions_changed", name, **detail):
                write_regions(file, camera.masks, camera.zones)
            return
        row = (name, _settings_json(camera), camera.retention_days, 0, int(state.stream.state is StreamState.PAUSED))
        with self._kept(_SET, row), self._audited(user, "camera_regions_changed", name, **detail):
            self._system.pool.replace(name, camera)

    def switch(self, user: str | Principal, name: str, *, paused: bool) -> CameraState:
        """Pause a camera or resume it.

        Args:
            user: who asks.
            name: how it is called.
            paused: True: nothing is read from it; False: it goes on.

        Raises:
            ConfigError: there is none of that name.
            StorageError: it could not be audited or kept; nothing was changed.
        """
        self._system.pool.state(name)
        action = "camera_paused" if paused else "camera_resumed"
        with self._kept(_PAUSE, (name, int(paused))), self._audited(user, action, name):
            (self._system.pool.pause if paused else self._system.pool.resume)(name)
        return self._system.pool.state(name)

    @contextlib.contextmanager
    def _kept(self, statement: str, values: tuple[object, ...]) -> Iterator[None]:
        with self._database.write() as connection:
            connection.execute(statement, values)
            yield

    @contextlib.contextmanager
    def _audited(self, user: str | Principal, action: str, name: str, **detail: str) -> Iterator[None]:
        self._audit.add(user, action, camera=name, **detail)
        try:
            yield
        except ReidError as error:  # somebody else was faster: the entry before stands, and this one mends it
            self._audit.add(user, "camera_change_failed", camera=name, change=action, reason=str(error))
            raise

    def _forget_refusal(self, name: str) -> None:
        if name in self.refused:
            self.refused.discard(name)
            self._system.alerts.put(f"camera {name}", "")


def _settings_json(camera: Camera) -> str:
    """All settings, but of travel times what was stated alone: a ``min_s`` of 0 that nobody stated says nothing."""
    stated = {name: travel.model_dump(exclude_unset=True) for name, travel in camera.neighbours.items()}
    return json.dumps({**camera.model_dump(mode="json"), "neighbours": stated})


def _check_detector(detector: str) -> None:
    """Refuse the name of a detector that is not in the models folder: its camera would fail for ever."""
    if detector not in (AUTO, MOTION):
        try:
            find_installed(detector, "detector")
        except ReidError as error:
            raise ConfigError(f"detector: {error}") from None
