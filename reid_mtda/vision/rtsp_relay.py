"""A place between FFmpeg and an RTSP server through which no redirection passes.

FFmpeg follows a redirection wherever it leads, and no option of it says otherwise; a server that answers us kindly may
send FFmpeg elsewhere a moment later. So FFmpeg talks to a port of this machine, as through a router that forwards one,
and what comes back is looked through until the stream plays.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

_MOST_HEAD = 1 << 16
_CHUNK = 1 << 16
_ELSEWHERE = re.compile(rb"^[ \t\r]*RTSP/\S*[ \t]+\S*3\d\d", re.MULTILINE)
_LOCATION = re.compile(rb"^location[ \t]*:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)


class RtspRelay:
    """Carries one connection of FFmpeg's to an RTSP server and back; ends with either side.

    Args:
        server: connected to it; without the TLS of ``rtsps``, which ends here.
        patience_s: seconds that FFmpeg is waited for.
    """

    def __init__(self, server: socket.socket, patience_s: float) -> None:
        self._server, self.location = server, ""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._listener.settimeout(patience_s)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="rtsp-relay", daemon=True)
        self._thread.start()

    def address(self, url: str) -> str:
        """What FFmpeg is to open in place of ``url``: its user, path and query, at this relay."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(scheme="rtsp", netloc=f"{user}{at}127.0.0.1:{self.port}", fragment="").geturl()

    def was_sent_elsewhere(self, wait_s: float = 1.0) -> bool:
        """Whether the server sent us elsewhere; ``location`` says where. Asked once FFmpeg has given up."""
        self._thread.join(wait_s)
        return bool(self.location)

    def _run(self) -> None:
        with self._server, contextlib.suppress(OSError):
            with self._listener:
                ours, _ = self._listener.accept()
            with ours:
                self._carry(ours)

    def _carry(self, ours: socket.socket) -> None:
        for one in (ours, self._server):
            one.settimeout(None)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held, plays = b"", False
        with selectors.DefaultSelector() as ready:
            ready.register(ours, selectors.EVENT_READ)
            ready.register(self._server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data = _receive(key.fileobj)  # type: ignore[arg-type]
                    if not data:
                        return
                    if key.fileobj is ours:
                        plays = plays or data.startswith(b"PLAY ") or b"\nPLAY " in data
                        self._server.sendall(data)
                    elif plays:
                        ours.sendall(held + data)
                        held = b""
                    else:
                        held += data
                        if _ELSEWHERE.search(held):
                            self._note_location(held)
                            return
                        whole = _passable(held)
                        if len(held) - whole > _MOST_HEAD:
                            return
                        ours.sendall(held[:whole])
                        held = held[whole:]

    def _note_location(self, head: bytes) -> None:
        """Remember where the server wants us to go; the rest of its answer may still be under way."""
        self._server.settimeout(0.5)
        with contextlib.suppress(OSError):
            while b"\n\r\n" not in head and b"\n\n" not in head and len(head) < _MOST_HEAD:
                if not (part := self._server.recv(_CHUNK)):
                    break
                head += part
        found = _LOCATION.search(head[_start_of(head) :])
        self.location = found[1].decode("latin-1") if found else "nowhere"


def _start_of(head: bytes) -> int:
    found = _ELSEWHERE.search(head)
    return found.start() if found else 0


def _passable(data: bytes) -> int:
    """How many bytes may pass: all but a last line that may become a status line."""
    begin = data.rfind(b"\n") + 1
    line = data[begin:].lstrip(b" \t\r")
    return begin if line and (b"RTSP/".startswith(line[:5])) else len(data)


def _receive(one: socket.socket) -> bytes:
    """What there is; TLS may hold more than the socket shows, which must not wait for the next arrival."""
    data = one.recv(_CHUNK)
    pending: Callable[[], int] | None = getattr(one, "pending", None)
    while pending is not None and data and pending() and len(data) < 16 * _CHUNK:
        data += one.recv(_CHUNK)
    return data
