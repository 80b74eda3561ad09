"""One connection to an MQTT broker: opened, worked by whoever has it, refused or lost in plain words."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from reid_mtda.errors import ConfigError
from reid_mtda.service.notify.delivery import UnreachableError
from reid_mtda.service.notify.settings import MqttSettings, read_secret

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTMessageInfo
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_CONNECT_S = 5.0
_ANSWER_S = 10.0

OnMessage = Callable[[str, bytes], None]
"""(topic, payload) of a message that came."""


class Connection:
    """Starts no thread: ``once`` sends and receives. A connection that was lost is not opened again; make another.

    Args:
        settings: of the broker.
        will: topic and payload that the broker tells, retained, when we go without a farewell.
        on_message: told what comes on topics subscribed to.

    Raises:
        ConfigError: the extra is not installed, or password or certificate cannot be read.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        will: tuple[str, bytes] | None = None,
        on_message: OnMessage = lambda topic, payload: None,
    ) -> None:
        self._settings, self._on_message = settings, on_message
        self._where = f"{settings.host}:{settings.port}"
        self._refusal = ""
        self._client = self._make()
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)

    def open(self) -> None:
        """Connect, and wait until the broker takes us.

        Raises:
            UnreachableError: it cannot be reached, or refuses us.
        """
        try:
            self._client.connect(self._settings.host, self._settings.port, keepalive=30)
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreachableError(f"{self._where}: cannot be reached ({reason})") from None
        self.until(self._client.is_connected)

    def close(self) -> None:
        """Say farewell: no last will speaks for us. Send what waits first, with ``flush``."""
        self._client.disconnect()

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> MQTTMessageInfo:
        """Begin to publish; the broker has it once the answer ``is_published``.

        Args:
            topic: where.
            payload: what; empty and retained, it removes what was retained before.
            retain: whether the broker keeps it for those who come later.
        """
        return self._client.publish(topic, payload, qos=1, retain=retain)

    def subscribe(self, topic: str) -> None:
        """Hear what comes on a topic."""
        self._client.subscribe(topic, qos=1)

    def flush(self) -> None:
        """Send what waits to be sent.

        Raises:
            UnreachableError: as ``once``.
        """
        self.until(lambda: not self._client.want_write())

    def until(self, is_done: Callable[[], bool]) -> None:
        """Send and receive until something is done.

        Raises:
            UnreachableError: the broker refuses us, went, or let it wait too long.
        """
        deadline = time.monotonic() + _ANSWER_S
        while not is_done():
            if time.monotonic() > deadline:
                raise UnreachableError(f"{self._where}: the broker did not answer within {_ANSWER_S:g} s")
            self.once(0.1)

    def once(self, seconds: float) -> None:
        """Send and receive what there is, or wait so long.

        Raises:
            UnreachableError: the broker refuses us, or went.
        """
        result = self._client.loop(seconds)
        if self._refusal:
            raise UnreachableError(f"{self._where}: the broker refuses us ({self._refusal})")
        if result != 0:
            raise UnreachableError(f"{self._where}: the connection was lost")

    def _make(self) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise ConfigError("mqtt: paho-mqtt is not installed; run: pip install 'reid-mtda[events]'") from None
        settings = self._settings
        client = Client(CallbackAPIVersion.VERSION2, client_id=settings.client_id, reconnect_on_failure=False)
        client.connect_timeout = _CONNECT_S
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
        self._on_message(message.topic, bytes(message.payload))
