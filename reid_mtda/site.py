"""A site is a folder, a camera is one YAML file in it; this is their only reader."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator

from reid_mtda.camera_settings import NAME, Camera
from reid_mtda.errors import ConfigError
from reid_mtda.schema import Strict, load_yaml

SITE_FILE = "site.yaml"
STREET = Path(__file__).with_name("sites") / "street"
"""The embedded site, the same as ``cameras/street`` of the repository."""
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


class SiteSettings(Strict):
    """What holds for a whole site: the file ``site.yaml`` beside its cameras, which may be missing."""

    timezone: str | None = Field(
        default=None,
        description="The site's time zone, e.g. Europe/Berlin: pages show times in it and read those typed; without "
        "it the server's own. The API and all files have UTC.",
        examples=["Europe/Berlin"],
    )

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):  # a path, a folder of zones, no such zone
            near = difflib.get_close_matches(name, available_timezones(), n=1)
            hint = f"did you mean {near[0]}?" if near else "e.g. Europe/Berlin; without any known zone, install tzdata"
            raise ValueError(f"got {name!r}, expected the name of a time zone; {hint}") from None
        return name


@dataclass(frozen=True)
class Site:
    """Cameras by name, in the order of their names; ``folder`` is what relative paths in them start from.

    ``timezone`` is the name of the site's, None: that of the machine.
    """

    name: str
    folder: Path
    cameras: dict[str, Camera]
    timezone: str | None = None


def is_embedded(folder: Path) -> bool:
    """Whether ``folder`` names the embedded street: it is called so, and no folder of that name is there."""
    return str(folder) == STREET.name and not folder.exists()


def is_camera_file(path: Path) -> bool:
    """Whether a file of a site's folder is a camera's, by its name: YAML, not hidden, and not the site's own."""
    return path.suffix in (".yaml", ".yml") and path.name[0] != "." and path.name != SITE_FILE


def load_site(folder: Path, *, may_be_empty: bool = False) -> Site:
    """Read every ``*.yaml`` of ``folder`` as a camera, but for ``site.yaml``, which says what holds for all of them.

    ``street``, where no folder of that name is there, is the embedded site. ``may_be_empty``: a folder that is there
    need hold no camera yet.

    Raises:
        ConfigError: no such folder, no camera in it, a file with a bad name, key or value.
    """
    folder = Path(folder)
    if is_embedded(folder):
        folder = STREET
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise ConfigError(f"{folder}: got {got}, expected a site: a folder with one YAML file per camera")
    files = sorted(path for path in folder.iterdir() if is_camera_file(path))
    if not files and not may_be_empty:
        raise ConfigError(f"{folder}: no camera files, expected one NAME.yaml per camera; see cameras/README.md")
    cameras: dict[str, Camera] = {}
    for path in files:
        if not NAME.match(path.stem):
            raise ConfigError(f"{path}: a camera's name is its file name, got {path.stem!r}, expected a-z 0-9 _ -")
        if path.stem in cameras:
            raise ConfigError(f"{path}: camera {path.stem!r} stands twice (.yaml and .yml); keep one")
        cameras[path.stem] = load_yaml(path, Camera)
        check_address(cameras[path.stem], folder, where=f"{path}: url")
    for name, camera in cameras.items():
        check_neighbours(name, camera, cameras, where=f"{folder / name}.yaml: neighbours")
    own = load_yaml(folder / SITE_FILE, SiteSettings) if (folder / SITE_FILE).exists() else SiteSettings()
    return Site(name=folder.resolve().name, folder=folder, cameras=cameras, timezone=own.timezone)


def check_address(camera: Camera, folder: Path, *, where: str) -> None:
    """Refuse an address with a user name that lacks its ``scheme://``: it would be read, and shown, as a file's name.

    Args:
        camera: as its file says.
        folder: what a relative path starts from.
        where: opens the message, which holds no password.

    Raises:
        ConfigError: an ``@``, no scheme, and no such file.
    """
    url = camera.url
    # For Path some of the texts that people type are an error.
    is_there = os.path.exists(folder / os.path.expanduser(url))  # noqa: PTH110, PTH111
    if "@" in url and not _SCHEME.match(url) and not is_there:
        shown = url.rpartition("@")[2].partition("?")[0]
        raise ConfigError(
            f"{where}: got '***@{shown}', neither an address nor a file that is there, expected "
            "rtsp://USER:PASSWORD@HOST/PATH or the path of a file or folder; mend it"
        )


def check_neighbours(name: str, camera: Camera, known: Collection[str], *, where: str) -> None:
    """Refuse travel times to cameras that are not there; ``where`` opens the message.

    Args:
        name: how it is called.
        camera: its settings.
        known: names of cameras that there are.
        where: opens the message.

    Raises:
        ConfigError: an unknown neighbour (with the nearest known one), or the camera itself.
    """
    for neighbour in camera.neighbours:
        if neighbour == name:
            raise ConfigError(f"{where}: got {neighbour!r}, the camera itself; name other cameras")
        if neighbour not in known:
            others = sorted(set(known) - {name})
            near = difflib.get_close_matches(neighbour, others, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"other cameras: {', '.join(others) or 'none'}"
            raise ConfigError(f"{where}: got {neighbour!r}, no camera of this site; {hint}")


def resolve(site: Site, value: str) -> str:
    """Make a relative path in a camera file absolute; URLs and devices stay as they are.

    >>> resolve(Site("s", Path("/a"), {}), "gate.mp4")
    '/a/gate.mp4'
    >>> resolve(Site("s", Path("/a"), {}), "synthetic://street?camera=gate")
    'synthetic://street?camera=gate'
    """
    if "://" in value or value.startswith("device:"):
        return value
    return str(site.folder / Path(value).expanduser())


def resolve_detector(site: Site, detector: str) -> str:
    """Make the relative path of a detector's file absolute; names of detectors stay as they are.

    >>> resolve_detector(Site("s", Path("/a"), {}), "nets/people.onnx")
    '/a/nets/people.onnx'
    >>> resolve_detector(Site("s", Path("/a"), {}), "yolox-nano")
    'yolox-nano'
    """
    return resolve(site, detector) if Path(detector).suffix.lower() in (".onnx", ".xml") else detector
