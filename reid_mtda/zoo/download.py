"""Downloads of a known length: resumed where the connection is cut, and refused where something else answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx

from reid_mtda.errors import ModelError
from reid_mtda.progress import Progress, silent

ATTEMPTS = 5
_PAUSE_S = 1.0
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_ELSEWHERE = "give a mirror (--mirror) or a folder with the file (--from)"


def download(
    url: str,
    target: Path,
    *,
    size: int,
    part: str = "",
    progress: Progress = silent,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch ``url`` into the file ``target``; a cut connection is taken up again where it was cut.

    The system's proxy settings (``HTTPS_PROXY`` and so on) and certificates (``SSL_CERT_FILE``) are respected.

    Args:
        url: http or https address.
        target: file to write; its content is not checked beyond its length.
        size: how many bytes the file has.
        part: what ``progress`` calls it.
        progress: told (part, kB done, kB in all) as bytes come in.
        sleep: waits between attempts; its argument is in seconds.

    Raises:
        ModelError: the server cannot be reached, refuses, or sends something of another length, e.g. a proxy's page.
        OSError: the disk refused.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": "reid-mtda"}  # the length is that of the file itself
    with target.open("wb") as file, httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers=headers) as client:
        fault = tag = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                sleep(_PAUSE_S * 2 ** (attempt - 1))
            fault, have = "", file.tell()
            ask = {"Range": f"bytes={have}-", **({"If-Range": tag} if tag else {})} if have else {}
            try:
                with client.stream("GET", url, headers=ask) as answer:
                    if answer.status_code >= 500 or answer.status_code == 429:
                        fault = f"answered {answer.status_code} {answer.reason_phrase}"
                        continue
                    _check(url, answer, have, size)
                    if answer.status_code != 206:  # from the beginning, whatever was asked for
                        file.seek(0)
                        file.truncate()
                    tag = answer.headers.get("etag", "")
                    tag = "" if tag.startswith("W/") else tag
                    _receive(url, answer, file, size, part, progress)
            except httpx.HTTPError as error:
                fault = f"{type(error).__name__}: {str(error) or 'no answer'}"
            except httpx.InvalidURL as error:
                raise ModelError(f"{url}: not an address ({error}); expected http://... or https://...") from None
            if file.tell() == size:
                return
            fault = fault or "the connection was cut"
        got = f"got {file.tell()} of {size} bytes in {ATTEMPTS} attempts" if file.tell() else "could not be fetched"
        raise ModelError(f"{url}: {got} ({fault}); try again, or {_ELSEWHERE}")


def _check(url: str, answer: httpx.Response, have: int, size: int) -> None:
    """Refuse an answer that is not the file."""
    if answer.status_code not in (200, 206):
        raise ModelError(
            f"{url}: answered {answer.status_code} {answer.reason_phrase}, expected the file; {_ELSEWHERE}"
        )
    begins = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    if answer.status_code == 206 and begins != str(have):
        raise ModelError(f"{url}: asked from byte {have} on, got {begins or 'no place'}; {_ELSEWHERE}")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = answer.headers.get("content-length", "")
    expected = size - have if answer.status_code == 206 else size
    if kind in ("text/html", "application/xhtml+xml"):
        raise ModelError(
            f"{url}: got a web page, expected a file of {size} bytes; a proxy or a sign-in page may answer in its "
            f"place: {_ELSEWHERE}"
        )
    if length.isdigit() and int(length) != expected and "content-encoding" not in answer.headers:
        raise ModelError(f"{url}: got {length} bytes, expected {expected}; another file stands there: {_ELSEWHERE}")


def _receive(url: str, answer: httpx.Response, file: IO[bytes], size: int, part: str, progress: Progress) -> None:
    for chunk in answer.iter_bytes():
        file.write(chunk)
        if file.tell() > size:
            raise ModelError(f"{url}: got more than {size} bytes; another file stands there: {_ELSEWHERE}")
        progress(part, file.tell() // 1000, -(-size // 1000))
