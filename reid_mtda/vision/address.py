"""Where frames come from, as people write it: the scheme of an address, what of it may be shown, usual mistakes."""

from __future__ import annotations

import os
import re

from reid_mtda.errors import VideoError

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https")

_HINT = "in a user name or password write # as %23, / as %2F, ? as %3F, @ as %40"


def address_scheme(url: str) -> str:
    """The scheme of an address in small letters, ``device`` for ``device:N``, empty for a path.

    >>> address_scheme("RTSP://cam/1"), address_scheme("device:0"), address_scheme("a/b.mp4")
    ('rtsp', 'device', '')
    """
    if url.startswith("device:"):
        return "device"
    found = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return found.group(1).lower() if found else ""


def redact_url(url: str) -> str:
    """An address that may be shown: without user name, password and query, any of which can hold a secret.

    What has an ``@`` and is no file that is there is taken for a mistyped address: nothing before it is shown.

    >>> redact_url("rtsp://admin:s3cret@10.0.0.5:554/ch1?token=abc")
    'rtsp://***@10.0.0.5:554/ch1?***'
    >>> redact_url("rtsp:/admin:s3cret@10.0.0.5/ch1")
    '***@10.0.0.5/ch1'
    >>> redact_url("synthetic://street?camera=gate")
    'synthetic://street?camera=gate'
    """
    scheme = address_scheme(url)
    # For Path some of the texts that people type are an error.
    is_file = "@" not in url or os.path.exists(os.path.expanduser(url))  # noqa: PTH110, PTH111
    if scheme in ("", "device", "synthetic") and is_file:
        return url
    start, rest = ("", url) if scheme in ("", "device") else url.split("://", 1)
    _, at, shown = rest.rpartition("@")  # the last one: a password can hold '@', '/' and '?'
    shown, question, _ = shown.partition("?")
    return f"{start}{'://' if start else ''}{'***@' if at else ''}{shown}{'?***' if question else ''}"


def credentials_hint(url: str) -> str:
    """What to mend in the user name or password of a stream's address; empty when they can be read as meant.

    A ``#``, ``/`` or ``?`` ends the part of an address that names the host, so with one of them in a password the
    host is taken from the user's name, and nothing is ever sent to the camera.

    >>> credentials_hint("rtsp://admin:pass#word@10.0.0.5/ch1")
    'in a user name or password write # as %23, / as %2F, ? as %3F, @ as %40'
    >>> credentials_hint("rtsp://admin:pass%23word@10.0.0.5/ch1"), credentials_hint("http://host/x?mail=a@b.c")
    ('', '')
    """
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or "@" not in rest:
        return ""
    port = authority.rpartition(":")[2] if ":" in authority and not authority.endswith("]") else ""
    return _HINT if (port and not port.isdecimal()) or not authority else ""


def check_credentials(url: str) -> None:
    """Refuse an address whose password hides its host.

    Raises:
        VideoError: with what to write instead; no password in it.
    """
    if hint := credentials_hint(url):
        raise VideoError(f"{redact_url(url)}: the host cannot be told from the password; {hint}")
