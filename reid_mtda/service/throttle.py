"""Wrong tokens slowed down."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from reid_mtda.service.roles import AccessError


class Throttle:
    """Slows down whoever guesses tokens: after ``free`` failures each further one costs twice the wait of the last.

    Wrong tokens alone are counted and refused. Right ones are never asked to wait: many people may share an address,
    and one of them must not lock out the others.
    """

    def __init__(
        self,
        *,
        free: int = 5,
        longest_s: float = 300.0,
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free, self._longest_s, self._size, self._clock = free, longest_s, size, clock
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}

    def failed(self, address: str) -> None:
        """Count a wrong token from ``address``.

        Raises:
            AccessError: 429, with the seconds to wait: there were too many too lately; this one does not count.
        """
        with self._lock:
            now = self._clock()
            count, last = self._failures.get(address, (0, now))
            if now - last > 2 * self._longest_s:
                count = 0
            if count >= self._free:
                wait = min(2.0 ** min(count - self._free, 16), self._longest_s) - (now - last)
                if wait > 0:
                    retry_s = float(math.ceil(wait))
                    raise AccessError(f"too many wrong tokens; wait {retry_s:.0f} s", 429, retry_after_s=retry_s)
            self._failures.pop(address, None)
            self._failures[address] = (count + 1, now)
            while len(self._failures) > self._size:
                self._failures.pop(next(iter(self._failures)))
