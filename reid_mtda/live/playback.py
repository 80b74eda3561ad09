"""Recordings shown as if they happened now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from reid_mtda.types import Frame


def play_realtime(
    frames: Iterator[Frame],
    *,
    wait: Callable[[float], bool],
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    longest_gap_s: float = float("inf"),
) -> Iterator[Frame]:
    """Recorded ``frames`` in real time, stamped as if taken now; frames whose time has passed come at once.

    Args:
        frames: with ``time_s`` of the recording.
        wait: waits so many seconds; True: stop.
        clock: seconds that never step back.
        wall: POSIX seconds.
        longest_gap_s: a longer time between two frames is played as this.
    """
    began = began_wall = before = None
    offset = 0.0
    for frame in frames:
        if began is None or began_wall is None or before is None:
            began, began_wall, before = clock(), wall(), frame.time_s
        offset += min(frame.time_s - before, longest_gap_s)
        before = frame.time_s
        delay = began + offset - clock()
        if delay > 0 and wait(delay):
            return
        yield replace(frame, time_s=began_wall + offset)
