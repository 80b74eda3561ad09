"""Crops kept to adapt to later: the best of finished tracklets, of cameras that are opted in, and only for so long.

They lie as a harvest writes them, one folder per camera with ``crops.csv``, so that an adaptation reads both alike.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from reid_mtda.data.crop_table import Row, read_crop_table, write_crop_table
from reid_mtda.data.footage import write_crops
from reid_mtda.errors import DataError, StorageError
from reid_mtda.files import remove_part_files
from reid_mtda.types import Tracklet

log = logging.getLogger(__name__)


class CropStore:
    """The crops of one site on disk; safe to use from several threads.

    A crop goes with its sighting: by erasure, by retention, or when its camera is opted out. A folder that cannot be
    read is removed: nobody could be found in it who asks to be erased. So are files that a kill left half written.

    Args:
        folder: made when the first crop is kept.
        tracklets_each: tracklets kept of one camera; the oldest make room for new ones.
    """

    def __init__(self, folder: Path, tracklets_each: int) -> None:
        self._folder, self._most = Path(folder), tracklets_each
        self._lock = threading.Lock()
        self._tables: dict[str, list[Row]] = {}
        remove_part_files(self._folder, deep=True)  # of a kill: they name tracklets that may be erased since
        for place in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if place.is_dir():
                self._tables[place.name] = self._read(place)

    def count(self) -> dict[str, int]:
        """Crops by camera."""
        with self._lock:
            return {camera: len(table) for camera, table in self._tables.items()}

    def take(self, tracklet: Tracklet) -> None:
        """Keep the crops of a tracklet.

        Raises:
            StorageError: the disk refused; what was kept before stands.
        """
        with self._lock:
            camera, place = tracklet.camera, self._folder / tracklet.camera
            table, written = self._tables.get(camera, []), list[Row]()
            try:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
                written = write_crops([tracklet], place)
                tracks = list(dict.fromkeys(row["tracklet"] for row in table))
                old = set(tracks[: max(0, len(tracks) + 1 - self._most)])
                write_crop_table(place, [*(row for row in table if row["tracklet"] not in old), *written])
            except (OSError, StorageError) as error:
                _unlink(place, [path.name for path in _pictures(place) if path.name not in {r["file"] for r in table}])
                raise StorageError(f"{place}: crops to adapt to could not be kept ({error}); free space") from error
            self._tables[camera] = [*(row for row in table if row["tracklet"] not in old), *written]
            _unlink(place, [row["file"] for row in table if row["tracklet"] in old])

    def pictures(self, camera: str, track_id: int) -> list[tuple[str, bytes]]:
        """Name and JPEG of each crop that is kept of a tracklet; none of one that is not."""
        with self._lock:
            rows = [row for row in self._tables.get(camera, []) if int(row["tracklet"]) == track_id]
            found = []
            for row in rows:
                with contextlib.suppress(OSError):
                    found.append((row["file"], (self._folder / camera / row["file"]).read_bytes()))
            return found

    def forget(self, camera: str, track_ids: Iterable[int]) -> int:
        """Remove the crops of erased sightings; how many.

        Raises:
            StorageError: the disk refused.
        """
        gone = {str(number) for number in track_ids}
        return self._remove(camera, lambda row: row["tracklet"] in gone)

    def forget_before(self, camera: str, time_s: float, *, but: Callable[[int], bool] = lambda track: False) -> int:
        """Remove the crops of ``camera`` taken before ``time_s`` (POSIX), ``but`` those of some tracks; how many.

        Args:
            camera: the camera's name.
            time_s: POSIX seconds.
            but: True for the number of a track that stays.

        Raises:
            StorageError: the disk refused.
        """
        with self._lock:
            old = {int(row["tracklet"]) for row in self._tables.get(camera, ()) if float(row["time_s"]) < time_s}
        gone = {str(track) for track in old if not but(track)}
        return self._remove(camera, lambda row: row["tracklet"] in gone and float(row["time_s"]) < time_s)

    def keep_only(self, cameras: Collection[str]) -> int:
        """Remove the crops of all cameras but these; how many.

        Raises:
            StorageError: the disk refused.
        """
        with self._lock:
            others = [camera for camera in self._tables if camera not in cameras]
            crops = sum(len(self._tables[camera]) for camera in others)
            for camera in others:
                _remove_folder(self._folder / camera)
                del self._tables[camera]
            return crops

    def _remove(self, camera: str, is_gone: Callable[[Row], bool]) -> int:
        with self._lock:
            table, place = self._tables.get(camera, []), self._folder / camera
            gone = [row["file"] for row in table if is_gone(row)]
            if not gone:
                return 0
            rest = [row for row in table if not is_gone(row)]
            self._tables[camera] = rest
            # The table first: it must not name pictures that are gone. A full disk takes no new one before they are.
            is_written = _try_to_write(place, rest)
            _unlink(place, gone)
            if not is_written and not _try_to_write(place, rest):
                log.warning("%s: its table names crops that were removed; the next crop kept mends it", place)
            return len(gone)

    def _read(self, place: Path) -> list[Row]:
        """The table of one camera, made true again after a kill: rows without a picture, pictures without a row."""
        try:
            table = read_crop_table(place)
            for row in table:
                int(row["tracklet"]), float(row["time_s"])
        except (DataError, ValueError) as error:
            log.warning("%s: what is kept there cannot be read and is removed (%s)", place, error)
            _remove_folder(place)
            return []
        there = {path.name for path in _pictures(place)}
        rows = [row for row in table if row["file"] in there]
        _unlink(place, there - {row["file"] for row in rows})
        if len(rows) < len(table):
            write_crop_table(place, rows)
        return rows


def _try_to_write(place: Path, rows: Iterable[Row]) -> bool:
    try:
        write_crop_table(place, rows)
    except StorageError:
        return False
    return True


def _pictures(place: Path) -> list[Path]:
    return list(place.glob("*.jpg"))


def _unlink(place: Path, names: Iterable[str]) -> None:
    try:
        for name in names:
            (place / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{place}: crops could not be removed ({error.strerror or error}); remove them") from error


def _remove_folder(place: Path) -> None:
    try:
        shutil.rmtree(place)
    except OSError as error:
        raise StorageError(f"{place}: could not be removed ({error.strerror or error}); remove it") from error
