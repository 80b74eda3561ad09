"""The truth of a gallery: one SQLite file and a folder of thumbnails, changed together or not at all.

A row never changes once written: replacing a sighting deletes its row and inserts another under a new number, and
numbers are never used twice. So an index of the rows is up to date exactly when it holds the same numbers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.errors import GalleryError, StorageError
from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.gallery.rows import Change, Rows
from reid_mtda.types import FloatArray, IntArray, Sighting

FILE = "gallery.sqlite"
THUMBNAILS = "thumbnails"

_APPLICATION_ID = 0x52654964  # "ReId", in the header of the file
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (model_id TEXT NOT NULL, dim INTEGER NOT NULL, changes INTEGER NOT NULL);
CREATE TABLE sightings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    track_id INTEGER NOT NULL,
    start_s REAL NOT NULL,
    end_s REAL NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (camera, track_id, start_s)
);
CREATE INDEX by_camera_and_time ON sightings (camera, start_s, end_s);
CREATE INDEX by_time ON sightings (start_s, end_s);
CREATE TABLE doomed (id INTEGER PRIMARY KEY);
"""
# Holds the numbers of each camera in order, so that a page of them costs what it shows; galleries made without it
# get it when they are opened, and older versions use them all the same.
_PAGING = "CREATE INDEX IF NOT EXISTS by_camera ON sightings (camera)"
# Which footage was indexed, by the fingerprint of its content, and the times that it was given.
_FOOTAGE = """CREATE TABLE IF NOT EXISTS footage (
    camera TEXT NOT NULL, fingerprint TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
    PRIMARY KEY (camera, fingerprint)
)"""
_PER_FOLDER = 1000
_CHUNK = 20_000


class Store:
    """Sightings with their vectors in SQLite, their thumbnails as JPEG files; one writer at a time, any readers.

    SQLite runs in WAL mode with ``synchronous=FULL``: what ``add`` returned survives a kill and a power cut. That
    costs one disk flush a sighting, of which even a busy site has only a few a second. ``secure_delete`` overwrites
    what is deleted, and emptying the log after each deletion removes it from there.

    Every method raises StorageError when the disk is full or refuses (nothing was changed), GalleryError when the
    file is damaged or was closed.
    """

    def __init__(self, folder: Path, model_id: str | None, dim: int | None) -> None:
        self.folder = folder
        self._write_lock = threading.RLock()
        self._read_lock = threading.Lock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        # A folder that may only be read, such as a mount of another machine's, can still be searched.
        self.is_read_only = (folder / FILE).is_file() and not os.access(folder, os.W_OK)
        with self._translated():
            self._writer = self._connect_to_read() if self.is_read_only else self._connect()
            try:
                if self.is_read_only:
                    self._check_format(self._writer)
                else:
                    self._prepare(model_id, dim)
                self._reader = self._connect_to_read() if self.is_read_only else self._connect()
            except BaseException:
                self._writer.close()
                raise
        ((model_id, dim),) = self._read("SELECT model_id, dim FROM meta")
        self.model_id: str = model_id
        self.dim: int = dim
        if not self.is_read_only:
            self._sweep()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()
            if self._copy is not None:
                self._copy.cleanup()

    def changes(self) -> int:
        """How often the gallery was changed so far, by whomever."""
        return int(self._read("SELECT changes FROM meta")[0][0])

    def ids(self, chosen: Filter = EVERYTHING) -> IntArray:
        """Numbers of the sightings that pass, int64 (N,), rising."""
        condition, values = chosen.where()
        rows = self._read(f"SELECT id FROM sightings WHERE {condition}", values)
        return np.sort(np.fromiter((row[0] for row in rows), np.int64, len(rows)))

    def count(self, chosen: Filter) -> int:
        """How many sightings pass."""
        condition, values = chosen.where()
        return int(self._read(f"SELECT count(*) FROM sightings WHERE {condition}", values)[0][0])

    def newest(self, chosen: Filter, before: int | None, limit: int) -> list[int]:
        """Numbers below ``before`` (None: all) of the sightings that pass, falling, at most ``limit``.

        However many sightings there are, this looks at those it gives; with times, at the rows of that time, too.
        """
        if before is None:  # what is added while cameras are asked one by one must not hide what came before it
            before = int(self._read("SELECT coalesce(max(id), 0) + 1 FROM sightings")[0][0])
        if chosen.start_s is not None or chosen.end_s is not None:
            condition, values = chosen.where()
            # The plus signs keep SQLite off the table, whose rows hold vectors: an index knows all that is asked.
            query = f"SELECT id FROM sightings WHERE {condition} AND +id < ? ORDER BY +id DESC LIMIT ?"
            return [row[0] for row in self._read(query, [*values, before, limit])]
        if chosen.cameras is None:
            query = "SELECT id FROM sightings WHERE id < ? ORDER BY id DESC LIMIT ?"
            return [row[0] for row in self._read(query, (before, limit))]
        query = "SELECT id FROM sightings INDEXED BY by_camera WHERE camera = ? AND id < ? ORDER BY id DESC LIMIT ?"
        found = [row[0] for name in set(chosen.cameras) for row in self._read(query, (name, before, limit))]
        return sorted(found, reverse=True)[:limit]

    def of_track(self, camera: str, track_id: int) -> dict[int, Sighting]:
        """The sightings of one track of one camera by number; more than one where tracks were numbered anew."""
        rows = self._read("SELECT id FROM sightings WHERE camera = ? AND track_id = ?", (camera, track_id))
        return self.sightings(row[0] for row in rows)

    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that sightings are of, rising."""
        return tuple(row[0] for row in self._read("SELECT DISTINCT camera FROM sightings ORDER BY camera", ()))

    def footage(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Footage that was indexed: (camera, fingerprint) -> POSIX seconds of its first and last frame."""
        rows = self._read("SELECT camera, fingerprint, start_s, end_s FROM footage", ())
        return {(row[0], row[1]): (row[2], row[3]) for row in rows}

    def note_footage(self, camera: str, fingerprint: str, start_s: float, end_s: float) -> None:
        """Write down that footage was indexed, and with which times; in place of what was noted of it."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO footage VALUES (?, ?, ?, ?)", (camera, fingerprint, start_s, end_s)
            )

    def sightings(self, ids: Iterable[int]) -> dict[int, Sighting]:
        """The sightings by number; unknown numbers are left out."""
        found = {}
        for marks, part in _batched(ids):
            query = f"SELECT id, camera, track_id, start_s, end_s FROM sightings WHERE id IN ({marks})"
            for row in self._read(query, part):
                found[row[0]] = Sighting(row[1], row[2], row[3], row[4], self.thumbnail(row[0]))
        return found

    def vectors(self, ids: Iterable[int]) -> dict[int, FloatArray]:
        """The vectors float32 (D,) by number; unknown numbers are left out."""
        found = {}
        for marks, part in _batched(ids):
            for row in self._read(f"SELECT id, vector FROM sightings WHERE id IN ({marks})", part):
                found[row[0]] = self._matrix([row[1]])[0]
        return found

    def rows_after(self, last: int) -> Iterator[Rows]:
        """The rows numbered above ``last``, rising, in pieces."""
        query = "SELECT id, vector, camera, start_s, end_s FROM sightings WHERE id > ? ORDER BY id LIMIT ?"
        while rows := self._read(query, (last, _CHUNK)):
            ids, blobs, cameras, starts, ends = zip(*rows, strict=True)
            last = ids[-1]
            yield Rows(np.array(ids, np.int64), self._matrix(blobs), cameras, np.array(starts), np.array(ends))

    def thumbnail(self, number: int) -> Path:
        """Where the thumbnail of a sighting lies."""
        return self.folder / THUMBNAILS / str(number // _PER_FOLDER) / f"{number}.jpg"

    def add(
        self, vector: FloatArray, camera: str, track_id: int, start_s: float, end_s: float, thumbnail: bytes | None
    ) -> tuple[int, Change]:
        """Write one sighting; one of the same camera, track and start is replaced, or kept when it is the same."""
        written: Path | None = None
        blob = vector.astype("<f4").tobytes()
        try:
            with self._transaction() as connection:
                key = (camera, track_id, start_s)
                query = "SELECT id, end_s, vector FROM sightings WHERE camera = ? AND track_id = ? AND start_s = ?"
                old = connection.execute(query, key).fetchone()
                if old is not None and old[1:] == (end_s, blob):
                    return int(old[0]), Change(self.changes())
                removed = (int(old[0]),) if old is not None else ()
                self._remove_rows(connection, removed)
                cursor = connection.execute(
                    "INSERT INTO sightings (camera, track_id, start_s, end_s, vector) VALUES (?, ?, ?, ?, ?)",
                    (*key, end_s, blob),
                )
                number = int(cursor.lastrowid or 0)
                if thumbnail is not None:
                    written = self.thumbnail(number)
                    self._write_thumbnail(written, thumbnail)
                changes = _count_change(connection)
        except BaseException:
            if written is not None:
                with contextlib.suppress(OSError):
                    written.unlink(missing_ok=True)
            raise
        if removed:
            self._erase_traces(removed)
        return number, Change(changes, (number,), removed)

    def delete(self, ids: Iterable[int]) -> Change:
        """Remove sightings with vector, row and thumbnail, leaving no trace on disk; unknown numbers are left out."""
        wanted = sorted(set(ids))
        with self._transaction() as connection:
            there: list[int] = []
            for marks, part in _batched(wanted):
                there += [row[0] for row in connection.execute(f"SELECT id FROM sightings WHERE id IN ({marks})", part)]
            self._remove_rows(connection, there)
            changes = _count_change(connection) if there else self.changes()
        if there:
            self._erase_traces(there)
        return Change(changes, (), tuple(there))

    def _remove_rows(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        """Take rows out and note their thumbnails as doomed, so that a kill before they are gone forgets none."""
        numbers = [(number,) for number in ids]
        connection.executemany("DELETE FROM sightings WHERE id = ?", numbers)
        connection.executemany("INSERT INTO doomed VALUES (?)", numbers)

    def _erase_traces(self, ids: Sequence[int]) -> None:
        """Remove doomed thumbnails, and empty the log in which the deleted rows still stand."""
        with self._transaction() as connection:
            for number in ids:
                self.thumbnail(number).unlink(missing_ok=True)
            connection.executemany("DELETE FROM doomed WHERE id = ?", [(number,) for number in ids])
        with self._write_lock, self._translated():
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _sweep(self) -> None:
        """Finish what a kill left undone: doomed thumbnails, and that of an add that was never acknowledged."""
        doomed = [row[0] for row in self._read("SELECT id FROM doomed")]
        if doomed:
            self._erase_traces(doomed)
        with self._transaction() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sightings'").fetchone()
            self.thumbnail((row[0] if row else 0) + 1).unlink(missing_ok=True)

    @staticmethod
    def _write_thumbnail(path: Path, data: bytes) -> None:
        """Write a file down to the disk. No other name first: until its row is committed nobody looks for it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _matrix(self, blobs: Sequence[bytes]) -> FloatArray:
        if any(len(blob) != 4 * self.dim for blob in blobs):
            raise GalleryError(f"{self.folder}: {FILE} is damaged, a vector is not of length {self.dim}; restore it")
        return np.frombuffer(b"".join(blobs), "<f4").astype(np.float32).reshape(len(blobs), self.dim)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.folder / FILE, timeout=10, isolation_level=None, check_same_thread=False)
        # Three rows of 512 numbers to a page; the default page would hold one and waste half.
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        return connection

    def _prepare(self, model_id: str | None, dim: int | None) -> None:
        """Make the tables in a new file; in an old one check that they are ours."""
        with self._transaction() as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application == 0 and tables == 0 and model_id is not None:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES (?, ?, 0)", (model_id, dim))
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._check_format(connection)
            connection.execute(_PAGING)
            connection.execute(_FOOTAGE)
        self._writer.execute("PRAGMA journal_mode = WAL")

    def _check_format(self, connection: sqlite3.Connection) -> None:
        """Refuse a file that is not a gallery's of this version."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION_ID:
            raise GalleryError(f"{self.folder}: {FILE} is not a gallery's; choose another folder")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != _SCHEMA_VERSION:
            raise GalleryError(
                f"{self.folder}: made by another version of reid-mtda, got gallery format {version}, expected "
                f"{_SCHEMA_VERSION}; use that version, or run 'reid-mtda index' into a new folder"
            )

    def _connect_to_read(self) -> sqlite3.Connection:
        """Connect without writing a byte.

        While somebody else writes, SQLite's own files beside the database tell what is new. Where there are none
        nobody does, and the file alone is all. A log that was left behind cannot be taken in there: a copy of both is.
        """
        file = (self.folder / FILE).resolve()
        connect = partial(sqlite3.connect, timeout=10, isolation_level=None, check_same_thread=False)
        log = file.with_name(f"{FILE}-wal")
        connection = connect(f"{file.as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master")
            return connection
        except sqlite3.OperationalError:
            connection.close()
        if not (log.is_file() and log.stat().st_size):
            return connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)
        if self._copy is None:
            self._copy = tempfile.TemporaryDirectory(prefix="reid-mtda-gallery-")
            for source in (file, log):
                shutil.copyfile(source, Path(self._copy.name) / source.name)
        return connect(Path(self._copy.name) / FILE)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock, self._translated():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # After a full disk SQLite may have rolled back by itself.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _read(self, query: str, values: Sequence[str | float | int] = ()) -> list[Any]:
        with self._translated(), self._read_lock:
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the database and the disk say into this package's words."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise GalleryError(f"{self.folder}: the gallery is closed ({error}); open it again") from error
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{self.folder}: the gallery could not be used ({error}); free space, check permissions and that no "
                "other program holds it; what stood there before is untouched"
            ) from error
        except sqlite3.DatabaseError as error:
            raise GalleryError(
                f"{self.folder}: {FILE} is damaged or not a gallery's ({error}); restore it, or run 'reid-mtda index' "
                "into a new folder"
            ) from error
        except OSError as error:
            raise StorageError(
                f"{self.folder}: could not be written ({error.strerror or error}); free space and try again; "
                "what stood there before is untouched"
            ) from error


def _batched(ids: Iterable[int]) -> Iterator[tuple[str, list[int]]]:
    """Numbers in pieces that SQLite takes in one statement, each with its question marks."""
    numbers = [int(number) for number in ids]
    for start in range(0, len(numbers), 500):
        part = numbers[start : start + 500]
        yield ",".join("?" * len(part)), part


def _count_change(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE meta SET changes = changes + 1")
    return int(connection.execute("SELECT changes FROM meta").fetchone()[0])
