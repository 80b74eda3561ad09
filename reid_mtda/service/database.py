"""The service's own small SQLite files: opened safely, used from several threads, errors in this package's words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reid_mtda.errors import StorageError

_CHECKPOINT_MS = 500
_BUSY_MS = 10_000


class Database:
    """One file; every statement runs under one lock, every ``write`` block is one transaction on disk when it ends.

    A file of 0 bytes is damage, not a new database: a new one gets its name once its tables stand in it. One that is
    removed or replaced while it is open is refused from then on: what is written to it would be lost at the end.

    Args:
        path: the file; made when missing, for its owner alone.
        schema: statements that make the tables; run at every opening.
        migrations: statements that bring an older file up to date, by the version that they lead to, from 1 on.

    Raises:
        StorageError: the disk refuses, or the file is damaged.
    """

    def __init__(self, path: Path, schema: str, migrations: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        with self._translated():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                _make(self.path, schema, len(migrations))
            elif self.path.stat().st_size == 0:
                raise StorageError(
                    f"{self.path}: is empty (0 bytes), though it held something once; restore it from a backup, or "
                    "remove it to begin anew"
                )
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")
            self._inode = _inode(self.path)
            self._migrate(migrations)
            self._connection.executescript(schema)

    def read(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock, self._translated():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of the block's statements or none.

        Raises:
            StorageError: the disk refuses, or the file was removed or replaced.
        """
        with self._lock, self._translated():
            self.check_place()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def check_place(self) -> None:
        """See that the open file is still the one of that name.

        Raises:
            StorageError: it was removed, or another one lies in its place.
        """
        if _inode(self.path) != self._inode:
            raise StorageError(
                f"{self.path}: was removed or replaced while it was in use; stop the service, put the file back from "
                "a backup and start again"
            )

    def empty_log(self) -> bool:
        """Leave nothing of what was deleted in the log of changes; False while another process reads the file."""
        with self._lock, self._translated():
            self._connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MS}")
            try:
                busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return not busy

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _migrate(self, migrations: Sequence[str]) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise StorageError(
                f"{self.path}: made by a newer version of reid-mtda, got format {version}, expected at most "
                f"{len(migrations)}; use that version"
            )
        for number, statements in enumerate(migrations[version:], start=version + 1):
            with self.write() as connection:
                for statement in filter(str.strip, statements.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{self.path}: could not be used ({error}); free space, check permissions and that it is not damaged"
            ) from error


def _make(path: Path, schema: str, version: int) -> None:
    """A new file appears under its name with its tables in it, or not at all; who is faster makes it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        temporary.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(schema)
            connection.execute(f"PRAGMA user_version = {version}")
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a disk without hard links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
