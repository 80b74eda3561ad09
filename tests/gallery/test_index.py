"""The index alone: codes choose candidates, and what was deleted, added or asked meanwhile changes nothing else."""

import threading

import numpy as np
import pytest

from reid_mtda.gallery import index as index_module
from reid_mtda.gallery.index import Index
from reid_mtda.gallery.rows import Rows
from reid_mtda.types import FloatArray

DIM = 20  # no whole number of codes


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "CODED_FROM", 300)
    monkeypatch.setattr(index_module, "_UNCODED", 100)
    monkeypatch.setattr(index_module, "_CANDIDATES", 40)
    monkeypatch.setattr(index_module, "_BLOCK", 256)


def unit(count: int, seed: int = 0) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    unit_rows: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit_rows


def put(index: Index, vectors: FloatArray, first: int) -> None:
    ids = np.arange(first, first + len(vectors))
    times = ids.astype(np.float64)
    index.add(Rows(ids, vectors, tuple(f"c{number % 3}" for number in ids), times, times))


def best(vectors: FloatArray, numbers: np.ndarray, query: FloatArray, k: int) -> list[int]:
    return numbers[np.argsort(-(vectors @ query), kind="stable")[:k]].tolist()


def test_numbers_may_begin_anywhere_and_have_gaps() -> None:
    index, rows = Index(DIM), unit(900)
    put(index, rows[:450], 5_000_000_000)
    put(index, rows[450:], 5_000_100_000)
    assert index._codes is not None and len(index) == 900 and index.last == 5_000_100_449
    numbers = index.ids()
    assert numbers[449] == 5_000_000_449 and numbers[450] == 5_000_100_000
    for query in unit(20, seed=1):
        assert index.search(query, 7, exact=True)[1].tolist() == best(rows, numbers, query, 7)
    for row in (0, 449, 450, 899):
        assert index.search(rows[row], 1)[1].tolist() == [numbers[row]]


def test_the_one_number_zero_is_a_number() -> None:
    index, rows = Index(DIM), unit(3)
    put(index, rows, 0)
    assert index.search(rows[0], 1)[1].tolist() == [0] and index.ids().tolist() == [0, 1, 2]


def test_when_all_that_stand_close_were_deleted_the_next_are_found() -> None:
    """A person's sightings are erased: their codes still fill the candidates."""
    index, query = Index(DIM), unit(1)[0]
    near = query + 0.01 * np.random.default_rng(1).normal(size=(200, DIM)).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    others = unit(800, seed=2)
    put(index, np.concatenate([near, others]), 1)
    index.remove(np.arange(1, 201))
    assert index._codes is not None and index._dead == 200  # too few for new codes
    assert index.search(query, 5)[1].tolist() == best(others, np.arange(201, 1001), query, 5)


def test_codes_of_what_was_deleted_go_when_they_are_many() -> None:
    index, rows = Index(DIM), unit(1000)
    put(index, rows, 1)
    index.remove(np.arange(1, 401))
    assert index._dead == 0 and index._codes is not None and len(index._codes.numbers) == 600
    assert 0 not in index._blocks  # nobody is left in it
    index.remove(np.arange(401, 990))
    assert index._codes is None and index.ids().tolist() == list(range(990, 1001))
    assert index.search(rows[995], 3)[1].tolist() == best(rows[989:], np.arange(990, 1001), rows[995], 3)
    put(index, rows, 1001)
    assert len(index) == 1011 and index._codes is not None


def test_equal_vectors_come_by_rising_number() -> None:
    index = Index(DIM)
    put(index, np.repeat(unit(1), 700, axis=0), 1)
    for exact in (True, False):
        scores, numbers = index.search(unit(1)[0], 9, exact=exact)
        assert numbers.tolist() == sorted(numbers) and len(set(scores.tolist())) == 1
    assert index.search(unit(1)[0], 9, exact=True)[1].tolist() == list(range(1, 10))


def test_searches_wait_for_no_writer_and_find_all_that_was_there_before() -> None:
    index, rows = Index(DIM), unit(4000)
    put(index, rows[:500], 1)
    with index._writing:
        done = threading.Event()

        def ask() -> None:
            assert index.search(rows[3], 1)[1].tolist() == [4]
            done.set()

        threading.Thread(target=ask).start()
        assert done.wait(20)
    faults: list[object] = []
    stop = threading.Event()

    def ask_on(number: int) -> None:
        while not stop.is_set():
            found = index.search(rows[number], 1)[1].tolist()
            if found != [number + 1]:
                faults.append((number, found))

    askers = [threading.Thread(target=ask_on, args=(number,)) for number in (7, 450)]
    for asker in askers:
        asker.start()
    for start in range(500, 4000, 50):
        put(index, rows[start : start + 50], start + 1)
        index.remove(np.arange(start - 20, start - 10))
    stop.set()
    for asker in askers:
        asker.join()
    assert faults == []
    assert len(index) == 4000 - 10 * 70
