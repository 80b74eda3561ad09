"""Events and state over MQTT, by a real Mosquitto: last will, retained state, outages, kills, TLS, sign-in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import is_required
from colour_model import write_colour_model
from service_fixtures import RunningService, show_live

pytest.importorskip("paho.mqtt.client")
from mqtt_broker import PROGRAM, Broker, Listener
from test_outbox import publish, until

from reid_mtda.schema import parse
from reid_mtda.service.notify import mqtt
from reid_mtda.service.notify.home_assistant import discovery
from reid_mtda.service.notify.notifier import Notifier
from reid_mtda.service.notify.settings import NotifySettings

pytestmark = pytest.mark.skipif(
    not (PROGRAM or is_required("mosquitto")),
    reason="no MQTT broker; run: apt-get update && apt-get install -y mosquitto",
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "_STATE_EVERY_S", 0.05)
    monkeypatch.setattr(mqtt, "_LONGEST_WAIT_S", 0.3)


@contextmanager
def telling(running: RunningService, broker: Broker, **more: object) -> Iterator[Notifier]:
    given = {"mqtt": {"host": "127.0.0.1", "port": broker.port, **more}}
    service = running.service
    notifier = Notifier(service.system, running.folder, parse(NotifySettings, given, where="t"), service.closing)
    notifier.start()
    yield notifier
    service.closing.set()
    until(lambda: not any("events" in thread.name for thread in threading.enumerate()))
    notifier.close()
    service.closing.clear()


def numbers(listener: Listener) -> list[int]:
    return [json.loads(payload)["after"]["sighting_id"] for payload in listener.of("reid_mtda/events")]


def test_events_state_and_discovery_are_told_and_the_end_is_no_loss(running: RunningService, broker: Broker) -> None:
    system = running.service.system
    show_live(running, "gate", 1)
    with telling(running, broker):
        listener = Listener(broker)
        number = publish(running, 0, "gate")
        until(lambda: numbers(listener) == [number])
        assert listener.of("reid_mtda/available") == [b"online"]
        until(lambda: listener.of("reid_mtda/plaza/status") != [])
        told = json.loads(listener.of("homeassistant/device/reid_mtda/config")[0])
        assert told == discovery("reid_mtda", ["gate", "market", "plaza"])
        assert not any(m.topic.endswith("/picture") for m in listener.heard)  # nobody opted in
        system.pool.remove("market")  # its topics are emptied: a new listener hears nothing of it
        until(lambda: b"" in listener.of("reid_mtda/market/person"))
        until(lambda: "market_people" not in listener.of("homeassistant/device/reid_mtda/config")[-1].decode())
    until(lambda: listener.of("reid_mtda/available")[-1] == b"offline")
    listener.close()
    later = Listener(broker)
    until(lambda: later.of("reid_mtda/available") == [b"offline"])
    wanted = {"reid_mtda/gate/person", "reid_mtda/gate/status", "homeassistant/device/reid_mtda/config"}
    until(lambda: wanted <= {message.topic for message in later.heard if message.retain})
    kept = {message.topic for message in later.heard if message.retain}
    assert "reid_mtda/market/person" not in kept and "reid_mtda/events" not in kept
    later.close()


def test_how_many_people_are_followed_is_told_as_they_come_and_go(
    running: RunningService, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    state = running.service.system.pool.states()
    alive = {name: replace(one, stream=replace(one.stream, last_frame_s=time.time())) for name, one in state.items()}
    monkeypatch.setattr(running.service.system.pool, "states", lambda: alive)
    with telling(running, broker):
        listener = Listener(broker, "reid_mtda/gate/person")
        until(lambda: listener.of("reid_mtda/gate/person")[-1:] == [b"0"])
        show_live(running, "gate", 1)
        until(lambda: listener.of("reid_mtda/gate/person")[-1] == b"1")
        alive.update({name: replace(one, stream=replace(one.stream, last_frame_s=1.0)) for name, one in alive.items()})
        until(lambda: listener.of("reid_mtda/gate/person")[-1] == b"0")  # a camera that is blind sees nobody
        listener.close()


def test_a_picture_goes_by_opt_in_and_is_not_left_on_the_broker(running: RunningService, broker: Broker) -> None:
    pool = running.service.system.pool
    pool.replace("gate", pool.state("gate").settings.model_copy(update={"pictures_in_events": True}))
    listener = Listener(broker, "reid_mtda/+/picture")
    with telling(running, broker):
        publish(running, 0, "market")
        publish(running, 0, "gate")
        until(lambda: len(listener.heard) == 1)
    assert listener.of("reid_mtda/gate/picture")[0][:3] == b"\xff\xd8\xff" and not listener.heard[0].retain
    listener.close()
    later = Listener(broker, "reid_mtda/+/picture")
    time.sleep(0.1)
    assert later.heard == []
    later.close()


def test_home_assistant_that_starts_anew_is_told_again(running: RunningService, broker: Broker) -> None:
    with telling(running, broker):
        listener = Listener(broker, "homeassistant/device/#")
        until(lambda: len(listener.heard) == 1)
        listener.client.publish("homeassistant/status", "online")
        until(lambda: len(listener.heard) == 2)
        listener.close()


def test_a_broker_that_goes_and_comes_back_is_told_everything(running: RunningService, broker: Broker) -> None:
    alerts = running.service.system.alerts
    with telling(running, broker):
        listener = Listener(broker, "reid_mtda/events")
        first = publish(running, 0, "gate")
        until(lambda: numbers(listener) == [first])
        listener.close()
        broker.kill()
        missed = [publish(running, person, camera) for person in (1, 2) for camera in ("gate", "market", "plaza")]
        until(lambda: "events wait" in alerts.of("events"))
        broker.start()  # it forgot us and all that was retained
        listener = Listener(broker)
        until(lambda: set(numbers(listener)) >= set(missed))
        assert [n for n in numbers(listener) if n in missed][: len(missed)] == missed  # in order
        until(lambda: listener.of("reid_mtda/gate/person") != [] and listener.of("reid_mtda/available") != [])
        until(lambda: alerts.of("events") == "")
        listener.close()


def test_sign_in_and_tls(running: RunningService, tmp_path: Path) -> None:
    certificate = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem",
    ]  # fmt: skip
    subprocess.run(certificate, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["mosquitto_passwd", "-c", "-b", "users", "reid", "right"], cwd=tmp_path, check=True)
    lines = (
        "allow_anonymous false", f"password_file {tmp_path}/users",
        f"certfile {tmp_path}/cert.pem", f"keyfile {tmp_path}/key.pem",
    )  # fmt: skip
    secure = Broker(tmp_path, *lines)
    secure.start()
    (tmp_path / "password").write_text("wrong\n")
    alerts = running.service.system.alerts
    user = {"username": "reid", "password_file": str(tmp_path / "password"), "tls": True}
    with telling(running, secure, **user):  # nobody that the system trusts signed this certificate
        until(lambda: "certificate" in alerts.of("events").lower())
    user["ca_file"] = str(tmp_path / "cert.pem")
    with telling(running, secure, **user) as notifier:
        number = publish(running, 0, "gate")
        until(lambda: "the broker refuses us" in alerts.of("events"))
        assert "wrong" not in alerts.of("events")
        (tmp_path / "password").write_text("right\n")  # read anew at each try
        until(lambda: notifier.counts()["mqtt"].waiting == 0)
        until(lambda: alerts.of("events") == "")
        assert number
    secure.kill()


# Fills a gallery and tells of it until it is killed; what stands in the gallery it says on a line.
WORK = """
import sys, time
from pathlib import Path
import numpy as np
from reid_mtda.schema import parse
from reid_mtda.service.run import running_service
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.camera_settings import Camera
from reid_mtda.site import Site
folder = Path(sys.argv[1])
given = {"notify": {"mqtt": {"host": "127.0.0.1", "port": int(sys.argv[2])}}}
camera = Camera(url="synthetic://street?camera=gate&duration=20")
site = Site("s", folder, {"gate": camera})
settings = parse(ServiceSettings, given, where="test")
with running_service(site, folder / "model", folder / "gallery", folder / "state", settings) as service:
    system = service.system
    system.pool.pause("gate")
    vector = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0]
    print("ready", flush=True)
    first = int(time.time() * 10) % 10**9
    for turn in range(first, first + int(sys.argv[3])):
        now = time.time()
        number = system.gallery.add(vector, "gate", turn, now - 1, now, np.zeros((8, 8, 3), np.uint8))
        print(number, flush=True)
        system.events.publish("sighting", "gate", sighting_id=number, track_id=turn, start_s=now - 1, end_s=now)
        time.sleep(0.01)
    time.sleep(60)
"""


@contextmanager
def at_work(folder: Path, broker: Broker, count: int) -> Iterator[subprocess.Popen[str]]:
    """A service in a process of its own that adds ``count`` sightings; killed in the end."""
    paths = [*sys.path, str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, str(folder), str(broker.port), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    yield child
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_kill_while_the_broker_is_away_loses_nothing_and_the_last_will_speaks(tmp_path: Path) -> None:
    write_colour_model(tmp_path / "model")
    broker = Broker(tmp_path)
    with at_work(tmp_path, broker, 10_000) as child:  # nobody listens, and it is killed at any moment
        time.sleep(0.7)
    assert child.stdout is not None
    said = [int(line) for line in child.stdout.read().splitlines()]
    broker.start()
    listener = Listener(broker)
    with at_work(tmp_path, broker, 5) as child:
        assert child.stdout is not None
        said += [int(child.stdout.readline()) for _ in range(5)]
        until(lambda: set(numbers(listener)) >= set(said), 30)
        assert listener.of("reid_mtda/available") == [b"online"]
    until(lambda: listener.of("reid_mtda/available")[-1] == b"offline")  # nobody said farewell
    ids = [json.loads(payload)["id"] for payload in listener.of("reid_mtda/events")]
    assert len(said) > 15 and len(set(ids)) == len(set(numbers(listener)))  # one told twice has the same name
    listener.close()
    broker.kill()
