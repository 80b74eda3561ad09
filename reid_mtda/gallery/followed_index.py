"""The index of a gallery's file, kept up with what this and other processes write there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from reid_mtda.centring import CameraMeans, centre
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.index import Index
from reid_mtda.gallery.rows import Change, Rows
from reid_mtda.gallery.store import Store
from reid_mtda.types import FloatArray, IntArray

_PATIENCE = 8


class FollowedIndex:
    """The nearest neighbours among all rows of a store, with vectors as they are compared.

    Args:
        store: what it follows.
        centring: what vectors are centred with by camera; None: they are compared as they are stored.
    """

    def __init__(self, store: Store, centring: CameraMeans | None) -> None:
        self._store = store
        # Whoever holds it may change store and index; searches do not wait for it.
        self.lock = threading.RLock()
        self._index, self._seen = self._made(centring)

    def __len__(self) -> int:
        self.catch_up()
        return len(self._index)

    @property
    def centring(self) -> CameraMeans | None:
        """What vectors are centred with; None: they are compared as they are stored."""
        return self._index.centring

    def recentre(self, centring: CameraMeans | None) -> None:
        """Compare with other means from now on; searches go on meanwhile with the index that is there."""
        with self.lock:
            self._index, self._seen = self._made(centring)

    def _made(self, centring: CameraMeans | None) -> tuple[Index, int]:
        """An index of all that is stored, and the number of changes it knows of."""
        seen, index = self._store.changes(), Index(self._store.dim, centring=centring)
        for rows in self._store.rows_after(0):
            _put(index, rows)
        return index, seen

    def search(self, vector: FloatArray, camera: str | None, k: int, where: Filter) -> tuple[FloatArray, IntArray, int]:
        """Find the rows nearest a vector.

        Args:
            vector: (D,) of length 1, as rows are stored.
            camera: that which took it; None: none of these.
            k: how many at most.
            where: only those that pass.

        Returns:
            Scores, falling, and numbers of at most ``k`` rows; and among how many rows they were sought.
        """
        self.catch_up()
        index = self._index
        scores, ids = index.search(_centred(vector[None], [camera], index.centring)[0], k, where)
        return scores, ids, len(index)

    def centred(self, rows: FloatArray, cameras: Sequence[str | None]) -> FloatArray:
        """``rows`` (N, D) of ``cameras`` as they are compared."""
        return _centred(rows, cameras, self.centring)

    def compared_vectors(self, numbers: Iterable[int]) -> dict[int, FloatArray]:
        """Vectors float32 (D,) by number, as they are compared; numbers that are not there are left out."""
        found = self._store.vectors(numbers)
        if not found or self.centring is None:
            return found
        sightings = self._store.sightings(found)
        there = [number for number in found if number in sightings]
        rows = np.stack([found[number] for number in there]) if there else np.zeros((0, self._store.dim), np.float32)
        return dict(zip(there, self.centred(rows, [sightings[number].camera for number in there]), strict=True))

    def follow(self, change: Change, row: Rows | None = None) -> None:
        """Take in a change just written, with the rows it added; when others wrote too, everything."""
        if (change.added or change.removed) and change.changes == self._seen + 1:
            self._index.remove(np.array(change.removed, np.int64))
            if row is not None:
                _put(self._index, row)
            self._seen = change.changes
        else:
            self.catch_up()

    def catch_up(self) -> None:
        """Take in what other processes changed. In between own writes this is one look at one number."""
        wanted = self._store.changes()
        for _ in range(_PATIENCE):
            if self._seen >= wanted:
                return
            # Most likely an add of this process, written already and about to enter the index; the lock may be taken
            # again by the next one before a searcher gets it.
            time.sleep(0.0005)
        with self.lock:
            changes = self._store.changes()
            self._index.remove(np.setdiff1d(self._index.ids(), self._store.ids()))
            for rows in self._store.rows_after(self._index.last):
                _put(self._index, rows)
            self._seen = changes


def _put(index: Index, rows: Rows) -> None:
    index.add(replace(rows, vectors=_centred(rows.vectors, rows.cameras, index.centring)))


def _centred(rows: FloatArray, cameras: Sequence[str | None], centring: CameraMeans | None) -> FloatArray:
    return rows if centring is None else centre(rows, cameras, centring)
