"""RTSP servers of the tests that answer as they are told, on real sockets."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from reid_mtda.errors import VideoError
from reid_mtda.vision.video import read_frames

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n"


@contextlib.contextmanager
def answering(answer: Callable[[str], str], *, closes: bool = False) -> Iterator[tuple[int, list[str]]]:
    """A server that gives ``answer`` to each request of RTSP; yields its port and the requests it got."""
    got: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while request := connection.recv(4096).decode():
                    got.append(request)
                    number = re.search(r"CSeq: *(\d+)", request)
                    reply = answer(request).replace("SEQ", number.group(1) if number else "0")
                    connection.sendall(reply.encode())
                    if closes:
                        return

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], got


def status(line: str, *headers: str, body: str = "") -> str:
    return "\r\n".join((f"RTSP/1.0 {line}", "CSeq: SEQ", *headers, f"Content-Length: {len(body)}", "", body))


def refusal(url: str) -> str:
    with pytest.raises(VideoError) as caught:
        next(read_frames(url, camera="c", fps=5))
    assert "geheim" not in str(caught.value)
    return str(caught.value)
