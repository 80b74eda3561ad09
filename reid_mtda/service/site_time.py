"""The wall clock of a site: one time zone, with its name, for every page and every time that somebody types."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

log = logging.getLogger(__name__)

_LOCALTIME = Path("/etc/localtime")


@dataclass(frozen=True)
class SiteTime:
    """Times as people of the site read and write them. ``name`` is shown beside them, and browsers know it."""

    zone: tzinfo
    name: str

    def at(self, time_s: float) -> datetime:
        """POSIX seconds by this clock."""
        return datetime.fromtimestamp(time_s, self.zone)

    def moment(self, time_s: float) -> str:
        """Date and time of day."""
        return self.at(time_s).strftime("%d %b %Y, %H:%M:%S")

    def clock(self, time_s: float) -> str:
        """Time of day."""
        return self.at(time_s).strftime("%H:%M:%S")

    def field(self, time_s: float | None) -> str:
        """What a ``datetime-local`` field takes."""
        return "" if time_s is None else self.at(time_s).strftime("%Y-%m-%dT%H:%M:%S")

    def parse(self, text: str) -> float:
        """POSIX seconds of an ISO 8601 time; one without a zone is of this clock.

        >>> SiteTime(ZoneInfo("Asia/Tokyo"), "Asia/Tokyo").parse("1970-01-01T09:00")
        0.0

        Raises:
            ValueError: no such time.
            OverflowError: out of the years that there are.
        """
        said = datetime.fromisoformat(text)
        return (said if said.tzinfo is not None else said.replace(tzinfo=self.zone)).timestamp()


def site_time(timezone: str | None) -> SiteTime:
    """The clock of a site whose files say ``timezone``, e.g. Europe/Berlin; None: that of this machine."""
    name = timezone or _zone_of_this_machine()
    if name:
        return SiteTime(ZoneInfo(name), name)
    now = datetime.now().astimezone()
    offset = f"{now:%z}"
    log.warning("time zone: this machine does not name its own, %s is taken; state it in the site's site.yaml", offset)
    return SiteTime(now.tzinfo or ZoneInfo("UTC"), f"{offset[:3]}:{offset[3:5]}")


def _zone_of_this_machine() -> str:
    """The name that the environment or the system's clock has, '' where there is none."""
    said = os.environ.get("TZ", "").removeprefix(":")
    linked = str(_LOCALTIME.resolve()).partition("/zoneinfo/")[2] if _LOCALTIME.is_symlink() else ""
    for name in (said, linked) if said else (linked,):
        try:
            if name:
                ZoneInfo(name)
                return name.removeprefix("Etc/") if name == "Etc/UTC" else name
        except (ValueError, OSError, KeyError):  # no such zone, or no name of one: KeyError is what zoneinfo raises
            if name is said:
                return ""  # TZ=CET-1CEST and the like: the clock follows it, and it has no name
    return "UTC" if not said and not _LOCALTIME.exists() else ""
