"""SQLite files used safely: made whole, written down to the disk, one transaction at a time, errors in plain words."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from reid_mtda.errors import ReidError, StorageError

_BUSY_MS = 10_000
_CHECKPOINT_MS = 500

FileIdentity = tuple[int, int] | None
"""Device and inode of a file; None where there is none."""


def connect(file: Path | str, *, page_bytes: int | None = None) -> sqlite3.Connection:
    """Open a file, or ``:memory:``, for any thread; whoever has it sees to it that one at a time uses it.

    Transactions begin and end where they are asked to, and are on the disk when they end (``synchronous=FULL``: they
    survive a kill and a power cut). What is deleted is overwritten (``secure_delete``).

    Args:
        file: made when it is missing.
        page_bytes: of a file without tables yet; None: SQLite's own.
    """
    connection = sqlite3.connect(file, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    if page_bytes is not None:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def connect_read_only(file: Path) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    """Open a file without writing a byte beside it.

    While somebody else writes, SQLite's own files beside the database tell what is new. Where there are none nobody
    does, and the file alone is all. A log that was left behind cannot be taken in there: a copy of both is.

    Returns:
        The connection, and the folder of the copy where one was needed; remove it when the connection is closed.
    """
    file = file.resolve()
    log = file.with_name(f"{file.name}-wal")
    connection = _connect_to_uri(f"{file.as_uri()}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
        return connection, None
    except sqlite3.OperationalError:
        connection.close()
    if not (log.is_file() and log.stat().st_size):
        return _connect_to_uri(f"{file.as_uri()}?mode=ro&immutable=1"), None
    copy = tempfile.TemporaryDirectory(prefix="reid-mtda-copy-")
    for source in (file, log):
        shutil.copyfile(source, Path(copy.name) / source.name)
    return _connect_to_uri((Path(copy.name) / file.name).as_uri()), copy


def _connect_to_uri(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)


def make_file(
    path: Path, fill: Callable[[sqlite3.Connection], None], *, mode: int = 0o600, page_bytes: int | None = None
) -> None:
    """Make a file that has its name once its tables stand in it, or not at all; of two processes the faster makes it.

    So an empty file of that name is damage, not a new one.

    Args:
        path: the file; its folder is there.
        fill: writes the tables.
        mode: who may use it, less what the process's umask forbids; by default its owner alone.
        page_bytes: None: SQLite's own.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        temporary.touch(mode=mode)
        with contextlib.closing(connect(temporary, page_bytes=page_bytes)) as connection:
            fill(connection)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a disk without hard links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block's statements or none; on the disk when the block ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk SQLite may have rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers go on beside a writer: changes go to a log beside the file first (SQLite's WAL)."""
    connection.execute("PRAGMA journal_mode = WAL")


def empty_log(connection: sqlite3.Connection) -> bool:
    """Leave nothing of what was deleted in the log of changes; False while another process reads the file."""
    connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MS}")
    try:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return not busy


def schema_version(connection: sqlite3.Connection) -> int:
    """The number of the file's format."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, migrations: Sequence[str], *, oldest: int = 0) -> None:
    """Bring a file up to date, in the transaction that is open.

    Args:
        connection: to the file, whose version was found to be one that is known.
        migrations: statements, by the version that they lead to, from ``oldest`` + 1 on; no semicolon within one.
        oldest: the first version that there was.
    """
    for statement in ";".join(migrations[schema_version(connection) - oldest :]).split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {oldest + len(migrations)}")


def file_identity(path: Path) -> FileIdentity:
    """What tells the file of this name from another one that takes its place."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def check_place(path: Path, identity: FileIdentity) -> None:
    """See that the open file is still the one of that name: what is written to another one would be lost.

    Raises:
        StorageError: it was removed, or another one lies in its place.
    """
    if file_identity(path) != identity:
        raise StorageError(
            f"{path}: was removed or replaced while it was in use; stop what uses it, put the file back from a backup "
            "and start again"
        )


@contextlib.contextmanager
def errors_in_words(path: Path, *, refusal: type[ReidError], restore: str) -> Iterator[None]:
    """Turn what SQLite and the disk say into this package's errors.

    Args:
        path: the file.
        refusal: the error of a file that is damaged or was closed.
        restore: what to do about a damaged one.

    Raises:
        StorageError: the disk is full or refuses.
    """
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise refusal(f"{path}: is closed ({error}); open it again") from error
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"{path}: could not be used ({error}); free space, check permissions and that no other program holds it; "
            "what stood there before is untouched"
        ) from error
    except sqlite3.Error as error:
        raise refusal(f"{path}: is damaged or of another kind ({error}); {restore}") from error
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); free space and try again; "
            "what stood there before is untouched"
        ) from error


def batched(ids: Iterable[int]) -> Iterator[tuple[str, list[int]]]:
    """Numbers in pieces that SQLite takes in one statement, each with its question marks."""
    numbers = [int(number) for number in ids]
    for start in range(0, len(numbers), 500):
        part = numbers[start : start + 500]
        yield ",".join("?" * len(part)), part
