"""When a recording was taken, where nobody stated it."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from av.container import InputContainer
from av.video.stream import VideoStream

from reid_mtda.vision.recording import stated_duration_s

log = logging.getLogger(__name__)

_EARLIEST = datetime(1995, 1, 1, tzinfo=UTC)  # what claims to be older has a clock that was never set


def recording_start_s(container: InputContainer, stream: VideoStream, shown: str, *, modified_s: float | None) -> float:
    """POSIX seconds of a recording's first frame where nobody stated them.

    The container's own creation time, which its recorder wrote; else the file's date less the duration, for a file's
    date is that of its last byte, or of a copy. That one is said in the log, for it is a guess.

    Args:
        container: of the recording.
        stream: its pictures.
        shown: how the log names it.
        modified_s: the file's date, POSIX seconds; None where there is none: it is taken to end now.
    """
    if (created := _created(container, stream)) is not None:
        log.info("%s: taken from %s on, as it says itself", shown, created.isoformat())
        return created.timestamp()
    lasts_s = stated_duration_s(container, stream)
    start_s = (time.time() if modified_s is None else modified_s) - (lasts_s or 0.0)
    log.warning(
        "%s: nothing says when it was taken; from %s it began %s; state start_time where that is wrong",
        shown,
        "this moment" if modified_s is None else "the file's date",
        datetime.fromtimestamp(start_s, UTC).isoformat(timespec="seconds"),
    )
    return start_s


def _created(container: InputContainer, stream: VideoStream) -> datetime | None:
    """The creation time that the container states; None where it states none that can be true."""
    for key in ("com.apple.quicktime.creationdate", "creation_time", "date"):
        for said in (container.metadata.get(key), stream.metadata.get(key)):
            try:
                moment = datetime.fromisoformat(said or "")
            except ValueError:
                continue
            # A bare date, or a time without a zone, says too little.
            if moment.tzinfo is not None and moment > _EARLIEST and moment.timestamp() < time.time() + 86_400:
                return moment
    return None
