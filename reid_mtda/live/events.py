"""What happened lately, numbered: a ring that any number of listeners read at their own pace."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that happened; ``camera`` None: concerns no single camera."""

    number: int
    time_s: float
    kind: str
    camera: str | None
    detail: dict[str, Any]


class Events:
    """The last ``size`` events. A listener that is too slow misses some and can see so from the numbers.

    Numbers begin at the time of the start (ms): a listener that comes back after a restart with the number of
    the last event it received is sent what came after it.
    """

    def __init__(self, size: int = 1000) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Event] = deque(maxlen=size)
        self._last = time.time_ns() // 1_000_000

    def publish(self, kind: str, camera: str | None = None, **detail: Any) -> None:
        """Add an event."""
        with self._lock:
            self._last += 1
            self._kept.append(Event(self._last, time.time(), kind, camera, detail))

    @property
    def last(self) -> int:
        """Number of the newest event, or the one before the first."""
        with self._lock:
            return self._last

    def after(self, number: int) -> list[Event]:
        """Events with a higher number, oldest first; all of them after one not given yet, of a clock that went back."""
        with self._lock:
            if number > self._last:
                number = 0
            return [event for event in self._kept if event.number > number]
