"""What is wrong with the service as a whole, until it is mended: said once in the log, and shown for as long."""

from __future__ import annotations

import logging
import threading

from reid_mtda.live.events import Events

log = logging.getLogger(__name__)


class Alerts:
    """Messages by subject: ``camera NAME``, ``site``, ``model`` or ``clock``; safe to use from several threads."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._kept: dict[str, str] = {}

    def all(self) -> dict[str, str]:
        """What is wrong now."""
        with self._lock:
            return dict(sorted(self._kept.items()))

    def of(self, subject: str) -> str:
        """What is wrong with ``subject``, or ''."""
        with self._lock:
            return self._kept.get(subject, "")

    def put(self, subject: str, message: str) -> None:
        """``message`` is wrong with ``subject``; '' when nothing is any more."""
        with self._lock:
            if self._kept.get(subject, "") == message:
                return
            if message:
                self._kept[subject] = message
            else:
                del self._kept[subject]
        if message:
            log.warning("%s", message)
        else:
            log.info("%s: mended", subject)
        camera = subject.removeprefix("camera ") if subject.startswith("camera ") else None
        self._events.publish("alert", camera, subject=subject, message=message)
