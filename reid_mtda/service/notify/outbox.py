"""Events that wait to be told, on disk: each reaches each sink at least once, or is counted as dropped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_mtda.errors import StorageError
from reid_mtda.service.database import Database
from reid_mtda.service.notify.messages import Message

FILE = "outbox.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time_s REAL NOT NULL, kind TEXT NOT NULL, camera TEXT, key TEXT,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_key ON events (key);
CREATE TABLE IF NOT EXISTS sinks (
    name TEXT PRIMARY KEY, told INTEGER NOT NULL, dropped INTEGER NOT NULL, refused INTEGER NOT NULL,
    dropped_told INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS marks (
    one INTEGER PRIMARY KEY CHECK (one = 1), gallery TEXT NOT NULL, number INTEGER NOT NULL, alive_s REAL NOT NULL
);
"""


@dataclass(frozen=True)
class SinkCounts:
    """How far a sink is: events that wait, were dropped before they were told, and were refused by the receiver."""

    waiting: int
    dropped: int
    refused: int


@dataclass(frozen=True)
class Mark:
    """How far the gallery was told of: its folder, its highest number then, and when the service last said it lives."""

    gallery: str
    number: int
    alive_s: float


class Outbox:
    """The events that wait, one queue that several sinks read at their own pace.

    Args:
        folder: state folder of the service.
        sinks: their names; one that is new is told what comes from now on, one that is gone is forgotten.
        keep_s: seconds after which an event is dropped for those who could not be told.
        keep_most: events that wait at most; above, the oldest are dropped.
        clock: POSIX seconds, for tests.
    """

    def __init__(
        self,
        folder: Path,
        sinks: Iterable[str],
        *,
        keep_s: float = 259_200.0,
        keep_most: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = Database(Path(folder) / FILE, _SCHEMA)
        self._keep_s, self._keep_most, self._clock = keep_s, keep_most, clock
        self.left = ""  # of events that were erased, on the disk
        names = sorted(sinks)
        with self._database.write() as connection:
            newest = _newest(connection)
            for name in names:
                connection.execute("INSERT OR IGNORE INTO sinks VALUES (?, ?, 0, 0, 0)", (name, newest))
            marks = ", ".join("?" * len(names))
            connection.execute(f"DELETE FROM sinks WHERE name NOT IN ({marks})", names)
        self.newest = newest

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def put(self, messages: Sequence[Message], mark: Mark | None = None) -> None:
        """Let messages wait, all or none, and note how far the gallery was told of; the oldest go where it is full.

        Raises:
            StorageError: the disk refuses; none waits.
        """
        now_s = self._clock()
        with self._database.write() as connection:
            for message in messages:
                body = json.dumps(message.body, separators=(",", ":"))
                row = (message.time_s or now_s, message.kind, message.camera, message.key, body)
                connection.execute("INSERT INTO events (time_s, kind, camera, key, body) VALUES (?, ?, ?, ?, ?)", row)
            if mark is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO marks VALUES (1, ?, ?, ?)", (mark.gallery, mark.number, mark.alive_s)
                )
            newest = _newest(connection)
            (all_told,) = connection.execute("SELECT COALESCE(MIN(told), ?) FROM sinks", (newest,)).fetchone()
            connection.execute("DELETE FROM events WHERE number <= ?", (all_told,))
            self._drop(connection, newest, now_s)
        self.newest = newest

    def _drop(self, connection: Any, newest: int, now_s: float) -> None:
        """Let the oldest go that are too many or too old, and count them for each sink that was not told of them."""
        (aged,) = connection.execute(
            "SELECT COALESCE(MAX(number), 0) FROM events WHERE time_s < ?", (now_s - self._keep_s,)
        ).fetchone()
        last = max(aged, newest - self._keep_most)
        connection.execute(
            "UPDATE sinks SET dropped = dropped + (SELECT COUNT(*) FROM events WHERE number > told AND number <= ?)",
            (last,),
        )
        connection.execute("DELETE FROM events WHERE number <= ?", (last,))

    def pending(self, sink: str, limit: int = 1) -> list[Message]:
        """What ``sink`` is to be told next, oldest first."""
        rows = self._database.read(
            "SELECT events.* FROM events, sinks WHERE name = ? AND number > told ORDER BY number LIMIT ?", (sink, limit)
        )
        return [
            Message(r["kind"], r["camera"], json.loads(r["body"]), r["key"], r["time_s"], r["number"]) for r in rows
        ]

    def told(self, sink: str, number: int, *, refused: bool = False) -> None:
        """``sink`` was told of everything up to ``number``; ``refused``: it did not want that one, and never will.

        Args:
            sink: where messages go, by name.
            number: of the last message that it was told.
            refused: it wants that one never.

        Raises:
            StorageError: the disk refuses; it will be told again.
        """
        with self._database.write() as connection:
            connection.execute(
                "UPDATE sinks SET told = MAX(told, ?), refused = refused + ? WHERE name = ?",
                (number, int(refused), sink),
            )

    def untold_drops(self, sink: str) -> int:
        """How many events were dropped since ``sink`` was last told of that."""
        rows = self._database.read("SELECT dropped - dropped_told AS count FROM sinks WHERE name = ?", (sink,))
        return int(rows[0]["count"]) if rows else 0

    def told_drops(self, sink: str, count: int) -> None:
        """``sink`` knows of ``count`` more dropped events."""
        with self._database.write() as connection:
            connection.execute("UPDATE sinks SET dropped_told = dropped_told + ? WHERE name = ?", (count, sink))

    def counts(self) -> dict[str, SinkCounts]:
        """How far each sink is."""
        rows = self._database.read(
            "SELECT name, dropped, refused, (SELECT COUNT(*) FROM events WHERE number > told) AS waiting FROM sinks"
        )
        return {r["name"]: SinkCounts(r["waiting"], r["dropped"], r["refused"]) for r in rows}

    def mark(self) -> Mark | None:
        """How far the gallery was told of."""
        rows = self._database.read("SELECT gallery, number, alive_s FROM marks")
        return Mark(rows[0]["gallery"], rows[0]["number"], rows[0]["alive_s"]) if rows else None

    def forget(self, keys: Iterable[str]) -> int:
        """Remove what waits to be told of sightings that go; how many. ``left`` says what of it is on the disk."""
        removed = 0
        with self._database.write() as connection:
            for key in keys:
                removed += connection.execute("DELETE FROM events WHERE key = ?", (key,)).rowcount
        if removed:
            self.finish_forgetting()
        return removed

    def finish_forgetting(self) -> str:
        """Empty the log in which removed events still stand; what is left, e.g. as another process reads, or ''."""
        try:
            is_done = self._database.empty_log()
        except StorageError as error:
            self.left = str(error)
        else:
            self.left = "" if is_done else f"the bytes of events in {self._database.path}, which another process reads"
        return self.left


def _newest(connection: Any) -> int:
    """Number of the newest event that ever was, also where all are told and gone."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(row[0]) if row else 0
