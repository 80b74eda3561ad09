"""The outbox with those who fill and empty it, as one part of the service."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from reid_mtda.errors import ConfigError, ReidError
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.notify import mqtt
from reid_mtda.service.notify.delivery import POLL_S, deliver
from reid_mtda.service.notify.feeder import Describe, Feeder
from reid_mtda.service.notify.log_lines import LogSink
from reid_mtda.service.notify.messages import Message
from reid_mtda.service.notify.outbox import Outbox, SinkCounts
from reid_mtda.service.notify.settings import NotifySettings
from reid_mtda.service.notify.webhook import post

log = logging.getLogger(__name__)

_FRESH_S = 5.0
_COUNTS_EVERY_S = 5.0


class Notifier:
    """Tells others of events, as far as the settings name any.

    Args:
        system: the live system.
        state: folder of the service's files.
        settings: who is told.
        stop: ends it; what waits then is sent after the next start.
        describe: what is told of a sighting, as in ``Feeder``.
    """

    def __init__(
        self,
        system: LiveSystem,
        state: Path,
        settings: NotifySettings,
        stop: threading.Event,
        describe: Describe | None = None,
    ) -> None:
        _check_installed(settings)
        self._system, self._settings, self._stop = system, settings, stop
        self._logs = {f"log {spec.file or spec.syslog}": LogSink(spec) for spec in settings.logs}
        names = [*([mqtt.SINK] if settings.mqtt else []), *self._hooks(), *self._logs]
        self.outbox = Outbox(state, names, keep_s=settings.keep_hours * 3600, keep_most=settings.keep_most)
        self._feeder = Feeder(system, self.outbox, describe)
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Take what a kill left in the gallery, and let everybody work."""
        with _logged():
            if count := self._feeder.recover():
                log.warning("events: %d sightings from before the last end are told now", count)
        self._system.spawn(self._feed, "events")
        for name, work in self._works().items():
            self._system.spawn(work, f"events {name}")

    def close(self) -> None:
        """Close the outbox; threads have ended by then."""
        for sink in self._logs.values():
            sink.close()
        self.outbox.close()

    def counts(self) -> dict[str, SinkCounts]:
        """How far each of those told is."""
        return self.outbox.counts()

    def _hooks(self) -> dict[str, Callable[[Message], None]]:
        return {f"webhook {hook.name}": partial(post, hook, picture=self.picture) for hook in self._settings.webhooks}

    def _works(self) -> dict[str, Callable[[], None]]:
        works: dict[str, Callable[[], None]] = {}
        if self._settings.mqtt is not None:
            sink = mqtt.MqttSink(
                self._settings.mqtt,
                self.outbox,
                self._cameras_now,
                self.picture,
                stop=self._stop,
                tell=partial(self._tell, mqtt.SINK),
            )
            works[mqtt.SINK] = sink.run
        kinds = {
            **{f"webhook {hook.name}": hook.kinds for hook in self._settings.webhooks},
            **{name: spec.kinds for name, spec in zip(self._logs, self._settings.logs, strict=True)},
        }
        sends = {**self._hooks(), **{name: sink.send for name, sink in self._logs.items()}}
        for name, send in sends.items():
            works[name] = partial(
                deliver, self.outbox, name, send, kinds=kinds[name], stop=self._stop, tell=partial(self._tell, name)
            )
        return works

    def _feed(self) -> None:
        counts_due = 0.0
        while not self._stop.wait(POLL_S):
            with _logged():
                self._feeder.turn()
                if time.monotonic() >= counts_due:
                    counts_due = time.monotonic() + _COUNTS_EVERY_S
                    self._tell_drops()
        with _logged():
            self._feeder.turn()

    def picture(self, message: Message) -> bytes | None:
        """The JPEG of a sighting whose camera opts in, as it stands in the gallery now; else None."""
        number = (message.body.get("after") or {}).get("sighting_id")
        states = self._system.pool.states()
        if number is None or message.camera not in states or not states[message.camera].settings.pictures_in_events:
            return None
        row = self._system.gallery.lookup([int(number)]).get(int(number))
        if row is None or row.camera != message.camera:
            return None
        try:
            return row.thumbnail.read_bytes()
        except OSError:
            return None

    def _cameras_now(self) -> dict[str, mqtt.CameraNow]:
        found = {}
        for name, state in self._system.pool.states().items():
            with contextlib.suppress(ConfigError):  # removed a moment ago
                picture = self._system.pool.worker(name).picture
                last_s = state.stream.last_frame_s
                is_fresh = last_s is not None and time.time() - last_s < _FRESH_S
                people = len(picture.people) if picture is not None and is_fresh else 0
                found[name] = mqtt.CameraNow(state.is_healthy and state.stream.state != "paused", people)
        return found

    def _tell(self, name: str, problem: str) -> None:
        with self._lock:
            if self._problems.get(name, "") == problem:
                return
            self._problems[name] = problem
        self._show()

    def _tell_drops(self) -> None:
        for name, counts in self.outbox.counts().items():
            drops = f"{name}: {counts.dropped} events were dropped before they could be told" if counts.dropped else ""
            with self._lock:
                self._problems[f"{name} dropped"] = drops
        self._show()

    def _show(self) -> None:
        with self._lock:
            told = "; ".join(problem for _, problem in sorted(self._problems.items()) if problem)
        self._system.alerts.put("events", told)


def _check_installed(settings: NotifySettings) -> None:
    """Refuse at the start what would fail at the first event."""
    try:
        import tenacity  # noqa: F401

        if settings.mqtt is not None:
            import paho.mqtt  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"notify: {error.name} is not installed; run: pip install 'reid-mtda[events]'") from None


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """A full disk ends no thread: the next turn tries again."""
    try:
        yield
    except ReidError as error:
        log.error("events: %s", error)
