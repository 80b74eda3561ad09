"""The audit's head noted where whoever can write to the state folder cannot take it back: a file elsewhere, or syslog.

A line is ``2026-03-01T08:00:00Z NUMBER:HASH``. Each of them must stand in the chain for ever.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.service.audit_chain import Head, head_text, parse_head

_SYSLOG = re.compile(r"syslog(?:://(\[[0-9A-Fa-f:]+\]|[^:/\s]+)(?::(\d{1,5}))?)?\Z")
_LOCAL_SYSLOG = "/dev/log"
_NOTICE = 13 * 8 + 5  # facility: log audit, severity: notice


class AuditAnchor:
    """Notes heads outside of the state folder, when told and at most every ``every_s``.

    Args:
        place: a file, made when missing and only ever appended to; ``syslog``, or ``syslog://HOST[:PORT]`` by UDP.
        state: the service's state folder, in which a file would prove nothing.
        every_s: seconds between two heads, start and stop left aside.
        clock: POSIX seconds.

    Raises:
        ConfigError: no such kind of place, or a file in the state folder.
    """

    def __init__(
        self, place: str, state: Path, *, every_s: float = 3600.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._place, self._every_s, self._clock = place, every_s, clock
        self._is_syslog = place == "syslog" or place.startswith("syslog:")
        self._last: Head | None = None
        self._due_s = 0.0
        if self._is_syslog:
            if not _SYSLOG.match(place):
                raise ConfigError(f"audit_anchor: got {place!r}, expected a file, syslog, or syslog://HOST[:PORT]")
        elif Path(place).expanduser().resolve().is_relative_to(Path(state).resolve()):
            raise ConfigError(
                f"audit_anchor: {place} lies in the state folder, where whoever writes the audit can write it, too; "
                "name a file elsewhere, best one that can only be appended to (chattr +a), or syslog"
            )

    def follow(self, head: Head) -> None:
        """Note a head where it is another one and the time has come.

        Raises:
            StorageError: as ``note``.
        """
        if head != self._last and time.monotonic() >= self._due_s:
            self.note(head)

    def note(self, head: Head) -> None:
        """Note a head now.

        Raises:
            StorageError: it could not be noted; nothing else is changed.
        """
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        line = f"{now} {head_text(head)}"
        try:
            if self._is_syslog:
                _send(self._place, f"<{_NOTICE}>reid-mtda: audit head {line}")
            else:
                _append(Path(self._place).expanduser(), line)
        except OSError as error:
            raise StorageError(
                f"audit_anchor: {self._place}: the audit's head could not be noted there ({error.strerror or error}); "
                "mend it, the audit itself goes on"
            ) from None
        self._last, self._due_s = head, time.monotonic() + self._every_s


def read_anchors(path: Path) -> list[Head]:
    """The heads of a file of lines that end in NUMBER:HASH, e.g. an anchor's or a piece of a log.

    Raises:
        StorageError: it cannot be read, holds no heads, or a line of it ends in none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    heads = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            heads.append(parse_head(line.split()[-1]))
        except ValueError as error:
            raise StorageError(f"{path}: line {number}: {error} at its end") from None
    if not heads:
        raise StorageError(f"{path}: holds no heads of an audit, expected lines that end in NUMBER:HASH")
    return heads


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _send(place: str, message: str) -> None:
    found = _SYSLOG.match(place)
    host, port = (found[1], found[2]) if found else (None, None)
    if host is None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
            local.connect(_LOCAL_SYSLOG)
            local.send(message.encode())
        return
    where = socket.getaddrinfo(host.strip("[]"), int(port or 514), type=socket.SOCK_DGRAM)[0]
    with socket.socket(*where[:3]) as away:
        away.sendto(message.encode(), where[4])
