"""Loaders on small trees drawn here; the lists must equal those of torchreid's own loaders on the same trees."""

import csv

import numpy as np
import pytest
from PIL import Image

from reid_mtda.data.reid import DATASETS, labelled, load_cuhk03np, load_folder, load_market1501, load_msmt17
from reid_mtda.errors import DataError

TRAIN = ["0002_c1s1_000451_03.jpg", "0002_c2s1_000776_01.jpg", "0011_c6s4_002352_01.jpg", "-1_c3s1_000000_00.jpg"]
QUERY = ["0003_c1s1_000001_00.jpg", "0007_c4s2_000010_00.jpg"]
GALLERY = ["0003_c2s1_000001_01.jpg", "0007_c1s1_000001_01.jpg", "0000_c5s1_000001_01.jpg", "-1_c1s1_000002_01.jpg"]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 16), (90, 90, 90)).save(path)


def boxes(root, train=TRAIN, query=QUERY, gallery=GALLERY):
    for part, names in (("bounding_box_train", train), ("query", query), ("bounding_box_test", gallery)):
        for name in names:
            picture(root / part / name)
    return root


def msmt17(root, folders=("train", "test")):
    lists = {
        "list_train.txt": [(folders[0], "0000/0000_000_01_0303morning_0008_0.jpg", 0), ("", "", None)],
        "list_val.txt": [(folders[0], "0000/0000_001_01_0303morning_0008_0.jpg", 0)],
        "list_query.txt": [(folders[1], "0005/0005_000_03_0303noon_0008_0.jpg", 5)],
        "list_gallery.txt": [
            (folders[1], "0005/0005_001_15_0303noon_0008_0.jpg", 5),
            (folders[1], "0006/0006_001_12_0303noon_0008_0.jpg", 6),
        ],
    }
    lists["list_train.txt"][1] = (folders[0], "0001/0001_000_14_0303morning_0008_0.jpg", 1)
    for name, entries in lists.items():
        for folder, path, _ in entries:
            picture(root / folder / path)
        (root / name).write_text("".join(f"{path} {pid}\n" for _, path, pid in entries))
    return root


def entries(side):
    return sorted(zip(map(str, side.paths), side.pids.tolist(), side.camids.tolist(), strict=True))


def torchreid_class(name):
    pytest.importorskip("torch")
    from reid_mtda.models.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchreid.reid.data import datasets

    return getattr(datasets, name)


def same_as_torchreid(train, split, theirs):
    assert entries(split.query) == sorted((path, pid, camid) for path, pid, camid, _ in theirs.query)
    assert entries(split.gallery) == sorted((path, pid, camid) for path, pid, camid, _ in theirs.gallery)
    ours = {
        str(path): (label, camid) for path, label, camid in zip(train.paths, train.labels, train.camids, strict=True)
    }
    theirs_by_path = {path: (label, camid) for path, label, camid, _ in theirs.train}
    assert ours.keys() == theirs_by_path.keys()
    # torchreid numbers identities in the order of a Python set; only the grouping is the same
    pairs = {(ours[path][0], theirs_by_path[path][0]) for path in ours}
    assert len(pairs) == train.num_classes == theirs.num_train_pids
    assert all(ours[path][1] == theirs_by_path[path][1] for path in ours)


def test_market1501_as_torchreid_reads_it(tmp_path):
    root = boxes(tmp_path / "market1501" / "Market-1501-v15.09.15").parents[1]
    train, split = load_market1501(root)
    same_as_torchreid(train, split, torchreid_class("Market1501")(str(root), verbose=False))
    assert (train.num_classes, train.labels.tolist(), train.camids.tolist()) == (2, [0, 0, 1], [0, 1, 5])
    assert train.domain == "market1501"
    assert 0 in split.gallery.pids, "distractors stay"
    assert -1 not in split.gallery.pids, "junk goes"


@pytest.mark.parametrize("depth", ["", "Market-1501-v15.09.15", "market1501"])
def test_market1501_is_found_from_above(tmp_path, depth):
    boxes(tmp_path / depth)
    (tmp_path / depth / "query" / "Thumbs.db").write_bytes(b"no picture")
    (tmp_path / depth / "query" / "._0003_c1s1_000001_00.jpg").write_bytes(b"left by another system")
    train, split = load_market1501(tmp_path)
    assert (len(train), len(split.query), len(split.gallery)) == (3, 2, 3)


def test_halves_may_stand_alone(tmp_path):
    boxes(tmp_path / "train", query=[], gallery=[])
    boxes(tmp_path / "test", train=[])
    train, empty_test = load_market1501(tmp_path / "train")
    empty_train, test = load_market1501(tmp_path / "test")
    assert (len(train), len(empty_test.query), len(empty_test.gallery)) == (3, 0, 0)
    assert (len(empty_train), empty_train.num_classes, len(test.query)) == (0, 0, 2)


def test_names_of_cameras(tmp_path):
    boxes(tmp_path)
    assert load_market1501(tmp_path)[1].camera_names == ()
    (tmp_path / "cameras.txt").write_text("gate\nyard\nlobby\n")
    assert load_market1501(tmp_path)[1].camera_names == ("gate", "yard", "lobby")


def test_cuhk03np(tmp_path):
    for kind, count in (("detected", 3), ("labeled", 4)):
        names = [f"{pid:04d}_c{1 + pid % 2}_{pid}.png" for pid in range(1, count + 1)]
        boxes(tmp_path / "CUHK03-NP" / kind, names, ["0009_c1_1.png"], ["0009_c2_6.png"])
    assert len(load_cuhk03np(tmp_path)[0]) == 3
    assert len(load_cuhk03np(tmp_path / "CUHK03-NP", "labeled")[0]) == 4
    train, split = DATASETS["cuhk03np-labeled"](tmp_path)
    assert (len(train), train.domain, entries(split.gallery)[0][1:]) == (4, "cuhk03np-labeled", (9, 1))


@pytest.mark.parametrize(
    ("main", "folders"), [("MSMT17_V1", ("train", "test")), ("MSMT17_V2", ("mask_train_v2", "mask_test_v2"))]
)
def test_msmt17_as_torchreid_reads_it(tmp_path, main, folders):
    msmt17(tmp_path / "msmt17" / main, folders)
    train, split = load_msmt17(tmp_path)
    same_as_torchreid(train, split, torchreid_class("MSMT17")(str(tmp_path), verbose=False))
    assert (train.camids.tolist(), split.gallery.camids.tolist()) == ([0, 13], [14, 11])


def folder_with_table(root, rows, header=("file", "tracklet", "frame", "time_s", "x0", "y0", "x1", "y1")):
    for name in ("a.jpg", "b.JPG", "c.png"):
        picture(root / "gate" / name)
    (root / "yard").mkdir()
    with (root / "gate" / "crops.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return root


def test_folder_with_tracklets(tmp_path):
    folder_with_table(tmp_path, [("c.png", 4, 0, 0.0, 1, 2, 3, 4), ("a.jpg", 9, 1, 0.2, 1, 2, 3, 4)])
    (tmp_path / ".yard.part").mkdir()
    (tmp_path / "notes.txt").write_text("not a camera")
    sets = load_folder(tmp_path)
    assert list(sets) == ["gate", "yard"]
    assert [path.name for path in sets["gate"].paths] == ["a.jpg", "b.JPG", "c.png"]
    np.testing.assert_array_equal(sets["gate"].tracklets, [9, -1, 4])
    assert sets["gate"].domain == "gate"
    assert len(sets["yard"]) == 0 and sets["yard"].tracklets is None


def test_a_tracklet_is_in_view_from_its_first_crop_to_its_last(tmp_path):
    rows = [("a.jpg", 4, 0, 2.5, 1, 2, 3, 4), ("c.png", 4, 9, 1.0, 1, 2, 3, 4)]
    spans = load_folder(folder_with_table(tmp_path / "timed", rows))["gate"].spans
    np.testing.assert_array_equal(spans, [[1.0, 2.5], [np.nan, np.nan], [1.0, 2.5]])
    untimed = load_folder(folder_with_table(tmp_path / "untimed", [("a.jpg", 4)], ("file", "tracklet")))
    assert np.isnan(untimed["gate"].spans).all()


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("a.jpg", "x")], ("file", "tracklet"), r"crops\.csv, line 2: got tracklet 'x' for 'a\.jpg', expected"),
        ([("a.jpg", -3)], ("file", "tracklet"), "line 2: got tracklet '-3'"),
        ([("a.jpg",)], ("file", "tracklet"), "line 2: got tracklet ''"),
        (
            [("a.jpg", 1), ("gone.jpg", 1)],
            ("file", "tracklet"),
            r"line 3: names the picture 'gone\.jpg', which is not in",
        ),
        ([("../a.jpg", 1)], ("file", "tracklet"), "which is not in"),
        ([("a.jpg", 1), ("a.jpg", 2)], ("file", "tracklet"), r"line 3: names 'a\.jpg' a second time"),
        ([("a.jpg", 1, "noon")], ("file", "tracklet", "time_s"), "line 2: got time_s 'noon', expected seconds"),
        ([("a.jpg", 1, "1e999")], ("file", "tracklet", "time_s"), "line 2: got time_s '1e999', expected seconds"),
        ([("a.jpg", 1)], ("name", "id"), "got the columns name, id, expected the columns file and tracklet"),
        ([], (), "got the columns none"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, rows, header, message):
    with pytest.raises(DataError, match=message):
        load_folder(folder_with_table(tmp_path, rows, header))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00\x01binary", "cannot be read as text"), (b'file,tracklet\n"a.jpg,1\n', "not a table of comma-")],
)
def test_tables_that_are_none_are_refused(tmp_path, content, message):
    folder_with_table(tmp_path, [])
    (tmp_path / "gate" / "crops.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_folders_that_are_not_there_say_what_to_put_where(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder, expected one folder of pictures for each camera"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="got an empty folder, expected one folder of pictures for each camera"):
        load_folder(tmp_path)
    picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="got pictures outside such folders"):
        load_folder(tmp_path)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_set_says_what_to_put_where(tmp_path, name):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"(expected bounding_box_train/ to train|expected MSMT17; unpack it)"):
            DATASETS[name](root)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"train": ["0001_c1s1_0_0.jpg", "0001_c2s1_0_0.jpg"]},
            "training pictures show identity 1 alone, .* add another",
        ),
        ({"train": ["0001_c2s1_0_0.jpg", "0002_c2s1_0_0.jpg"]}, "training pictures show camera 2 alone"),
        ({"train": [*TRAIN, "person.jpg"]}, r"person\.jpg: the name tells no identity and camera, expected e\.g\."),
        ({"gallery": []}, "the gallery side has no pictures"),
        ({"query": []}, "the query side has no pictures"),
        ({"query": ["0003_c1s1_0_0.jpg"], "gallery": ["0003_c1s1_0_1.jpg"]}, "test pictures show camera 1 alone"),
        (
            {"query": ["0003_c1s1_0_0.jpg"], "gallery": ["0004_c2s1_0_1.jpg"]},
            "no identity is in query and gallery both",
        ),
        ({"train": ["-1_c1s1_0_0.jpg"], "query": [], "gallery": []}, "got no pictures, expected bounding_box_train/"),
    ],
)
def test_sets_that_cannot_serve_are_refused(tmp_path, parts, message):
    with pytest.raises(DataError, match=message):
        load_market1501(boxes(tmp_path, **parts))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_000_01_0303morning_0008_0.jpg\n", r"list_query\.txt, line 2: got '0000/.*', expected '0000"),
        ("0009/0009_000_03_0303noon_0008_0.jpg 9\n", r"0008_0\.jpg: no such picture, but list_query\.txt names it"),
    ],
)
def test_damaged_msmt17_lists_are_refused(tmp_path, line, message):
    msmt17(tmp_path)
    with (tmp_path / "list_query.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DataError, match=message):
        load_msmt17(tmp_path)


def test_msmt17_without_its_pictures(tmp_path):
    (tmp_path / "list_train.txt").write_text("0000/0000_000_01_a_0.jpg 0\n")
    with pytest.raises(DataError, match="no folder train or mask_train_v2 for list_train"):
        load_msmt17(tmp_path)


def test_labels_follow_the_order_of_identities(tmp_path):
    found = labelled(tmp_path, "x", [(tmp_path / str(i), pid, i % 2) for i, pid in enumerate([900, 3, 900, 41])])
    assert (found.labels.tolist(), found.num_classes) == ([2, 0, 2, 1], 3)
