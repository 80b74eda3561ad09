"""A first word with an RTSP server before FFmpeg is let near it: does it answer, and does it send us elsewhere?"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from urllib.parse import urljoin, urlsplit

from reid_mtda.errors import VideoError
from reid_mtda.vision.address import redact_url
from reid_mtda.vision.container import UNAUTHORISED

_MOST_BYTES = 1 << 16
_PORTS = {"rtsp": 554, "rtsps": 322}


def probe_rtsp(url: str, timeout_s: float) -> None:
    """Ask an RTSP server what it has, without credentials, and look at how it answers.

    FFmpeg follows a redirection wherever it leads, also into the server's own network; so it is only let near a
    server that answers for itself.

    Args:
        url: ``rtsp://`` or ``rtsps://``.
        timeout_s: seconds for all of it.

    Raises:
        VideoError: no such host, refused, no answer in time, no RTSP, not there, a redirection to another host or
            port.
    """
    shown = redact_url(url)
    asked = _without_credentials(url)
    deadline = time.monotonic() + timeout_s
    # A connection of its own for each: some servers close it after every answer.
    for number, method in enumerate(("OPTIONS", "DESCRIBE"), 1):
        with contextlib.closing(connect_rtsp(url, shown, timeout_s)) as connection:
            accept = "Accept: application/sdp\r\n" if method == "DESCRIBE" else ""
            status, headers = _answer(
                connection, f"{method} {asked} RTSP/1.0\r\nCSeq: {number}\r\n{accept}\r\n", shown, deadline, timeout_s
            )
            if 300 <= status < 400:
                _check_redirection(shown, asked, headers.get("location", ""))
            if status == 401 and "@" not in urlsplit(url).netloc:
                raise VideoError(f"{shown}: {UNAUTHORISED}")
            if status == 404:
                raise VideoError(
                    f"{shown}: cannot be opened, no such stream there (404); check the path of the address"
                )
            if status in (400, 401, 403, 405, 453, 454, 461, 500, 501, 551):
                return  # FFmpeg knows more ways to ask, and has the password


def connect_rtsp(url: str, shown: str, timeout_s: float) -> socket.socket:
    """Connect to the server of an address; of ``rtsps`` with TLS.

    Args:
        url: the address.
        shown: the address as it may be shown, without a password.
        timeout_s: how long it may take.

    Raises:
        VideoError: it cannot be reached, with the cause.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        connection = socket.create_connection((host, port), timeout=timeout_s)
    except socket.gaierror:
        raise VideoError(f"{shown}: cannot be opened, no host of that name ({host}); check the address") from None
    except TimeoutError:
        raise VideoError(_silent(shown, timeout_s)) from None
    except ConnectionRefusedError:
        raise VideoError(
            f"{shown}: cannot be opened, connection refused; check the port {port} and whether the camera serves RTSP"
        ) from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise VideoError(f"{shown}: cannot be opened, {reason.lower()}; check address and network") from None
    if parts.scheme != "rtsps":
        return connection
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # cameras sign their own
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except TimeoutError:
        connection.close()
        raise VideoError(_silent(shown, timeout_s)) from None
    except OSError as error:
        connection.close()
        raise VideoError(f"{shown}: cannot be opened, no TLS there ({error}); try rtsp:// instead") from None


def _answer(
    connection: socket.socket, request: str, shown: str, deadline: float, timeout_s: float
) -> tuple[int, dict[str, str]]:
    """The status and headers of the answer to ``request``; its body is read over."""
    data = b""
    try:
        connection.sendall(request.encode())
        while b"\r\n\r\n" not in data and len(data) < _MOST_BYTES:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if not (part := connection.recv(4096)):
                break
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, colon, value in (x.partition(":") for x in lines[1:]) if colon
        }
        words = lines[0].split(None, 2)
        if len(words) < 2 or not words[0].startswith("RTSP/") or not words[1].isdecimal():
            raise VideoError(f"{shown}: cannot be opened, what answers there is no RTSP; check port and address")
        length = headers.get("content-length", "0")
        rest = min(int(length), _MOST_BYTES) - len(body) if length.isdecimal() else 0
        while rest > 0 and (part := connection.recv(min(rest, 4096))):
            rest -= len(part)
        return int(words[1]), headers
    except TimeoutError:
        raise VideoError(_silent(shown, timeout_s)) from None
    except OSError as error:
        raise VideoError(
            f"{shown}: cannot be opened, the connection broke ({(error.strerror or 'closed').lower()}); "
            "check the camera"
        ) from None


def _check_redirection(shown: str, asked: str, location: str) -> None:
    old, new = urlsplit(asked), urlsplit(urljoin(asked, location))
    try:
        same = (old.scheme, old.hostname, old.port) == (new.scheme, new.hostname, new.port)
    except ValueError:
        same = False
    if not same or not location:
        raise VideoError(
            f"{shown}: cannot be opened, it sends us to {redact_url(location) or 'nowhere'}, which is not followed; "
            "give that address as url where it may be trusted"
        )


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _silent(shown: str, timeout_s: float) -> str:
    return f"{shown}: cannot be opened, no answer within {timeout_s:g} s; check address and network"
