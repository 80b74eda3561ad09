"""torchreid's classes on small trees; a missing folder must never start a download."""

import socket

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from reid_mtda.data.reid import load_market1501
from reid_mtda.data.torchreid_sets import load_torchreid, torchreid_names
from reid_mtda.errors import DataError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 16)).save(path)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a data set tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def market(tmp_path):
    folder = tmp_path / "market1501" / "Market-1501-v15.09.15"
    for part, names in {
        "bounding_box_train": ["0002_c1s1_1_0.jpg", "0002_c2s1_1_0.jpg", "0011_c6s4_2_0.jpg", "-1_c1s1_0_0.jpg"],
        "query": ["0003_c1s1_1_0.jpg"],
        "bounding_box_test": ["0003_c2s1_1_0.jpg", "0000_c3s1_1_0.jpg", "-1_c1s1_2_0.jpg"],
    }.items():
        for name in names:
            picture(folder / part / name)
    return tmp_path


def rows(side):
    return sorted(zip(side.paths, side.pids.tolist(), side.camids.tolist(), strict=True))


def test_market1501_equals_our_own_loader(market, capsys):
    train, split = load_torchreid("market1501", market)
    our_train, our_split = load_market1501(market)
    assert rows(split.query) == rows(our_split.query)
    assert rows(split.gallery) == rows(our_split.gallery)
    assert sorted(train.paths) == sorted(our_train.paths)
    assert train.num_classes == our_train.num_classes == 2
    groups = {frozenset(train.paths[i] for i in np.flatnonzero(train.labels == c)) for c in range(2)}
    assert groups == {frozenset(our_train.paths[i] for i in np.flatnonzero(our_train.labels == c)) for c in range(2)}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", torchreid_names())
def test_missing_folder_is_told_and_never_downloaded(tmp_path, name):
    with pytest.raises(DataError, match=r"(no such folder, expected \w+; get it from its authors)|refused"):
        load_torchreid(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in torchreid_names() if name != "dukemtmcreid"])
def test_empty_folder_is_told(tmp_path, name):
    with pytest.raises(DataError, match="no such folder") as missing:
        load_torchreid(name, tmp_path)
    folder = tmp_path / str(missing.value).split(":")[0]
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match=r"torchreid cannot read it \(.+\); lay it out as"):
        load_torchreid(name, tmp_path)


def test_withdrawn_set_needs_an_explicit_word(tmp_path):
    folder = tmp_path / "dukemtmc-reid" / "DukeMTMC-reID"
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        for name in ("0001_c2_f0046182.jpg", "0002_c1_f0046182.jpg"):
            picture(folder / part / name)
    with pytest.raises(DataError, match="dukemtmcreid: refused, its authors withdrew it in 2019"):
        load_torchreid("dukemtmcreid", tmp_path)
    train, split = load_torchreid("dukemtmcreid", tmp_path, allow_withdrawn=True)
    assert (len(train), len(split.query)) == (2, 2)


def test_train_only_set_has_no_test_half_and_no_cameras(tmp_path):
    for name in ("p1_s1_1.jpg", "p1_s2_1.jpg", "p2_s3_1.jpg"):
        picture(tmp_path / "cuhksysu" / "cropped_images" / name)
    train, split = load_torchreid("cuhksysu", tmp_path)
    assert (len(train), train.num_classes, train.camids) == (3, 2, None)
    assert len(split.query) == len(split.gallery) == 0


def test_test_only_set_gives_nothing_to_train_on(tmp_path):
    for part, names in (("test_probe", ["1_0.jpg", "2_0.jpg"]), ("test_gallery", ["1_1.jpg", "2_1.jpg", "3_1.jpg"])):
        for name in names:
            picture(tmp_path / "sensereid" / "SenseReID" / part / name)
    train, split = load_torchreid("sensereid", tmp_path)
    assert (len(train), len(split.query), len(split.gallery)) == (0, 2, 3)


def test_options_reach_the_class(tmp_path):
    for camera in ("cam_a", "cam_b"):
        for pid in range(4):
            path = tmp_path / "viper" / "VIPeR" / camera / f"{pid:03d}_00.bmp"
            picture(path)
    train, split = load_torchreid("viper", tmp_path, split_id=3)
    assert (train.num_classes, len(split.query)) == (2, 2)
    with pytest.raises(DataError, match="split_id exceeds range, received 99"):
        load_torchreid("viper", tmp_path, split_id=99)


def test_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(DataError, match=r"got 'market', expected one of torchreid's: cuhk01, .*market1501"):
        load_torchreid("market", tmp_path)
