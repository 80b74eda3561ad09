"""A stranger's connections: the real server with real sockets, held open, slow, silent or unread."""

import contextlib
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from service_fixtures import REASON, RunningService, crop_of, png_of

from reid_mtda.service import connections as module
from reid_mtda.service.app import create_app
from reid_mtda.service.certificate import self_made_certificate
from reid_mtda.service.connections import Connections, Listener, Phase, Server

HALF = b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "
STRANGER, OTHER = "127.0.0.2", "127.0.0.3"


class Counting(Connections):
    taken = 0

    def tell(self, peer: tuple[str, int], phase: Phase, received: int = 0) -> None:
        self.taken += received
        super().tell(peer, phase, received)


class Served:
    """The service on a port; ``connect`` comes from any address of this machine."""

    def __init__(self, running: RunningService, *, tls: bool = False, most: int = 400, by_address: int = 100) -> None:
        self.running, self.tls = running, tls
        certificate, key = self_made_certificate(running.folder, ["127.0.0.1"]) if tls else (None, None)
        self.certificate = certificate
        self.connections = Counting(most=most, most_by_address=by_address)
        config = uvicorn.Config(
            create_app(running.service), log_config=None, log_level="error", ssl_certfile=certificate, ssl_keyfile=key,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self.server = Server(config, self.connections)
        self.listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(128)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def connect(self, address: str = STRANGER, *, receive_bytes: int | None = None) -> socket.socket:
        one = socket.socket()
        if receive_bytes:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        one.settimeout(20)
        one.bind((address, 0))
        one.connect(("127.0.0.1", self.port))
        return one

    def client(self, address: str, token: str = "") -> httpx.Client:
        return httpx.Client(
            base_url=f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}",
            transport=httpx.HTTPTransport(
                local_address=address,
                verify=ssl.create_default_context(cafile=self.certificate) if self.certificate else True,
            ),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=20,
        )

    def stop(self) -> None:
        self.running.service.closing.set()
        self.server.should_exit = True
        self.thread.join(15)
        assert not self.thread.is_alive()


@pytest.fixture
def serve(running: RunningService) -> Iterator[object]:
    started: list[Served] = []

    def start(**arguments) -> Served:
        started.append(Served(running, **arguments))
        return started[-1]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))  # both ends are in this process
    yield start
    for one in started:
        one.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second instead of ten; what is measured is that there is an end, and for whom."""
    for name, seconds in (("_WAIT_S", 1.0), ("_SEND_S", 1.0), ("_READ_S", 1.0)):
        monkeypatch.setattr(module, name, seconds)


def is_closed(one: socket.socket) -> bool:
    """Whether the other side has closed; what it said before is read away."""
    with contextlib.suppress(ConnectionError):
        while one.recv(65536):
            pass
    return True


@pytest.mark.parametrize("tls", [False, True])
def test_430_connections_that_say_half_or_nothing_stop_nobody(serve, running: RunningService, tls: bool) -> None:
    served = serve(tls=tls)
    strangers = [served.connect() for _ in range(430)]
    for one in strangers if not tls else ():  # over TLS they say nothing at all: no handshake
        with contextlib.suppress(ConnectionError):
            one.sendall(HALF)
    for address in (OTHER, STRANGER):  # somebody else, and somebody who shares the stranger's address
        began = time.monotonic()
        with served.client(address, running.token("viewer")) as client:
            assert [client.get("/api/v1/me").status_code for _ in range(3)] == [200] * 3
        assert time.monotonic() - began < 5
    assert len(served.connections) <= 100
    for one in strangers:
        one.close()


def test_many_addresses_together_stop_nobody_either(serve, running: RunningService) -> None:
    served = serve(most=40, by_address=15)
    strangers = [served.connect(f"127.0.1.{n % 8}") for n in range(80)]
    with served.client(OTHER, running.token("viewer")) as client:
        assert client.get("/api/v1/me").status_code == 200
    assert len(served.connections) <= 40
    for one in strangers:
        one.close()


def test_those_who_are_being_answered_keep_their_connection(serve, running: RunningService) -> None:
    """An open stream of events is no place for a flood from the same address."""
    served = serve(by_address=10)
    with served.client(STRANGER, running.token("viewer")) as client, client.stream("GET", "/api/v1/events") as events:
        lines = events.iter_lines()
        assert next(lines).startswith("retry")
        strangers = [served.connect() for _ in range(30)]
        running.service.system.events.publish("camera_state", "gate", state="paused", message="")
        assert any("camera_state" in line for line in lines)
        for one in strangers:
            one.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", [b"", b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
def test_half_a_header_is_not_waited_for(serve, before: bytes) -> None:
    """Nor one that grows by a letter now and then, nor one that follows a whole request."""
    served, began = serve(), time.monotonic()
    one = served.connect()
    one.sendall(before + HALF)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 10:
            one.sendall(b"x")
            time.sleep(0.2)
    assert is_closed(one) and time.monotonic() - began < 6


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["/login", "/api/v1/search/picture"])
def test_a_body_that_trickles_is_not_waited_for(serve, running: RunningService, path: str) -> None:
    served, began = serve(), time.monotonic()
    one = served.connect()
    lines = [
        f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 8000",
        "Content-Type: application/x-www-form-urlencoded", f"Authorization: Bearer {running.token('operator')}",
    ]  # fmt: skip
    one.sendall("\r\n".join([*lines, "", "token="]).encode())
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 10:
            one.sendall(b"x")
            time.sleep(0.2)
    assert is_closed(one) and time.monotonic() - began < 6


@pytest.mark.usefixtures("impatient")
def test_a_slow_line_may_take_its_time_over_a_picture(serve, running: RunningService) -> None:
    """160 kB/s is no attack: 0.5 MB take three times as long as silence may."""
    served = serve()
    picture, (name, *_) = png_of(crop_of(0)) + bytes(480_000), ("a.png",)
    request = httpx.Request(
        "POST", f"http://127.0.0.1:{served.port}/api/v1/search/picture", files={"picture": (name, picture)},
        data=REASON, headers={"Authorization": f"Bearer {running.token('operator')}"},
    )  # fmt: skip
    body = request.read()
    head = "\r\n".join(["POST /api/v1/search/picture HTTP/1.1", *(f"{k}: {v}" for k, v in request.headers.items())])
    one = served.connect()
    one.sendall(f"{head}\r\n\r\n".encode())
    for start in range(0, len(body), 16_000):
        one.sendall(body[start : start + 16_000])
        time.sleep(0.1)
    assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
    one.close()


@pytest.mark.usefixtures("impatient")
def test_answers_that_nobody_reads_are_not_kept(serve) -> None:
    served, began = serve(), time.monotonic()
    one = served.connect(receive_bytes=4096)
    one.sendall(3000 * b"GET /static/style.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    while len(served.connections) and time.monotonic() - began < 60:
        time.sleep(0.1)
    assert len(served.connections) == 0
    one.close()


def test_an_upload_with_an_invented_token_is_answered_before_it_is_sent(serve) -> None:
    served = serve()
    with served.connect() as one:
        lines = [
            "POST /api/v1/search/picture HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 19000000",
            "Content-Type: multipart/form-data; boundary=x", "Authorization: Bearer rmt_1234_invented",
        ]  # fmt: skip
        one.sendall("\r\n".join([*lines, "", ""]).encode())
        assert one.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert is_closed(one)
    with served.client(STRANGER, "rmt_1234_invented") as client:  # nor does one who sends it all lose the answer
        sent = client.post("/api/v1/search/picture", files={"picture": ("a.png", bytes(19_000_000))}, data=REASON)
        assert sent.status_code == 401 and sent.json()["error"]["kind"] == "unauthorised"
    assert served.connections.taken < 1_000_000


# --------------------------------------------------------------------------------------------------- without sockets


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def some_sockets(count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.socket() for _ in range(count)]
    yield sockets
    for one in sockets:
        one.close()


def test_an_ipv6_network_counts_as_one_and_a_proxy_as_nobody() -> None:
    clock = Clock()
    networks = ["127.0.0.1/32", "::ffff:127.0.0.1/128"]
    connections = Connections(most=50, most_by_address=10, exempt=networks, clock=clock)
    with some_sockets(24) as sockets:
        for n, one in enumerate(sockets[:12]):
            assert connections.accept(one, (f"2001:db8::{n:x}", n + 1))
            clock.now += 1
        assert len(connections) == 10  # the two oldest made room
        for n, one in enumerate(sockets[12:]):
            assert connections.accept(one, ("::ffff:127.0.0.1" if n % 2 else "127.0.0.1", 100 + n))
        assert len(connections) == 22


def test_when_everybody_is_being_answered_a_new_one_finds_no_place() -> None:
    connections = Connections(most=50, most_by_address=10)
    with some_sockets(11) as sockets:
        for n, one in enumerate(sockets[:10]):
            connections.accept(one, ("192.0.2.1", n))
            connections.tell(("192.0.2.1", n), Phase.ANSWERED)
        assert not connections.accept(sockets[10], ("192.0.2.1", 10)) and sockets[10].fileno() < 0
        connections.lost(("192.0.2.1", 0))
        with some_sockets(1) as (one,):
            assert connections.accept(one, ("192.0.2.1", 11))


def test_a_body_that_the_server_does_not_take_costs_its_sender_no_time() -> None:
    clock, is_held = Clock(), [True]
    connections = Connections(most=50, most_by_address=10, clock=clock)
    with some_sockets(1) as (one,):
        peer = ("192.0.2.1", 1)
        connections.accept(one, peer)
        connections.watch(peer, lambda: is_held[0])
        connections.tell(peer, Phase.SENDING, 64_000)
        for _ in range(300):
            clock.now += 1
            connections.sweep()
        (state,) = connections._open.values()
        assert clock.now - state.since_s <= 64_000 / 16_000
