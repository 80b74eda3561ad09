"""The audit: who did what, when, to what; append-only, each entry bound to the one before by its hash.

Whoever changes, removes or inserts an entry breaks the chain from there on, and ``verify`` names the place. Cutting
entries off the end leaves a shorter sound chain; note the head (number and hash) elsewhere from time to time and give
it to ``verify`` to see that too.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_mtda.errors import StorageError
from reid_mtda.service.database import Database

FILE = "audit.sqlite"
FIRST_HASH = "0" * 64

_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, time_s REAL NOT NULL, user TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL,
    before TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
"""
_CHUNK = 1000


@dataclass(frozen=True)
class AuditEntry:
    """One thing somebody did. ``detail`` never holds pictures, tokens or passwords."""

    number: int
    time_s: float
    user: str
    action: str
    detail: dict[str, Any]
    before: str
    hash: str


@dataclass(frozen=True)
class AuditReport:
    """What ``verify`` found; ``fault`` is empty when the chain is sound."""

    entries: int
    head: str
    fault: str

    @property
    def is_sound(self) -> bool:
        """Nothing was changed."""
        return not self.fault


class Audit:
    """Appends entries; each is on disk when ``add`` returns."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(Path(folder) / FILE, _SCHEMA)
        self._clock = clock

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add(self, user: str, action: str, **detail: Any) -> AuditEntry:
        """Append an entry.

        Raises:
            StorageError: it could not be written; what was to be audited must then not happen.
        """
        time_s = round(self._clock(), 3)
        text = json.dumps(detail, sort_keys=True, separators=(",", ":"))
        with self._database.write() as connection:
            last = connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            number, before = (last["number"] + 1, last["hash"]) if last else (1, FIRST_HASH)
            digest = entry_hash(number, time_s, user, action, text, before)
            connection.execute(
                "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", (number, time_s, user, action, text, before, digest)
            )
        return AuditEntry(number, time_s, user, action, detail, before, digest)

    def entries(self, *, before: int | None = None, limit: int = 100, action: str | None = None) -> list[AuditEntry]:
        """Entries with a number below ``before``, newest first."""
        conditions, values = ["1"], []  # type: tuple[list[str], list[Any]]
        if before is not None:
            conditions.append("number < ?")
            values.append(before)
        if action is not None:
            conditions.append("action = ?")
            values.append(action)
        query = f"SELECT * FROM audit WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"
        return [
            AuditEntry(
                r["number"], r["time_s"], r["user"], r["action"], json.loads(r["detail"]), r["before"], r["hash"]
            )
            for r in self._database.read(query, (*values, limit))
        ]

    def verify(self, *, head: tuple[int, str] | None = None) -> AuditReport:
        """Walk the whole chain.

        Args:
            head: number and hash noted earlier, which must still stand.
        """
        before, count = FIRST_HASH, 0
        for row in self._rows():
            count += 1
            where = f"entry {row['number']}"
            if row["number"] != count:
                return AuditReport(count, before, f"{where}: expected number {count}; entries were removed")
            if row["before"] != before:
                return AuditReport(count, before, f"{where}: does not follow from entry {count - 1}; one was changed")
            digest = entry_hash(row["number"], row["time_s"], row["user"], row["action"], row["detail"], before)
            if digest != row["hash"]:
                return AuditReport(count, before, f"{where}: its content does not match its hash; it was changed")
            if head is not None and head[0] == count and head[1] != digest:
                return AuditReport(count, before, f"{where}: is not the one noted; the chain was written anew")
            before = digest
        if head is not None and head[0] > count:
            return AuditReport(count, before, f"ends at entry {count}, but {head[0]} was noted; the end was cut off")
        return AuditReport(count, before, "")

    def _rows(self) -> Iterator[Any]:
        last = 0
        while rows := self._database.read(
            "SELECT * FROM audit WHERE number > ? ORDER BY number LIMIT ?", (last, _CHUNK)
        ):
            yield from rows
            last = rows[-1]["number"]


def entry_hash(number: int, time_s: float, user: str, action: str, detail: str, before: str) -> str:
    """SHA-256 over all of an entry and the hash before it; JSON keeps the fields apart."""
    # What was put there by other hands may be no JSON value at all; it must not match, rather than fail.
    text = json.dumps([number, time_s, user, action, detail, before], default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def verify_audit(folder: Path, *, head: tuple[int, str] | None = None) -> AuditReport:
    """Verify the audit of a service's state ``folder``.

    Raises:
        StorageError: there is none.
    """
    if not (Path(folder) / FILE).is_file():
        raise StorageError(f"{folder}: holds no {FILE}; expected the state folder of a service")
    audit = Audit(folder)
    try:
        return audit.verify(head=head)
    finally:
        audit.close()
