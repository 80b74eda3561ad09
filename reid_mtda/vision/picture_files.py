"""Which files of a folder are pictures: one rule for data sets, crops, recordings and exports."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from reid_mtda.errors import DataError
from reid_mtda.vision.preprocess import is_picture

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Endings, in lower case, of pictures that `read_image` reads."""
_NAMED = 3
_NO_PICTURES = frozenset({"crops.csv", "harvest.json", "tracklets.csv", "cameras.txt", "thumbs.db", "desktop.ini"})
"""Files that belong beside pictures, and those that file managers leave there; in lower case."""


def find_pictures(folder: Path) -> tuple[Path, ...]:
    """List the pictures in ``folder`` and below it, in order of their paths.

    A file is a picture by its ending, or, where that tells nothing, by its first bytes. What is neither is left out,
    and how many such files there are is logged. Hidden files and folders (``.name``) are passed over.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in _files(Path(folder)):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            found.append(path)
        elif path.name.lower() not in _NO_PICTURES:
            (found if is_picture(path) else others).append(path)
    if others:
        names = ", ".join(str(path.relative_to(folder)) for path in others[:_NAMED])
        more = ", ..." if len(others) > _NAMED else ""
        log.warning("%s: left out %d files that are no pictures: %s%s", folder, len(others), names, more)
    return tuple(sorted(found))


def _files(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``; links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            state = place.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            for path in place.iterdir():
                if path.name.startswith("."):
                    continue
                if path.is_dir():
                    waiting.append(path)
                elif path.is_file():
                    yield path
        except OSError as error:
            raise DataError(f"{place}: cannot be read ({error.strerror}); check the folder's permissions") from None
