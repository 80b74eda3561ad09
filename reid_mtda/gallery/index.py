"""The nearest vectors, fast: an index in memory, made from the store and thrown away with the process.

It is never written to disk: making it anew takes seconds, a file would be one more place from which deleted people
must vanish, and index files of unknown origin are a way into the process.

Every vector is kept as it is. Once there are many, most of them are kept a second time as 4-bit product codes (FAISS'
fast scan), which say in a millisecond a million which few could be the nearest; these are then compared exactly.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from reid_mtda.centring import CameraMeans
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.rows import Rows
from reid_mtda.types import DoubleArray, FloatArray, IntArray

# Below this many vectors of length 512 exact search takes 5 ms at most, and codes would be worth nothing.
CODED_FROM = 32_768

_BLOCK = 1 << 16
# So many new vectors are compared exactly before they get codes, too: 1 ms at length 512.
_UNCODED = 8_192
# Dimensions that share a code of four bits: twice as many codes took twice as long and found the same.
_DIMS_PER_CODE = 8
_TRAINING_ROWS = 65_536
# Codes name so many candidates for each hit that is asked for, and at least so many in all.
_CANDIDATES_PER_HIT = 20
_CANDIDATES = 1000
# Codes are made anew when so large a share of what they stand for was deleted, or there is so many times more of it.
_DEAD_SHARE = 0.25
_GROWTH = 4


@dataclass(frozen=True, eq=False)
class _Block:
    """65,536 numbers in a row: their vectors (N, D), cameras' codes (-1: no vector of that number) and times."""

    vectors: FloatArray
    camera: IntArray
    start_s: DoubleArray
    end_s: DoubleArray

    @classmethod
    def empty(cls, dim: int) -> _Block:
        # Memory that nobody wrote to is not taken yet.
        vectors = np.empty((_BLOCK, dim), np.float32)
        return cls(vectors, np.full(_BLOCK, -1, np.int64), np.zeros(_BLOCK), np.zeros(_BLOCK))


@dataclass(frozen=True, eq=False)
class _Codes:
    """Product codes of the vectors up to number ``last``; ``numbers`` (N,) are theirs, rising. Never changed."""

    scan: Any
    numbers: IntArray
    trained_on: int

    @property
    def last(self) -> int:
        return int(self.numbers[-1]) if len(self.numbers) else -1


class Index:
    """Vectors of length 1 by number, each with its camera and times; cosine search.

    Safe from several threads: searches wait for nothing, neither for each other nor for a write.

    Args:
        dim: length D of a vector.
        centring: what the vectors were centred with, for whoever asks with another one; None: they are as given.
    """

    def __init__(self, dim: int, *, centring: CameraMeans | None = None) -> None:
        self.centring = centring
        self.dim, self.last = dim, 0
        # Whoever writes holds it. Readers take what stands in an attribute; a writer puts a new thing in its place.
        self._writing = threading.Lock()
        self._camera_codes: dict[str, int] = {}
        self._blocks: dict[int, _Block] = {}
        self._codes: _Codes | None = None
        self._count = 0
        self._dead = 0  # of those that have product codes

    def __len__(self) -> int:
        return self._count

    def ids(self) -> IntArray:
        """Numbers of all vectors, int64 (N,), rising."""
        return _numbers(self._blocks, above=-1)

    def add(self, rows: Rows) -> None:
        """Add vectors under new numbers, higher than all before."""
        if len(rows.ids) == 0:
            return
        with self._writing:
            codes = [self._camera_codes.setdefault(name, len(self._camera_codes)) for name in rows.cameras]
            cameras = np.array(codes, np.int64)
            self.last = max(self.last, int(rows.ids.max()))
            for place, at in _by_block(rows.ids):
                if place not in self._blocks:
                    self._blocks = {**self._blocks, place: _Block.empty(self.dim)}
                block, within = self._blocks[place], rows.ids[at] - place * _BLOCK
                block.vectors[within] = rows.vectors[at]
                block.start_s[within], block.end_s[within] = rows.start_s[at], rows.end_s[at]
                block.camera[within] = cameras[at]  # last: from now on it is found
            self._count += len(rows.ids)
            self._give_codes()

    def remove(self, ids: IntArray) -> None:
        """Remove vectors; unknown numbers are left out."""
        if len(ids) == 0:
            return
        with self._writing:
            for place, at in _by_block(np.unique(ids)):
                block = self._blocks.get(place)
                if block is None:
                    continue
                within = np.unique(ids)[at] - place * _BLOCK
                within = within[block.camera[within] >= 0]
                block.camera[within] = -1
                block.vectors[within] = 0.0
                self._count -= len(within)
                if self._codes is not None:
                    self._dead += int((within + place * _BLOCK <= self._codes.last).sum())
                if place != self.last // _BLOCK and not (block.camera >= 0).any():
                    self._blocks = {other: kept for other, kept in self._blocks.items() if other != place}
            if self._codes is not None and self._dead > _DEAD_SHARE * len(self._codes.numbers):
                self._give_codes(anew=True)

    def search(
        self, query: FloatArray, k: int, chosen: Filter | None = None, *, exact: bool = False
    ) -> tuple[FloatArray, IntArray]:
        """The ``k`` best of the vectors, or of those that pass ``chosen``.

        Args:
            query: float32 (D,) of length 1.
            k: how many; fewer come back when there are fewer.
            chosen: what may be answered; a search with such a filter is exact.
            exact: look at every vector.

        Returns:
            Cosines float32 (K,), falling, equal ones by rising number; numbers int64 (K,).
        """
        # One query is one thread's work; waiting for the others would only cost time. Set for this thread alone.
        faiss.omp_set_num_threads(1)
        codes, blocks = self._codes, self._blocks
        if chosen is not None and not chosen.lets_all_rows_pass:
            numbers = self._passing(blocks, chosen)
        elif exact or codes is None:
            numbers = _numbers(blocks, above=-1)
        else:
            numbers = np.concatenate([_candidates(codes, blocks, query, k), _numbers(blocks, above=codes.last)])
        scores = _cosines(blocks, query, numbers)
        if k < len(numbers):
            at_least = np.partition(scores, len(scores) - k)[len(scores) - k]
            best = np.flatnonzero(scores >= at_least)
            scores, numbers = scores[best], numbers[best]
        order = np.lexsort((numbers, -scores))[:k]
        return scores[order], numbers[order]

    def _passing(self, blocks: dict[int, _Block], chosen: Filter) -> IntArray:
        """Numbers of the vectors that pass, rising."""
        found = [np.zeros(0, np.int64)]
        for place, block in sorted(blocks.items()):
            # A copy, for a writer may be at it; vector and times were there before the camera.
            camera = block.camera[: self.last + 1 - place * _BLOCK].copy()
            passing = chosen.passes(
                camera, self._camera_codes, block.start_s[: len(camera)], block.end_s[: len(camera)]
            )
            found.append(np.flatnonzero(passing & (camera >= 0)) + place * _BLOCK)
        return np.concatenate(found)

    def _give_codes(self, *, anew: bool = False) -> None:
        """Give product codes to vectors that have none, once they are many; readers see the old ones until then."""
        codes = self._codes
        if codes is None:
            anew = self._count >= CODED_FROM
        elif self._count - (len(codes.numbers) - self._dead) >= _UNCODED:
            anew = anew or self._count > _GROWTH * codes.trained_on
        elif not anew:
            return
        if anew:
            numbers = self.ids()
            if len(numbers) < CODED_FROM // 2:
                self._codes, self._dead = None, 0
                return
            sample = numbers[:: max(1, len(numbers) // _TRAINING_ROWS)]
            groups = self._coded_dim // _DIMS_PER_CODE
            scan: Any = faiss.IndexPQFastScan(self._coded_dim, groups, 4, faiss.METRIC_INNER_PRODUCT)
            scan.pq.cp.min_points_per_centroid = 1  # of few samples FAISS would warn on standard error
            scan.train(self._rows(sample))
            trained_on, before = len(numbers), numbers[:0]
            self._dead = 0
        elif codes is not None:
            # A reader may be in the old one: what is added goes into a copy, of half a byte for eight dimensions.
            scan, before, trained_on = faiss.clone_index(codes.scan), codes.numbers, codes.trained_on
            numbers = _numbers(self._blocks, above=codes.last)
        else:
            return
        for start in range(0, len(numbers), _BLOCK):
            scan.add(self._rows(numbers[start : start + _BLOCK]))
        self._codes = _Codes(scan, np.concatenate([before, numbers]), trained_on)

    @property
    def _coded_dim(self) -> int:
        return -(-self.dim // _DIMS_PER_CODE) * _DIMS_PER_CODE

    def _rows(self, numbers: IntArray) -> FloatArray:
        """Vectors by number, float32 (N, D'), filled up with zeros to whole codes."""
        rows = np.zeros((len(numbers), self._coded_dim), np.float32)
        for place, at in _by_block(numbers):
            rows[at, : self.dim] = self._blocks[place].vectors[numbers[at] - place * _BLOCK]
        return rows


def _by_block(numbers: IntArray) -> list[tuple[int, IntArray]]:
    """Blocks that ``numbers`` (N,) lie in, and which of them do."""
    places = numbers // _BLOCK
    return [(int(place), np.flatnonzero(places == place)) for place in np.unique(places)]


def _numbers(blocks: dict[int, _Block], *, above: int) -> IntArray:
    """Numbers of the vectors above ``above``, rising."""
    found = [np.zeros(0, np.int64)]
    for place, block in sorted(blocks.items()):
        if (place + 1) * _BLOCK > above + 1:
            skipped = max(0, above + 1 - place * _BLOCK)
            found.append(np.flatnonzero(block.camera[skipped:] >= 0) + (place * _BLOCK + skipped))
    return np.concatenate(found)


def _candidates(codes: _Codes, blocks: dict[int, _Block], query: FloatArray, k: int) -> IntArray:
    """Numbers of those with codes that could be the ``k`` nearest, none of them deleted."""
    padded = np.zeros((1, codes.scan.d), np.float32)
    padded[0, : len(query)] = query
    wanted = max(_CANDIDATES, _CANDIDATES_PER_HIT * k)
    asked = wanted
    while True:
        asked = min(asked, len(codes.numbers))
        places = codes.scan.search(padded, asked)[1][0]
        numbers = np.sort(codes.numbers[places[places >= 0]])
        alive = np.zeros(len(numbers), np.bool_)
        for place, at in _by_block(numbers):
            if place in blocks:
                alive[at] = blocks[place].camera[numbers[at] - place * _BLOCK] >= 0
        # Deleted ones still have codes. Where they stand close, e.g. all of one person, more are asked for.
        if alive.sum() >= wanted or asked == len(codes.numbers):
            return numbers[alive]
        asked *= 4


def _cosines(blocks: dict[int, _Block], query: FloatArray, numbers: IntArray) -> FloatArray:
    """Cosines float32 (N,) of the vectors of ``numbers`` with ``query``; equal vectors have equal ones."""
    scores = np.zeros(len(numbers), np.float32)
    query = np.ascontiguousarray(query, np.float32)
    for place, at in _by_block(numbers):
        within, found = numbers[at] - place * _BLOCK, np.empty(len(at), np.float32)
        vectors = blocks[place].vectors
        faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]  # faiss's stubs do not know it
            faiss.swig_ptr(found),
            faiss.swig_ptr(query),
            faiss.swig_ptr(vectors),
            faiss.swig_ptr(np.ascontiguousarray(within)),
            vectors.shape[1],
            1,
            len(at),
        )
        scores[at] = found
    return scores
