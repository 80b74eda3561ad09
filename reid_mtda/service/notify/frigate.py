"""A side-car of Frigate: its finished people become sightings of a gallery, and who looks alike is told back.

Frigate finds and follows people; from its MQTT messages and the snapshot that it keeps of each, this makes vectors.
Messages and addresses are those that Frigate's documentation describes for 0.14 to 0.17.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import Field, field_validator

from reid_mtda.camera_settings import NAME
from reid_mtda.errors import ImageError, ReidError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.ingest import mean_embedding
from reid_mtda.live.url_policy import UrlPolicy
from reid_mtda.model import Model
from reid_mtda.schema import Strict
from reid_mtda.service.notify.mqtt_connection import Connection
from reid_mtda.service.notify.settings import MqttSettings
from reid_mtda.types import FloatArray, ImageArray
from reid_mtda.vision.preprocess import check_image_size, decode_image

log = logging.getLogger(__name__)

_EVENT_ID = re.compile(r"^[0-9]{1,12}\.[0-9]{1,9}-[A-Za-z0-9]{1,16}\Z")
_MOST_BYTES = 5_000_000
_TIMEOUT_S = 10.0
_RETENTION_EVERY_S = 300.0
_AGAIN_S = 5.0
_MOST_WAITING = 1000


class FrigateSettings(Strict):
    """Where Frigate is and what is made of its people."""

    mqtt: MqttSettings = Field(description="The broker that Frigate uses; 'topic' is what our answers begin with.")
    url: str = Field(description="Frigate's address, e.g. http://frigate:5000.")
    frigate_topic: str = Field(default="frigate", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")
    retention_days: float = Field(default=30.0, gt=0, le=3650, description="Days after which its sightings go.")
    window_minutes: float = Field(default=10.0, gt=0, le=1440, description="How far back somebody is looked for.")
    min_score: float = Field(default=0.7, ge=-1, le=1, description="From which score on two count as alike; a guess.")

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        try:
            host = httpx.URL(url).host
            UrlPolicy(("https", "http"), (host,) if host else ()).check(url)
        except (ReidError, httpx.InvalidURL) as error:
            raise ValueError(str(error)) from None
        return url.rstrip("/")


@dataclass(frozen=True)
class Person:
    """Somebody whom Frigate followed to the end."""

    event_id: str
    camera: str
    start_s: float
    end_s: float


def finished_person(payload: bytes) -> Person | None:
    """Read a message of ``frigate/events``: the person that it says has left, None for all others and for what is none.

    >>> finished_person(b'{"type": "new"}') is None
    True
    """
    try:
        told = json.loads(payload)
        after = told["after"]
        if told["type"] != "end" or after["label"] != "person" or after["false_positive"] or not after["has_snapshot"]:
            return None
        person = Person(str(after["id"]), str(after["camera"]), float(after["start_time"]), float(after["end_time"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_in_time = 0 < person.start_s <= person.end_s < 1e11
    return person if is_in_time and NAME.match(person.camera) and _EVENT_ID.match(person.event_id) else None


def fetch_snapshot(url: str, event_id: str) -> ImageArray:
    """The picture that Frigate keeps of an event, cut to the person; uint8 (h, w, 3) RGB.

    Raises:
        ImageError: it cannot be had, is no picture, or out of bounds.
    """
    where = f"frigate event {event_id}"
    try:
        data = asyncio.run(asyncio.wait_for(_fetch(f"{url}/api/events/{event_id}/snapshot.jpg"), _TIMEOUT_S))
    except (TimeoutError, httpx.HTTPError, OSError) as error:
        raise ImageError(f"{where}: its snapshot cannot be had ({type(error).__name__})") from None
    image = decode_image(data, where=where)
    check_image_size(where, *image.shape[:2])
    return image


async def _fetch(url: str) -> bytes:
    asked = {"crop": 1, "bbox": 0, "timestamp": 0}
    async with (
        httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client,
        client.stream("GET", url, params=asked) as answer,
    ):
        if answer.status_code != 200:
            raise httpx.HTTPError(f"answers {answer.status_code}")
        data = bytearray()
        async for chunk in answer.aiter_bytes():
            data += chunk
            if len(data) > _MOST_BYTES:
                raise httpx.HTTPError("too large")
        return bytes(data)


class SideCar:
    """Takes Frigate's people into a gallery and says whom they look like.

    Args:
        settings: of Frigate.
        model: the model.
        gallery: bound to it; another program may serve or search it meanwhile.
        fetch: (url, event id) -> picture, for tests.
        clock: POSIX seconds, for tests.
    """

    def __init__(
        self,
        settings: FrigateSettings,
        model: Model,
        gallery: Gallery,
        *,
        fetch: Callable[[str, str], ImageArray] = fetch_snapshot,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._model, self._gallery = settings, model, gallery
        self._fetch, self._clock = fetch, clock
        self._events: dict[int, str] = {}  # by sighting, of those within the window: bounded by it
        self.taken = self.failed = 0

    def take(self, payload: bytes) -> dict[str, Any] | None:
        """Handle one message; what is to be told back, None where it is of nobody who left or its picture is gone."""
        person = finished_person(payload)
        if person is None:
            return None
        try:
            vector = mean_embedding(self._model.embed([crop := self._fetch(self._settings.url, person.event_id)]))
            alike = self._alike(vector, person)
            number = self._gallery.add(
                vector, person.camera, track_of(person.event_id), person.start_s, person.end_s, crop
            )
        except ReidError as error:
            self.failed += 1
            log.warning("%s", error)
            return None
        self.taken += 1
        self._remember(number, person)
        return {
            "event_id": person.event_id,
            "camera": person.camera,
            "sighting_id": number,
            "type": "again" if alike else "new",
            "alike": alike,
        }

    def _alike(self, vector: FloatArray, person: Person) -> list[dict[str, Any]]:
        since_s = person.start_s - self._settings.window_minutes * 60
        where = Filter(None, since_s, person.end_s, self._settings.min_score)
        answer = self._gallery.search(vector, 20, where=where)
        own = track_of(person.event_id)
        return [
            {"event_id": self._events.get(hit.sighting_id), "camera": hit.sighting.camera, "score": round(hit.score, 3)}
            for hit in answer.hits
            if not (
                hit.sighting.camera == person.camera
                # In one camera nobody is twice at the same time; and the same event may come again.
                and (hit.sighting.track_id == own or hit.sighting.end_s > person.start_s)
            )
        ]

    def _remember(self, number: int, person: Person) -> None:
        self._events[number] = person.event_id
        oldest_s = self._clock() - 2 * self._settings.window_minutes * 60
        kept = self._gallery.lookup(self._events)
        self._events = {n: self._events[n] for n, row in kept.items() if row.end_s >= oldest_s or n == number}

    def expire(self) -> int:
        """Delete sightings past their days; how many."""
        before_s = self._clock() - self._settings.retention_days * 86400
        gone = 0
        for camera in self._gallery.cameras():
            old = self._gallery.sightings(Filter([camera], None, before_s))
            gone += len(self._gallery.delete(n for n, row in old.items() if row.end_s < before_s))
        return gone


def track_of(event_id: str) -> int:
    """A track number of an event: the same at each time it comes, so that it stands in the gallery once."""
    return int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:6], "big")


def run_side_car(settings: FrigateSettings, car: SideCar, stop: threading.Event, tell: Callable[[str], None]) -> None:
    """Listen to Frigate and answer until ``stop``; a broker that goes is waited for.

    Args:
        settings: of Frigate.
        car: takes the messages.
        stop: ends it.
        tell: shown to people.
    """
    while not stop.is_set():
        try:
            _listen(settings, car, stop, tell)
        except ReidError as error:
            tell(f"{error}; tried again in {_AGAIN_S:g} s")
            stop.wait(_AGAIN_S)


def _listen(settings: FrigateSettings, car: SideCar, stop: threading.Event, tell: Callable[[str], None]) -> None:
    waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)  # while one is worked on
    topic = f"{settings.frigate_topic}/events"
    connection = Connection(settings.mqtt, on_message=lambda _, payload: waiting.append(payload))
    connection.open()
    try:
        connection.subscribe(topic)
        tell(f"listening to {topic} at {settings.mqtt.host}:{settings.mqtt.port}")
        due = 0.0
        while not stop.is_set():
            connection.once(0.1)
            while waiting:
                if (told := car.take(waiting.popleft())) is not None:
                    connection.publish(f"{settings.mqtt.topic}/frigate", json.dumps(told))
            if time.monotonic() >= due:
                due = time.monotonic() + _RETENTION_EVERY_S
                car.expire()
        connection.flush()
    finally:
        connection.close()
