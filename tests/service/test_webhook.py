"""Webhooks against real servers on loopback: signed, retried, refused; hanging, trickling and redirecting ones."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from service_fixtures import RunningService
from test_outbox import publish, until

from reid_mtda.errors import ConfigError
from reid_mtda.schema import parse
from reid_mtda.service.notify.delivery import RefusedError, UnreachableError
from reid_mtda.service.notify.messages import Message
from reid_mtda.service.notify.notifier import Notifier
from reid_mtda.service.notify.settings import NotifySettings, WebhookSettings
from reid_mtda.service.notify.webhook import post, sign, signing_key

KEY = "a secret of thirty letters ..."
MESSAGE = Message("sighting", "gate", {"id": "one", "kind": "sighting", "n": 1})


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    """A web server whose POSTs ``answer`` answers; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["content-length"])))

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}/events"
    made.shutdown()
    made.server_close()
    thread.join()


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", "0")
        request.end_headers()

    return answer


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(KEY + "\n")
    return tmp_path / "secret"


def hook(url: str, secret: Path, **more: object) -> WebhookSettings:
    return parse(WebhookSettings, {"name": "h", "url": url, "secret_file": str(secret), **more}, where="test")


def nothing(message: Message) -> None:
    return None


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example that the specification's libraries test themselves with."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_can_check_who_sent_what_when(secret: Path) -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        got.append((dict(request.headers), body))
        status(204)(request, body)

    with server(answer) as url:
        post(hook(url, secret), MESSAGE, nothing, clock=lambda: 1700000000.9)
    headers, body = got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}" and headers["webhook-timestamp"] == "1700000000"
    assert json.loads(body) == MESSAGE.body


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (500, UnreachableError, "answers 500"),
        (429, UnreachableError, "answers 429"),
        (404, RefusedError, "answers 404"),
    ],
)
def test_answers_that_are_no_yes(secret: Path, code: int, error: type[Exception], words: str) -> None:
    with server(status(code)) as url, pytest.raises(error, match=words):
        post(hook(url, secret), MESSAGE, nothing)


def test_a_redirect_inside_is_not_followed(secret: Path) -> None:
    inside: list[bytes] = []

    def trap(request: BaseHTTPRequestHandler, body: bytes) -> None:
        inside.append(body)
        status(200)(request, body)

    with server(trap) as hidden:
        for code in (301, 302, 307, 308):
            with (
                server(status(code, Location=hidden)) as url,
                pytest.raises(RefusedError, match="a redirect, which is not followed"),
            ):
                post(hook(url, secret), MESSAGE, nothing)
    assert inside == []


def test_one_that_hangs_or_trickles_is_given_up_in_time(secret: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        began = time.monotonic()
        with pytest.raises(UnreachableError, match=r"no answer within 0\.5 s"):
            post(hook(url, secret, timeout_s=0.5), MESSAGE, nothing)
        assert time.monotonic() - began < 3

    def trickle(request: BaseHTTPRequestHandler, body: bytes) -> None:
        with pytest.raises(OSError):
            while True:
                request.wfile.write(b"H")
                request.wfile.flush()
                time.sleep(0.05)

    with server(trickle) as url:
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            post(hook(url, secret, timeout_s=0.5), MESSAGE, nothing)
        assert time.monotonic() - began < 3


def test_an_answer_without_end_is_not_read(secret: Path) -> None:
    def endless(request: BaseHTTPRequestHandler, body: bytes) -> None:
        request.send_response(200)
        request.end_headers()
        with pytest.raises(OSError):
            while True:
                request.wfile.write(b"x" * 65536)

    with server(endless) as url:
        post(hook(url, secret, timeout_s=5.0), MESSAGE, nothing)  # its status is all that counts


def test_the_environments_proxy_is_not_asked(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with server(status(200)) as url:
        post(hook(url, secret), MESSAGE, nothing)


def test_nobody_there_names_the_address_without_its_secrets(secret: Path) -> None:
    with pytest.raises(UnreachableError, match="cannot be reached") as told:
        post(hook("http://user:pa55word@127.0.0.1:9/x?token=abc", secret), MESSAGE, nothing)
    assert "pa55word" not in str(told.value) and "abc" not in str(told.value)


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("short", "expected 24 or more")])
def test_a_secret_that_is_missing_or_short_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "secret").write_text(text)
    with pytest.raises(ConfigError, match=words):
        post(hook("http://127.0.0.1:9/", tmp_path / "secret"), MESSAGE, nothing)


def test_sightings_arrive_once_the_receiver_is_back_and_pictures_by_opt_in_alone(
    running: RunningService, secret: Path
) -> None:
    service, got, away = running.service, [], [True]
    pool = service.system.pool
    camera = pool.state("market").settings.model_copy(update={"pictures_in_events": True})
    pool.replace("market", camera)

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if not away[0]:
            got.append(json.loads(body))
        status(503 if away[0] else 200)(request, body)

    with server(answer) as url:
        given = {"webhooks": [{"name": "h", "url": url, "secret_file": str(secret)}]}
        notifier = Notifier(service.system, running.folder, parse(NotifySettings, given, where="t"), service.closing)
        notifier.start()
        numbers = [publish(running, 0, "gate"), publish(running, 1, "market")]
        until(lambda: "answers 503" in service.system.alerts.of("events"))
        away[0] = False
        until(lambda: len(got) >= 2)
        until(lambda: service.system.alerts.of("events") == "")
    assert [body["after"]["sighting_id"] for body in got] == numbers
    assert "picture_jpeg" not in got[0] and base64.b64decode(got[1]["picture_jpeg"])[:3] == b"\xff\xd8\xff"
    assert notifier.picture(replace(MESSAGE, body={"after": {"sighting_id": 999}})) is None
    service.closing.set()
    until(lambda: not any("events" in thread.name for thread in threading.enumerate()))
    notifier.close()
