"""What the file of a gallery answers by itself: which sightings there are, without looking for anybody."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reid_mtda.errors import GalleryError
from reid_mtda.gallery.filter import EVERYTHING, Filter, checked_filter
from reid_mtda.gallery.given import as_numbers
from reid_mtda.gallery.store import Store
from reid_mtda.types import FloatArray, IntArray, Sighting


class StoredSightings:
    """The sightings of a gallery by number, camera, track and time; see ``Gallery``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._store.folder

    @property
    def model_id(self) -> str:
        """The model whose vectors it holds."""
        return self._store.model_id

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return self._store.dim

    @property
    def left_of_deleted(self) -> str:
        """What of deleted sightings is still on the disk, in words; '' when nothing is."""
        return self._store.left

    def finish_deleting(self) -> str:
        """Remove what is left of deleted sightings, e.g. because another process was reading; what still is, or ''."""
        return self._store.finish_erasing()

    def due(
        self, camera: str, before_s: float, *, since_s: float = float("-inf"), by_sighting: bool = False
    ) -> dict[int, Sighting]:
        """Sightings of ``camera`` that came in before ``before_s``, by number; of 0.1, whose end lies before it.

        Args:
            camera: its name.
            before_s: what came in at this time (POSIX seconds) or later is left out.
            since_s: as is what came in earlier than this.
            by_sighting: the end of the sighting counts instead, whenever it came in.
        """
        return self._store.sightings(self._store.due(camera, before_s, since_s, by_sighting=by_sighting))

    def count_due(self, camera: str, before_s: float, *, by_sighting: bool = False) -> int:
        """How many sightings ``due`` would give.

        Args:
            camera: the camera's name.
            before_s: POSIX seconds; what came in then or later is left out.
            by_sighting: the sighting's end counts, not when it came in.
        """
        return self._store.count_due(camera, before_s, by_sighting=by_sighting)

    def lost_pictures(self, after: int, limit: int) -> tuple[list[int], int]:
        """Of the next ``limit`` sightings above ``after`` with a picture, those whose file is gone; and the last one.

        The last is 0 when there are none above ``after``.
        """
        return self._store.lost_pictures(after, limit)

    def check_place(self) -> None:
        """See that its file was not removed or replaced since it was opened.

        Raises:
            StorageError: it was; nothing more is written.
        """
        self._store.connections.check_place()

    def sightings(self, where: Filter = EVERYTHING) -> dict[int, Sighting]:
        """Sightings by number, of those that pass."""
        return self._store.sightings(self.numbers(where).tolist())

    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that its sightings are of, rising."""
        return self._store.cameras()

    def footage(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Footage that was indexed: (camera, fingerprint) -> POSIX seconds of its first and last frame."""
        return self._store.footage()

    def note_footage(self, camera: str, fingerprint: str, start_s: float, end_s: float) -> None:
        """Remember that footage was indexed, and with which times: it keeps them under any name and date.

        Args:
            camera: the camera's name.
            fingerprint: of its content.
            start_s: POSIX seconds of its first frame.
            end_s: POSIX seconds of its last frame.

        Raises:
            StorageError: the disk is full.
        """
        self._store.note_footage(camera, fingerprint, float(start_s), float(end_s))

    def lookup(self, numbers: Iterable[int]) -> dict[int, Sighting]:
        """Sightings by number; numbers that are not there are left out."""
        return self._store.sightings(as_numbers("lookup", numbers))

    def numbers(self, where: Filter = EVERYTHING) -> IntArray:
        """Numbers of the sightings that pass, int64 (N,), rising: in the order they were added."""
        return self._store.ids(_of_rows(where))

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many sightings pass."""
        return self._store.count(_of_rows(where))

    def newest(self, limit: int, *, before: int | None = None, where: Filter = EVERYTHING) -> list[int]:
        """Numbers of the ``limit`` newest sightings that pass, falling, of those below ``before``.

        Args:
            limit: how many at most.
            before: only numbers below it; None: all.
            where: only those that pass.
        """
        return self._store.newest(_of_rows(where), before, limit)

    def of_track(self, camera: str, track_id: int) -> dict[int, Sighting]:
        """The sightings of one track of one camera, by number."""
        return self._store.of_track(camera, track_id)

    def vector(self, number: int) -> FloatArray:
        """The vector float32 (D,) of a sighting, e.g. to search for more of it.

        Raises:
            GalleryError: no such sighting.
        """
        found = self._store.vectors([number])
        if number not in found:
            raise GalleryError(f"{self.folder}: no sighting {number}; it may have been deleted")
        return found[number]


def _of_rows(where: Filter) -> Filter:
    """``where``, refused when it asks for a score that only a search gives."""
    if checked_filter(where).min_score is not None:
        raise GalleryError(f"filter: got min_score {where.min_score} without a search; leave it out")
    return where
