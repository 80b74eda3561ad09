"""The audit: who did what, when, to what; append-only, each entry bound to the one before by its hash.

Whoever changes, removes or inserts an entry breaks the chain from there on, and ``verify`` names the place. Cutting
entries off the end, emptying the file or writing the whole chain anew leaves a sound chain: so its head (number and
hash) is noted outside of it, in a file beside, on the terminal at start and stop, and in the log. Whatever does not
follow from the head noted is an entry of its own, and an alert.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reid_mtda.errors import StorageError
from reid_mtda.service.audit_chain import (
    FIRST_HASH,
    HEAD_FILE,
    AuditEntry,
    AuditReport,
    Head,
    entry_hash,
    head_text,
    read_head,
    write_head,
)
from reid_mtda.service.database import Database
from reid_mtda.service.roles import Principal

FILE = "audit.sqlite"
DOUBTED = "audit_doubted"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, time_s REAL NOT NULL, user TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL,
    before TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE INDEX IF NOT EXISTS by_action ON audit (action, number);
"""
_CHUNK = 1000
_MOST = 2**62
_DOUBT_SHOWN_S = 30 * 86400.0
_WHOLE_EVERY_S = 86400.0


@dataclass(frozen=True)
class _Verified:
    """How far the chain was walked, and what would make a new walk necessary."""

    report: AuditReport
    outside: int  # changes by other processes
    whole_s: float


class Audit:
    """Appends entries; each is on disk when ``add`` returns.

    ``doubt`` says what of the record is not as the head noted beside it says, '' when it is; the first entry that is
    added then says so, too.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = Path(folder), clock
        self._lock = threading.Lock()
        is_new, noted = not (self._folder / FILE).exists(), read_head(self._folder)
        # The tokens were made together with entries: they are no older than the audit.
        is_expected = noted is not None or (self._folder / "access.sqlite").exists()
        self._database = Database(self._folder / FILE, _SCHEMA)
        self._verified: _Verified | None = None
        self.doubt = _new_chain(self._folder, noted) if is_new and is_expected else self._doubt_of(noted)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add(self, user: str | Principal, action: str, **detail: Any) -> AuditEntry:
        """Append an entry.

        Args:
            user: who; of a ``Principal`` the id of the token is noted, too.
            action: what.
            detail: JSON values; to what, why, how.

        Raises:
            StorageError: it could not be written; what was to be audited must then not happen.
        """
        if isinstance(user, Principal):
            name, detail = user.user, {**detail, "by_token": user.token_id}
        else:
            name = user
        with self._lock:
            if doubt := self.doubt:
                self._append("service", DOUBTED, {"reason": doubt})
                self.doubt = ""
            entry = self._append(name, action, detail)
            # After the commit: a kill in between leaves an older head, which still stands in the chain.
            write_head(self._folder, (entry.number, entry.hash))
        return entry

    def _append(self, user: str, action: str, detail: dict[str, Any]) -> AuditEntry:
        time_s = round(self._clock(), 3)
        text = json.dumps(detail, sort_keys=True, separators=(",", ":"))
        with self._database.write() as connection:
            last = connection.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            number, before = (last["number"] + 1, last["hash"]) if last else (1, FIRST_HASH)
            if number >= _MOST:
                raise StorageError(f"{self._folder / FILE}: holds entry {number - 1}, which nobody made; verify it")
            digest = entry_hash(number, time_s, user, action, text, before)
            written = connection.execute(
                "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", (number, time_s, user, action, text, before, digest)
            ).rowcount
            if written != 1:
                raise StorageError(f"{self._folder / FILE}: takes no entries; it was tampered with, restore it")
        return AuditEntry(number, time_s, user, action, detail, before, digest)

    @property
    def head(self) -> Head:
        """Number and hash of the newest entry; (0, zeros) when there is none."""
        rows = self._database.read("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
        return (int(rows[0]["number"]), str(rows[0]["hash"])) if rows else (0, FIRST_HASH)

    def doubts(self) -> tuple[str, ...]:
        """What is not as it should be with the record, found now or within the last 30 days; for an alert."""
        try:
            self._database.check_place()
        except StorageError as error:
            return (str(error),)
        since_s = self._clock() - _DOUBT_SHOWN_S
        told = [f"entry {e.number}: {e.detail.get('reason')}" for e in self._doubted() if e.time_s >= since_s]
        fault = self._verified.report.fault if self._verified else ""
        return tuple(text for text in (self.doubt, fault, *told) if text)

    def entries(self, *, before: int | None = None, limit: int = 100, action: str | None = None) -> list[AuditEntry]:
        """Entries with a number below ``before``, newest first.

        Args:
            before: only numbers below it; None: all.
            limit: how many at most.
            action: only entries of this; None: of all.
        """
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

    def verify(self, *, heads: Sequence[Head] = ()) -> AuditReport:
        """Walk the whole chain, from its lowest number on.

        Args:
            heads: numbers and hashes noted earlier, which must still stand, as must those in the file beside the audit.
        """
        beside = read_head(self._folder)
        noted = [*heads, *([] if beside is None else [beside])]
        outside, began_s = self._outside(), time.monotonic()
        report = self._walk(AuditReport(0, FIRST_HASH, ""), noted)
        # What was added during the walk is walked at the next check.
        with self._lock:
            self._verified = _Verified(report, outside, began_s)
        return replace(report, doubts=tuple(str(entry.detail.get("reason")) for entry in self._doubted()))

    def check(self) -> AuditReport:
        """As ``verify``, but from where the last walk ended: entries that only this process can have touched since.

        The whole chain is walked again once another process wrote to the file, and once a day.
        """
        last = self._verified
        if last is None or last.outside != self._outside() or time.monotonic() - last.whole_s > _WHOLE_EVERY_S:
            return self.verify()
        if last.report.is_sound:
            report = self._walk(last.report, [])
            with self._lock:
                self._verified = replace(last, report=report)
            last = replace(last, report=report)
        return replace(last.report, doubts=tuple(str(entry.detail.get("reason")) for entry in self._doubted()))

    def _walk(self, start: AuditReport, noted: Sequence[Head]) -> AuditReport:
        before, count = start.head, start.entries
        expected: dict[int, set[str]] = {}
        for number, there in noted:
            expected.setdefault(number, set()).add(there)
        if expected.get(0, {FIRST_HASH}) != {FIRST_HASH}:
            return AuditReport(count, before, "entry 0: is not the one noted; a chain begins with entry 1")
        for row in self._rows(None if count == 0 else count):
            count += 1
            where = f"entry {row['number']}"
            if row["number"] != count:
                was = "entries were removed" if row["number"] > count else "it was put in"
                return AuditReport(count, before, f"{where}: expected number {count}; {was}")
            if row["before"] != before:
                return AuditReport(count, before, f"{where}: does not follow from entry {count - 1}; one was changed")
            digest = entry_hash(row["number"], row["time_s"], row["user"], row["action"], row["detail"], before)
            if digest != row["hash"]:
                return AuditReport(count, before, f"{where}: its content does not match its hash; it was changed")
            if expected.get(count, {digest}) != {digest}:
                return AuditReport(count, before, f"{where}: is not the one noted; the chain was written anew")
            before = digest
        newest = max((number for number, _ in noted), default=0)
        if newest > count:
            return AuditReport(count, before, f"ends at entry {count}, but {newest} was noted; the end was cut off")
        return AuditReport(count, before, "")

    def _rows(self, last: int | None) -> Iterator[Any]:
        """All rows above ``last`` (None: all, also those whose numbers no entry has), rising."""
        while True:
            condition, values = ("1", ()) if last is None else ("number > ?", (last,))
            query = f"SELECT * FROM audit WHERE {condition} ORDER BY number LIMIT {_CHUNK}"
            if not (rows := self._database.read(query, values)):
                return
            yield from rows
            last = rows[-1]["number"]

    def _doubted(self) -> list[AuditEntry]:
        return self.entries(action=DOUBTED)

    def _doubt_of(self, noted: Head | None) -> str:
        if noted is None:
            return ""
        number, digest = noted
        found = self._database.read("SELECT hash FROM audit WHERE number = ?", (number,))
        if number and not found:
            return f"the audit ends at entry {self.head[0]}, but {HEAD_FILE} notes entry {number}: its end was cut off"
        if number and found[0]["hash"] != digest:
            return f"entry {number} of the audit is not the one that {HEAD_FILE} notes: the chain was written anew"
        return ""

    def _outside(self) -> int:
        """A number that changes when another process writes to the file."""
        return int(self._database.read("PRAGMA data_version")[0][0])


def _new_chain(folder: Path, noted: Head | None) -> str:
    before = "what it held" if noted is None else f"its {noted[0]} entries up to {head_text(noted)}"
    return f"{folder / FILE} was not there: a new chain begins, and {before} are not in it; restore it from a backup"


def verify_audit(folder: Path, *, heads: Sequence[Head] = ()) -> AuditReport:
    """Verify the audit of a service's state ``folder``.

    Raises:
        StorageError: there is none, or it was emptied.
    """
    if not (Path(folder) / FILE).is_file():
        noted = read_head(folder)
        lost = f", though {HEAD_FILE} notes {noted[0]} entries: it was removed" if noted else ""
        raise StorageError(f"{folder}: holds no {FILE}{lost}; expected the state folder of a service")
    audit = Audit(folder)
    try:
        return audit.verify(heads=heads)
    finally:
        audit.close()
