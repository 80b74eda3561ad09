"""Camera files that change while the service runs: noticed, read, and followed as far as they can be.

A file added is a camera added, a file changed starts its camera anew, a file removed removes its camera: the folder
says what the site is, now as at every start. A file that cannot be read changes nothing but a notice: its camera goes
on with what it had. When the folder is gone or holds no camera at all, that is an accident (a disk not mounted, a
checkout half-way), and every camera goes on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from reid_mtda.camera_settings import NAME, Camera
from reid_mtda.errors import ConfigError, ReidError
from reid_mtda.live.alerts import Alerts
from reid_mtda.live.cameras import CameraPool
from reid_mtda.schema import load_yaml
from reid_mtda.site import Site, check_address, check_neighbours, is_camera_file

log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class SiteChange:
    """What became of one camera file; ``before`` and ``after`` are its settings, None where there was or is none."""

    kind: Literal["added", "changed", "removed"]
    name: str
    before: Camera | None
    after: Camera | None


class SiteWatcher:
    """Compares a site's folder with what is known of it, at each ``look``; a change counts when two looks agree on it.

    ``site`` is what the files say, as far as they could be read; ``wrong`` says of the others what is, by camera,
    and ``fault`` says when there is no folder to look at. A site that was not read from files is not looked at.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.wrong: dict[str, str] = {}
        self.fault = ""
        self._seen: dict[Path, _Stamp] = {}
        self._read: dict[Path, _Stamp] = {}
        self._broken: dict[str, str] = {}
        # One that has no camera at all waits for its first file.
        self._has_files = bool(_stamps(site.folder)) or not site.cameras

    def poll(self) -> list[SiteChange]:
        """What changed since the last look, in order of names."""
        last, self._seen = self._seen, _stamps(self.site.folder)
        if not self._has_files:
            return []
        if not self._seen and not last and not self.site.cameras:
            return []
        if not self._seen:
            self.fault = (
                f"{self.site.folder}: holds no camera file any more; the cameras go on as they are, put it back"
            )
            return []
        self.fault = ""
        changes = list(self._changes(last))
        self.wrong = self._lonely() | self._broken
        return changes

    def _changes(self, last: dict[Path, _Stamp]) -> Iterator[SiteChange]:
        # What came or went may mend a file that named it, or stood beside it.
        is_again = self._broken if self._seen.keys() != last.keys() else {}
        self._read = {
            path: stamp for path, stamp in self._read.items() if path in self._seen and path.stem not in is_again
        }
        cameras = dict(self.site.cameras)
        here = {path.stem for path in (*self._seen, *last)}
        for name in sorted({*cameras, *self._broken} - here) if last else ():
            self._broken.pop(name, None)
            if name in cameras:
                yield SiteChange("removed", name, cameras.pop(name), None)
        for path, stamp in sorted(self._seen.items()):
            if stamp != last.get(path) or stamp == self._read.get(path):
                continue  # it is being written, or nothing new
            self._read[path] = stamp
            name = path.stem
            try:
                camera = self._load(path)
            except ConfigError as error:
                outcome = "the camera goes on as it was" if name in cameras else "the camera is not taken up"
                self._broken[name] = f"{_without_addresses(str(error))}; {outcome}"
                continue
            self._broken.pop(name, None)
            before, cameras[name] = cameras.get(name), camera
            if before != camera:
                yield SiteChange("changed" if before else "added", name, before, camera)
        self.site = replace(self.site, cameras=dict(sorted(cameras.items())))

    def _load(self, path: Path) -> Camera:
        if not NAME.match(path.stem):
            raise ConfigError(f"{path}: a camera's name is its file name, got {path.stem!r}, expected a-z 0-9 _ -")
        if any(other.stem == path.stem and other != path for other in self._seen):
            raise ConfigError(f"{path}: camera {path.stem!r} stands twice (.yaml and .yml); keep one")
        camera = load_yaml(path, Camera)
        check_address(camera, self.site.folder, where=f"{path}: url")
        check_neighbours(path.stem, camera, {other.stem for other in self._seen}, where=f"{path}: neighbours")
        return camera

    def _lonely(self) -> dict[str, str]:
        """Cameras whose file names a neighbour that went: they go on, but the next start would refuse their file."""
        found, known = {}, self.site.cameras.keys() | {path.stem for path in self._seen}
        for name, camera in self.site.cameras.items():
            try:
                check_neighbours(name, camera, known, where=f"{self.site.folder / name}.yaml: neighbours")
            except ConfigError as error:
                found[name] = f"{error}; the camera goes on as it is, but the service could not be started again"
        return found


class SiteReloader:
    """Does to the running cameras what was done to the site's files.

    Args:
        site: as it was read at the start.
        pool: the running cameras.
        alerts: told of files that cannot be followed.
    """

    def __init__(self, site: Site, pool: CameraPool, alerts: Alerts) -> None:
        self._watch, self._pool, self._alerts = SiteWatcher(site), pool, alerts
        self._refused: dict[str, str] = {}
        self._owed: dict[str, SiteChange] = {}
        self._told: set[str] = set()
        self.before_change: Callable[[SiteChange], None] = lambda change: None
        self.on_change: Callable[[SiteChange, str], None] = lambda change, problem: None

    @property
    def site(self) -> Site:
        """The site as its files say, as far as they could be read."""
        return self._watch.site

    def follow(self) -> None:
        """Look at the files once.

        ``before_change`` is told of each change: what it refuses to note is not followed, but at a later look.
        ``on_change`` is told afterwards, and why a change could not be followed, if so.
        """
        for change in self._watch.poll():
            self._refused.pop(change.name, None)
            if joined := _joined(self._owed.pop(change.name, None), change):
                self._owed[change.name] = joined
        for change in list(self._owed.values()):
            try:
                self.before_change(change)
            except ReidError as error:
                self._refused[change.name] = (
                    f"camera {change.name}: its file was {change.kind}, but that cannot be recorded ({error}); it is "
                    "followed once it can be"
                )
                continue
            del self._owed[change.name]
            self._refused.pop(change.name, None)
            if problem := self._apply(change):
                self._refused[change.name] = problem
            else:
                log.info("camera %s: its file was %s", change.name, change.kind)
            try:
                self.on_change(change, problem)
            except ReidError as error:  # the file was followed, and so must the others be
                log.error("camera %s: file %s, but not all of it is kept: %s", change.name, change.kind, error)
        wrong = self._refused | self._watch.wrong
        for name in self._told | wrong.keys():
            self._alerts.put(f"camera {name}", wrong.get(name, ""))
        self._told = set(wrong)
        self._alerts.put("site", self._watch.fault)

    def _apply(self, change: SiteChange) -> str:
        """Follow a change; why it could not be, or ''."""
        name, there = change.name, self._pool.states().get(change.name)
        if there is not None and there.settings != change.before:
            if change.after is None:
                return ""  # another camera of that name was added while running; it stays
            return f"camera {name}: has a file now, but was added while running; remove it to take up the file"
        try:
            if change.after is None:
                if there is not None:
                    self._pool.remove(name)
            elif there is not None:
                self._pool.replace(name, change.after)
            elif change.before is None:
                self._pool.add(name, change.after)
            # Else somebody removed the camera while running: a file that changes does not bring it back.
        except ConfigError as error:
            return str(error)
        return ""


def _joined(first: SiteChange | None, then: SiteChange) -> SiteChange | None:
    """Two changes of one file as one; None where it is as it was."""
    if first is None:
        return then
    if first.before == then.after:
        return None
    kind: Literal["added", "changed", "removed"] = "changed"
    if then.after is None:
        kind = "removed"
    elif first.before is None:
        kind = "added"
    return SiteChange(kind, then.name, first.before, then.after)


def _stamps(folder: Path) -> dict[Path, _Stamp]:
    """When each camera file was last written, and its size and place on the disk: a copy may keep the time."""
    found = {}
    try:
        for path in folder.iterdir():
            if is_camera_file(path):
                stat = path.stat()
                found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    except OSError:  # gone between two calls: the next look sees what is left
        return {}
    return found


def _without_addresses(message: str) -> str:
    """A complaint about a file without what stands in its addresses: passwords, for one.

    >>> _without_addresses("gate.yaml: url: got ['rtsp://user:pw@cam/1'], expected text")
    "gate.yaml: url: got ['rtsp://*** expected text"
    """
    return re.sub(r"(\w+://)\S+", r"\1***", message)
