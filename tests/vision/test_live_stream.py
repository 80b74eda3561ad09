"""Addresses that answer, refuse, keep silent, send elsewhere or turn out to be recordings; with real sockets."""

import contextlib
import http.server
import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from films import film, shown
from PIL import Image
from rtsp_answers import SDP, answering, refusal, status

from reid_mtda.vision import live_stream
from reid_mtda.vision.address import check_credentials, credentials_hint
from reid_mtda.vision.video import read_frames


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("asked", ["OPTIONS", "DESCRIBE"])
def test_a_server_that_sends_us_elsewhere_is_not_followed(asked: str, closes: bool) -> None:
    with answering(lambda request: status("200 OK")) as (elsewhere, visits):

        def redirect(request: str) -> str:
            if request.startswith(asked):
                return status("302 Moved", f"Location: rtsp://admin:geheim@127.0.0.1:{elsewhere}/secret")
            return status("200 OK", "Public: DESCRIBE")

        with answering(redirect, closes=closes) as (port, _):
            message = refusal(f"rtsp://127.0.0.1:{port}/x")
    assert f"it sends us to rtsp://***@127.0.0.1:{elsewhere}/secret, which is not followed" in message
    assert visits == []


class Web(http.server.BaseHTTPRequestHandler):
    """Sends visitors of /away elsewhere, gives a film at /film with ranges, and shows one for ever at /live."""

    film = b""
    visits: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.visits.append(self.path)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/secret")
            self.end_headers()
        elif self.path == "/closed":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
        elif self.path in ("/live", "/pictures"):
            self.send_response(200)
            if self.path == "/pictures":
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=edge")
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(self.film)
                    time.sleep(0.05)
        elif self.path == "/film":
            start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-")).group(1))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(self.film) - 1}/{len(self.film)}")
            self.send_header("Content-Length", str(len(self.film) - start))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(self.film[start:])
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    Web.visits = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(0.05), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_web_address_that_sends_us_elsewhere_is_not_followed(web: str) -> None:
    assert f"it sends us to {web}/secret, which is not followed" in refusal(f"{web}/away")
    assert "/secret" not in Web.visits


def test_the_web_servers_refusal_is_named(web: str) -> None:
    assert "user name or password refused (401)" in refusal(f"{web}/closed")
    assert "no such stream there (404)" in refusal(f"{web}/nothing")


def test_a_recording_behind_an_address_is_a_recording(web: str, tmp_path: Path) -> None:
    """Its times are its own and no frame is dropped, however fast it comes."""
    Web.film = film(tmp_path / "clip.mp4", created="2026-03-01T08:00:00Z").read_bytes()
    source = read_frames(f"{web}/film", camera="c")
    assert not source.is_live and source.expected == 20
    frames = list(source)
    assert [shown(frame.image) for frame in frames] == list(range(20))
    assert [frame.time_s - 1_772_352_000 for frame in frames] == pytest.approx([n / 10 for n in range(20)])
    stated = read_frames(f"{web}/film", camera="c", start_time_s=50.0)
    assert next(stated).time_s == 50.0
    stated.close()


def test_a_stream_without_an_end_is_live(web: str, tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 0, 0)).save(jpeg, "JPEG")
    head = f"--edge\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg.getvalue())}\r\n\r\n"
    for path, data in (
        ("/live", film(tmp_path / "clip.ts", options={"g": "5"}).read_bytes()),
        ("/pictures", head.encode() + jpeg.getvalue() + b"\r\n"),  # as most cameras show themselves to browsers
    ):
        Web.film = data
        source = read_frames(web + path, camera="c", fps=5.0, start_time_s=50.0)
        assert source.is_live and source.expected is None
        assert abs(next(source).time_s - time.time()) < 5
        source.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda request: status("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'), "refused \\(401\\).*%23"),
        (lambda request: status("404 Not Found"), "no such stream there \\(404\\)"),
        (lambda request: "HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is no RTSP"),
        (lambda request: status("200 OK", body=SDP if request.startswith("DESCRIBE") else ""), "no video|opened"),
    ],
)
@pytest.mark.parametrize("user", ["", "admin:geheim@"])
def test_a_servers_refusal_is_named(answer: Callable[[str], str], message: str, user: str) -> None:
    with answering(answer) as (port, _):
        assert re.search(message, refusal(f"rtsp://{user}127.0.0.1:{port}/x"))


def test_hosts_that_are_not_there_are_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "TIMEOUT_S", 1.0)
    began = time.monotonic()
    assert "no host of that name (nowhere.invalid)" in refusal("rtsp://nowhere.invalid/x")
    assert "connection refused; check the port 9" in refusal("rtsp://127.0.0.1:9/x")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("rtsp", "rtsps", "http"):
            assert "no answer within 1 s" in refusal(f"{scheme}://admin:geheim@127.0.0.1:{port}/x")
    assert time.monotonic() - began < 12


@pytest.mark.parametrize("letter", "#/?")
def test_a_password_that_hides_the_host_is_said_before_anything_is_sent(letter: str) -> None:
    message = refusal(f"rtsp://admin:ge{letter}heim@127.0.0.1:9/x")
    assert "the host cannot be told from the password" in message and "# as %23, / as %2F, ? as %3F" in message


@pytest.mark.parametrize(
    "url", ["rtsp://admin:p%23w@cam/1", "rtsp://[::1]:554/1?user=a@b", "http://host/x?mail=a@b.c", "rtsp://cam:554/a@b"]
)
def test_addresses_that_can_be_read_are_left_alone(url: str) -> None:
    check_credentials(url)
    assert credentials_hint(url) == ""
