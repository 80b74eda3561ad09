"""The SQLite file of a gallery: its name, tables and formats, how one is made, and what older ones become."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from reid_mtda import sqlite
from reid_mtda.errors import GalleryError, StorageError

FILE = "gallery.sqlite"


_APPLICATION_ID = 0x52654964  # "ReId", in the header of the file
_SCHEMA = """
CREATE TABLE meta (model_id TEXT NOT NULL, dim INTEGER NOT NULL, changes INTEGER NOT NULL);
CREATE TABLE sightings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    track_id INTEGER NOT NULL,
    start_s REAL NOT NULL,
    end_s REAL NOT NULL,
    vector BLOB NOT NULL,
    added_s REAL,
    has_picture INTEGER,
    UNIQUE (camera, track_id, start_s)
);
CREATE INDEX by_camera_and_time ON sightings (camera, start_s, end_s);
CREATE INDEX by_time ON sightings (start_s, end_s);
CREATE TABLE doomed (id INTEGER PRIMARY KEY);
CREATE INDEX by_camera_and_arrival ON sightings (camera, coalesce(added_s, end_s));
"""
# What brings an older gallery up to date, by the format it leads to, from 2 on. Format 1 (0.1) did not note when a
# sighting came in, nor whether it had a picture: NULL says that it is not known.
_MIGRATIONS = (
    """
    ALTER TABLE sightings ADD COLUMN added_s REAL;
    ALTER TABLE sightings ADD COLUMN has_picture INTEGER;
    CREATE INDEX by_camera_and_arrival ON sightings (camera, coalesce(added_s, end_s))
    """,
)
FORMAT = 1 + len(_MIGRATIONS)
# Holds the numbers of each camera in order, so that a page of them costs what it shows; galleries made without it
# get it when they are opened, and older versions use them all the same.
_PAGING = "CREATE INDEX IF NOT EXISTS by_camera ON sightings (camera)"
# Which footage was indexed, by the fingerprint of its content, and the times that it was given.
_FOOTAGE = """CREATE TABLE IF NOT EXISTS footage (
    camera TEXT NOT NULL, fingerprint TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
    PRIMARY KEY (camera, fingerprint)
)"""
_PAGE_BYTES = 8192  # Three rows of 512 numbers to a page; the default page would hold one and waste half.


def connect(folder: Path | None) -> sqlite3.Connection:
    """Open the file of a gallery to write to it; without a folder one in memory."""
    return sqlite.connect(":memory:" if folder is None else folder / FILE, page_bytes=_PAGE_BYTES)


def make_gallery_file(folder: Path, model_id: str, dim: int | None) -> None:
    """Make the file of a new gallery; one that another process made meanwhile stays.

    Args:
        folder: the run folder.
        model_id: of the model whose vectors it holds.
        dim: length D of a vector.
    """
    sqlite.make_file(
        folder / FILE,
        lambda connection: write_tables(connection, model_id, dim),
        mode=0o644,  # the folder decides who may read
        page_bytes=_PAGE_BYTES,
    )


def write_tables(connection: sqlite3.Connection, model_id: str | None, dim: int | None) -> None:
    """Write the tables of an empty gallery.

    Args:
        connection: to the file.
        model_id: of the model whose vectors it holds.
        dim: length D of a vector.
    """
    connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    connection.execute("INSERT INTO meta VALUES (?, ?, 0)", (model_id, dim))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def bring_up_to_date(connection: sqlite3.Connection, folder: Path) -> None:
    """Check that the tables are a gallery's, and bring those of an older version up to date.

    Raises:
        GalleryError: they are not, or of a later version.
    """
    with sqlite.transaction(connection):
        check_format(connection, folder)
        sqlite.migrate(connection, _MIGRATIONS, oldest=1)
        connection.execute(_PAGING)
        connection.execute(_FOOTAGE)
    sqlite.write_ahead(connection)


def check_format(connection: sqlite3.Connection, folder: Path) -> int:
    """Refuse a file that is no gallery's, or of a later version; returns its format.

    Raises:
        GalleryError: it is.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION_ID:
        raise GalleryError(f"{folder}: {FILE} is not a gallery's; choose another folder")
    version = sqlite.schema_version(connection)
    if not 1 <= version <= FORMAT:
        raise GalleryError(
            f"{folder}: made by another version of reid-mtda, got gallery format {version}, expected 1 to {FORMAT}; "
            "use that version, or run 'reid-mtda index' into a new folder"
        )
    return version


def count_change(connection: sqlite3.Connection) -> int:
    """Count one more change; how many there were."""
    connection.execute("UPDATE meta SET changes = changes + 1")
    return int(connection.execute("SELECT changes FROM meta").fetchone()[0])


def due_condition(
    camera: str, before_s: float, since_s: float, *, by_sighting: bool
) -> tuple[str, tuple[str | float, ...]]:
    """Say which sightings are due as a condition that an index answers.

    Args:
        camera: the camera's name.
        before_s: POSIX seconds; what came in then or later is left out.
        since_s: POSIX seconds; what came in earlier is left out.
        by_sighting: the sighting's end counts, not when it came in, as where that was not noted.

    Returns:
        The condition, and its values.
    """
    if by_sighting:
        return "camera = ? AND start_s < ? AND end_s >= ? AND end_s < ?", (camera, before_s, since_s, before_s)
    came = "coalesce(added_s, end_s)"
    return f"camera = ? AND {came} >= ? AND {came} < ?", (camera, since_s, before_s)


def errors_of_gallery(folder: Path) -> AbstractContextManager[None]:
    """Turn what SQLite and the disk say of a gallery into GalleryError and StorageError."""
    restore = "restore it, or run 'reid-mtda index' into a new folder"
    return sqlite.errors_in_words(folder / FILE, refusal=GalleryError, restore=restore)


def check_folder(folder: Path, *, may_make: bool) -> None:
    """Refuse a folder that is not a gallery's; with ``may_make`` make that of a new one.

    Raises:
        GalleryError: it is not.
        StorageError: it cannot be made.
    """
    if (folder / FILE).is_file():
        if (folder / FILE).stat().st_size == 0:
            raise GalleryError(
                f"{folder}: {FILE} is empty (0 bytes), though a gallery was there; restore it from a backup, or remove "
                "the folder to begin anew"
            )
        return
    if folder.exists() and not folder.is_dir():
        raise GalleryError(f"{folder}: a file, expected a gallery folder; choose another path")
    if not may_make:
        raise GalleryError(f"{folder}: no gallery there; make one with 'reid-mtda index'")
    try:
        if folder.is_dir() and any(not _is_part(path) for path in folder.iterdir()):
            raise GalleryError(f"{folder}: holds other files and is not a gallery; choose another folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None


def _is_part(path: Path) -> bool:
    """What a kill left of making a gallery."""
    return path.name.startswith(f".{FILE}.") and ".part" in path.name
