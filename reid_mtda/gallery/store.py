"""The truth of a gallery: one SQLite file and a folder of thumbnails, changed together or not at all.

A row never changes once written: replacing a sighting deletes its row and inserts another under a new number, and
numbers are never used twice. So an index of the rows is up to date exactly when it holds the same numbers.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from reid_mtda import sqlite
from reid_mtda.errors import GalleryError, StorageError
from reid_mtda.gallery.connections import GalleryConnections
from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.gallery.gallery_file import FILE, count_change, due_condition
from reid_mtda.gallery.rows import Change, Key, Rows
from reid_mtda.gallery.thumbnails import Thumbnails
from reid_mtda.types import FloatArray, IntArray, Sighting

_CHUNK = 20_000


class Store:
    """Sightings with their vectors in SQLite, their thumbnails as JPEG files; one writer at a time, any readers.

    SQLite runs in WAL mode with ``synchronous=FULL``: what ``add`` returned survives a kill and a power cut. That
    costs one disk flush a sighting, of which even a busy site has only a few a second. ``secure_delete`` overwrites
    what is deleted, and emptying the log after each deletion removes it from there. While another process reads the
    file that cannot be done: ``left`` then says so, and ``finish_erasing`` tries again.

    Without a folder everything is in memory but thumbnails, and ends with ``close``.

    Every method raises StorageError when the disk is full or refuses (nothing was changed), GalleryError when the
    file is damaged or was closed.
    """

    def __init__(self, folder: Path | None, model_id: str | None, dim: int | None) -> None:
        self.connections = GalleryConnections(folder, model_id, dim)
        self._read, self._transaction = self.connections.read, self.connections.transaction
        self.folder = self.connections.folder
        self._thumbnails = Thumbnails(self.folder)
        self.left = ""
        ((model_id, dim),) = self._read("SELECT model_id, dim FROM meta")
        self.model_id: str = model_id
        self.dim: int = dim
        if not self.connections.is_read_only:
            self._sweep()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self.connections.close()

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

        Args:
            chosen: only those that pass.
            before: only numbers below it; None: all.
            limit: how many at most.
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
        """Write down that footage was indexed, and with which times; in place of what was noted of it.

        Args:
            camera: the camera's name.
            fingerprint: of its content.
            start_s: POSIX seconds of its first frame.
            end_s: POSIX seconds of its last frame.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO footage VALUES (?, ?, ?, ?)", (camera, fingerprint, start_s, end_s)
            )

    def sightings(self, ids: Iterable[int]) -> dict[int, Sighting]:
        """The sightings by number; unknown numbers are left out."""
        # A gallery that may only be read stays of format 1.
        found, added = {}, "added_s" if self.connections.format > 1 else "NULL"
        for marks, part in sqlite.batched(ids):
            query = f"SELECT id, camera, track_id, start_s, end_s, {added} FROM sightings WHERE id IN ({marks})"
            for row in self._read(query, part):
                found[row[0]] = Sighting(row[1], row[2], row[3], row[4], self.thumbnail(row[0]), row[5])
        return found

    def vectors(self, ids: Iterable[int]) -> dict[int, FloatArray]:
        """The vectors float32 (D,) by number; unknown numbers are left out."""
        found = {}
        for marks, part in sqlite.batched(ids):
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

    def due(self, camera: str, before_s: float, since_s: float, *, by_sighting: bool) -> list[int]:
        """Numbers of the sightings of a camera that came in (or ended) at ``since_s`` or later, before ``before_s``.

        Args:
            camera: the camera's name.
            before_s: POSIX seconds; what came in then or later is left out.
            since_s: POSIX seconds; what came in earlier is left out.
            by_sighting: the sighting's end counts, not when it came in.
        """
        condition, values = due_condition(camera, before_s, since_s, by_sighting=by_sighting)
        return [row[0] for row in self._read(f"SELECT id FROM sightings WHERE {condition} ORDER BY id", values)]

    def count_due(self, camera: str, before_s: float, *, by_sighting: bool) -> int:
        """How many came in (or ended) before ``before_s``.

        Args:
            camera: the camera's name.
            before_s: POSIX seconds; what came in then or later is left out.
            by_sighting: the sighting's end counts, not when it came in.
        """
        condition, values = due_condition(camera, before_s, float("-inf"), by_sighting=by_sighting)
        return int(self._read(f"SELECT count(*) FROM sightings WHERE {condition}", values)[0][0])

    def lost_pictures(self, after: int, limit: int) -> tuple[list[int], int]:
        """Of the next ``limit`` sightings above ``after`` that were stored with a picture, those whose file is gone.

        Returns:
            Their numbers, and the highest number that was looked at; 0 when there is none above.
        """
        query = "SELECT id FROM sightings WHERE id > ? AND has_picture ORDER BY id LIMIT ?"
        ids = [row[0] for row in self._read(query, (after, limit))]
        gone = [number for number in ids if not self.thumbnail(number).is_file()]
        there = set(self._read_ids(gone))  # without what was deleted meanwhile
        return [number for number in gone if number in there], ids[-1] if ids else 0

    def _read_ids(self, ids: Sequence[int]) -> list[int]:
        found: list[int] = []
        for marks, part in sqlite.batched(ids):
            found += [row[0] for row in self._read(f"SELECT id FROM sightings WHERE id IN ({marks})", part)]
        return found

    def thumbnail(self, number: int) -> Path:
        """Where the thumbnail of a sighting lies."""
        return self._thumbnails.path(number)

    def last_track(self) -> int:
        """The highest number of a track, of whichever camera; -1 without any."""
        return int(self._read("SELECT coalesce(max(track_id), -1) FROM sightings")[0][0])

    def add(
        self, vectors: FloatArray, keys: Sequence[Key], thumbnails: Iterable[bytes | None], added_s: float
    ) -> tuple[IntArray, Change]:
        """Write N sightings, all or none.

        One of the same camera, track and start is replaced, or kept when it is the very same; one that takes another's
        place came in when that one did.

        Args:
            vectors: float32 (N, D).
            keys: camera, track, start and end of each.
            thumbnails: JPEG of each, or None; read one by one.
            added_s: when they came in.

        Returns:
            Their numbers int64 (N,), and what changed.
        """
        numbers: list[int] = []
        written: list[Path] = []
        added: dict[int, None] = {}
        removed: list[int] = []
        size = 4 * self.dim
        blobs = vectors.astype("<f4", copy=False).tobytes()
        find = "SELECT id, end_s, vector, added_s FROM sightings WHERE camera = ? AND track_id = ? AND start_s = ?"
        insert = (
            "INSERT INTO sightings (camera, track_id, start_s, end_s, vector, added_s, has_picture) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        try:
            with self._transaction() as connection:
                for row, (key, thumbnail) in enumerate(zip(keys, thumbnails, strict=True)):
                    blob = blobs[row * size : (row + 1) * size]
                    old = connection.execute(find, key[:3]).fetchone()
                    if old is not None and old[1:3] == (key[3], blob):
                        numbers.append(int(old[0]))
                        continue
                    if old is not None:
                        self._remove_rows(connection, [old[0]])
                        removed.append(old[0])
                    arrival = added_s if old is None else old[3]
                    values = (*key, blob, arrival, thumbnail is not None)
                    number = int(connection.execute(insert, values).lastrowid or 0)
                    if thumbnail is not None:
                        written.append(self.thumbnail(number))
                        self._thumbnails.write(number, thumbnail)
                    if old is not None and added.pop(old[0], False) is None:  # the same twice among the rows
                        numbers = [number if other == old[0] else other for other in numbers]
                    numbers.append(number)
                    added[number] = None
                changes = count_change(connection) if added else self.changes()
        except BaseException:
            for path in written:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        if removed:
            self.finish_erasing()
        return np.array(numbers, np.int64), Change(changes, tuple(added), tuple(removed))

    def delete(self, ids: Iterable[int]) -> Change:
        """Remove sightings with vector, row and thumbnail; unknown numbers are left out. ``left``: what remains."""
        wanted = sorted(set(ids))
        with self._transaction() as connection:
            there: list[int] = []
            for marks, part in sqlite.batched(wanted):
                there += [row[0] for row in connection.execute(f"SELECT id FROM sightings WHERE id IN ({marks})", part)]
            self._remove_rows(connection, there)
            changes = count_change(connection) if there else self.changes()
        if there:
            self.finish_erasing()
        return Change(changes, (), tuple(there))

    def _remove_rows(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        """Take rows out and note their thumbnails as doomed, so that a kill before they are gone forgets none."""
        numbers = [(number,) for number in ids]
        connection.executemany("DELETE FROM sightings WHERE id = ?", numbers)
        connection.executemany("INSERT INTO doomed VALUES (?)", numbers)

    def finish_erasing(self) -> str:
        """Remove doomed thumbnails, and empty the log in which deleted rows still stand; what is left, or ''.

        Nothing is raised: the rows are gone, and whoever deleted them must hear what is left of them.
        """
        left: list[str] = []
        with self.connections.write_lock:
            try:
                with self._transaction() as connection:
                    for (number,) in connection.execute("SELECT id FROM doomed").fetchall():
                        try:
                            self.thumbnail(number).unlink(missing_ok=True)
                        except OSError as error:
                            left.append(f"the picture {self.thumbnail(number)} ({error.strerror or error})")
                        else:
                            connection.execute("DELETE FROM doomed WHERE id = ?", (number,))
                if not self.connections.empty_log():
                    left.append(f"the bytes of deleted vectors in {self.folder / FILE}, which another process reads")
            except (StorageError, GalleryError) as error:
                left.append(str(error))
            self.left = "; ".join(left)
        return self.left

    def _sweep(self) -> None:
        """Finish what a kill left undone: doomed thumbnails, and those of an add that was never acknowledged."""
        self.finish_erasing()
        for part in self.folder.glob(f".{FILE}.*.part*"):  # of a kill; one of this minute may be another's, at work
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > 60:
                    part.unlink()
        with self._transaction() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sightings'").fetchone()
            self._thumbnails.remove_after(row[0] if row else 0)

    def _matrix(self, blobs: Sequence[bytes]) -> FloatArray:
        if any(len(blob) != 4 * self.dim for blob in blobs):
            raise GalleryError(f"{self.folder}: {FILE} is damaged, a vector is not of length {self.dim}; restore it")
        return np.frombuffer(b"".join(blobs), "<f4").astype(np.float32).reshape(len(blobs), self.dim)
