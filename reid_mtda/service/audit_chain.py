"""The chain of the audit: its entries, the hash that ties each to the one before, and its head kept beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD_FILE = "audit.head"


FIRST_HASH = "0" * 64


Head = tuple[int, str]
"""Number and hash of an entry, as noted outside of the chain."""


@dataclass(frozen=True)
class AuditEntry:
    """One thing somebody did. ``detail`` never holds pictures, tokens or passwords.

    ``detail["by_token"]`` is the id of the token that ``user`` showed.
    """

    number: int
    time_s: float
    user: str
    action: str
    detail: dict[str, Any]
    before: str
    hash: str


@dataclass(frozen=True)
class AuditReport:
    """What ``verify`` found; ``fault`` is empty when the chain is sound.

    ``doubts``: what entries of the chain say about a record that was there before and is not any more.
    """

    entries: int
    head: str
    fault: str
    doubts: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Nothing was changed."""
        return not self.fault


def read_head(folder: Path) -> Head | None:
    """The head noted beside the audit in ``folder``; None where none is, or none can be read."""
    try:
        return parse_head((Path(folder) / HEAD_FILE).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None


def parse_head(text: str) -> Head:
    """A head as it is printed, NUMBER:HASH.

    >>> parse_head("3:" + "AB" * 32)[0]
    3

    Raises:
        ValueError: it is none.
    """
    number, _, digest = text.partition(":")
    is_hash = len(digest) == 64 and set(digest.lower()) <= set("0123456789abcdef")
    if not (number.isascii() and number.isdigit() and 0 < len(number) < 16 and is_hash):
        raise ValueError(f"got {text[:80]!r}, expected NUMBER:HASH")
    return int(number), digest.lower()


def head_text(head: Head) -> str:
    """A head as it is printed and noted."""
    return f"{head[0]}:{head[1]}"


def write_head(folder: Path, head: Head) -> None:
    """Note the head. No flush: a power cut leaves an older one, or none; the entry itself is on disk already."""
    temporary = folder / f".{HEAD_FILE}.{os.getpid()}.part"
    with contextlib.suppress(OSError):  # a full disk: the entry stands, an older head stays
        temporary.write_text(head_text(head) + "\n", encoding="ascii")
        temporary.chmod(0o600)
        temporary.replace(folder / HEAD_FILE)


def entry_hash(number: int, time_s: float, user: str, action: str, detail: str, before: str) -> str:
    """SHA-256 over all of an entry and the hash before it; JSON keeps the fields apart.

    Args:
        number: its number.
        time_s: POSIX seconds.
        user: who did it.
        action: what was done.
        detail: what else was noted, as JSON.
        before: the hash of the entry before.
    """
    # What was put there by other hands may be no JSON value at all; it must not match, rather than fail.
    text = json.dumps([number, time_s, user, action, detail, before], default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
