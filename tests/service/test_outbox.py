"""Events that wait to be told: at least once, bounded, counted, without vectors, gone with those they tell of."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from service_fixtures import RunningService, crop_of

from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.schema import parse
from reid_mtda.service.notify.delivery import RefusedError, UnreachableError, deliver, send_next
from reid_mtda.service.notify.feeder import Feeder
from reid_mtda.service.notify.messages import Message
from reid_mtda.service.notify.notifier import Notifier
from reid_mtda.service.notify.outbox import FILE, Outbox
from reid_mtda.service.notify.settings import NotifySettings
from reid_mtda.service.settings import ServiceSettings


def message(number: int, *, kind: str = "sighting", key: str | None = None) -> Message:
    return Message(kind, "gate", {"id": str(number), "kind": kind, "n": number}, key)


def taken(outbox: Outbox, sink: str, *, kinds=("sighting", "alert")) -> list[int]:
    """What a sink gets that takes all; drops are told as negative numbers."""
    got: list[int] = []
    while send_next(
        outbox,
        sink,
        lambda m: got.append(m.body.get("n", -m.body.get("count", 0))),
        kinds=kinds,
        tell=lambda text: None,
    ):
        pass
    return got


def test_each_sink_is_told_of_everything_in_order_also_over_a_restart(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, ["a", "b"])
    outbox.put([message(n) for n in range(5)])
    assert taken(outbox, "a") == [0, 1, 2, 3, 4] and outbox.counts()["b"].waiting == 5
    outbox.close()
    outbox = Outbox(tmp_path, ["a", "b"])
    outbox.put([message(5)])
    assert taken(outbox, "a") == [5] and taken(outbox, "b") == [0, 1, 2, 3, 4, 5]
    outbox.put([])
    assert outbox._database.read("SELECT * FROM events") == []  # nobody waits for them


def test_a_new_sink_hears_from_now_on_and_one_that_is_gone_holds_nothing_back(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, ["a", "gone"])
    outbox.put([message(0)])
    taken(outbox, "a")
    outbox.close()
    outbox = Outbox(tmp_path, ["a", "new"])
    outbox.put([message(1)])
    assert taken(outbox, "new") == [1] and set(outbox.counts()) == {"a", "new"}
    taken(outbox, "a")
    outbox.put([])
    assert outbox._database.read("SELECT * FROM events") == []


@pytest.mark.parametrize("aged", [False, True])
def test_the_oldest_go_when_it_is_full_or_they_are_old_and_that_is_told(tmp_path: Path, aged: bool) -> None:
    now = [1000.0]
    outbox = Outbox(tmp_path, ["a", "b"], keep_s=60, keep_most=100 if aged else 3, clock=lambda: now[0])
    outbox.put([message(n) for n in range(2)])
    assert taken(outbox, "a") == [0, 1]
    now[0] += 61 if aged else 0
    outbox.put([message(n) for n in range(2, 5)])
    assert outbox.counts()["b"].dropped == 2 and outbox.counts()["a"].dropped == 0
    assert taken(outbox, "b") == [-2, 2, 3, 4]  # first how many it will never hear of
    assert taken(outbox, "a") == [2, 3, 4]


def test_an_hour_of_a_busy_site_stays_bounded(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, ["away"], keep_most=500)
    for begin in range(0, 3600, 100):
        outbox.put([message(n) for n in range(begin, begin + 100)])
    assert outbox.counts()["away"].waiting == 500 and outbox.counts()["away"].dropped == 3100
    assert (tmp_path / FILE).stat().st_size < 400_000


def test_a_refused_event_is_counted_and_holds_nothing_up(tmp_path: Path) -> None:
    outbox, got, told = Outbox(tmp_path, ["a"]), [], []
    outbox.put([message(n) for n in range(3)])

    def send(one: Message) -> None:
        if one.body["n"] == 1:
            raise RefusedError("answers 410")
        got.append(one.body["n"])

    while send_next(outbox, "a", send, kinds=("sighting",), tell=told.append):
        pass
    assert got == [0, 2] and outbox.counts()["a"].refused == 1 and "answers 410" in told[1]


def test_one_who_is_away_is_asked_again_and_what_was_erased_meanwhile_is_not_sent(tmp_path: Path) -> None:
    outbox, got, tries, stop = Outbox(tmp_path, ["a"]), [], [0], threading.Event()
    outbox.put([message(0, key="gate/1/1.000"), message(1)])

    def send(one: Message) -> None:
        tries[0] += 1
        if tries[0] == 2:
            assert outbox.forget(["gate/1/1.000"]) == 1
        if tries[0] < 4:
            raise UnreachableError("away")
        got.append(one.body["n"])
        stop.set()

    told: list[str] = []
    arguments = {"kinds": ("sighting",), "stop": stop, "tell": told.append, "first_wait_s": 0.01}
    deliver(outbox, "a", send, **arguments)
    assert got == [1] and told[0] == "a: away; events wait and are sent again" and told[-1] == ""


def test_a_stop_ends_the_wait_for_one_who_is_away(tmp_path: Path) -> None:
    outbox, stop = Outbox(tmp_path, ["a"]), threading.Event()
    outbox.put([message(0)])

    def send(one: Message) -> None:
        raise UnreachableError("away")

    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    deliver(outbox, "a", send, kinds=("sighting",), stop=stop, tell=lambda text: None, first_wait_s=30)
    assert time.monotonic() - began < 3 and outbox.counts()["a"].waiting == 1


def sightings_in(outbox: Outbox, sink: str = "a") -> list[dict]:
    return [one.body for one in outbox.pending(sink, 1000) if one.kind == "sighting"]


def publish(running: RunningService, person: int, camera: str) -> int:
    """As a camera does once a sighting stands in the gallery."""
    number = running.numbers[person, camera]
    row = running.service.system.gallery.lookup([number])[number]
    running.service.system.events.publish(
        "sighting", camera, sighting_id=number, track_id=row.track_id, start_s=row.start_s, end_s=row.end_s
    )
    return number


def test_what_is_told_of_a_sighting_holds_words_and_no_vector(running: RunningService) -> None:
    outbox = Outbox(running.folder, ["a"])
    feeder = Feeder(running.service.system, outbox)
    number = publish(running, 0, "gate")
    feeder.turn()
    (body,) = sightings_in(outbox)
    assert body["type"] == "new" and body["before"] is None and body["camera"] == "gate"
    assert set(body["after"]) == {"sighting_id", "camera", "start", "end"} and body["after"]["sighting_id"] == number
    text = json.dumps(body)
    vector = running.service.system.gallery.vector(number)
    assert not any(f"{value:.4f}"[:6] in text for value in vector if abs(value) > 0.01)
    assert "picture" not in text and "thumbnail" not in text and str(running.folder) not in text


def test_a_kill_between_gallery_and_outbox_loses_no_event(running: RunningService) -> None:
    system = running.service.system
    outbox = Outbox(running.folder, ["a"])
    feeder = Feeder(system, outbox)
    assert feeder.recover() == 0  # what was there before there was an outbox is no event
    gallery = system.gallery
    vector = gallery.vector(running.numbers[0, "gate"])
    now = time.time()
    added = [gallery.add(vector, "gate", 900 + n, now - 5 + n, now - 4 + n, crop_of(0)) for n in range(3)]
    outbox.close()  # killed before a turn
    outbox = Outbox(running.folder, ["a"])
    assert Feeder(system, outbox).recover() == 3
    assert [body["after"]["sighting_id"] for body in sightings_in(outbox)] == added
    assert Feeder(system, outbox).recover() == 0  # once


def test_what_others_added_while_the_service_was_down_is_no_event(running: RunningService) -> None:
    system, clock = running.service.system, [time.time() - 7200]
    outbox = Outbox(running.folder, ["a"])
    Feeder(system, outbox, clock=lambda: clock[0]).recover()
    vector = system.gallery.vector(running.numbers[0, "gate"])
    system.gallery.add(vector, "gate", 901, time.time() - 90, time.time() - 80, crop_of(0))  # 'reid-mtda index'
    assert Feeder(system, outbox).recover() == 0 and sightings_in(outbox) == []


def test_the_erased_are_not_told_of_any_more(running: RunningService) -> None:
    system = running.service.system
    outbox = Outbox(running.service.audit._folder, ["a"])
    running.service.erasures.holders.append(outbox)
    feeder = Feeder(system, outbox)
    gone, stays = publish(running, 0, "gate"), publish(running, 1, "gate")
    feeder.turn()
    row = system.gallery.lookup([gone])[gone]
    assert row.key.encode() in b"".join(p.read_bytes() for p in outbox._database.path.parent.glob(f"{FILE}*"))
    late = publish(running, 0, "market")  # happened, but is not in the outbox yet
    answer = running.client("admin").post("/api/v1/erasures", json={"sighting_ids": [gone, late], "reason": "asked"})
    assert answer.status_code == 201 and answer.json()["left"] == []
    feeder.turn()
    assert [body["after"]["sighting_id"] for body in sightings_in(outbox)] == [stays]
    files = b"".join(p.read_bytes() for p in outbox._database.path.parent.glob(f"{FILE}*"))
    assert row.key.encode() not in files


def test_alerts_are_told_without_the_servers_paths(running: RunningService) -> None:
    system = running.service.system
    outbox = Outbox(running.folder, ["a"])
    feeder = Feeder(system, outbox)
    system.alerts.put("model", "its folder /srv/model is gone")
    system.alerts.put("events", "mqtt: away")  # of sinks themselves: not to be told to them
    system.events.publish("camera_state", "plaza", state="stalled", message="rtsp://user:pa55word@x")
    feeder.turn()
    bodies = [one.body for one in outbox.pending("a", 100)]
    assert [(b["kind"], b["type"]) for b in bodies if b.get("subject") != "camera plaza"][-2:] == [
        ("alert", "alert"),
        ("camera", "camera_state"),
    ]
    text = json.dumps(bodies)
    assert "/srv" not in text and "pa55word" not in text and '"is_wrong": true' in text and "away" not in text


def test_a_log_gets_lines_of_json_and_one_that_cannot_be_written_is_told(
    running: RunningService, tmp_path: Path
) -> None:
    place = tmp_path / "missing" / "events.jsonl"
    settings = parse(NotifySettings, {"logs": [{"file": str(place)}]}, where="test")
    service = running.service
    notifier = Notifier(service.system, running.folder, settings, service.closing)
    notifier.start()
    number = publish(running, 2, "plaza")
    until(lambda: "cannot be written to" in service.system.alerts.of("events"))
    place.parent.mkdir()
    until(lambda: place.exists() and len(place.read_text().splitlines()) >= 1)
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    assert number in [line["after"]["sighting_id"] for line in lines if line["kind"] == "sighting"]
    until(lambda: service.system.alerts.of("events") == "")
    service.closing.set()
    until(lambda: not any("events" in thread.name for thread in threading.enumerate()))
    notifier.close()


def test_syslog_gets_one_line_an_event(tmp_path: Path) -> None:
    import socket

    from reid_mtda.service.notify.log_lines import LogSink

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        settings = parse(NotifySettings, {"logs": [{"syslog": f"127.0.0.1:{server.getsockname()[1]}"}]}, where="test")
        LogSink(settings.logs[0]).send(message(7))
        line = server.recv(4096)
    assert line.startswith(b"<134>reid-mtda: {") and json.loads(line.split(b": ", 1)[1].rstrip(b"\x00"))["n"] == 7


def until(true, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


SECRET = {"name": "hook", "url": "https://example.org/x", "secret_file": "s"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"logs": [{}]}, "got both or neither of file and syslog"),
        ({"logs": [{"syslog": "host"}]}, "expected HOST:PORT or the path of a socket"),
        ({"webhooks": [{**SECRET, "url": "ftp://example.org/x"}]}, "scheme 'ftp' is not allowed"),
        ({"webhooks": [{**SECRET, "url": "https://exa mple.org/"}]}, "blanks, backslashes or control characters"),
        ({"webhooks": [{**SECRET, "url": "https://"}]}, "host '' is not allowed"),
        ({"webhooks": [SECRET, SECRET]}, "expected each once"),
        ({"webhooks": [{**SECRET, "kinds": ["vectors"]}]}, "expected 'sighting', 'camera'"),
        ({"mqtt": {"host": "x", "username": "u"}}, "only one of username and password_file"),
        ({"mqtt": {"host": "x", "topic": "a/#"}}, "expected words of"),
        ({"mqtt": {"host": "x", "ca_file": "y"}}, "got ca_file without tls"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_words(given: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(ServiceSettings, {"notify": given}, where="live.yaml")


def test_without_the_extra_the_start_says_what_to_install(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tenacity", None)
    settings = parse(NotifySettings, {"logs": [{"file": "x"}]}, where="test")
    with pytest.raises(ConfigError, match=r"pip install 'reid-mtda\[events\]'"):
        Notifier(running.service.system, running.folder, settings, threading.Event())


def test_a_full_disk_loses_nothing(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(running.folder, ["a"])
    feeder = Feeder(running.service.system, outbox)
    publish(running, 0, "gate")
    with monkeypatch.context() as full:
        full.setattr(outbox._database, "check_place", lambda: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError):
            feeder.turn()
    feeder.turn()
    assert len(sightings_in(outbox)) == 1 and np.all([one.key for one in outbox.pending("a")])
