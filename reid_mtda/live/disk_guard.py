"""What the disk still has room for: pictures are given up first, then sightings; searches need none."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

_DISTRUST_S = 30.0


class StorageLevel(IntEnum):
    """What may be written now; each includes those below."""

    NOTHING = 0
    VECTORS = 1
    PICTURES = 2


class Disk:
    """Watches the free space where the gallery lies, and remembers writes that were refused.

    Free space is looked at every few seconds only, and quotas do not show in it: a refused write says at once what a
    look would say later. For half a minute nothing of that size is tried again. Safe to use from several threads.

    Args:
        folder: where the gallery lies now.
        pictures_mb: below so much free space (MB) sightings are stored without their picture.
        vectors_mb: below so much none are stored.
        clock: seconds that never step back.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        *,
        pictures_mb: float,
        vectors_mb: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._clock = folder, clock
        self._pictures_mb, self._vectors_mb = pictures_mb, vectors_mb
        self._lock = threading.Lock()
        self._refusals: dict[StorageLevel, tuple[float, str]] = {}
        self.level, self.message = StorageLevel.PICTURES, ""

    def poll(self) -> bool:
        """Measure; True when there is room for something else than at the last look."""
        free_mb = free_disk_mb(self._folder())
        with self._lock:
            before, now = self.level, self._clock()
            self._refusals = {what: refusal for what, refusal in self._refusals.items() if now < refusal[0]}
            level, why = StorageLevel.PICTURES, ""
            if free_mb < self._vectors_mb:
                level, why = StorageLevel.NOTHING, f"{free_mb:.0f} MB of disk left"
            elif free_mb < self._pictures_mb:
                level, why = StorageLevel.VECTORS, f"{free_mb:.0f} MB of disk left"
            for what, (_, said) in self._refusals.items():
                if what <= level:
                    level, why = StorageLevel(what - 1), said
            self.level, self.message = level, _in_words(level, why)
            return level is not before

    def refused(self, what: StorageLevel, error: Exception) -> None:
        """Something of the size of ``what`` could not be written."""
        with self._lock:
            self._refusals[what] = (self._clock() + _DISTRUST_S, str(error))


def _in_words(level: StorageLevel, why: str) -> str:
    if level is StorageLevel.PICTURES:
        return ""
    lost = "pictures are not stored, sightings are" if level is StorageLevel.VECTORS else "sightings are not stored"
    return f"{lost}, searches go on while the audit can be written: {why}; free space"


def free_disk_mb(folder: Path) -> float:
    """Free space of the disk that ``folder`` lies on, in MB (10^6 bytes); infinite where that cannot be told."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free / 1e6
    return float("inf")
