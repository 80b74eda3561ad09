"""A folder of pictures as a recording: one picture is one frame, in natural order of the names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reid_mtda.errors import DataError, ImageError, VideoError
from reid_mtda.types import Frame
from reid_mtda.vision.picture_files import PICTURE_SUFFIXES, find_pictures
from reid_mtda.vision.preprocess import read_image


def folder_pictures(folder: Path) -> list[Path]:
    """List the pictures of ``folder``, those in folders below it as well; frame 9 comes before frame 10.

    Raises:
        VideoError: it cannot be read, or holds none.
    """
    try:
        found = find_pictures(folder)
    except DataError as error:
        raise VideoError(str(error)) from None
    if not found:
        raise VideoError(
            f"{folder}: no pictures in this folder, expected files ending in {', '.join(PICTURE_SUFFIXES)}"
        )
    return sorted(found, key=lambda path: _natural(path.relative_to(folder)))


def folder_frames(pictures: list[Path], *, camera: str, fps: float, start_s: float) -> Iterator[Frame]:
    """Yield one frame for each picture, ``1 / fps`` seconds apart.

    Args:
        pictures: in their order.
        camera: the camera's name.
        fps: frames per second.
        start_s: POSIX seconds of its first frame.

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
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]
