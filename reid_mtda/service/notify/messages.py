"""What is told of an event: words and numbers, never a vector; a picture only beside it, where a camera opts in."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reid_mtda.types import Sighting


@dataclass(frozen=True)
class Message:
    """One event on its way out: ``body`` is JSON, without vectors and pictures.

    ``key`` is that of the sighting that it tells of, by which an erasure finds it.
    """

    kind: str
    camera: str | None
    body: dict[str, Any]
    key: str | None = None
    time_s: float = 0.0
    number: int = 0


def told_of(number: int, sighting: Sighting) -> dict[str, Any]:
    """What is told of one sighting, in the manner of Frigate's events: ``type``, ``before`` and ``after``."""
    after = {
        "sighting_id": number,
        "camera": sighting.camera,
        "start": iso(sighting.start_s),
        "end": iso(sighting.end_s),
    }
    return {"type": "new", "before": None, "after": after}


def iso(time_s: float) -> str:
    """POSIX seconds as ISO 8601 in UTC.

    >>> iso(0.25)
    '1970-01-01T00:00:00.250+00:00'
    """
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")


def told_in_brief(kind: str, *, time_s: float | None = None, **told: Any) -> dict[str, Any]:
    """The body of a message, with a name of its own by which receivers know it when it comes twice."""
    when = time.time() if time_s is None else time_s
    return {"id": uuid.uuid4().hex, "kind": kind, "time": iso(when), **told}
