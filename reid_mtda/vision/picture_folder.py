"""A folder of pictures as a recording: one picture is one frame, in natural order of the names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reid_mtda.errors import ImageError, VideoError
from reid_mtda.types import Frame
from reid_mtda.vision.preprocess import read_image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


def folder_pictures(folder: Path) -> list[Path]:
    """The pictures of ``folder``; frame 9 comes before frame 10.

    Raises:
        VideoError: it cannot be read, or holds none.
    """
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read ({error.strerror}); check the folder's permissions") from None
    if not found:
        raise VideoError(
            f"{folder}: no pictures in this folder, expected files ending in {', '.join(PICTURE_SUFFIXES)}"
        )
    return sorted(found, key=_natural)


def folder_frames(pictures: list[Path], *, camera: str, fps: float, start_s: float) -> Iterator[Frame]:
    """Yield one frame for each picture, ``1 / fps`` seconds apart.

    Raises:
        VideoError: a picture that cannot be read.
    """
    for index, path in enumerate(pictures):
        try:
            picture = read_image(path)
        except ImageError as error:
            raise VideoError(f"{error}; mend or remove this frame") from None
        yield Frame(camera, index, start_s + index / fps, picture)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
