"""Camera files that are written: a new one, or the masks and zones of one that is there, with the rest as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError
from reid_mtda.files import atomic_write
from reid_mtda.polygons import Point
from reid_mtda.schema import load_yaml
from reid_mtda.site import STREET

Regions = Mapping[str, Sequence[Point]]
_KEY = re.compile(r"^(\w+|['\"]\w+['\"])\s*:")


def camera_file(folder: Path, name: str) -> Path | None:
    """The file of a camera in a site's folder; None where there is none."""
    return next((path for end in (".yaml", ".yml") if (path := folder / f"{name}{end}").is_file()), None)


def write_camera(path: Path, settings: Mapping[str, object]) -> None:
    """Write a new camera's file, which its owner alone may read: addresses hold passwords.

    Raises:
        StorageError: the disk or the folder's rights refused.
    """
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    _write(path, text, mode=0o600)


def write_regions(path: Path, masks: Sequence[Sequence[Point]], zones: Regions) -> Camera:
    """Put masks and zones in place of those in a camera's file; all other lines, comments too, stay as they are.

    Args:
        path: the camera's file.
        masks: polygons.
        zones: polygons by name.

    Returns:
        The camera as the file now says.

    Raises:
        ConfigError: polygons that are none, a file that cannot be read, or one that is not written line by line.
        StorageError: the disk or the folder's rights refused; the file is as it was.
    """
    if path.resolve().is_relative_to(STREET.resolve()):
        raise ConfigError(f"{path}: is part of the package; copy the street's files to a folder of your own first")
    before = load_yaml(path, Camera)
    lines = _without(path.read_text(encoding="utf-8").splitlines(), ("masks", "zones"))
    while lines and not lines[-1].strip():
        lines.pop()
    if masks:
        lines += ["masks:", *(f"  - {_flow(polygon)}" for polygon in masks)]
    if zones:
        lines += ["zones:", *(f"  {name}: {_flow(polygon)}" for name, polygon in zones.items())]
    trial = path.with_name(f".{path.name}.trial")
    text = "\n".join(lines) + "\n"
    _write(trial, text, mode=path.stat().st_mode & 0o777)
    try:
        after = load_yaml(trial, Camera)
        rest = {"masks", "zones"}
        if before.model_dump(exclude=rest) != after.model_dump(exclude=rest):
            raise ConfigError(f"{path}: is not written one key a line; put masks and zones into it by hand")
        _write(path, text, mode=path.stat().st_mode & 0o777)
        return after
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(trial), str(path))) from None
    finally:
        trial.unlink(missing_ok=True)


def _without(lines: list[str], keys: tuple[str, ...]) -> list[str]:
    """``lines`` without these keys of the top and what stands indented or in brackets below them."""
    kept, is_left_out = [], False
    for line in lines:
        if found := _KEY.match(line):
            is_left_out = found[1].strip("'\"") in keys
        elif is_left_out and line.lstrip().startswith("#") and not line[0].isspace():
            is_left_out = False  # a comment at the margin belongs to what follows
        if not is_left_out:
            kept.append(line)
    return kept


def _flow(polygon: Sequence[Point]) -> str:
    return "[" + ", ".join(f"[{x:.4g}, {y:.4g}]" for x, y in polygon) + "]"


def _write(path: Path, text: str, *, mode: int) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    path.chmod(mode)
