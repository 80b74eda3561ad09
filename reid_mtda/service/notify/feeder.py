"""From what happens in the live system to messages in the outbox; after a kill, from what stands in the gallery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from reid_mtda.live.events import Event
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.notify.messages import Message, told_in_brief, told_of
from reid_mtda.service.notify.outbox import Mark, Outbox
from reid_mtda.types import Sighting

_ALIVE_EVERY_S = 10.0
_RECOVERED_MOST = 5000
_KINDS = {
    "camera_added": "camera",
    "camera_removed": "camera",
    "camera_changed": "camera",
    "camera_state": "camera",
    "alert": "alert",
    "disk": "alert",
    "model_switched": "model",
    "retention": "removal",
    "erased": "removal",
}

_TOLD = ("state", "subject", "level", "model_id", "removed", "count")

Describe = Callable[[int, Sighting], list[dict[str, Any]]]
"""(number, sighting) -> what is told of it, each with its ``type``."""


class Feeder:
    """Reads the live system's events and lets them wait in the outbox; ``turn`` it every fraction of a second.

    A camera never waits for this. What was added to the gallery and not noted here because of a kill is taken from the
    gallery at the next start.

    Args:
        system: the live system.
        outbox: where messages wait.
        describe: what is told of a sighting; None: ``told_of``.
        clock: POSIX seconds, for tests.
    """

    def __init__(
        self,
        system: LiveSystem,
        outbox: Outbox,
        describe: Describe | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._system, self._outbox, self._clock = system, outbox, clock
        self._describe = describe or (lambda number, sighting: [told_of(number, sighting)])
        self._last = system.events.last
        self._alive_s = 0.0
        self._mark = outbox.mark()

    def recover(self) -> int:
        """Let those sightings wait that a kill kept from it; how many. Call it before cameras are at work.

        Only those that came in while the service was alive or within seconds after it last said so: what others added
        to the gallery meanwhile, e.g. ``reid-mtda index``, is no event.
        """
        gallery, mark = self._system.gallery, self._mark
        newest = next(iter(gallery.newest(1)), 0)
        messages: list[Message] = []
        if mark is not None and mark.gallery == str(gallery.folder):
            numbers = [n for n in gallery.newest(_RECOVERED_MOST) if n > mark.number]
            rows = gallery.lookup(numbers)
            for number in sorted(rows):
                added_s = rows[number].added_s
                if added_s is not None and added_s <= mark.alive_s + 2 * _ALIVE_EVERY_S:
                    messages += self._of_sighting(number, rows[number])
        self._put(messages, newest)
        return len(messages)

    def turn(self) -> None:
        """Take what happened since the last turn.

        Raises:
            StorageError: the disk refuses; the next turn takes it again.
        """
        events = self._system.events.after(self._last)
        lost = events[0].number - self._last - 1 if events and self._last else 0
        if not events and self._clock() - self._alive_s < _ALIVE_EVERY_S:
            return
        messages, highest = self._messages(events), 0
        if lost > 0:
            messages.insert(0, Message("alert", None, told_in_brief("alert", type="missed", count=lost)))
        highest = max((e.detail["sighting_id"] for e in events if e.kind == "sighting"), default=0)
        if any(event.kind == "model_switched" for event in events):  # numbers are another gallery's from here on
            highest = next(iter(self._system.gallery.newest(1)), 0)
        self._put(messages, highest)
        self._last = events[-1].number if events else self._last

    def _put(self, messages: list[Message], highest: int) -> None:
        folder = str(self._system.gallery.folder)
        before = self._mark.number if self._mark is not None and self._mark.gallery == folder else 0
        mark = Mark(folder, max(before, highest), self._clock())
        self._outbox.put(messages, mark)
        self._mark, self._alive_s = mark, mark.alive_s

    def _messages(self, events: Iterable[Event]) -> list[Message]:
        found: list[Message] = []
        for event in events:
            if event.kind == "sighting":
                number = int(event.detail["sighting_id"])
                row = self._system.gallery.lookup([number]).get(number)
                # Erased meanwhile: nothing is told of it. Another's, as the model was switched: nor is that.
                if row is not None and (row.camera, row.track_id) == (event.camera, event.detail["track_id"]):
                    found += self._of_sighting(number, row)
            elif event.kind in _KINDS and event.detail.get("subject") != "events":  # of sinks: they are told themselves
                found.append(_plain(event))
        return found

    def _of_sighting(self, number: int, row: Sighting) -> list[Message]:
        return [
            Message("sighting", row.camera, told_in_brief("sighting", camera=row.camera, **told), row.key)
            for told in self._describe(number, row)
        ]


def _plain(event: Event) -> Message:
    """An event that is no sighting. Messages of alerts name files of the server: they stay on its page."""
    detail = {key: value for key, value in event.detail.items() if key in _TOLD}
    if event.kind == "alert":
        detail["is_wrong"] = bool(event.detail.get("message"))
    body = told_in_brief(_KINDS[event.kind], camera=event.camera, type=event.kind, time_s=event.time_s, **detail)
    return Message(_KINDS[event.kind], event.camera, body, time_s=event.time_s)
