"""A site is a folder, a camera is one YAML file in it; this is their only reader."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, StringConstraints, field_validator, model_validator

from reid_mtda.errors import ConfigError
from reid_mtda.polygons import Polygon, Polygons
from reid_mtda.schema import Strict, load_yaml

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}\Z")
SITE_FILE = "site.yaml"
STREET = Path(__file__).with_name("sites") / "street"
"""The embedded site, the same as ``cameras/street`` of the repository."""
AUTO = "auto"
MOTION = "motion"
"""Detectors that are no network: the best one at hand, and what moves."""
_MOST_REGIONS = 32
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


_OF_THE_SERVICE = ("device", "keep_for_adaptation", "neighbours", "pictures_in_events", "zones")
_FOR_PEOPLE = ("purpose", "legal_basis", "sign_text")
"""Keys of a camera that change nothing in what its footage gives."""


class Travel(Strict):
    """How long people take from one camera's view to another's."""

    min_s: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="Seconds that nobody is faster than, by any way; 0 where both views show the same ground.",
    )
    max_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which somebody is no longer expected; without it, whenever.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Travel:
        if self.max_s is not None and self.max_s < self.min_s:
            raise ValueError(f"got max_s {self.max_s:g} below min_s {self.min_s:g}, expected min_s <= max_s")
        return self


class Camera(Strict):
    """One camera of a site. Its name is the file's name without ``.yaml``."""

    url: str = Field(
        min_length=1,
        description="Where frames come from: a video file or a folder of pictures (relative to this file), "
        "'device:0', 'rtsp://...', 'http://...', or 'synthetic://street?camera=gate&seed=7'.",
        examples=["footage/gate.mp4"],
    )
    detector: str = Field(
        default=AUTO,
        description="How people are found: 'auto' (the best person detector of 'reid-mtda models' that is here, else "
        "motion), 'motion' (fixed cameras, no weights), the name of a detector of 'reid-mtda models', e.g. yolox-nano, "
        "one of your own (an entry point, or module:function), or the path of an ONNX or OpenVINO person detector "
        "(relative to this file), with its card beside it where it needs one.",
        examples=[AUTO],
    )
    device: str = Field(
        default="cpu",
        description="Where a detector network runs: 'cpu'; for ONNX also 'cuda', 'tensorrt' or 'coreml', for OpenVINO "
        "'gpu' or 'npu'; 'auto': the first of these that this machine has.",
        examples=["cpu"],
    )
    fps: float = Field(default=5.0, gt=0, le=60, description="Frames analysed per second.", examples=[5.0])
    min_height_px: int = Field(
        default=32,
        ge=8,
        le=4096,
        description="People lower than this in the frame, in pixels, are ignored.",
        examples=[32],
    )
    min_score: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Detections scored below this are ignored (motion scores are all 1).",
        examples=[0.4],
    )
    start_time: str | None = Field(
        default=None,
        description="When the first frame of a recording was taken, ISO 8601 with zone; without it what the file says "
        "itself, else the file's date less its length.",
        examples=["2026-03-01T08:00:00+00:00"],
    )
    retention_days: float = Field(
        default=30.0,
        gt=0,
        le=3650,
        description="Days after which sightings of this camera are deleted.",
        examples=[30.0],
    )
    keep_for_adaptation: bool = Field(
        default=False,
        description="Whether the running service keeps the best crops of this camera to adapt to later.",
        examples=[False],
    )
    pictures_in_events: bool = Field(
        default=False,
        description="Whether a sighting's picture goes to those whom the service tells of events (MQTT, webhooks).",
        examples=[False],
    )
    purpose: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Why this camera is watched; for 'reid-mtda dpia'.",
        examples=["finding lost children"],
    )
    legal_basis: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="On what basis; for 'reid-mtda dpia'.",
        examples=["GDPR Art. 6(1)(f)"],
    )
    sign_text: str | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="What the sign beside the camera says; for 'reid-mtda dpia'.",
        examples=["Cameras find lost children here; ask at the desk."],
    )
    neighbours: dict[str, Travel] = Field(
        default={},
        description="Travel times to other cameras of the site, by name; a search from a sighting leaves out what "
        "nobody could have reached. Stated for one direction they hold for both. No limit to cameras not named.",
        examples=[{"plaza": {"min_s": 5, "max_s": 120}}],
    )

    masks: Polygons = Field(
        default=(),
        max_length=_MOST_REGIONS,
        description="Parts of the picture that are painted over before anything looks at it, polygons of corners "
        "[x, y] in shares of its width and height from the upper left: what moves but is nobody, and what nobody may "
        "film.",
        examples=[[[[0, 0], [0.3, 0], [0.3, 0.2], [0, 0.2]]]],
    )
    zones: dict[Annotated[str, StringConstraints(pattern=NAME.pattern.replace(r"\Z", "$"))], Polygon] = Field(
        default={},
        max_length=_MOST_REGIONS,
        description="Parts of the ground by name, polygons as of masks: how many people stand there, and for how long.",
        examples=[{"door": [[0.4, 0.5], [0.6, 0.5], [0.6, 1], [0.4, 1]]}],
    )

    def for_footage(self) -> dict[str, object]:
        """The settings that may decide what footage gives, for a run's record.

        Those of the service alone are not among them, nor is the device: all devices give what the CPU gives. Masks
        are where there are any: footage harvested before there were masks is the same.
        """
        return self.model_dump(exclude={*_OF_THE_SERVICE, *_FOR_PEOPLE, *(() if self.masks else ("masks",))})


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
