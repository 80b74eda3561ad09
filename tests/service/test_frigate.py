"""The side-car against a real broker and a server that has Frigate's addresses; messages have the documented shape."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from builders import is_required
from service_fixtures import crop_of, png_of

pytest.importorskip("paho.mqtt.client")
from mqtt_broker import PROGRAM, Broker, Listener
from test_outbox import until

from reid_mtda.errors import ConfigError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import load_model
from reid_mtda.schema import parse
from reid_mtda.service.notify.frigate import FrigateSettings, Person, SideCar, finished_person, run_side_car

BEGAN = 1607123955.475377


def event(
    name: str, camera: str, *, kind: str = "end", after_s: float = 0.0, label: str = "person", snapshot: bool = True
) -> bytes:
    """A message of ``frigate/events`` as docs.frigate.video/integrations/mqtt shows it."""
    told = {
        "id": f"{BEGAN + after_s:.6f}-{name}",
        "camera": camera,
        "frame_time": BEGAN + after_s + 6.4,
        "snapshot": {"frame_time": BEGAN + after_s + 5.5, "box": [415, 489, 528, 700], "area": 12728, "score": 0.77546},
        "label": label,
        "sub_label": None,
        "top_score": 0.958984375,
        "false_positive": False,
        "start_time": BEGAN + after_s,
        "end_time": BEGAN + after_s + 8 if kind == "end" else None,
        "score": 0.87890625,
        "box": [415, 489, 528, 700],
        "current_zones": ["driveway"],
        "entered_zones": ["yard", "driveway"],
        "has_snapshot": snapshot,
        "has_clip": False,
        "stationary": False,
        "motionless_count": 0,
        "current_attributes": [],
    }
    return json.dumps({"type": kind, "before": {**told, "end_time": None}, "after": told}).encode()


@contextmanager
def frigate(people: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    """A server with the snapshots of events, by the end of their id; its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            parts = urlsplit(self.path)
            name = parts.path.split("/")[3].rpartition("-")[2] if parts.path.startswith("/api/events/") else ""
            is_crop = parse_qs(parts.query).get("crop") == ["1"]
            data = png_of(crop_of(people[name])) if name in people and is_crop else b"not found"
            self.send_response(200 if name in people else 404)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}", asked
    made.shutdown()
    made.server_close()
    thread.join()


def settings_for(url: str, port: int = 1883, **more: object) -> FrigateSettings:
    given = {"mqtt": {"host": "127.0.0.1", "port": port}, "url": url, "min_score": 0.9, **more}
    return parse(FrigateSettings, given, where="frigate.yaml")


def test_messages_of_people_who_left_are_read_and_no_others() -> None:
    got = finished_person(event("mxklsc", "front_door"))
    assert got == Person("1607123955.475377-mxklsc", "front_door", BEGAN, BEGAN + 8)
    others = [
        event("a", "front_door", kind="new"),
        event("a", "front_door", kind="update"),
        event("a", "front_door", label="car"),
        event("a", "front_door", snapshot=False),
        event("a", "../../etc"),
        event("a/../../config", "front_door"),
        event("a", "front_door").replace(b"1607123963", b"1507123963"),  # ended before it began
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"type": "end", "after": null}',
        b"[" * 100_000,
    ]
    assert [finished_person(payload) for payload in others] == [None] * len(others)


@pytest.fixture
def gallery(tmp_path: Path, model_folder: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "gallery", load_model(model_folder)) as opened:
        yield opened


def test_people_become_sightings_once_and_who_looks_alike_is_named(gallery: Gallery, model_folder: Path) -> None:
    with frigate({"aaa": 0, "bbb": 0, "ccc": 1}) as (url, asked):
        car = SideCar(settings_for(url), load_model(model_folder), gallery, clock=lambda: BEGAN + 300)
        first = car.take(event("aaa", "front_door"))
        again = car.take(event("bbb", "garden", after_s=60))
        other = car.take(event("ccc", "garden", after_s=90))
        twice = car.take(event("aaa", "front_door"))  # told twice by the broker
        gone = car.take(event("ddd", "garden", after_s=95))
    assert first is not None and (first["type"], first["alike"]) == ("new", [])
    assert again is not None and again["type"] == "again"
    assert [(one["event_id"], one["camera"]) for one in again["alike"]] == [("1607123955.475377-aaa", "front_door")]
    assert other is not None and other["type"] == "new" and gone is None and car.failed == 1
    assert twice is not None and len(gallery) == 3
    assert asked[0] == "/api/events/1607123955.475377-aaa/snapshot.jpg?crop=1&bbox=0&timestamp=0"
    assert "vector" not in json.dumps([first, again])


def test_somebody_seen_long_ago_is_new_and_old_sightings_go(gallery: Gallery, model_folder: Path) -> None:
    now = [BEGAN + 10]
    with frigate({"aaa": 0, "bbb": 0}) as (url, _):
        car = SideCar(settings_for(url, retention_days=1.0), load_model(model_folder), gallery, clock=lambda: now[0])
        car.take(event("aaa", "front_door"))
        late = car.take(event("bbb", "garden", after_s=3600))
    assert late is not None and late["type"] == "new"
    now[0] += 86400 + 600
    assert car.expire() == 1 and len(gallery) == 1


def test_a_snapshot_that_is_a_bomb_or_endless_is_left_out(gallery: Gallery, model_folder: Path) -> None:
    import io

    from PIL import Image

    bomb = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(bomb, "PNG")
    for data in (bomb.getvalue(), b"\x00" * 6_000_000):

        class Handler(BaseHTTPRequestHandler):
            body = data

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.body)

            def log_message(self, *_: object) -> None:
                pass

        made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{made.server_address[1]}"
        car = SideCar(settings_for(url), load_model(model_folder), gallery)
        assert car.take(event("aaa", "front_door")) is None and car.failed == 1 and len(gallery) == 0
        made.shutdown()
        made.server_close()
        thread.join()


@pytest.mark.skipif(not (PROGRAM or is_required("mosquitto")), reason="no MQTT broker; apt-get install -y mosquitto")
def test_it_listens_and_answers_over_a_broker_that_goes_and_comes(
    gallery: Gallery, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reid_mtda.service.notify import frigate as module

    monkeypatch.setattr(module, "_AGAIN_S", 0.1)
    broker, stop, told = Broker(tmp_path), threading.Event(), []
    with frigate({"aaa": 0, "bbb": 0}) as (url, _):
        settings = settings_for(url, broker.port)
        car = SideCar(settings, load_model(model_folder), gallery, clock=lambda: BEGAN + 300)
        thread = threading.Thread(target=run_side_car, args=(settings, car, stop, told.append))
        thread.start()
        try:
            until(lambda: any("cannot be reached" in line for line in told))
            for name, camera, after_s in (("aaa", "front_door", 0.0), ("bbb", "garden", 60.0)):
                broker.start()
                count = len([line for line in told if line.startswith("listening")])
                until(lambda n=count: len([line for line in told if line.startswith("listening")]) > n or n > 1)
                listener = Listener(broker, "reid_mtda/frigate")
                listener.client.publish("frigate/events", event(name, camera, after_s=after_s), qos=1)
                until(lambda heard=listener.heard: heard != [])
                answer = json.loads(listener.heard[0].payload)
                listener.close()
                broker.kill()
            assert answer["type"] == "again" and answer["alike"][0]["camera"] == "front_door"
        finally:
            stop.set()
            thread.join(10)
            broker.kill()
    assert not thread.is_alive() and len(gallery) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [({"url": "ftp://x"}, "scheme 'ftp' is not allowed"), ({"url": "http://x", "frigate_topic": "#"}, "frigate_topic")],
)
def test_settings_that_cannot_work_are_refused(given: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(FrigateSettings, {"mqtt": {"host": "x"}, **given}, where="frigate.yaml")
