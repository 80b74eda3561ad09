"""SQLite files: made whole, one transaction at a time, brought up to date once, errors in words, one opener."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from builders import ROOT

from reid_mtda import sqlite as files
from reid_mtda.errors import GalleryError, StorageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.sqlite"
    files.make_file(path, lambda connection: connection.execute("CREATE TABLE t (x)") and None)
    return path


def test_only_one_file_of_the_package_opens_sqlite_files() -> None:
    opening = [
        file.relative_to(ROOT).as_posix()
        for file in sorted((ROOT / "reid_mtda").rglob("*.py"))
        if "sqlite3.connect(" in file.read_text(encoding="utf-8")
    ]
    assert opening == ["reid_mtda/sqlite.py"]


def test_a_file_that_could_not_be_filled_has_no_name(tmp_path: Path) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (x)")
        raise OSError("stopped")

    with pytest.raises(OSError, match="stopped"):
        files.make_file(tmp_path / "a.sqlite", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_is_its_owners_and_flushes_and_overwrites(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(files.connect(path)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    with closing(files.connect(path)) as connection:
        with pytest.raises(RuntimeError), files.transaction(connection):
            connection.execute("INSERT INTO t VALUES (1)")
            raise RuntimeError
        with files.transaction(connection):
            connection.execute("INSERT INTO t VALUES (2)")
        assert connection.execute("SELECT x FROM t").fetchall() == [(2,)]


@pytest.mark.parametrize("oldest", [0, 1])
def test_migrations_run_once_and_in_order(path: Path, oldest: int) -> None:
    steps = ("ALTER TABLE t ADD COLUMN y", "ALTER TABLE t ADD COLUMN z; INSERT INTO t VALUES (1, 2, 3);")
    with closing(files.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {oldest}")
        for _ in range(2):
            with files.transaction(connection):
                files.migrate(connection, steps, oldest=oldest)
        assert files.schema_version(connection) == oldest + 2
        assert connection.execute("SELECT * FROM t").fetchall() == [(1, 2, 3)]


def test_a_file_in_the_place_of_the_open_one_is_noticed(path: Path) -> None:
    identity = files.file_identity(path)
    files.check_place(path, identity)
    path.rename(path.with_name("b.sqlite"))
    with pytest.raises(StorageError, match="removed or replaced while it was in use"):
        files.check_place(path, identity)


def test_a_file_that_may_only_be_read_is_read_without_a_byte_beside_it(path: Path) -> None:
    with closing(files.connect(path)) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    before = sorted(path.parent.iterdir())
    connection, copy = files.connect_read_only(path)
    with closing(connection):
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("INSERT INTO t VALUES (2)")
    assert copy is None and sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            sqlite3.OperationalError("database or disk is full"),
            StorageError,
            r"a: could not be used \(database or disk",
        ),
        (
            sqlite3.DatabaseError("malformed"),
            GalleryError,
            r"a: is damaged or of another kind \(malformed\); restore it",
        ),
        (sqlite3.ProgrammingError("closed"), GalleryError, "a: is closed"),
        (OSError(28, "No space left on device"), StorageError, r"a: could not be written \(No space left on device\)"),
    ],
)
def test_errors_are_said_in_words(error: Exception, kind: type[Exception], words: str) -> None:
    with (
        pytest.raises(kind, match=words),
        files.errors_in_words(Path("a"), refusal=GalleryError, restore="restore it"),
    ):
        raise error
