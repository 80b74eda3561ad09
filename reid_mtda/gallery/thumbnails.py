"""The pictures of a gallery: one JPEG file for each sighting that has one, a thousand to a folder."""

from __future__ import annotations

import os
from pathlib import Path

THUMBNAILS = "thumbnails"

_PER_FOLDER = 1000


class Thumbnails:
    """The picture files below the folder of a gallery."""

    def __init__(self, gallery: Path) -> None:
        self._folder = gallery / THUMBNAILS

    def path(self, number: int) -> Path:
        """Where the thumbnail of a sighting lies."""
        return self._folder / str(number // _PER_FOLDER) / f"{number}.jpg"

    def write(self, number: int, jpeg: bytes) -> Path:
        """Write one down to the disk. No other name first: until its row is committed nobody looks for it."""
        path = self.path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(jpeg)
            file.flush()
            os.fsync(file.fileno())
        return path

    def remove_after(self, last: int) -> None:
        """Remove those of numbers above ``last``: whoever wrote them was killed before its transaction ended."""
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            if folder.name.isdigit() and int(folder.name) >= (last + 1) // _PER_FOLDER:
                for path in folder.glob("*.jpg"):
                    if path.stem.isdigit() and int(path.stem) > last:
                        path.unlink(missing_ok=True)
