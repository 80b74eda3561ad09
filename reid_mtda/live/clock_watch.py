"""Whether the wall clock may be believed: one that runs ahead would delete everything within minutes, for good."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from reid_mtda.errors import StorageError
from reid_mtda.files import write_json

log = logging.getLogger(__name__)

_JUMP_S = 3600.0
_DAY_S = 86400.0
_WEEK_S = 7 * _DAY_S

YES = "say so on the status page, by POST /api/v1/retention?accept=true, or start with --accept-retention"


class ClockWatch:
    """Compares the wall clock with the last time that was believed, which a file keeps over a restart.

    While running a jump ahead of more than an hour is doubted; over a restart, where the service may have been off, one
    of more than a day. Up to a week is believed once it has stayed for a day: a machine that slept, or was off, looks
    like it. More than a week is believed when somebody says so, and not by itself. Going back costs nobody anything; a
    clock more than a week back was most likely not set yet, and the time known before counts until it stayed for a day.

    Args:
        wall: POSIX seconds.
        steady: seconds that nobody sets.
        file: where the last time is kept; None: in memory alone.
    """

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float], file: Path | None = None) -> None:
        self._wall, self._steady, self._file = wall, steady, file
        kept = _read(file)
        self._at_s = steady()
        self._trusted_s, stayed_s = kept if kept is not None else (wall(), 0.0)
        # Over a restart a doubt goes on where it was: neither forgotten nor begun anew.
        self._since_s = self._at_s - stayed_s if stayed_s else None
        self._limit_s = _JUMP_S if kept is None or stayed_s else _DAY_S

    def poll(self) -> str:
        """What is wrong with the clock, or ''; the time is kept."""
        now_s = self._steady()
        expected_s = self._trusted_s + now_s - self._at_s
        ahead_s = self._wall() - expected_s
        if -_WEEK_S <= ahead_s <= self._limit_s:
            return self._believe(self._wall())
        self._since_s = now_s if self._since_s is None else self._since_s
        stayed_s = now_s - self._since_s
        if stayed_s >= _DAY_S and ahead_s <= _WEEK_S:
            return self._believe(self._wall())
        self._trusted_s, self._at_s = expected_s, now_s
        self._keep(stayed_s)
        if ahead_s < 0:
            return ""
        until = f"until it has stayed so for a day, or you {YES}" if ahead_s <= _WEEK_S else f"until you {YES}"
        return (
            f"the clock jumped {ahead_s / 3600:.1f} hours ahead of the last time known: no sightings are let go "
            f"{until}; set it right where it is wrong"
        )

    def accept(self) -> None:
        """Somebody says that the clock is right."""
        self._believe(self._wall())

    def _believe(self, wall_s: float) -> str:
        self._trusted_s, self._at_s, self._since_s, self._limit_s = wall_s, self._steady(), None, _JUMP_S
        self._keep(0.0)
        return ""

    def _keep(self, stayed_s: float) -> None:
        if self._file is not None:
            try:
                write_json(self._file, {"wall_s": self._trusted_s, "doubted_s": stayed_s})
            except StorageError as error:  # an older time is kept, which doubts more
                log.warning("%s", error)


def _read(file: Path | None) -> tuple[float, float] | None:
    """The last time known, and for how long the clock had been in doubt."""
    if file is None:
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return float(kept["wall_s"]), float(kept["doubted_s"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: cannot be read (%s); the clock is believed as it is", file, error)
        return None
