"""One reader for each format and one rule for each meaning, whichever way data come in (FAULTS D)."""

import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from reid_mtda.data.archive import unpack_archive
from reid_mtda.data.classification import load_imageclef, load_office31
from reid_mtda.data.crop_table import read_boxes, read_crop_table
from reid_mtda.data.datasets import load_dataset
from reid_mtda.data.mot_ground_truth import label_tracklets, read_mot
from reid_mtda.data.reid import load_folder, load_market1501, load_msmt17
from reid_mtda.data.tables import read_table, read_text
from reid_mtda.errors import DataError
from reid_mtda.evaluation.evaluate import load_features
from reid_mtda.vision.picture_files import PICTURE_SUFFIXES, find_pictures
from reid_mtda.vision.picture_folder import folder_pictures
from reid_mtda.vision.preprocess import decode_image, read_image

BOTH_CAMERAS = ["0002_c1s1_000001_00.jpg", "0002_c2s1_000002_00.jpg", "0003_c1s1_000003_00.jpg"]


def picture(path, format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 16), (90, 90, 90)).save(path, format=format)
    return path


def market(root, train=BOTH_CAMERAS, query=("0007_c1s1_000001_00.jpg",), gallery=("0007_c2s1_000002_00.jpg",)):
    for part, names in (("bounding_box_train", train), ("query", query), ("bounding_box_test", gallery)):
        for name in names:
            picture(root / part / name)
    return root


# ------------------------------------------------------------------------------------ what is a picture, and where


def test_every_suffix_of_the_list_is_read(tmp_path):
    for suffix in PICTURE_SUFFIXES:
        path = picture(tmp_path / f"a{suffix}", {".dib": "BMP", ".jpe": "JPEG", ".jfif": "JPEG"}.get(suffix))
        assert read_image(path).shape == (16, 8, 3)
        picture(tmp_path / f"B{suffix.upper()}", {".dib": "BMP", ".jpe": "JPEG", ".jfif": "JPEG"}.get(suffix))
    assert len(find_pictures(tmp_path)) == 2 * len(PICTURE_SUFFIXES)


def test_what_can_be_read_is_read_and_what_is_left_out_is_counted(tmp_path, caplog):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "sub/deep/b.webp")
    picture(tmp_path / "no_suffix", "PNG")
    picture(tmp_path / "c.jpg_backup", "JPEG")
    for name in ("notes.txt", "sub/clip.mp4", "x.db", "y.heic"):
        (tmp_path / name).write_bytes(b"no picture")
    for name in ("crops.csv", "Thumbs.db", "._a.jpg", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"belongs there, or to a file manager")
    (tmp_path / "sub/again").symlink_to(tmp_path, target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert found == ["a.jpg", "c.jpg_backup", "no_suffix", "sub/deep/b.webp"]
    assert len(caplog.messages) == 1 and "left out 4 files that are no pictures: " in caplog.messages[0]


def test_a_data_set_a_folder_of_crops_and_a_camera_of_pictures_follow_that_rule(tmp_path, caplog):
    """A camera whose pictures were PNG or lay a folder deeper vanished from a score without a word."""
    market(tmp_path / "set", train=[*BOTH_CAMERAS, "0003/0003_c2s1_000009_00.webp", "0002/0002_c3s1_000009_00.tif"])
    train, _ = load_market1501(tmp_path / "set")
    assert len(train) == 5 and set(train.camids.tolist()) == {0, 1, 2}
    picture(tmp_path / "crops/gate/day1/1.webp")
    picture(tmp_path / "crops/gate/2.tiff")
    picture(tmp_path / "crops/yard/1.gif")
    picture(tmp_path / "crops/loose.jpg")
    sets = load_folder(tmp_path / "crops")
    assert {camera: len(found) for camera, found in sets.items()} == {"gate": 2, "yard": 1}
    assert "left out 1 pictures that lie in no camera's folder, e.g. loose.jpg" in caplog.text
    assert [path.name for path in folder_pictures(tmp_path / "crops/gate")] == ["2.tiff", "1.webp"]


def test_tracklets_of_pictures_in_sub_folders(tmp_path):
    picture(tmp_path / "gate/day1/1.jpg")
    picture(tmp_path / "gate/day2/1.jpg")
    (tmp_path / "gate/crops.csv").write_text("file,tracklet\nday1/1.jpg,4\nday2\\1.jpg,5\n", encoding="utf-8")
    assert load_folder(tmp_path)["gate"].tracklets.tolist() == [4, 5]


def test_closed_sets_follow_that_rule(tmp_path):
    for domain in ("amazon", "dslr", "webcam"):
        for number in range(31):
            picture(tmp_path / domain / "images" / f"class{number:02d}" / "deep/a.webp")
            picture(tmp_path / domain / "images" / f"class{number:02d}" / "b.tif")
    assert {len(domain.test) for domain in load_office31(tmp_path, size=32).values()} == {62}


def test_lists_of_closed_sets_may_have_a_mark_and_are_refused_by_line(tmp_path):
    for domain in "cip":
        picture(tmp_path / domain / "a.jpg")
        (tmp_path / "list").mkdir(exist_ok=True)
        (tmp_path / f"list/{domain}List.txt").write_text(f"{domain}/a.jpg\t3\n", encoding="utf-8-sig")
    assert load_imageclef(tmp_path, size=32)["c"].test.labels.tolist() == [3]
    (tmp_path / "list/cList.txt").write_text("c/a.jpg 3\nc/a.jpg twelve\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"cList\.txt, line 2: got 'c/a\.jpg twelve', expected a picture's path and"):
        load_imageclef(tmp_path, size=32)


# --------------------------------------------------------------------------------------------- whose number is whose


def test_junk_goes_and_distractors_stay_whichever_way_they_come_in(tmp_path, caplog):
    pids, camids = [-1, 0, 0, 7, 7, 7], [1, 1, 2, 1, 2, 2]
    names = [
        f"{pid:04d}_c{cam}s1_{number:06d}_00.jpg" for number, (pid, cam) in enumerate(zip(pids, camids, strict=True))
    ]
    market(tmp_path / "root", train=[], query=[names[0], names[3]], gallery=names[:3] + names[4:])
    split = load_dataset("market1501", tmp_path / "root", where="--data", half="test")[1]
    from_names = (split.query.pids.tolist(), sorted(split.gallery.pids.tolist()))

    rows = np.eye(6, dtype=np.float32)
    np.savez(
        tmp_path / "f.npz",
        query_embeddings=rows[[0, 3]], query_pids=[-1, 7], query_camids=[0, 0],
        gallery_embeddings=rows[[0, 1, 2, 4, 5]], gallery_pids=[-1, 0, 0, 7, 7], gallery_camids=[0, 0, 1, 1, 1],
    )  # fmt: skip
    features = load_features(tmp_path / "f.npz")
    assert len(features.query_embeddings) == 1 and len(features.gallery_embeddings) == 4

    np.savez(
        tmp_path / "a.npz",
        x=np.zeros((6, 16, 8, 3), np.uint8), pid=np.array(pids), cam=np.array(camids),
        split=np.array(["test", "distractor", "distractor", "test", "test", "test"]),
    )  # fmt: skip
    unpack_archive(tmp_path / "a.npz", tmp_path / "unpacked", seed=0, test_share=1.0, split="given")
    archive = load_market1501(tmp_path / "unpacked")[1]
    for query, gallery in [
        from_names,
        (features.query_pids.tolist(), features.gallery_pids.tolist()),
        (sorted(set(archive.query.pids.tolist())), sorted(archive.gallery.pids.tolist())[:-1]),
    ]:
        assert (query, gallery) == ([7], [0, 0, 7, 7])
    assert caplog.text.count("whose identity number is negative: junk, no person") == 5


def test_junk_in_lists(tmp_path):
    names = [f"{pid:04d}_000_{cam:02d}_0303morning_0008_0.jpg" for pid, cam in ((1, 1), (2, 2), (3, 3))]
    for name in names:
        picture(tmp_path / "train" / name)
    lines = "".join(f"{name} {pid}\n" for name, pid in zip(names, (1, 2, -1), strict=True))
    (tmp_path / "list_train.txt").write_text(lines, encoding="utf-8-sig")
    assert load_msmt17(tmp_path)[0].num_classes == 2


def test_rows_of_mot_truth_that_are_not_scored_keep_their_place(tmp_path, caplog):
    """MOT16's flag 0 and its classes other than pedestrians: who overlaps them is nobody to be asked for."""
    picture(tmp_path / "gate/1.jpg")
    picture(tmp_path / "gate/2.jpg")
    picture(tmp_path / "gate/3.jpg")
    picture(tmp_path / "gate/4.jpg")
    (tmp_path / "gate/crops.csv").write_text(
        "file,tracklet,frame,time_s,x0,y0,x1,y1\n1.jpg,1,0,0,0,0,10,20\n2.jpg,2,0,0,50,0,60,20\n"
        "3.jpg,3,0,0,90,0,99,20\n",
        encoding="utf-8",
    )
    truth = tmp_path / "gate.txt"
    truth.write_text("1,7,0,0,10,20,1,1,0.9\n1,8,50,0,10,20,0,1,0.9\n1,9,90,0,9,20,1,8,1\n", encoding="utf-8")
    found = label_tracklets(tmp_path, {"gate": read_mot(truth)})
    assert (found.pids.tolist(), found.unmatched, found.junk, found.untracked) == ([7], 0, 2, 1)
    assert "left out 0 tracklets that show nobody of the truth, 2 that show what it does not score, and 1 " in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("line", "pid"),
    [
        ("1,7,0,0,5,6", 7),
        ("1,7,0,0,5,6,1,-1,-1,-1", 7),
        ("1,7,0,0,5,6,-1,-1,-1,-1", 7),
        ("1,7,0,0,5,6,0,-1,-1,-1", -1),
        ("1,-1,0,0,5,6,1,1,1", -1),
        ("1,7,0,0,5,6,1,7,0.3", -1),
        ("1,7,0,0,5,6,1,3.2,-4.1,0", 7),  # MOT15: a place on the ground
        ("1,0,0,0,5,6,1,1,1", 0),
    ],
)
def test_which_rows_of_mot_truth_are_scored(tmp_path, line, pid):
    (tmp_path / "gate.txt").write_text(line, encoding="utf-8")
    assert read_mot(tmp_path / "gate.txt")[0][0].tolist() == [pid]


# --------------------------------------------------------------------------------------------- marks and delimiters

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["1,7,10,20,5,6\n", "1;7;10,0;20;5;6\r\n", "1\t7\t10\t20\t5\t6\n", "1 7 10 20 5 6\n"])
@pytest.mark.parametrize("head", ["", "frame,id,left,top,width,height\n"])
def test_truth_in_any_dress(tmp_path, encoding, text, head):
    (tmp_path / "gate.txt").write_bytes((head + text).encode(encoding))
    truth = read_mot(tmp_path / "gate.txt")
    np.testing.assert_array_equal(truth[0][1], np.array([[10, 20, 15, 26]], np.float32))


def test_frames_counted_from_zero_are_refused(tmp_path):
    (tmp_path / "gate.txt").write_text("0,7,10,20,5,6\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: got frame 0, expected frames counted from 1; add 1"):
        read_mot(tmp_path / "gate.txt")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("head", ["", "sep=;\r\n"])
def test_crop_tables_in_any_dress_by_every_reader(tmp_path, encoding, delimiter, head):
    delimiter = ";" if head else delimiter
    lines = [("file", "tracklet", "frame", "time_s", "x0", "y0", "x1", "y1"), ("1.jpg", 4, 0, 0.5, 0, 0, 10, 20)]
    text = head + "".join(delimiter.join(map(str, line)) + "\r\n" for line in lines)
    picture(tmp_path / "gate/1.jpg")
    (tmp_path / "gate/crops.csv").write_bytes(text.encode(encoding))
    assert load_folder(tmp_path)["gate"].tracklets.tolist() == [4]
    assert read_boxes(tmp_path / "gate/crops.csv") == {"1.jpg": (0, (0.0, 0.0, 10.0, 20.0))}
    assert read_crop_table(tmp_path / "gate")[0]["x1"] == "10"
    truth = {0: (np.array([7]), np.array([[0, 0, 10, 20]], np.float32))}
    assert label_tracklets(tmp_path, {"gate": truth}).pids.tolist() == [7]


def test_rows_longer_than_the_first_line_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2,\n\n1,2,3\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"t\.csv, line 4: got 3 values, expected the 2 columns of the first line; mend"
    ):
        read_table(tmp_path / "t.csv", advice="mend it")


@pytest.mark.parametrize("data", [b"\xff\xfe\x00\x01binary", b"\x80abc", None])
def test_what_is_no_text_is_refused(tmp_path, data):
    if data is not None:
        (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as text"):
        read_text(tmp_path / "t.csv")


# --------------------------------------------------------------------------------------------- cameras and halves


def test_a_half_that_is_not_asked_for_may_be_damaged(tmp_path):
    one_camera = ["0001_c2s1_000001_00.jpg", "0002_c2s1_000002_00.jpg"]
    market(tmp_path / "train_bad", train=one_camera)
    with pytest.raises(DataError, match="training pictures show camera 2 alone"):
        load_market1501(tmp_path / "train_bad")
    train, split = load_market1501(tmp_path / "train_bad", half="test")
    assert (len(train), len(split.query)) == (0, 1)
    market(tmp_path / "test_bad", gallery=[])
    train, split = load_market1501(tmp_path / "test_bad", half="train")
    assert (len(train), len(split.query)) == (3, 0)


def test_a_camera_0_is_a_camera(tmp_path):
    market(tmp_path, ["0001_c0s1_0_0.jpg", "0002_c1s1_0_0.jpg"], ["0003_c0s1_0_0.jpg"], ["0003_c2s1_0_0.jpg"])
    train, split = load_market1501(tmp_path)
    assert (train.camids.tolist(), split.query.camids.tolist(), split.gallery.camids.tolist()) == ([0, 1], [0], [2])
    assert split.camera_names == ("camera 0", "camera 1", "camera 2")


def test_names_of_cameras_may_hold_blanks_and_marks(tmp_path):
    market(tmp_path)
    (tmp_path / "cameras.txt").write_text("north gate\r\nyard\r\n", encoding="utf-8-sig")
    assert load_market1501(tmp_path)[1].camera_names == ("north gate", "yard")


# --------------------------------------------------------------------------------------------- deep pictures


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_cameras_of_any_depth_are_as_bright_as_they_were_taken(bits, suffix, channels):
    """12-bit numbers in a 16-bit file were searched nearly black."""
    shades = np.random.default_rng(0).integers(0, 256, (20, 12, 3))
    shades[0, 0] = 255
    deep = (shades * (2**bits - 1) // 255).astype(np.uint16)[..., ::-1]
    alpha = np.full((20, 12, 1), 65535, np.uint16)
    stored = {1: deep[..., 2], 3: deep, 4: np.concatenate([deep, alpha], axis=2)}[channels]
    got = decode_image(cv2.imencode(suffix, np.ascontiguousarray(stored))[1].tobytes())
    wanted = shades[..., :1] if channels == 1 else shades
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_deep_colours_are_turned_upright(tmp_path):
    shades = np.zeros((20, 12, 3), np.uint16)
    shades[0] = 4095
    Image.fromarray(np.zeros((20, 12, 3), np.uint8)).save(tmp_path / "plain.tif")
    packed = cv2.imencode(".png", shades)[1].tobytes()
    exif = Image.Exif()
    exif[0x0112] = 3
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\x00\x00")
    import zlib

    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    turned = decode_image(packed[:33] + chunk + packed[33:])
    assert turned[-1].min() == 255 and turned[0].max() == 0


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.WARNING)
