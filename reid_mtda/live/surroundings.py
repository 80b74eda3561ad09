"""What a running system finds around it: folders, where frames come from, clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reid_mtda.types import Frame


@dataclass(frozen=True)
class Surroundings:
    """Where a system keeps what outlives it, and what tests put in the place of cameras and clocks.

    Args:
        crops: folder for the crops of cameras that are opted in to be adapted to; None: none are kept.
        references: folder for what drift is measured against, the last time known and how far retention went; None:
            they are forgotten in the end.
        open_frames: (url, camera, fps) -> frames; None: those of the camera.
        clock: seconds that never step back.
        wall: POSIX seconds.
    """

    crops: Path | None = None
    references: Path | None = None
    open_frames: Callable[[str, str, float], Iterator[Frame]] | None = None
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
