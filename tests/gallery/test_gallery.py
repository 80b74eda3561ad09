"""The gallery answers as brute force would, keeps what it acknowledged, and forgets what it must."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reid_mtda.errors import GalleryError, ReidError, ShapeError, StorageError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.types import FloatArray, ModelManifest, Preprocess

DIM = 16
MODEL = "a1b2c3d4e5f6"
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 20, 3)).astype(np.uint8)


def unit_rows(count: int, seed: int = 0, dim: int = DIM) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fill(gallery: Gallery, rows: FloatArray, first: int = 0) -> list[int]:
    """Sightings of cameras c0, c1, c2 in turn, each 5 s long, starting 10 s apart."""
    return [
        gallery.add(row, f"c{i % 3}", i, 10.0 * i, 10.0 * i + 5, PICTURE) for i, row in enumerate(rows, start=first)
    ]


def hurry(gallery: Gallery) -> None:
    """Let the gallery skip its disk flushes where a test does not need them."""
    gallery._store.connections._writer.execute("PRAGMA synchronous = OFF")
    thumbnails = gallery._store._thumbnails

    def write_quickly(number: int, jpeg: bytes) -> Path:
        path = thumbnails.path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
        return path

    thumbnails.write = write_quickly  # type: ignore[method-assign]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "gallery"


@pytest.fixture
def gallery(folder: Path) -> Iterator[Gallery]:
    with Gallery.open(folder, MODEL, DIM) as opened:
        yield opened


def test_a_sighting_is_found_with_its_meaning(gallery: Gallery) -> None:
    rows = unit_rows(7)
    ids = fill(gallery, rows)
    answer = gallery.search(rows[4], k=3)
    assert (answer.model_id, answer.gallery_size, len(answer.hits)) == (MODEL, 7, 3)
    best = answer.hits[0]
    assert best.sighting_id == ids[4]
    assert best.score == pytest.approx(1, abs=1e-6)
    assert (best.sighting.camera, best.sighting.track_id) == ("c1", 4)
    assert (best.sighting.start_s, best.sighting.end_s) == (40.0, 45.0)
    shown = cv2.cvtColor(cv2.imread(str(best.sighting.thumbnail)), cv2.COLOR_BGR2RGB)
    assert shown.shape == PICTURE.shape
    assert np.abs(shown.astype(int).mean(axis=(0, 1)) - PICTURE.mean(axis=(0, 1))).max() < 3
    np.testing.assert_array_equal(gallery.vector(ids[4]), rows[4])


def test_an_empty_gallery_gives_an_empty_answer(gallery: Gallery) -> None:
    assert len(gallery) == 0
    answer = gallery.search(unit_rows(1)[0], k=5, where=Filter(["c1"], start_s=0.0))
    assert (answer.gallery_size, answer.hits) == (0, ())
    assert gallery.search(unit_rows(1)[0]).hits == ()
    assert gallery.sightings() == {}


def test_large_pictures_are_stored_small(gallery: Gallery) -> None:
    number = gallery.add(unit_rows(1)[0], "c", 1, 0.0, 1.0, np.zeros((1500, 600, 3), np.uint8))
    assert cv2.imread(str(gallery.sightings()[number].thumbnail)).shape == (512, 205, 3)


# --- against brute force -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 25),
    k=st.integers(1, 30),
    cameras=st.none() | st.lists(st.sampled_from(["c0", "c1", "c2", "nowhere"]), max_size=3),
    start_s=st.none() | st.floats(-20, 280),
    end_s=st.none() | st.floats(-20, 280),
    min_score=st.none() | st.floats(-1, 1),
    gone=st.sets(st.integers(0, 24), max_size=5),
    seed=st.integers(0, 5),
)
def test_answers_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    k: int,
    cameras: list[str] | None,
    start_s: float | None,
    end_s: float | None,
    min_score: float | None,
    gone: set[int],
    seed: int,
) -> None:
    assume(start_s is None or end_s is None or start_s <= end_s)
    rows, query = unit_rows(count, seed), unit_rows(1, seed + 100)[0]
    with Gallery.open(tmp_path_factory.mktemp("g"), MODEL, DIM) as gallery:
        hurry(gallery)
        ids = fill(gallery, rows)
        gallery.delete([ids[i] for i in gone if i < count])
        answer = gallery.search(query, k, where=Filter(cameras, start_s, end_s, min_score))
        where = Filter(cameras, start_s, end_s)
        listed = set(gallery.sightings(where))
        assert gallery.count(where) == len(listed)
    expected = []
    for i in range(count):
        score = float(rows[i] @ query)
        on_view = (start_s is None or 10 * i + 5 >= start_s) and (end_s is None or 10 * i <= end_s)
        if i not in gone and on_view and (cameras is None or f"c{i % 3}" in cameras):
            expected.append((score, ids[i]))
    assert listed == {number for _, number in expected}
    expected = sorted(expected, key=lambda pair: (-pair[0], pair[1]))[:k]
    if min_score is not None:
        assume(all(abs(score - min_score) > 1e-5 for score, _ in expected))
        expected = [pair for pair in expected if pair[0] > min_score]
    assert [hit.sighting_id for hit in answer.hits] == [number for _, number in expected]
    np.testing.assert_allclose([hit.score for hit in answer.hits], [score for score, _ in expected], atol=1e-6)


def test_equal_scores_come_in_the_order_of_their_numbers(gallery: Gallery) -> None:
    row = unit_rows(1)[0]
    ids = [gallery.add(row, "c", track, 0.0, 1.0, PICTURE) for track in range(6)]
    assert [hit.sighting_id for hit in gallery.search(row, 6).hits] == ids


# --- indexing again, deleting, forgetting -------------------------------------------------------------------------


def test_the_same_footage_again_changes_nothing(gallery: Gallery) -> None:
    rows = unit_rows(6)
    ids = fill(gallery, rows)
    assert fill(gallery, rows) == ids
    assert len(gallery) == 6


def test_another_vector_for_the_same_tracklet_takes_its_place(gallery: Gallery, folder: Path) -> None:
    rows = unit_rows(6)
    ids = fill(gallery, rows)
    old = gallery.sightings()[ids[2]].thumbnail
    changed = unit_rows(1, seed=9)[0]
    number = gallery.add(changed, "c2", 2, 20.0, 25.0, PICTURE)
    assert number not in ids
    assert len(gallery) == 6
    assert gallery.search(changed, 1).hits[0].sighting_id == number
    assert ids[2] not in [hit.sighting_id for hit in gallery.search(rows[2], 6).hits]
    assert not old.exists()


def files_with(folder: Path, needle: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_deleting_leaves_no_trace_on_disk(gallery: Gallery, folder: Path) -> None:
    rows = unit_rows(40)
    ids = [gallery.add(row, f"secret-camera-{i}", i, 10.0 * i, 10.0 * i + 5, PICTURE) for i, row in enumerate(rows)]
    thumbnail = gallery.sightings()[ids[7]].thumbnail
    assert thumbnail.exists()
    assert files_with(folder, rows[7].tobytes())
    assert files_with(folder, b"secret-camera-7")
    assert gallery.delete([ids[7], 10**6]) == (ids[7],)
    assert not files_with(folder, rows[7].tobytes())
    assert not files_with(folder, b"secret-camera-7")
    assert not thumbnail.exists()
    assert files_with(folder, rows[8].tobytes())
    assert len(gallery) == 39
    assert ids[7] not in [hit.sighting_id for hit in gallery.search(rows[7], 40).hits]
    assert gallery.delete([ids[7]]) == ()
    assert gallery.delete([]) == ()


def test_a_number_is_never_used_twice(folder: Path) -> None:
    rows = unit_rows(3)
    with Gallery.open(folder, MODEL, DIM) as gallery:
        ids = fill(gallery, rows)
        gallery.delete(ids)
    with Gallery.open(folder, MODEL, DIM) as gallery:
        assert min(fill(gallery, rows)) > max(ids)


def test_due_is_one_cameras_past_alone(gallery: Gallery) -> None:
    ids = fill(gallery, unit_rows(9))
    # Camera c0 was on view 0-5, 30-35 and 60-65 s.
    assert list(gallery.due("c0", 35.0, by_sighting=True)) == [ids[0]]
    assert list(gallery.due("c0", 35.1, by_sighting=True)) == [ids[0], ids[3]]
    assert gallery.due("nowhere", 1e9, by_sighting=True) == {}
    assert gallery.due("c0", 1e9) == {}  # they came in just now
    assert list(gallery.due("c0", time.time() + 1)) == [ids[0], ids[3], ids[6]]


# --- opening ------------------------------------------------------------------------------------------------------


def test_what_was_added_is_there_after_reopening(folder: Path) -> None:
    rows = unit_rows(12)
    with Gallery.open(folder, MODEL, DIM) as gallery:
        ids = fill(gallery, rows)
        gallery.delete(ids[:2])
        before = gallery.search(rows[5], 12)
    with Gallery.open(folder) as gallery:
        assert (gallery.model_id, gallery.dim) == (MODEL, DIM)
        after = gallery.search(rows[5], 12)
    assert [hit.sighting for hit in after.hits] == [hit.sighting for hit in before.hits]


def test_another_model_is_refused_by_name(gallery: Gallery, folder: Path) -> None:
    fill(gallery, unit_rows(2))
    manifest = ModelManifest("ffff00001111", "osnet", DIM, Preprocess(), "x")
    message = rf"gallery {folder} was built with model {MODEL}, this is ffff00001111: run 'reid-mtda index'"
    with pytest.raises(GalleryError, match=message):
        Gallery.open(folder, manifest)
    with pytest.raises(GalleryError, match="holds vectors of length 16, this model gives 8"):
        Gallery.open(folder, MODEL, 8)
    assert len(gallery) == 2


def a_file(folder: Path) -> None:
    folder.write_text("x")


def other_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")


def not_a_database(folder: Path) -> None:
    folder.mkdir()
    (folder / "gallery.sqlite").write_bytes(b"a text of some length that is no database at all" * 100)


def foreign_database(folder: Path) -> None:
    folder.mkdir()
    with sqlite3.connect(folder / "gallery.sqlite") as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def newer_format(folder: Path) -> None:
    Gallery.open(folder, MODEL, DIM).close()
    with sqlite3.connect(folder / "gallery.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_file, "a file, expected a gallery folder"),
        (other_files, "holds other files and is not a gallery"),
        (not_a_database, "gallery.sqlite: is damaged or of another kind"),
        (foreign_database, "gallery.sqlite is not a gallery's"),
        (newer_format, "got gallery format 99, expected 1"),
    ],
)
def test_what_is_not_a_gallery_is_refused_and_kept(folder: Path, make: object, message: str) -> None:
    make(folder)  # type: ignore[operator]
    before = {p: p.read_bytes() for p in [folder, *folder.rglob("*")] if p.is_file()}
    with pytest.raises(GalleryError, match=message):
        Gallery.open(folder, MODEL, DIM)
    assert {p: p.read_bytes() for p in before} == before


def test_without_a_model_only_an_existing_gallery_opens(folder: Path) -> None:
    with pytest.raises(GalleryError, match="no gallery there; make one with 'reid-mtda index'"):
        Gallery.open(folder)
    assert not folder.exists()
    with pytest.raises(GalleryError, match="expected both or neither"):
        Gallery.open(folder, MODEL)


def test_a_closed_gallery_says_so(folder: Path) -> None:
    gallery = Gallery.open(folder, MODEL, DIM)
    gallery.close()
    gallery.close()
    with pytest.raises(GalleryError, match=r"gallery\.sqlite: is closed"):
        gallery.search(unit_rows(1)[0])
    with pytest.raises(GalleryError, match=r"gallery\.sqlite: is closed"):
        fill(gallery, unit_rows(1))


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "error", "message"),
    [
        (unit_rows(1, dim=8)[0], ShapeError, r"gallery, vector: got float32 \(8,\), expected \(16,\), or \(N, 16\)"),
        (np.array(["a"] * DIM), ShapeError, "got <U1, expected numbers"),
        (unit_rows(2), ShapeError, "got 2 rows, expected one of length 16"),
        (2 * unit_rows(1)[0], GalleryError, "vector of length 2, expected 1; normalise it first"),
        (np.zeros(DIM, np.float32), GalleryError, "vector of length 0"),
        (np.full(DIM, np.nan, np.float32), GalleryError, "vector of length nan"),
        (np.full(DIM, np.inf, np.float32), GalleryError, "vector of length inf"),
    ],
)
def test_what_is_no_vector_is_refused(
    gallery: Gallery, vector: FloatArray, error: type[ReidError], message: str
) -> None:
    with pytest.raises(error, match=message):
        gallery.add(vector, "c", 1, 0.0, 1.0, PICTURE)
    with pytest.raises(error, match=message):
        gallery.search(vector)
    assert len(gallery) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_s": 2.0}, "got a sighting from 2.0 to 1.0, expected start <= end"),
        ({"end_s": float("nan")}, "expected start <= end"),
        ({"thumbnail": np.zeros((0, 3, 3), np.uint8)}, "picture: got 0x3 pixels"),
        ({"thumbnail": np.zeros((8, 8), np.uint8)}, r"picture: got uint8 \(8, 8\)"),
    ],
)
def test_what_is_no_sighting_is_refused(gallery: Gallery, change: dict[str, object], message: str) -> None:
    good = {"camera": "c", "track_id": 1, "start_s": 0.0, "end_s": 1.0, "thumbnail": PICTURE}
    with pytest.raises(ReidError, match=message):
        gallery.add(unit_rows(1)[0], **{**good, **change})  # type: ignore[arg-type]
    assert len(gallery) == 0


def test_k_below_one_is_refused(gallery: Gallery) -> None:
    with pytest.raises(GalleryError, match="got k = 0, expected an integer, 1 or more"):
        gallery.search(unit_rows(1)[0], 0)


# --- full disks ---------------------------------------------------------------------------------------------------


def test_a_full_database_adds_nothing_and_goes_on_when_there_is_room(gallery: Gallery, folder: Path) -> None:
    rows = unit_rows(200)
    hurry(gallery)
    fill(gallery, rows[:5])
    writer = gallery._store.connections._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    added = 5
    with pytest.raises(StorageError, match=r"could not be used \(database or disk is full\); free space"):
        for i in range(5, 200):
            fill(gallery, rows[i : i + 1], first=i)
            added += 1
    assert len(gallery) == added
    assert len(list(folder.rglob("*.jpg"))) == added
    assert gallery.search(rows[1], 1).hits[0].score == pytest.approx(1, abs=1e-6)
    writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
    fill(gallery, rows[added:], first=added)
    assert len(gallery) == 200
    assert gallery.search(rows[added], 1).hits[0].score == pytest.approx(1, abs=1e-6)


def test_no_room_for_the_thumbnail_adds_nothing(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(gallery, unit_rows(3))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"could not be written \(No space left on device\); free space"):
            fill(gallery, unit_rows(1), first=3)
    assert len(gallery) == 3
    assert len(list(folder.rglob("*.jpg"))) == 3
    fill(gallery, unit_rows(1), first=3)
    assert len(gallery) == 4


# --- kills --------------------------------------------------------------------------------------------------------

ADDER = """
import sys
import numpy as np
from reid_mtda.gallery.gallery import Gallery
gallery = Gallery.open(sys.argv[1], "a1b2c3d4e5f6", 16)
picture = np.full((40, 20, 3), 90, np.uint8)
rows = np.random.default_rng(0).normal(size=(100000, 16))
rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
for i, row in enumerate(rows):
    number = gallery.add(row, f"c{i % 3}", i, 10.0 * i, 10.0 * i + 5, picture)
    if i % 4 == 3:
        gallery.delete([number])
        print(-number, flush=True)
    else:
        print(number, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(folder: Path) -> None:
    adder = subprocess.Popen([sys.executable, "-c", ADDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert adder.stdout is not None
    said = [int(adder.stdout.readline()) for _ in range(30)]
    adder.send_signal(signal.SIGKILL)
    said += [int(line) for line in adder.stdout.read().split()]
    adder.wait()
    rows = unit_rows(100_000)
    with Gallery.open(folder, MODEL, DIM) as gallery:
        there = gallery.sightings()
        assert {n for n in said if n > 0} <= set(there)
        assert not {-n for n in said if n < 0} & set(there)
        assert len(there) - len([n for n in said if n > 0]) in (0, 1)
        assert len(gallery) == len(there)
        for number in list(there)[:5]:
            assert gallery.search(rows[number - 1], 1).hits[0].sighting_id == number
        # Every row has its picture and every picture its row, whatever the kill left half-done.
        assert {int(p.stem) for p in folder.rglob("*.jpg")} == set(there)
        assert all(cv2.imread(str(sighting.thumbnail)) is not None for sighting in there.values())
        fill(gallery, unit_rows(2, seed=4), first=10**6)


def test_a_kill_between_row_and_thumbnail_is_made_good(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(folder, MODEL, DIM) as gallery:
        ids = fill(gallery, unit_rows(4))
        thumbnails = {n: s.thumbnail for n, s in gallery.sightings().items()}
        monkeypatch.setattr(gallery._store, "finish_erasing", lambda: "")
        gallery.delete(ids[:2])
        orphan = gallery._store.thumbnail(ids[-1] + 1)
        orphan.write_bytes(b"half a pictu")
        assert thumbnails[ids[0]].exists()
    with Gallery.open(folder, MODEL, DIM) as gallery:
        assert [thumbnails[n].exists() for n in ids] == [False, False, True, True]
        assert not orphan.exists()


# --- many at once -------------------------------------------------------------------------------------------------


def test_threads_add_delete_and_search_at_once(gallery: Gallery) -> None:
    rows = unit_rows(120)
    hurry(gallery)
    fill(gallery, rows[:30])
    faults: list[BaseException] = []
    done = threading.Event()

    def guarded(work: object) -> threading.Thread:
        def run() -> None:
            try:
                work()  # type: ignore[operator]
            except BaseException as error:
                faults.append(error)

        return threading.Thread(target=run)

    def add(first: int) -> None:
        for i in range(first, first + 30):
            number = fill(gallery, rows[i : i + 1], first=i)[0]
            assert gallery.search(rows[i], 1).hits[0].sighting_id == number
            if i % 5 == 0:
                gallery.delete([number])
                assert number not in [hit.sighting_id for hit in gallery.search(rows[i], 3).hits]

    def search() -> None:
        while not done.is_set():
            answer = gallery.search(rows[3], 5, where=Filter(["c0"]))
            assert answer.hits[0].sighting.track_id == 3
            assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)

    adders = [guarded(lambda first=first: add(first)) for first in (30, 60, 90)]
    searchers = [guarded(search) for _ in range(2)]
    for thread in adders + searchers:
        thread.start()
    for thread in adders:
        thread.join()
    done.set()
    for thread in searchers:
        thread.join()
    assert faults == []
    assert len(gallery) == 120 - 18


def test_what_is_deleted_during_a_search_is_not_shown(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_rows(5)
    ids = fill(gallery, rows)
    look_up = gallery._index.search

    def and_then_delete(*args: object, **options: object) -> tuple[FloatArray, np.ndarray, int]:
        found = look_up(*args, **options)  # type: ignore[arg-type]
        gallery.delete([ids[2]])
        return found

    monkeypatch.setattr(gallery._index, "search", and_then_delete)
    shown = [hit.sighting_id for hit in gallery.search(rows[2], 5).hits]
    assert len(shown) == 4
    assert ids[2] not in shown


def test_two_openings_of_one_gallery_see_each_other(gallery: Gallery, folder: Path) -> None:
    rows = unit_rows(20)
    with Gallery.open(folder, MODEL, DIM) as other:
        ids = fill(gallery, rows[:10])
        assert other.search(rows[4], 1).hits[0].sighting_id == ids[4]
        ids += fill(other, rows[10:], first=10)
        fill(gallery, rows[:1], first=500)
        assert gallery.search(rows[15], 1).hits[0].sighting_id == ids[15]
        fill(other, rows[:1], first=600)
        assert fill(gallery, rows[:1]) == ids[:1]
        assert len(gallery) == len(other) == 22
        other.delete([ids[4]])
        assert ids[4] not in [hit.sighting_id for hit in gallery.search(rows[4], 20).hits]
        assert len(gallery) == len(other) == 21


# --- large --------------------------------------------------------------------------------------------------------


def test_a_large_gallery_has_codes_and_filters_stay_exact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_mtda.gallery.index.CODED_FROM", 200)
    monkeypatch.setattr("reid_mtda.gallery.index._UNCODED", 50)
    monkeypatch.setattr("reid_mtda.gallery.index._CANDIDATES", 20)
    monkeypatch.setattr("reid_mtda.gallery.index._CANDIDATES_PER_HIT", 1)
    rows = unit_rows(420)
    with Gallery.open(folder, MODEL, DIM) as gallery:
        hurry(gallery)
        ids = fill(gallery, rows)
        assert gallery._index._index._codes is not None
        assert len(gallery) == 420
        gallery.delete(ids[100:110])
        query = unit_rows(1, seed=77)[0]
        kept = [i for i in range(420) if not 100 <= i < 110 and i % 3 == 1]
        expected = [ids[i] for i in sorted(kept, key=lambda i: -float(rows[i] @ query))[:20]]
        answer = gallery.search(query, 20, where=Filter(["c1"]))
        assert [hit.sighting_id for hit in answer.hits] == expected
        everything = gallery.search(query, 20, where=Filter(["c0", "c1", "c2"]))
        approximate = gallery.search(query, 20)
        # As many candidates as hits: this would be the same only if codes chose none of them.
        assert approximate.hits != everything.hits
        assert gallery.search(rows[5], 1).hits[0].sighting_id == ids[5]


def test_searching_is_quick_while_another_thread_adds(gallery: Gallery) -> None:
    rows = unit_rows(300)
    fill(gallery, rows[:20])
    done = threading.Event()

    def add() -> None:
        for i in range(20, 120):
            fill(gallery, rows[i : i + 1], first=i)
        done.set()

    adder = threading.Thread(target=add)
    adder.start()
    waits = []
    while not done.is_set():
        began = time.perf_counter()
        gallery.search(rows[0], 5)
        waits.append(time.perf_counter() - began)
    adder.join()
    assert np.median(waits) < 0.05


def test_pages_are_those_of_all_numbers_cut_up(gallery: Gallery) -> None:
    hurry(gallery)
    ids = fill(gallery, unit_rows(60))
    gallery.delete([*ids[10:20:2], ids[-1]])
    filters = [
        Filter(cameras, start_s, end_s)
        for cameras in (None, (), ("c1",), ("c2", "c0"), ("c1", "c1", "nowhere"))
        for start_s, end_s in ((None, None), (105.0, None), (None, 333.0), (101.0, 402.0), (9e9, None))
    ]
    for chosen in filters:
        everything = gallery.numbers(chosen)[::-1].tolist()
        for before in (None, 1, ids[15], ids[40] + 1, 2**62 - 1):
            below = [number for number in everything if before is None or number < before]
            for limit in (1, 7, 500):
                assert gallery.newest(limit, before=before, where=chosen) == below[:limit], (chosen, before, limit)


@pytest.mark.parametrize("cameras", [None, ("c1",), ("c0", "c2")])
def test_a_page_costs_the_same_however_many_sightings_there_are(gallery: Gallery, cameras: tuple[str, ...]) -> None:
    hurry(gallery)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    costs = []
    for rows in (unit_rows(60), unit_rows(600)):
        fill(gallery, rows)
        gallery._store.connections._reader.set_progress_handler(count, 1)  # called at each step of SQLite's machine
        steps, page = 0, gallery.newest(10, before=500, where=Filter(cameras))
        costs.append(steps)
        gallery._store.connections._reader.set_progress_handler(None, 0)
        assert len(page) == 10
    assert costs[1] <= 1.2 * costs[0], costs


def test_a_gallery_of_before_there_were_pages_gets_their_index(folder: Path) -> None:
    with Gallery.open(folder, MODEL, DIM) as gallery:
        ids = fill(gallery, unit_rows(6))
        gallery._store.connections._writer.execute("DROP INDEX by_camera")
    with Gallery.open(folder, MODEL, DIM) as gallery:
        assert gallery.newest(5, where=Filter(["c1"])) == [ids[4], ids[1]]


def test_the_sightings_of_a_track(gallery: Gallery) -> None:
    ids = fill(gallery, unit_rows(6))
    again = gallery.add(unit_rows(1)[0], "c1", 4, 900.0, 905.0, None)
    assert gallery.of_track("c1", 4) == gallery.lookup([ids[4], again])
    assert gallery.of_track("c0", 4) == gallery.of_track("c1", 2**40) == {}
