"""Events posted to an address, signed as Standard Webhooks says: receivers can check them with its libraries."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable

import httpx

from reid_mtda.errors import ConfigError
from reid_mtda.service.notify.delivery import RefusedError, UnreachableError
from reid_mtda.service.notify.messages import Message
from reid_mtda.service.notify.settings import WebhookSettings, read_secret
from reid_mtda.vision.address import redact_url

Picture = Callable[[Message], bytes | None]
"""The JPEG that goes with a message; None where its camera does not opt in, or it has none."""

_LEAST_SECRET = 24
_LATER = (408, 409, 425, 429)


def post(
    settings: WebhookSettings, message: Message, picture: Picture, *, clock: Callable[[], float] = time.time
) -> None:
    """Post one message; redirects are not followed, and nothing of the answer but its status is read.

    Args:
        settings: where to, and the secret.
        message: what is told.
        picture: gives the JPEG of a message.
        clock: POSIX seconds.

    Raises:
        UnreachableError: no answer in time, or one that asks for another try.
        RefusedError: any other answer that is not 2xx.
        ConfigError: the secret cannot be read.
    """
    secret = signing_key(read_secret(settings.secret_file, least=_LEAST_SECRET))
    body = dict(message.body)
    if (jpeg := picture(message)) is not None:
        body["picture_jpeg"] = base64.b64encode(jpeg).decode()
    data, name = json.dumps(body, separators=(",", ":")).encode(), str(body["id"])
    stamp = str(int(clock()))
    headers = {
        "content-type": "application/json",
        "user-agent": "reid-mtda",
        "webhook-id": name,
        "webhook-timestamp": stamp,
        "webhook-signature": sign(secret, name, stamp, data),
    }
    where = redact_url(settings.url)
    try:
        # A limit for all of it: one that sends a byte now and then would hold a client that waits for each byte.
        status = asyncio.run(asyncio.wait_for(_post(settings.url, data, headers), settings.timeout_s))
    except TimeoutError:
        raise UnreachableError(f"{where}: no answer within {settings.timeout_s:g} s") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigError(f"{where}: not an address ({error})") from None
    except (httpx.HTTPError, OSError, ssl.SSLError) as error:
        raise UnreachableError(f"{where}: cannot be reached ({type(error).__name__})") from None
    if status >= 500 or status in _LATER:
        raise UnreachableError(f"{where}: answers {status}")
    if 300 <= status < 400:
        raise RefusedError(f"{where}: answers {status}, a redirect, which is not followed; set the address it leads to")
    if status >= 400:
        raise RefusedError(f"{where}: answers {status}")


async def _post(url: str, data: bytes, headers: dict[str, str]) -> int:
    # No proxies or .netrc of the environment: what the settings say is what is asked.
    async with (
        httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", url, content=data, headers=headers) as answer,
    ):
        return answer.status_code


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: of ``whsec_...`` what its base64 says, else its own.

    >>> signing_key("whsec_AAEC"), signing_key("plain")
    (b'\\x00\\x01\\x02', b'plain')

    Raises:
        ConfigError: ``whsec_`` and no base64.
    """
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ConfigError("webhook: the secret begins with whsec_ and is no base64; make another one") from None


def sign(key: bytes, name: str, stamp: str, data: bytes) -> str:
    """The header ``webhook-signature``: HMAC-SHA-256 over id, time and body.

    Args:
        key: the secret that both sides know.
        name: how it is called.
        stamp: when it was signed.
        data: what is signed.
    """
    digest = hmac.new(key, f"{name}.{stamp}.".encode() + data, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
