"""One connection to an MQTT broker after the other: last will, retained state of the cameras, events that wait."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reid_mtda.errors import ConfigError
from reid_mtda.service.notify.delivery import Tell, UnreachableError, send_next
from reid_mtda.service.notify.home_assistant import discovery
from reid_mtda.service.notify.messages import Message
from reid_mtda.service.notify.outbox import Outbox
from reid_mtda.service.notify.settings import MqttSettings, read_secret
from reid_mtda.service.notify.webhook import Picture

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

SINK = "mqtt"
KINDS = ("sighting", "camera", "alert", "model", "removal")
_CONNECT_S = 5.0
_ANSWER_S = 10.0
_STATE_EVERY_S = 1.0
_LONGEST_WAIT_S = 30.0


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
        self._refusal = ""

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
        client, where = self._client(), f"{self._settings.host}:{self._settings.port}"
        self._retained, self._is_discovered, self._refusal = {}, False, ""
        try:
            client.connect(self._settings.host, self._settings.port, keepalive=30)
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreachableError(f"{where}: cannot be reached ({reason})") from None
        try:
            self._loop(client, client.is_connected, where)
            self._retain(client, "available", b"online")
            if self._settings.home_assistant is not None:
                client.subscribe(f"{self._settings.home_assistant}/status", qos=0)
            self._tell("")
            self._work(client, where)
            self._retain(client, "available", b"offline")  # a farewell is no loss: no last will speaks for us
            self._loop(client, lambda: not client.want_write(), where)
        finally:
            client.disconnect()

    def _work(self, client: Client, where: str) -> None:
        state_due = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= state_due:
                state_due = time.monotonic() + _STATE_EVERY_S
                self._tell_state(client)
            busy = send_next(
                self._outbox, SINK, lambda message: self._send(client, message, where), kinds=KINDS, tell=self._tell
            )
            self._once(client, 0.0 if busy else 0.1, where)

    def _send(self, client: Client, message: Message, where: str) -> None:
        """Publish one message; it counts as told once the broker says that it has it."""
        topic = "events" if message.kind == "sighting" else "service"
        sent = [client.publish(f"{self._settings.topic}/{topic}", json.dumps(message.body), qos=1)]
        if message.kind == "sighting" and (jpeg := self._picture(message)) is not None:
            # Not retained: what a camera saw is not to lie on a broker.
            sent.append(client.publish(f"{self._settings.topic}/{message.camera}/picture", jpeg, qos=1))
        self._loop(client, lambda: all(one.is_published() for one in sent), where)

    def _tell_state(self, client: Client) -> None:
        """Retained: what each camera is at. Topics of cameras that are gone are emptied."""
        cameras = self._cameras()
        wanted = {}
        for name, now in cameras.items():
            wanted[f"{name}/status"] = b"online" if now.is_healthy else b"offline"
            wanted[f"{name}/person"] = str(now.people).encode()
        prefix, own = self._settings.home_assistant, self._settings.topic
        if prefix is not None:
            wanted["/discovery"] = json.dumps(discovery(own, sorted(cameras)), sort_keys=True).encode()
        for topic in [topic for topic in self._retained if topic not in wanted and topic != "available"]:
            self._retain(client, topic, b"")
            del self._retained[topic]
        for topic, payload in wanted.items():
            if self._retained.get(topic) != payload or (topic == "/discovery" and not self._is_discovered):
                self._retain(client, topic, payload)
        self._is_discovered = True

    def _retain(self, client: Client, topic: str, payload: bytes) -> None:
        own = self._settings.topic
        whole = f"{own}/{topic}"
        if topic == "/discovery":
            whole = f"{self._settings.home_assistant}/device/{own.replace('/', '_')}/config"
        client.publish(whole, payload, qos=1, retain=True)
        self._retained[topic] = payload

    def _client(self) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise ConfigError("mqtt: paho-mqtt is not installed; run: pip install 'reid-mtda[events]'") from None
        settings = self._settings
        client = Client(CallbackAPIVersion.VERSION2, client_id=settings.client_id, reconnect_on_failure=False)
        client.connect_timeout = _CONNECT_S
        client.will_set(f"{settings.topic}/available", b"offline", qos=1, retain=True)
        if settings.tls:
            try:
                client.tls_set_context(ssl.create_default_context(cafile=settings.ca_file))
            except OSError as error:
                where = f"mqtt: ca_file {settings.ca_file}"
                raise ConfigError(f"{where}: cannot be used ({error}); name a PEM file") from None
        if settings.username is not None and settings.password_file is not None:
            client.username_pw_set(settings.username, read_secret(settings.password_file))
        client.on_connect = self._connected
        client.on_message = self._heard
        return client

    def _connected(
        self, client: Client, data: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._refusal = str(reason) if reason.is_failure else ""

    def _heard(self, client: Client, data: object, message: MQTTMessage) -> None:
        """Home Assistant started anew: it wants to know again what there is."""
        if message.payload == b"online":
            self._is_discovered = False

    def _loop(self, client: Client, is_done: Callable[[], bool], where: str) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not is_done():
            if time.monotonic() > deadline:
                raise UnreachableError(f"{where}: the broker did not answer within {_ANSWER_S:g} s")
            self._once(client, 0.1, where)

    def _once(self, client: Client, seconds: float, where: str) -> None:
        result = client.loop(seconds)
        if self._refusal:
            raise UnreachableError(f"{where}: the broker refuses us ({self._refusal})")
        if result != 0:
            raise UnreachableError(f"{where}: the connection was lost")
