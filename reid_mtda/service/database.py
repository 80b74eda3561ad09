"""The service's own small SQLite files, used from several threads."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from reid_mtda import sqlite
from reid_mtda.errors import StorageError


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

        def fill(connection: sqlite3.Connection) -> None:
            connection.executescript(schema)
            connection.execute(f"PRAGMA user_version = {len(migrations)}")

        with self._errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                sqlite.make_file(self.path, fill)
            elif self.path.stat().st_size == 0:
                raise StorageError(
                    f"{self.path}: is empty (0 bytes), though it held something once; restore it from a backup, or "
                    "remove it to begin anew"
                )
            self._connection = sqlite.connect(self.path)
            self._connection.row_factory = sqlite3.Row
            sqlite.write_ahead(self._connection)
            self._identity = sqlite.file_identity(self.path)
            self._migrate(migrations)
            self._connection.executescript(schema)

    def read(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock, self._errors():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of the block's statements or none.

        Raises:
            StorageError: the disk refuses, or the file was removed or replaced.
        """
        with self._lock, self._errors():
            self.check_place()
            with sqlite.transaction(self._connection) as connection:
                yield connection

    def check_place(self) -> None:
        """See that the open file is still the one of that name.

        Raises:
            StorageError: it was removed, or another one lies in its place.
        """
        sqlite.check_place(self.path, self._identity)

    def empty_log(self) -> bool:
        """Leave nothing of what was deleted in the log of changes; False while another process reads the file."""
        with self._lock, self._errors():
            return sqlite.empty_log(self._connection)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _migrate(self, migrations: Sequence[str]) -> None:
        if (version := sqlite.schema_version(self._connection)) > len(migrations):
            raise StorageError(
                f"{self.path}: made by a newer version of reid-mtda, got format {version}, expected at most "
                f"{len(migrations)}; use that version"
            )
        if version < len(migrations):
            with self.write() as connection:
                sqlite.migrate(connection, migrations)

    def _errors(self) -> AbstractContextManager[None]:
        return sqlite.errors_in_words(self.path, refusal=StorageError, restore="restore it from a backup")
