"""Who was seen where: add sightings, ask for the most alike, forget. One gallery belongs to one model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from reid_mtda.centring import CameraMeans, Centred
from reid_mtda.errors import GalleryError
from reid_mtda.files import as_path
from reid_mtda.gallery.filter import EVERYTHING, Filter, checked_filter
from reid_mtda.gallery.followed_index import FollowedIndex
from reid_mtda.gallery.gallery_file import check_folder
from reid_mtda.gallery.given import (
    Picture,
    as_centring,
    as_count,
    as_jpeg,
    as_numbers,
    as_picture,
    as_times,
    as_vector,
    as_vectors,
    check_cameras,
)
from reid_mtda.gallery.rows import Rows
from reid_mtda.gallery.store import Store
from reid_mtda.gallery.stored_sightings import StoredSightings
from reid_mtda.model import Model
from reid_mtda.types import FloatArray, ImageArray, IntArray, ModelManifest, SearchAnswer, SearchHit

log = logging.getLogger(__name__)

_PATIENCE = 8


class Gallery(StoredSightings):
    """Sightings on disk and an index of their vectors in memory; open one with ``Gallery.open``.

    Safe to use from several threads, and next to other processes that have the same folder open: a search sees every
    sighting whose ``add`` returned before the search began, whoever added it.
    """

    def __init__(self, store: Store, model: Model | None = None, centring: CameraMeans | None = None) -> None:
        super().__init__(store)
        self._model = model
        self._index = FollowedIndex(store, centring)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        model: Model | ModelManifest | str | None = None,
        dim: int | None = None,
        *,
        centred: Centred | CameraMeans = "off",
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
                says where it does not. ``on``: that is refused. Means of one's own are taken as they are.

        Raises:
            GalleryError: ``folder`` is something else, is damaged, or was built with another model; or it is to
                be centred and is opened without a model that lies in a folder.
            ConfigError: it is to be centred and the model's folder says too little of its cameras.
            StorageError: the disk is full or refuses.
        """
        folder = as_path("Gallery.open", folder)
        centring = as_centring(str(folder), model, centred)
        model_id = model.model_id if isinstance(model, Model | ModelManifest) else model
        dim = model.embedding_dim if isinstance(model, Model | ModelManifest) else dim
        if (model_id is None) != (dim is None):
            raise GalleryError(f"{folder}: got model_id {model_id} and dim {dim}, expected both or neither")
        check_folder(folder, may_make=model_id is not None)
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
        if not isinstance(model, Model | ModelManifest):
            raise GalleryError(f"in_memory: got {type(model).__name__}, expected a model, as load_model gives it")
        return cls(Store(None, model.model_id, model.embedding_dim), model if isinstance(model, Model) else None)

    def close(self) -> None:
        """Close the files; nothing is lost without it. A second call does nothing."""
        with self._index.lock:
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
        return len(self._index)

    @property
    def centring(self) -> CameraMeans | None:
        """What vectors are centred with when they are compared; None: they are compared as they are."""
        return self._index.centring

    @property
    def is_centred(self) -> bool:
        """Vectors are centred by camera when they are compared."""
        return self.centring is not None

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
        with self._index.lock:
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
            self._index.follow(change, Rows(added, rows[new], tuple(names[row] for row in new), starts[new], ends[new]))
        return numbers

    def delete(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Remove sightings: vector, row and thumbnail together. Returns the numbers that were there.

        They are found no more; ``left_of_deleted`` says what of them is still on the disk.
        """
        numbers = as_numbers("delete", ids)
        with self._index.lock:
            change = self._store.delete(numbers)
            self._index.follow(change)
        return change.removed

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
        scores, ids, size = self._index.search(self._embedded(query), camera, k, checked_filter(where))
        # A row that was deleted meanwhile is not shown.
        rows = self._store.sightings(ids)
        hits = tuple(
            SearchHit(float(score), int(number), rows[number])
            for score, number in zip(scores, ids.tolist(), strict=True)
            if number in rows and (where.min_score is None or score >= where.min_score)
        )
        return SearchAnswer(self.model_id, size, hits)

    def vectors(self, numbers: Iterable[int], *, as_compared: bool = False) -> dict[int, FloatArray]:
        """Vectors float32 (D,) by number; numbers that are not there are left out.

        They are those that were added; ``as_compared``: those whose cosines a search gives, centred in a gallery that
        was opened so.
        """
        return self._index.compared_vectors(numbers) if as_compared else self._store.vectors(numbers)

    def as_compared(self, rows: FloatArray, cameras: Sequence[str | None]) -> FloatArray:
        """Embeddings ``rows`` (N, D) of ``cameras`` (N,) as a search compares them: centred, or as they are."""
        return self._index.centred(rows, cameras)

    def recentre(self, centring: CameraMeans | None) -> None:
        """Compare with other means from now on, or with None as they are; what is stored stays as it was added.

        Searches go on meanwhile, each with the means that the index it looks at was made with.

        Raises:
            ShapeError: means of embeddings of another size.
        """
        there = self.centring
        if (centring and centring.mark) != (there and there.mark):
            self._index.recentre(centring)

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
