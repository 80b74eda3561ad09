"""Who is told of events, part of the service's settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from reid_mtda.errors import ConfigError
from reid_mtda.live.url_policy import UrlPolicy
from reid_mtda.schema import Strict

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,31}\Z")
_TOPIC = re.compile(r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*\Z")

Kind = Literal["sighting", "camera", "alert", "model", "removal"]
"""What an event is about: somebody seen, a camera's state, something wrong, another model, something deleted."""


class MqttSettings(Strict):
    """The broker that is told, e.g. Mosquitto."""

    host: str = Field(min_length=1, max_length=255, description="The broker's name or address.")
    port: int = Field(default=1883, ge=1, le=65535, description="Its port; 8883 is usual with TLS.")
    tls: bool = Field(default=False, description="Whether the connection is encrypted and the broker's name checked.")
    ca_file: str | None = Field(
        default=None, description="PEM file of who signed the broker's certificate; None: those that the system trusts."
    )
    username: str | None = Field(default=None, min_length=1, description="Name to sign in with.")
    password_file: str | None = Field(default=None, description="File whose first line is the password.")
    client_id: str = Field(default="reid_mtda", min_length=1, max_length=64, description="One for each service.")
    topic: str = Field(default="reid_mtda", description="What all topics begin with.")
    home_assistant: str | None = Field(
        default="homeassistant", description="Home Assistant's discovery prefix; null: it is told nothing."
    )

    @field_validator("topic", "home_assistant")
    @classmethod
    def _is_topic(cls, topic: str | None) -> str | None:
        if topic is not None and not _TOPIC.match(topic):
            raise ValueError(f"got {topic!r}, expected words of A-Z a-z 0-9 _ - with / between them")
        return topic

    @model_validator(mode="after")
    def _is_whole(self) -> MqttSettings:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("got only one of username and password_file, expected both")
        if self.ca_file is not None and not self.tls:
            raise ValueError("got ca_file without tls, expected tls: true beside it")
        return self


class WebhookSettings(Strict):
    """An address that each event is posted to, signed."""

    name: str = Field(description="What it is called in messages and counts; a-z 0-9 _ -.")
    url: str = Field(description="Where to, https://... or http://...; a redirect is not followed.")
    secret_file: str = Field(description="File whose first line is the secret that the receiver knows, too.")
    kinds: tuple[Kind, ...] = Field(default=("sighting",), min_length=1, description="What it is told of.")
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="Seconds for a whole delivery.")

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not _NAME.match(name):
            raise ValueError(f"got {name!r}, expected a-z 0-9 _ - beginning with a letter or digit")
        return name

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        # Its host is trusted as it stands in the service's own settings; all else is as for cameras' addresses.
        try:
            host = urlsplit(url).hostname or ""
            UrlPolicy(("https", "http"), (host,) if host else ()).check(url)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        except ValueError:
            raise ValueError("not an address, expected e.g. https://host/path") from None
        return url


class LogSettings(Strict):
    """Events as lines of JSON, for log collectors."""

    file: str | None = Field(default=None, description="File that lines are appended to; at 10 MB it becomes FILE.1.")
    syslog: str | None = Field(
        default=None, description="HOST:PORT (UDP) or the path of a socket, e.g. /dev/log; facility local0."
    )
    kinds: tuple[Kind, ...] = Field(
        default=("sighting", "camera", "alert", "model", "removal"), min_length=1, description="What is logged."
    )

    @model_validator(mode="after")
    def _goes_somewhere(self) -> LogSettings:
        if (self.file is None) == (self.syslog is None):
            raise ValueError("got both or neither of file and syslog, expected one of them")
        return self

    @field_validator("syslog")
    @classmethod
    def _is_place(cls, place: str | None) -> str | None:
        if place is not None and not place.startswith("/"):
            host, _, port = place.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"got {place!r}, expected HOST:PORT or the path of a socket")
        return place


class NotifySettings(Strict):
    """Whom the service tells of events; by default nobody."""

    mqtt: MqttSettings | None = Field(default=None, description="An MQTT broker.")
    webhooks: tuple[WebhookSettings, ...] = Field(default=(), max_length=16, description="Addresses to post to.")
    logs: tuple[LogSettings, ...] = Field(default=(), max_length=4, description="Logs to write to.")
    keep_hours: float = Field(
        default=72.0, gt=0, le=720, description="Hours that events wait for whoever cannot be reached."
    )
    keep_most: int = Field(default=100_000, ge=100, le=10_000_000, description="Events that wait at most.")

    @model_validator(mode="after")
    def _names_differ(self) -> NotifySettings:
        names = [hook.name for hook in self.webhooks]
        if len(set(names)) < len(names):
            raise ValueError(f"webhooks: got the names {', '.join(names)}, expected each once")
        return self

    @property
    def is_empty(self) -> bool:
        """Nobody is told."""
        return self.mqtt is None and not self.webhooks and not self.logs


def read_secret(path: str, *, least: int = 1) -> str:
    """The first line of a file that holds a secret.

    Raises:
        ConfigError: it cannot be read, or holds fewer than ``least`` characters.
    """
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            secret = file.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(f"{path}: the secret cannot be read ({reason}); make the file, for its owner alone") from None
    if len(secret) < least:
        raise ConfigError(f"{path}: got a secret of {len(secret)} characters, expected {least} or more in line 1")
    return secret
