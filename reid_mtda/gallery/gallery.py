"""Who was seen where: add sightings, ask for the most alike, forget. One gallery belongs to one model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from reid_mtda.camera_means import need_centring, read_centring
from reid_mtda.centring import CameraMeans, centre
from reid_mtda.errors import GalleryError, StorageError
from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.gallery.gallery_file import FILE
from reid_mtda.gallery.given import (
    Picture,
    as_count,
    as_jpeg,
    as_picture,
    as_times,
    as_vector,
    as_vectors,
    check_cameras,
)
from reid_mtda.gallery.index import Index
from reid_mtda.gallery.rows import Change, Rows
from reid_mtda.gallery.store import Store
from reid_mtda.model import Model
from reid_mtda.types import (
    FloatArray,
    ImageArray,
    IntArray,
    ModelManifest,
    SearchAnswer,
    SearchHit,
    Sighting,
)

log = logging.getLogger(__name__)

_PATIENCE = 8


class Gallery:
    """Sightings on disk and an index of their vectors in memory; open one with ``Gallery.open``.

    Safe to use from several threads, and next to other processes that have the same folder open: a search sees every
    sighting whose ``add`` returned before the search began, whoever added it.
    """

    def __init__(self, store: Store, model: Model | None = None, centring: CameraMeans | None = None) -> None:
        self._store, self._model, self._centring = store, model, centring
        # Whoever holds it may change store and index; searches do not wait for it.
        self._lock = threading.RLock()
        self._index, self._seen = self._fresh_index()

    @classmethod
    def open(
        cls,
        folder: Path | str,
        model: Model | ModelManifest | str | None = None,
        dim: int | None = None,
        *,
        centred: Literal["off", "auto", "on"] = "off",
    ) -> Gallery:
        """Open the gallery in ``folder``, or make one there.

        Args:
            folder: a gallery, an empty folder or a new one.
            model: the model whose vectors it holds, its manifest, or its ``model_id`` together with ``dim``. None opens
                an existing gallery whatever its model, e.g. to delete from it.
            dim: length D of a vector.
            centred: whether vectors are centred by camera when they are compared (`reid_mtda.centring`); scores of a
                centred search and of a plain one are on different scales. Stored vectors stay as they are. ``auto``:
                where the model's folder says what its cameras looked like and how many people they saw; a warning
                says where it does not. ``on``: that is refused.

        Raises:
            GalleryError: ``folder`` is something else, is damaged, or was built with another model; or it is to
                be centred and is opened without a model that lies in a folder.
            ConfigError: it is to be centred and the model's folder says too little of its cameras.
            StorageError: the disk is full or refuses.
        """
        folder = Path(folder)
        centring = _centring(folder, model, centred)
        model_id = model.model_id if isinstance(model, Model | ModelManifest) else model
        dim = model.embedding_dim if isinstance(model, Model | ModelManifest) else dim
        if (model_id is None) != (dim is None):
            raise GalleryError(f"{folder}: got model_id {model_id} and dim {dim}, expected both or neither")
        _check_folder(folder, may_make=model_id is not None)
        store = Store(folder, model_id, dim)
        try:
            if model_id is not None and store.model_id != model_id:
                raise GalleryError(
                    f"gallery {folder} was built with model {store.model_id}, this is {model_id}: "
                    "run 'reid-mtda index' into a new folder, or search with the model it was built with"
                )
            if dim is not None and store.dim != dim:
                raise GalleryError(f"gallery {folder} holds vectors of length {store.dim}, this model gives {dim}")
            return cls(store, model if isinstance(model, Model) else None, centring)
        except BaseException:
            store.close()
            raise

    @classmethod
    def in_memory(cls, model: Model | ModelManifest) -> Gallery:
        """Make a gallery that ends with ``close`` or the process; of it only pictures touch the disk, until then."""
        return cls(Store(None, model.model_id, model.embedding_dim), model if isinstance(model, Model) else None)

    def close(self) -> None:
        """Close the files; nothing is lost without it. A second call does nothing."""
        with self._lock:
            if self._store.left and (left := self._store.finish_erasing()):
                log.warning(
                    "%s: of deleted sightings there is left: %s; the next opening removes it", self.folder, left
                )
            self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        self._catch_up()
        return len(self._index)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._store.folder

    @property
    def model_id(self) -> str:
        """The model whose vectors it holds."""
        return self._store.model_id

    @property
    def is_centred(self) -> bool:
        """Vectors are centred by camera when they are compared."""
        return self._centring is not None

    @property
    def dim(self) -> int:
        """Length D of a vector."""
        return self._store.dim

    def add(
        self,
        vector: npt.ArrayLike,
        camera: str,
        track_id: int,
        start_s: float,
        end_s: float,
        thumbnail: ImageArray | None = None,
        *,
        added_s: float | None = None,
    ) -> int:
        """Add a sighting; once this returns it survives a kill and a power cut.

        A sighting with the same camera, track and start takes the place of the one there; the very same one changes
        nothing. So footage can be indexed again.

        Args:
            vector: (D,) of length 1.
            camera: the camera's name.
            track_id: the tracklet's number in its camera.
            start_s: POSIX seconds when the person was first seen.
            end_s: and last seen, >= start_s.
            thumbnail: uint8 (h, w, 3) RGB; stored as JPEG, at most 512 px high and wide. None: this sighting
                has no picture, and none can be embedded anew for another model.
            added_s: POSIX seconds when it came in, from which retention counts; None: now.

        Returns:
            The sighting's number.

        Raises:
            GalleryError: a vector of another length, not finite or not of length 1; a time range that is none.
            StorageError: the disk is full; nothing was added.
        """
        row = as_vector(str(self.folder), vector, self.dim)
        numbers = self.add_many(
            row,
            camera,
            track_ids=[track_id],
            start_s=start_s,
            end_s=end_s,
            pictures=[thumbnail],
            added_s=added_s,
        )
        return int(numbers[0])

    def add_many(
        self,
        vectors: npt.ArrayLike,
        camera: str | Sequence[str],
        *,
        track_ids: Sequence[int] | None = None,
        start_s: float | Sequence[float] | None = None,
        end_s: float | Sequence[float] | None = None,
        pictures: Sequence[Picture | None] | None = None,
        added_s: float | None = None,
    ) -> IntArray:
        """Add N sightings in one transaction: all of them or none; as ``add`` does otherwise.

        Args:
            vectors: (N, D), rows of length 1; one row (D,) is taken as N = 1.
            camera: the camera's name, or those of the rows.
            track_ids: the rows' tracklets; None: each row is a track of its own, numbered on from those that are there.
            start_s: POSIX seconds when each was first seen, one number for all or N; None: now.
            end_s: and last seen; None: ``start_s``.
            pictures: of each row, uint8 (h, w, 3) RGB or the path of a picture file, or None; stored as JPEG, at most
                512 px high and wide.
            added_s: POSIX seconds when they came in, from which retention counts; None: now.

        Returns:
            The sightings' numbers, int64 (N,), in the order of ``vectors``.

        Raises:
            GalleryError: vectors of another length, not finite or not of length 1; a time range that is none; another
                number of names, times or pictures than of vectors.
            ImageError: a file that is no picture.
            StorageError: the disk is full; nothing was added.
        """
        rows = as_vectors(str(self.folder), vectors, self.dim)
        count, names = len(rows), [camera] * len(rows) if isinstance(camera, str) else list(camera)
        check_cameras(str(self.folder), names)
        starts, ends = as_times(str(self.folder), time.time() if start_s is None else start_s, end_s, count)
        with self._lock:
            first = self._store.last_track() + 1 if track_ids is None else 0
            tracks = range(first, first + count) if track_ids is None else [int(track) for track in track_ids]
            for name, given in (("camera", names), ("track_ids", tracks), ("pictures", pictures)):
                if given is not None and len(given) != count:
                    raise GalleryError(
                        f"{self.folder}: got {len(given)} of {name} for {count} vectors, expected as many"
                    )
            jpegs = repeat(None, count) if pictures is None else map(as_jpeg, pictures)
            keys = list(zip(names, tracks, starts.tolist(), ends.tolist(), strict=True))
            numbers, change = self._store.add(rows, keys, jpegs, time.time() if added_s is None else float(added_s))
            place = {number: row for row, number in enumerate(numbers.tolist())}
            new = [place[number] for number in change.added]
            added = np.array(change.added, np.int64)
            self._follow(change, Rows(added, rows[new], tuple(names[row] for row in new), starts[new], ends[new]))
        return numbers

    def delete(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Remove sightings: vector, row and thumbnail together. Returns the numbers that were there.

        They are found no more; ``left_of_deleted`` says what of them is still on the disk.
        """
        with self._lock:
            change = self._store.delete(ids)
            self._follow(change)
        return change.removed

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
        """How many sightings ``due`` would give."""
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
        self._store.check_place()

    def search(
        self,
        query: npt.ArrayLike | Picture,
        k: int = 10,
        *,
        where: Filter = EVERYTHING,
        camera: str | None = None,
    ) -> SearchAnswer:
        """Find the ``k`` sightings most alike, best first.

        Args:
            query: a vector (D,) of length 1; or, in a gallery that was opened with its model, a crop uint8 (h, w, 3)
                RGB or the path of a picture file.
            k: how many at most, >= 1.
            where: only those that pass.
            camera: that which took the query, in a centred gallery; None, or one that the model was not adapted to: the
                mean of all cameras is subtracted.

        Raises:
            GalleryError: a vector that is not one of this gallery's model, a picture without a model, or k < 1.
            ImageError: a file that is no picture, or a picture out of bounds.
        """
        k = as_count(str(self.folder), k)
        vector = self._centred(self._embedded(query)[None], [camera])[0]
        self._catch_up()
        index = self._index
        scores, ids = index.search(vector, k, where)
        # A row that was deleted meanwhile is not shown.
        rows = self._store.sightings(ids)
        hits = tuple(
            SearchHit(float(score), int(number), rows[number])
            for score, number in zip(scores, ids.tolist(), strict=True)
            if number in rows and (where.min_score is None or score >= where.min_score)
        )
        return SearchAnswer(self.model_id, len(index), hits)

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

        Raises:
            StorageError: the disk is full.
        """
        self._store.note_footage(camera, fingerprint, float(start_s), float(end_s))

    def lookup(self, numbers: Iterable[int]) -> dict[int, Sighting]:
        """Sightings by number; numbers that are not there are left out."""
        return self._store.sightings(numbers)

    def numbers(self, where: Filter = EVERYTHING) -> IntArray:
        """Numbers of the sightings that pass, int64 (N,), rising: in the order they were added."""
        return self._store.ids(_of_rows(where))

    def count(self, where: Filter = EVERYTHING) -> int:
        """How many sightings pass."""
        return self._store.count(_of_rows(where))

    def newest(self, limit: int, *, before: int | None = None, where: Filter = EVERYTHING) -> list[int]:
        """Numbers of the ``limit`` newest sightings that pass, falling, of those below ``before``."""
        return self._store.newest(_of_rows(where), before, limit)

    def of_track(self, camera: str, track_id: int) -> dict[int, Sighting]:
        """The sightings of one track of one camera, by number."""
        return self._store.of_track(camera, track_id)

    def vectors(self, numbers: Iterable[int], *, as_compared: bool = False) -> dict[int, FloatArray]:
        """Vectors float32 (D,) by number; numbers that are not there are left out.

        They are those that were added; ``as_compared``: those whose cosines a search gives, centred in a gallery that
        was opened so.
        """
        found = self._store.vectors(numbers)
        if not (as_compared and found and self._centring is not None):
            return found
        sightings = self._store.sightings(found)
        there = [number for number in found if number in sightings]
        rows = np.stack([found[number] for number in there]) if there else np.zeros((0, self.dim), np.float32)
        return dict(zip(there, self._centred(rows, [sightings[number].camera for number in there]), strict=True))

    def vector(self, number: int) -> FloatArray:
        """The vector float32 (D,) of a sighting, e.g. to search for more of it.

        Raises:
            GalleryError: no such sighting.
        """
        found = self._store.vectors([number])
        if number not in found:
            raise GalleryError(f"{self.folder}: no sighting {number}; it may have been deleted")
        return found[number]

    def rebuild(self) -> None:
        """Make the index anew from what is stored."""
        with self._lock:
            self._index, self._seen = self._fresh_index()

    def _centred(self, rows: FloatArray, cameras: Sequence[str | None]) -> FloatArray:
        """``rows`` (N, D) as they are compared."""
        return rows if self._centring is None else centre(rows, cameras, self._centring)

    def _put(self, index: Index, rows: Rows) -> None:
        index.add(replace(rows, vectors=self._centred(rows.vectors, rows.cameras)))

    def _embedded(self, query: npt.ArrayLike | Picture) -> FloatArray:
        picture = as_picture(query)
        if picture is None:
            return as_vector(str(self.folder), query, self.dim)  # type: ignore[arg-type]  # as_picture takes the others
        if self._model is None:
            raise GalleryError(
                f"{self.folder}: got a picture to search for, but no model: open the gallery with load_model(FOLDER)"
            )
        row: FloatArray = self._model.embed([picture])[0]
        return row

    def _follow(self, change: Change, row: Rows | None = None) -> None:
        """Bring the index up to a change just written; when others wrote too, up to everything."""
        if (change.added or change.removed) and change.changes == self._seen + 1:
            self._index.remove(np.array(change.removed, np.int64))
            if row is not None:
                self._put(self._index, row)
            self._seen = change.changes
        else:
            self._catch_up()

    def _catch_up(self) -> None:
        """Take in what other processes changed. In between own writes this is one look at one number."""
        wanted = self._store.changes()
        for _ in range(_PATIENCE):
            if self._seen >= wanted:
                return
            # Most likely an add of this process, written already and about to enter the index; the lock may be taken
            # again by the next one before a searcher gets it.
            time.sleep(0.0005)
        with self._lock:
            changes = self._store.changes()
            self._index.remove(np.setdiff1d(self._index.ids(), self._store.ids()))
            for rows in self._store.rows_after(self._index.last):
                self._put(self._index, rows)
            self._seen = changes

    def _fresh_index(self) -> tuple[Index, int]:
        """An index of all that is stored, and the number of changes it knows of."""
        changes, index = self._store.changes(), Index(self.dim)
        for rows in self._store.rows_after(0):
            self._put(index, rows)
        return index, changes


def _of_rows(where: Filter) -> Filter:
    """``where``, refused when it asks for a score that only a search gives."""
    if where.min_score is not None:
        raise GalleryError(f"filter: got min_score {where.min_score} without a search; leave it out")
    return where


def _centring(
    folder: Path, model: Model | ModelManifest | str | None, centred: Literal["off", "auto", "on"]
) -> CameraMeans | None:
    """What vectors of ``model`` are centred with, None where they are not."""
    if centred == "off":
        return None
    if centred not in ("auto", "on"):
        raise GalleryError(f"{folder}: centred: got {centred!r}, expected one of off, auto, on")
    if not isinstance(model, Model) or model.folder is None:
        said = "opened without a model that lies in a folder, so nothing is known to centre vectors with"
        if centred == "on":
            raise GalleryError(f"{folder}: {said}; open it with load_model(FOLDER), or with centred='off'")
        log.warning("%s: %s; they are compared as they are", folder, said)
        return None
    return (need_centring if centred == "on" else read_centring)(model.folder, model.manifest)


def _check_folder(folder: Path, *, may_make: bool) -> None:
    """Refuse what is not a gallery; make the folder of a new one."""
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
