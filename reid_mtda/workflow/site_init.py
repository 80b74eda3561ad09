"""A new site from addresses: each camera is opened, its file written, and one picture shows what they all see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reid_mtda.camera_settings import AUTO, MOTION, NAME, Camera
from reid_mtda.errors import ConfigError
from reid_mtda.files import atomic_write
from reid_mtda.live.camera_file_writer import write_camera
from reid_mtda.site import SITE_FILE, Site, check_address, load_site, resolve
from reid_mtda.types import ImageArray
from reid_mtda.vision.address import address_scheme
from reid_mtda.vision.camera_detector import named_detector
from reid_mtda.vision.crops import encode_jpeg
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.first_frame import FirstFrame, first_frames

_TILE_PX = (360, 480)  # (height, width)
_MARK = (40, 220, 40)


@dataclass(frozen=True)
class NewSite:
    """What was made: people found in each camera's first frame (None: the detector needs more than one frame), what
    was wrong with cameras that have no file, and the picture, None where no camera answered."""

    people: dict[str, int | None]
    failures: dict[str, str]
    picture: Path | None


def name_cameras(addresses: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=ADDRESS`` or addresses alone, which are named camera1, camera2 and so on.

    >>> name_cameras(["gate=rtsp://10.0.0.5/live", "rtsp://10.0.0.6/live?a=b"])
    {'gate': 'rtsp://10.0.0.5/live', 'camera2': 'rtsp://10.0.0.6/live?a=b'}

    Raises:
        ConfigError: a name twice.
    """
    named: dict[str, str] = {}
    for number, text in enumerate(addresses, 1):
        start, equals, rest = text.partition("=")
        if equals and not NAME.match(start) and ":" not in start and not Path(text).exists():
            raise ConfigError(f"got a camera called {start!r}, expected a-z 0-9 _ -; NAME=ADDRESS")
        name, address = (start, rest) if equals and NAME.match(start) else (f"camera{number}", text)
        if name in named:
            raise ConfigError(f"camera {name!r} stands twice; give each a name of its own, NAME=ADDRESS")
        named[name] = address
    return named


def init_site(
    folder: Path,
    addresses: Mapping[str, str],
    *,
    detector: str | None = None,
    fps: float = 5.0,
    timeout_s: float = 15.0,
) -> NewSite:
    """Open cameras, and write a file for each that answers.

    Args:
        folder: the site; made when missing. Files that are there stay, and a camera of a name that is there is refused.
        addresses: by the camera's name, as camera files have them; paths start from the current folder.
        detector: for all of them; None writes ``auto``: the best person detector of the models folder, else motion.
        fps: frames analysed per second.
        timeout_s: seconds that a camera may take for its first frame.

    Raises:
        ConfigError: a bad or taken name, or an unknown detector.
        StorageError: the folder cannot be written.
    """
    detector = detector or AUTO
    named = named_detector(detector)
    detect = None if named == MOTION else load_detector(named, threads=1, min_height_px=8)
    here = Site("new", Path.cwd(), {})
    cameras = {}
    for name, address in addresses.items():
        taken = [folder / f"{name}{end}" for end in (".yaml", ".yml") if (folder / f"{name}{end}").exists()]
        if not NAME.match(name) or f"{name}.yaml" == SITE_FILE:
            raise ConfigError(f"got a camera called {name!r}, expected a-z 0-9 _ -, and not 'site'; NAME=ADDRESS")
        if taken:
            raise ConfigError(f"{taken[0]}: is there already; choose another name, or remove it first")
        is_path = not address_scheme(address)
        cameras[name] = Camera(url=resolve(here, address) if is_path else address, detector=detector, fps=fps)
        check_address(cameras[name], here.folder, where=f"camera {name}")
    answers = first_frames({name: camera.url for name, camera in cameras.items()}, timeout_s=timeout_s)
    people: dict[str, int | None] = {}
    tiles: list[ImageArray] = []
    for name, answer in answers.items():
        if isinstance(answer, FirstFrame):
            boxes = None if detect is None else detect(answer.frame.image).xyxy
            people[name] = None if boxes is None else len(boxes)
            settings = {"url": cameras[name].url, "detector": detector, "fps": fps}
            write_camera(folder / f"{name}.yaml", settings)
            tiles.append(_tile(answer.frame.image, name, boxes))
    failures = {name: answer for name, answer in answers.items() if isinstance(answer, str)}
    if not tiles:
        return NewSite(people, failures, None)
    load_site(folder)
    picture = folder / "first_look.jpg"
    with atomic_write(picture) as part:
        part.write_bytes(encode_jpeg(_grid(tiles)))
    picture.chmod(0o600)
    return NewSite(people, failures, picture)


def _tile(image: ImageArray, name: str, boxes: np.ndarray | None) -> ImageArray:
    """A small picture of a frame with its people framed and its camera's name."""
    height, width = _TILE_PX
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    tile = np.zeros((height, width, 3), np.uint8)
    tile[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for x0, y0, x1, y1 in np.rint((boxes if boxes is not None else np.zeros((0, 4))) * scale).astype(int).tolist():
        cv2.rectangle(tile, (x0, y0), (x1, y1), _MARK, 2)
    text = name if boxes is None else f"{name}: {len(boxes)} found"
    cv2.putText(tile, text, (8, height - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    return tile


def _grid(tiles: list[ImageArray]) -> ImageArray:
    columns = max(1, round(len(tiles) ** 0.5))
    rows = -(-len(tiles) // columns)
    blank = [np.zeros_like(tiles[0])] * (rows * columns - len(tiles))
    cells = [*tiles, *blank]
    return np.vstack([np.hstack(cells[row * columns : (row + 1) * columns]) for row in range(rows)])
