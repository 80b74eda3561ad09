"""What an MQTT broker is told: last will, retained state of the cameras, events that wait."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reid_mtda.service.notify.delivery import Tell, send_next
from reid_mtda.service.notify.home_assistant import discovery
from reid_mtda.service.notify.messages import Message
from reid_mtda.service.notify.mqtt_connection import Connection
from reid_mtda.service.notify.outbox import Outbox
from reid_mtda.service.notify.settings import MqttSettings
from reid_mtda.service.notify.webhook import Picture

SINK = "mqtt"
KINDS = ("sighting", "camera", "alert", "model", "removal")
_STATE_EVERY_S = 1.0
_LONGEST_WAIT_S = 30.0
_DISCOVERY = "/discovery"  # no topic of ours begins so


@dataclass(frozen=True)
class CameraNow:
    """What is told of a camera at any time: whether it works, and how many people are followed before it."""

    is_healthy: bool
    people: int


class MqttSink:
    """Tells a broker; ``run`` is the body of its thread.

    Args:
        settings: of the broker.
        outbox: where messages wait.
        cameras: what the cameras are at, asked every second.
        picture: that goes with a message.
        stop: ends it.
        tell: shown to people.
    """

    def __init__(
        self,
        settings: MqttSettings,
        outbox: Outbox,
        cameras: Callable[[], Mapping[str, CameraNow]],
        picture: Picture,
        *,
        stop: threading.Event,
        tell: Tell,
    ) -> None:
        self._settings, self._outbox, self._cameras, self._picture = settings, outbox, cameras, picture
        self._stop, self._tell = stop, tell
        self._retained: dict[str, bytes] = {}  # what the broker has of us, by topic, in this connection
        self._is_discovered = False

    def run(self) -> None:
        """Connect, tell, and begin again when the connection is lost, until it is stopped."""
        import tenacity

        def told(state: tenacity.RetryCallState) -> None:
            failure = state.outcome.exception() if state.outcome is not None else None
            self._tell(f"{SINK}: {failure}; events wait and are sent again")

        tenacity.Retrying(
            wait=tenacity.wait_random_exponential(multiplier=1.0, max=_LONGEST_WAIT_S),
            stop=tenacity.stop_when_event_set(self._stop),
            sleep=tenacity.sleep_using_event(self._stop),
            retry=tenacity.retry_if_exception_type(Exception),
            before_sleep=told,
            retry_error_callback=lambda state: None,
        )(self._session)

    def _session(self) -> None:
        """One connection, until it is lost (an error) or the service stops (none).

        Raises:
            UnreachableError: the broker cannot be reached, refuses us, or went.
            ConfigError: the password or the certificate cannot be read.
        """
        self._retained, self._is_discovered = {}, False
        will = (f"{self._settings.topic}/available", b"offline")
        connection = Connection(self._settings, will=will, on_message=self._heard)
        connection.open()
        try:
            self._retain(connection, "available", b"online")
            if self._settings.home_assistant is not None:
                connection.subscribe(f"{self._settings.home_assistant}/status")
            self._tell("")
            self._work(connection)
            self._retain(connection, "available", b"offline")
            connection.flush()
        finally:
            connection.close()

    def _work(self, connection: Connection) -> None:
        state_due = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= state_due:
                state_due = time.monotonic() + _STATE_EVERY_S
                self._tell_state(connection)
            busy = send_next(
                self._outbox, SINK, lambda message: self._send(connection, message), kinds=KINDS, tell=self._tell
            )
            connection.once(0.0 if busy else 0.1)

    def _send(self, connection: Connection, message: Message) -> None:
        """Publish one message; it counts as told once the broker says that it has it."""
        topic = "events" if message.kind == "sighting" else "service"
        sent = [connection.publish(f"{self._settings.topic}/{topic}", json.dumps(message.body))]
        if message.kind == "sighting" and (jpeg := self._picture(message)) is not None:
            # Not retained: what a camera saw is not to lie on a broker.
            sent.append(connection.publish(f"{self._settings.topic}/{message.camera}/picture", jpeg))
        connection.until(lambda: all(one.is_published() for one in sent))

    def _tell_state(self, connection: Connection) -> None:
        """Retained: what each camera is at. Topics of cameras that are gone are emptied."""
        cameras, wanted = self._cameras(), dict[str, bytes]()
        for name, now in cameras.items():
            wanted[f"{name}/status"] = b"online" if now.is_healthy else b"offline"
            wanted[f"{name}/person"] = str(now.people).encode()
        if self._settings.home_assistant is not None:
            wanted[_DISCOVERY] = json.dumps(discovery(self._settings.topic, sorted(cameras)), sort_keys=True).encode()
        for topic in [topic for topic in self._retained if topic not in wanted and topic != "available"]:
            self._retain(connection, topic, b"")
            del self._retained[topic]
        for topic, payload in wanted.items():
            if self._retained.get(topic) != payload or (topic == _DISCOVERY and not self._is_discovered):
                self._retain(connection, topic, payload)
        self._is_discovered = True

    def _retain(self, connection: Connection, topic: str, payload: bytes) -> None:
        own = self._settings.topic
        whole = f"{own}/{topic}"
        if topic == _DISCOVERY:
            whole = f"{self._settings.home_assistant}/device/{own.replace('/', '_')}/config"
        connection.publish(whole, payload, retain=True)
        self._retained[topic] = payload

    def _heard(self, topic: str, payload: bytes) -> None:
        """Home Assistant started anew: it wants to know again what there is."""
        if payload == b"online":
            self._is_discovered = False
