"""Which addresses a camera may have, and what of an address may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from reid_mtda.errors import ConfigError
from reid_mtda.synthetic.street import parse_url
from reid_mtda.vision.address import STREAM_SCHEMES, address_scheme, credentials_hint, redact_url


@dataclass(frozen=True)
class UrlPolicy:
    """Which addresses cameras added at run time may have; those of the site's own files are trusted.

    Files and devices are never among them: whoever may add a camera may not read the server's disk through it.
    """

    schemes: tuple[str, ...] = ("rtsp", "rtsps", "synthetic")
    hosts: tuple[str, ...] = ()

    def check(self, url: str) -> None:
        """Refuse an address that is not on the list.

        Raises:
            ConfigError: the scheme or host is not allowed, or the address is malformed or cannot work.
        """
        shown = redact_url(url)
        if shown.startswith("***@"):  # a scheme read from such an address may be the user's name
            raise ConfigError(f"{shown}: not an address, expected e.g. rtsp://user:password@host/path; mend its start")
        if address_scheme(url) in STREAM_SCHEMES and (hint := credentials_hint(url)):
            raise ConfigError(f"{shown}: the host cannot be told from the password; {hint}")
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").rstrip(".")
            _ = parts.port
        except ValueError:
            raise ConfigError(f"{shown}: not an address, expected e.g. rtsp://host/path") from None
        if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url) or "\\" in url:
            raise ConfigError("url: holds blanks, backslashes or control characters; expected e.g. rtsp://host/path")
        if parts.scheme not in self.schemes:
            raise ConfigError(
                f"{shown}: scheme {parts.scheme or 'file'!r} is not allowed, expected {' or '.join(self.schemes)}; "
                "cameras that read files or devices belong in the site's folder"
            )
        if parts.scheme == "synthetic":
            parse_url(url)
        known = {name.casefold().rstrip(".") for name in self.hosts}
        if parts.scheme in STREAM_SCHEMES and host.casefold() not in known:
            allowed = ", ".join(self.hosts) or "none"
            raise ConfigError(f"{shown}: host {host!r} is not allowed (allowed: {allowed}); add it to allowed_hosts")


def hide_secrets(message: str, url: str) -> str:
    """``message`` without what ``redact_url`` hides of ``url``.

    >>> hide_secrets("cannot open rtsp://u:pw@cam/1", "rtsp://u:pw@cam/1")
    'cannot open rtsp://***@cam/1'
    >>> hide_secrets("no file rtsp:/user:pa55word@cam/1", "/site/rtsp:/user:pa55word@cam/1")
    'no file rtsp:***@cam/1'
    """
    shown = redact_url(url)
    if shown == url:
        return message
    message = message.replace(url, shown)
    is_mistyped = shown.startswith("***@")
    credentials, at, _ = (url if is_mistyped else url.split("://", 1)[1]).rpartition("@")
    secrets = [credentials, *credentials.split(":", 1)] if at else []
    if is_mistyped:  # where its user name begins is a guess
        secrets += [credentials.rpartition("/")[2], *credentials.rpartition("/")[2].split(":", 1)]
        secrets += [credentials.rpartition(":")[2]]
    query = url.partition("?")[2]
    for secret in sorted({*secrets, query} - set(STREAM_SCHEMES), key=len, reverse=True):
        if len(secret) >= 3:
            message = message.replace(secret, "***")
    return message


def is_live(url: str) -> bool:
    """Whether an address looks like a live source's: a device or a network stream.

    What is there may tell otherwise once it is open: a recording behind an address is none.
    """
    return url.startswith("device:") or url.split("://", 1)[0].lower() in STREAM_SCHEMES
