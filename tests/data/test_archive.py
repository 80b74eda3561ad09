"""Crops in an archive: written once, identities of the two halves disjoint, every picture as it was."""

import cv2
import numpy as np
import pytest

from reid_mtda.data.archive import names_split, unpack_archive
from reid_mtda.data.reid import load_market1501
from reid_mtda.errors import DataError, StorageError
from reid_mtda.vision.preprocess import read_image

PEOPLE, CAMERAS = 6, (3, 7)


def arrays(**changes):
    """Two pictures of six people in each of two cameras; every picture another colour."""
    pid = np.repeat(np.arange(PEOPLE), 4)
    cam = np.tile(np.repeat(CAMERAS, 2), PEOPLE)
    x = np.random.default_rng(0).integers(0, 256, (len(pid), 16, 8, 3), np.uint8)
    return {"x": x, "pid": pid, "cam": cam, **changes}


def archive(path, **changes):
    np.savez_compressed(path, **{name: rows for name, rows in arrays(**changes).items() if rows is not None})
    return path


def identity_of(path):
    return int(path.name.split("_")[0])


@pytest.mark.parametrize("seed", range(4))
def test_people_who_are_tested_are_never_learnt_from(tmp_path, seed):
    unpack_archive(archive(tmp_path / "a.npz"), tmp_path / "set", seed=seed, test_share=0.5)
    train, test = load_market1501(tmp_path / "set")
    learnt = {identity_of(path) for path in train.paths}
    tested = set(test.gallery.pids.tolist())
    assert len(learnt) == len(tested) == 3 and not learnt & tested
    assert set(test.query.pids.tolist()) == tested and len(train) == len(test.gallery) == 12


def test_another_seed_draws_other_people(tmp_path):
    drawn = set()
    for seed in range(4):
        unpack_archive(archive(tmp_path / "a.npz"), tmp_path / str(seed), seed=seed, test_share=0.5)
        drawn.add(tuple(sorted({identity_of(path) for path in load_market1501(tmp_path / str(seed))[0].paths})))
    assert len(drawn) > 1


def test_every_picture_comes_out_as_it_was_with_its_person_and_camera(tmp_path):
    unpack_archive(archive(tmp_path / "a.npz"), tmp_path / "set", seed=0, test_share=0.5)
    train, test = load_market1501(tmp_path / "set")
    given = arrays()
    assert test.camera_names == ("camera1", "camera2")
    seen = []
    sides = [(train.paths, train.camids), (test.gallery.paths, test.gallery.camids)]
    for path, camid in [pair for paths, camids in sides for pair in zip(paths, camids, strict=True)]:
        row = int(path.name.split("_")[2])
        assert np.array_equal(read_image(path), given["x"][row])
        assert identity_of(path) == given["pid"][row] and CAMERAS[camid] == given["cam"][row]
        seen.append(row)
    assert sorted(seen) == list(range(len(given["x"])))
    assert [path.name for path in test.query.paths] == [path.name for path in test.gallery.paths]


def test_everybody_may_be_tested(tmp_path):
    unpack_archive(archive(tmp_path / "a.npz"), tmp_path / "set", seed=0, test_share=1.0)
    train, test = load_market1501(tmp_path / "set")
    assert len(train) == 0 and len(test.query) == 24


def test_another_array_may_tell_the_people(tmp_path):
    looks = np.repeat(np.arange(3), 8)
    unpack_archive(archive(tmp_path / "a.npz", avatar=looks), tmp_path / "set", seed=0, test_share=1, identity="avatar")
    assert set(load_market1501(tmp_path / "set")[1].query.pids.tolist()) == {0, 1, 2}


def test_what_is_unpacked_is_kept_and_nothing_is_left_beside_it(tmp_path):
    unpack_archive(archive(tmp_path / "a.npz"), tmp_path / "data" / "set", seed=0, test_share=0.5)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    unpack_archive(tmp_path / "gone.npz", tmp_path / "data" / "set", seed=1, test_share=0.9)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set"]


def packed(people=12, distractors=1):
    """Two JPEG crops of each person in each of two cameras, in tracklets of two; the last people are tested."""
    pid = np.repeat(np.arange(people), 4)
    files = [
        cv2.imencode(".jpg", np.full((16, 8, 3), 10 * number % 256, np.uint8))[1].tobytes()
        for number in range(len(pid))
    ]
    named = np.array(["adapt", "test", "distractor"])[(pid >= people - 4).astype(int) + (pid >= people - distractors)]
    return {
        "buf": np.frombuffer(b"".join(files), np.uint8), "off": np.cumsum([0, *map(len, files)]), "pid": pid,
        "cam": np.tile(np.repeat(CAMERAS, 2), people), "split": named, "tracklet": 100 - np.arange(len(pid)) // 2,
    }  # fmt: skip


def unpack(folder, split, seed=0, test_share=0.5, changes=()):
    arrays = {**packed(), **dict(changes)}
    np.savez(folder / "a.npz", **{name: rows for name, rows in arrays.items() if rows is not None})
    unpack_archive(folder / "a.npz", folder / "set", seed=seed, test_share=test_share, split=split)
    return load_market1501(folder / "set")


def people_in(paths):
    return {identity_of(path) for path in paths}


def test_an_archives_own_test_people_are_tested_and_distractors_are_in_the_gallery_alone(tmp_path):
    train, test = unpack(tmp_path, "given")
    assert people_in(train.paths) == set(range(8)) and set(test.query.pids.tolist()) == {8, 9, 10}
    assert set(test.gallery.pids.tolist()) == {8, 9, 10, 11} and len(test.gallery) == len(test.query) + 4


def test_settings_are_chosen_on_a_quarter_of_the_others_whatever_the_seed(tmp_path):
    found = []
    for seed, share in ((0, 0.5), (1, 0.9)):
        (tmp_path / str(seed)).mkdir()
        train, test = unpack(tmp_path / str(seed), "validation", seed=seed, test_share=share)
        learnt, tested = people_in(train.paths), set(test.query.pids.tolist())
        assert len(tested) == 2 and learnt | tested == set(range(8)) and not learnt & tested
        assert set(test.gallery.pids.tolist()) == tested
        found.append(tested)
    assert found[0] == found[1]


def test_pictures_that_are_jpeg_files_stay_as_they_are_and_keep_their_tracklets(tmp_path):
    train, _ = unpack(tmp_path, "given")
    given = packed()
    for path, tracklet in zip(train.paths, train.tracklets, strict=True):
        row = int(path.name.split("_")[2])
        assert path.suffix == ".jpg" and tracklet == given["tracklet"][row]
        assert path.read_bytes() == given["buf"][given["off"][row] : given["off"][row + 1]].tobytes()
    assert unpack_without_tracklets(tmp_path) is None


def unpack_without_tracklets(tmp_path):
    (tmp_path / "b").mkdir()
    return unpack(tmp_path / "b", "given", changes={"tracklet": None})[0].tracklets


@pytest.mark.parametrize(
    ("split", "changes", "message"),
    [
        ("drawn", {}, "names its test people, got split: drawn, which would learn from them; use split: given"),
        ("given", {"split": None}, "got split: given, but the archive has no array split; use split: drawn"),
        ("validation", {"split": None}, "got split: validation, but the archive has no array split"),
        ("given", {"split": np.array(["adapt", "train"] * 24)}, "with train, expected 48 of adapt, test, distractor"),
        ("given", {"split": np.array(["adapt"] * 47)}, r"split: got \(47,\) with known names, expected 48 of"),
        ("given", {"split": np.zeros(48)}, "with float64, expected 48 of adapt"),
        ("given", {"off": np.arange(50)}, "got buf uint8 .* from 0 to 49, pid"),
        ("given", {"buf": np.zeros(9, np.int64)}, r"got buf int64 \(9,\), off int64 \(49,\), pid"),
        ("given", {"tracklet": np.arange(3)}, "got buf uint8"),
        ("given", {"off": None}, "got the arrays pid, cam, buf, split, tracklet, no x; expected"),
    ],
)
def test_splits_and_files_that_do_not_fit_are_refused(tmp_path, split, changes, message):
    with pytest.raises(DataError, match=message):
        unpack(tmp_path, split, changes=changes)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_an_archive_says_whether_it_names_its_test_people(tmp_path):
    np.savez(tmp_path / "named.npz", **packed())
    assert names_split(tmp_path / "named.npz") and not names_split(archive(tmp_path / "bare.npz"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, r"a\.npz: got the arrays pid, cam, no x; expected an \.npz with x uint8"),
        ({"cam": None}, "got the arrays x, pid, no cam"),
        ({"pid": None}, "got the arrays x, cam, no pid"),
        ({"pid": np.array(["a"] * 24, object)}, "the array pid holds Python objects, not numbers; expected an .npz"),
        ({"pid": np.arange(23)}, r"got x uint8 \(24, 16, 8, 3\), pid \(23,\), cam \(24,\), expected"),
        ({"cam": np.arange(24.0)}, "got x uint8 .*expected an .npz with x uint8"),
        ({"x": np.zeros((24, 16, 8, 3))}, r"got x float64 \(24, 16, 8, 3\)"),
        ({"x": np.zeros((24, 16, 8), np.uint8)}, r"got x uint8 \(24, 16, 8\)"),
        ({"x": np.uint8(3)}, r"got x uint8 \(\), pid"),
    ],
)
def test_what_is_no_archive_of_crops_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        unpack_archive(archive(tmp_path / "a.npz", **changes), tmp_path / "set", seed=0, test_share=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_is_no_archive_at_all_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    whole = archive(path).read_bytes()
    np.save(tmp_path / "b.npy", np.zeros(3))
    torn = whole[:400] + bytes(100) + whole[500:]
    for content in (b"", b"text", whole[: len(whole) // 2], torn, (tmp_path / "b.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=r"a\.npz: (no such file|got|damaged).*, expected an \.npz with x uint8 \(N, h, w, 3\)"
        ):
            unpack_archive(path, tmp_path / "set", seed=0, test_share=0.5)
    path.unlink()
    for missing in (path, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            unpack_archive(missing, tmp_path / "set", seed=0, test_share=0.5)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"set: crops could not be written \(.*\); free space or choose another"):
        unpack_archive(archive(tmp_path / "a.npz"), tmp_path / "file" / "set", seed=0, test_share=0.5)
