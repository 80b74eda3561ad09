"""HTTP live streaming: a playlist and its pieces, all of them from the host and port that was named."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

OPTIONS = {
    # The pieces' connections are ours; and what the playlist names may be nothing but pieces.
    "format_whitelist": "hls,mpegts,mov,mp4,aac,mp3,webvtt",
    "http_persistent": "0",
    "http_multiple": "0",
    "seg_max_retry": "1",
}
_PORTS = {"http": 80, "https": 443}
_STARTS = (b"#EXTM3U", b"\xef\xbb\xbf#EXTM3U")


class SameHost:
    """Opens addresses of one host and port for FFmpeg, and no others; ``elsewhere`` is one that was asked for."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._home, self._timeout_s, self.elsewhere = urlsplit(address), timeout_s, ""

    def open(self, address: str, flags: int, options: dict[str, Any]) -> http.client.HTTPResponse:
        """Open an address to be read.

        Args:
            address: where it is, without passwords in what is said of it.
            flags: FFmpeg's, of which reading alone is granted.
            options: FFmpeg's.

        Raises:
            PermissionError: it is of another host, port or kind, or sends us to one.
            OSError: it cannot be had.
        """
        parts = urlsplit(address)
        if flags & 2 or _place(parts) != _place(self._home):
            self.elsewhere = self.elsewhere or address
            raise PermissionError(13, "an address of another host")
        first, last = int(options.get("offset", 0) or 0), int(options.get("end_offset", 0) or 0)
        headers = {"Range": f"bytes={first}-{last - 1 if last else ''}"} if first or last else {}
        answer = ask(parts, self._timeout_s, headers)
        if 300 <= answer.status < 400:
            self.elsewhere = answer.headers.get("Location", "nowhere")
            raise PermissionError(13, "sent elsewhere")
        if answer.status >= 400:
            raise OSError(5, f"HTTP status {answer.status}")
        return answer


def is_playlist(address: str, timeout_s: float) -> bool:
    """Whether what lies at an HTTP address is a playlist."""
    try:
        with contextlib.closing(ask(urlsplit(address), timeout_s, {})) as answer:
            return answer.status == 200 and answer.read(16).startswith(_STARTS)
    except (OSError, http.client.HTTPException):
        return False


def ask(parts: SplitResult, timeout_s: float, headers: dict[str, str]) -> http.client.HTTPResponse:
    """The answer to a GET; a redirection is an answer.

    Args:
        parts: the address.
        timeout_s: how long it may take.
        headers: sent with it.
    """
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # cameras sign their own
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = {**headers, "Authorization": f"Basic {base64.b64encode(secret).decode()}"}
    path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    # Closed with its answer, which holds the socket from here on.
    connection.request("GET", path, headers={**headers, "Connection": "close", "User-Agent": "reid-mtda"})
    return connection.getresponse()


def _place(parts: SplitResult) -> tuple[str, str | None, int | None]:
    try:
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "", None, None
