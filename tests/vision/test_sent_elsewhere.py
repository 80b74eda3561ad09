"""Servers that send whoever asks to other hosts, at every step that FFmpeg itself takes: nobody goes there."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from rtsp_answers import SDP, answering, refusal, status

from reid_mtda.errors import VideoError
from reid_mtda.vision.rtsp_relay import _passable
from reid_mtda.vision.video import read_frames

VIDEO = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"


@pytest.mark.parametrize("step", ["OPTIONS", "DESCRIBE", "SETUP"])
@pytest.mark.parametrize(
    "line",
    ["302 Moved", " 301 x", "0302", "305", "302x", "300 Choices\r\nX: y"],
)
def test_ffmpeg_is_sent_nowhere_by_a_server_that_answered_us_well(step: str, line: str) -> None:
    """Our own two questions get good answers; whoever comes third is sent away."""
    with answering(lambda request: status("200 OK")) as (elsewhere, visits):
        asked: list[str] = []

        def answer(request: str) -> str:
            asked.append(request.split()[0])
            if len(asked) > 2 and asked[-1] == step:
                return status(line, f"Location: rtsp://admin:geheim@127.0.0.1:{elsewhere}/secret")
            if asked[-1] == "DESCRIBE":
                return status("200 OK", "Content-Type: application/sdp", body=VIDEO)
            return status("200 OK", "Public: DESCRIBE, SETUP, PLAY", "Transport: RTP/AVP/TCP;interleaved=0-1")

        with answering(answer) as (port, _):
            message = refusal(f"rtsp://127.0.0.1:{port}/x")
    assert f"it sends us to rtsp://***@127.0.0.1:{elsewhere}/secret, which is not followed" in message
    assert visits == [] and step in asked[2:]


def test_whoever_shows_a_password_is_sent_nowhere_either() -> None:
    with answering(lambda request: status("200 OK")) as (elsewhere, visits):

        def answer(request: str) -> str:
            if "Authorization:" in request:
                return status("302 Moved", f"Location: rtsp://127.0.0.1:{elsewhere}/secret")
            return status("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')

        with answering(answer) as (port, _):
            message = refusal(f"rtsp://admin:geheim@127.0.0.1:{port}/x")
    assert f"it sends us to rtsp://127.0.0.1:{elsewhere}/secret" in message and visits == []


def test_what_is_described_leads_nowhere_either() -> None:
    """Addresses in the answers (Content-Base, control) name tracks of the server that was asked."""
    with answering(lambda request: status("200 OK")) as (elsewhere, visits):
        body = VIDEO.replace("track1", f"rtsp://127.0.0.1:{elsewhere}/track1") + SDP[-30:]

        def answer(request: str) -> str:
            base = f"Content-Base: rtsp://127.0.0.1:{elsewhere}/x/"
            if request.startswith("DESCRIBE"):
                return status("200 OK", base, "Content-Type: application/sdp", body=body)
            return status("200 OK", "Public: DESCRIBE", f"Transport: RTP/AVP;unicast;source=127.0.0.1;port={elsewhere}")

        with answering(answer) as (port, _):
            refusal(f"rtsp://127.0.0.1:{port}/x")
    assert visits == []


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", 28),
        (b"CSeq: 1\r\n\r\nRTSP/1.0 3", 11),
        (b"CSeq: 1\r\n\r\n  R", 11),
        (b"a=control:x", 11),
        (b"", 0),
        (b"$\0\0\4abcd", 8),
    ],
)
def test_all_but_a_status_line_that_is_not_whole_passes(data: bytes, passes: int) -> None:
    assert _passable(data) == passes


class Pieces(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; what was asked for is noted by port."""

    visits: list[tuple[int, str]]

    def do_GET(self) -> None:
        self.visits.append((self.server.server_address[1], self.path))
        if self.path == "/moved.ts":
            self.send_response(302)
            self.send_header("Location", self.elsewhere)  # type: ignore[attr-defined]
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[int, int, list[tuple[int, str]]]]:
    """Two web servers of one folder, which holds a playlist, whole.m3u8, of five pieces; their ports, and visits."""
    options = {"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(tmp_path / "piece%d.ts")}
    with av.open(str(tmp_path / "whole.m3u8"), "w", format="hls", options=options) as out:
        stream = out.add_stream("libx264", rate=10, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 4, np.uint8))
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    visits: list[tuple[int, str]] = []
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(2):
            handler = type("Handler", (Pieces,), {"visits": visits})
            bound = lambda *args, handler=handler: handler(*args, directory=str(tmp_path))  # noqa: E731
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound))
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
            ports.append(server.server_port)
        Pieces.elsewhere = f"http://127.0.0.1:{ports[1]}/piece1.ts"  # type: ignore[attr-defined]
        yield ports[0], ports[1], visits


def test_a_playlist_of_one_host_is_read(hosts: tuple[int, int, list[tuple[int, str]]], tmp_path: Path) -> None:
    port, _, visits = hosts
    assert (tmp_path / "piece4.ts").is_file()
    assert len(list(read_frames(f"http://127.0.0.1:{port}/whole.m3u8", camera="c"))) == 50
    assert {there for there, _ in visits} == {port}


@pytest.mark.parametrize(
    "line",
    [
        "http://127.0.0.1:{other}/piece1.ts",
        "//127.0.0.1:{other}/piece1.ts",
        "moved.ts",
        "https://127.0.0.1:{port}/piece1.ts",
        "http://localhost:{other}/piece1.ts",
        "file:{folder}/piece1.ts",
        "tcp://127.0.0.1:{other}",
        "concat:http://127.0.0.1:{other}/piece1.ts",
        "crypto:http://127.0.0.1:{other}/piece1.ts",
        "http://127.0.0.1:{port}@127.0.0.1:{other}/piece1.ts",
    ],
)
@pytest.mark.parametrize("key", [False, True])
def test_a_playlist_leads_to_no_other_host(
    hosts: tuple[int, int, list[tuple[int, str]]], tmp_path: Path, line: str, key: bool
) -> None:
    port, other, visits = hosts
    target = line.format(port=port, other=other, folder=tmp_path)
    text = (tmp_path / "whole.m3u8").read_text()
    if key:
        text = text.replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF', 1)
    else:
        text = text.replace("piece0.ts", target)
    (tmp_path / "bad.m3u8").write_text(text)
    with pytest.raises(VideoError, match=r"cannot be opened|not one frame"):
        frames = list(read_frames(f"http://127.0.0.1:{port}/bad.m3u8", camera="c"))
        assert len(frames) <= 40, "the pieces of the host itself may be shown"
        raise VideoError("cannot be opened")
    assert not [path for there, path in visits if there == other]


def test_the_place_that_a_playlist_leads_to_is_named(
    hosts: tuple[int, int, list[tuple[int, str]]], tmp_path: Path
) -> None:
    port, other, visits = hosts
    lists = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://u:geheim@127.0.0.1:{other}/whole.m3u8\n"
    (tmp_path / "master.m3u8").write_text(lists)
    message = refusal(f"http://127.0.0.1:{port}/master.m3u8")
    assert f"it sends us to http://***@127.0.0.1:{other}/whole.m3u8, which is not followed" in message
    assert not [path for there, path in visits if there == other]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "list.mpd",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1:OTHER/',
        ),
        ("list.txt", "ffconcat version 1.0\nfile http://127.0.0.1:OTHER/piece1.ts\n"),
        ("list.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=video OTHER RTP/AVP 26\n"),
        ("list.asx", '<asx><ref href="http://127.0.0.1:OTHER/piece1.ts"/></asx>'),
    ],
)
def test_other_lists_of_addresses_are_not_opened(
    hosts: tuple[int, int, list[tuple[int, str]]], tmp_path: Path, name: str, text: str
) -> None:
    port, other, visits = hosts
    (tmp_path / name).write_text(text.replace("OTHER", str(other)))
    assert "cannot be opened" in refusal(f"http://127.0.0.1:{port}/{name}")
    assert not [path for there, path in visits if there == other]
