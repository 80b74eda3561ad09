import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_mtda.centring import camera_means, centre
from reid_mtda.errors import DataError, ReidError
from reid_mtda.evaluation.average_precision import rank_scores
from reid_mtda.evaluation.evaluate import (
    embed_split,
    evaluate_features,
    evaluate_split,
    load_features,
    name_cameras,
    scores_to_json,
)
from reid_mtda.model import Model
from reid_mtda.types import IdentitySet, ModelManifest, Preprocess, RetrievalSplit

PREPROCESS = Preprocess(height=16, width=8)
PEOPLE = {"gate": 5, "hall": 3}
COLOURS = {1: (200, 30, 30), 2: (30, 200, 30), 3: (30, 30, 200)}


def mean_colour(crops):
    """An Embed: the mean colour of each crop, as a row of length 1."""
    rows = crops.mean(axis=(2, 3))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


MODEL = Model(ModelManifest("m" * 12, "colours", 3, PREPROCESS, "nothing"), mean_colour)


def side(folder, name, pids, camids, fade=0):
    paths = []
    for i, pid in enumerate(pids):
        path = folder / f"{name}{i}.jpg"
        Image.new("RGB", (10, 20), tuple(min(255, c + fade) for c in COLOURS[pid])).save(path)
        paths.append(path)
    return IdentitySet(tuple(paths), np.array(pids, np.int64), np.array(camids, np.int64))


@pytest.fixture
def split(tmp_path):
    query = side(tmp_path, "q", [1, 2, 3], [0, 0, 1])
    return RetrievalSplit(query, side(tmp_path, "g", [3, 2, 1, 1], [0, 1, 0, 1], fade=20), ("gate", "yard"))


def arrays(**changes):
    rng = np.random.default_rng(0)
    return {
        "query_embeddings": rng.standard_normal((4, 8)).astype(np.float32),
        "query_pids": np.array([1, 2, 3, 9]),
        "query_camids": np.zeros(4, np.uint8),
        "gallery_embeddings": rng.standard_normal((6, 8)),
        "gallery_pids": np.array([1, 2, 3, 1, 2, 4], np.int16),
        "gallery_camids": np.ones(6, np.int32),
        **changes,
    }


def save(path, values):
    np.savez(path, **{name: value for name, value in values.items() if value is not None})
    return path


def test_split_is_embedded_and_ranked(split):
    seen = []
    scores = evaluate_split(MODEL, split, progress=lambda *told: seen.append(told))
    assert (scores.mAP, scores.mINP, scores.cmc[0], scores.num_valid_queries) == (1, 1, 1, 3)
    assert seen == [("embed", 7, 7)]


def test_split_with_an_empty_side(split):
    nobody = IdentitySet((), np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(DataError, match="gallery: got no pictures, expected at least one"):
        evaluate_split(MODEL, RetrievalSplit(split.query, nobody))


def test_features_file_gives_the_same_scores(tmp_path):
    values = arrays(note=np.array(["other arrays are ignored"]))
    features = load_features(save(tmp_path / "features.npz", values))
    del values["note"]
    for rerank in (False, True):
        query, gallery = tuple(values.values())[:3], tuple(values.values())[3:]
        got, wanted = evaluate_features(features, rerank=rerank), rank_scores(query, gallery, rerank=rerank)
        assert scores_to_json(got) == scores_to_json(wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_pids": None}, "got the arrays query_embeddings, .*, no query_pids; .* saved with numpy.savez"),
        ({"query_pids": np.array([1, 2, 3])}, r"f\.npz: query_pids: got int64 \(3,\), expected integers \(4,\)"),
        ({"gallery_camids": np.ones(6)}, r"f\.npz: gallery_camids: got float64 \(6,\), expected integers"),
        ({"query_embeddings": np.zeros(4)}, r"f\.npz: query_embeddings: got float64 \(4,\), expected numbers in rows"),
        (
            {"query_pids": np.array([1, 2, 3, None], object)},
            "^(?!.*allow_pickle).* the array query_pids holds Python objects, not numbers; expected an .npz file",
        ),
    ],
)
def test_bad_features_are_refused(tmp_path, changes, message):
    with pytest.raises(ReidError, match=message):
        load_features(save(tmp_path / "f.npz", arrays(**changes)))


def test_files_that_are_no_npz_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz: no such file, expected an \.npz file with query_embeddings, "):
        load_features(tmp_path / "gone.npz")
    for name, content in (("empty.npz", b""), ("text.npz", b"hello"), ("zip.npz", b"PK\x03\x04 cut off")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: got no .npz file, expected an .npz file with query_embeddings"):
            load_features(tmp_path / name)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"got a single array, expected an .npz file"):
        load_features(tmp_path / "one.npy")
    with pytest.raises(DataError, match="no such file"):
        load_features(tmp_path)


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_damage_anywhere_in_the_file_is_never_a_traceback(tmp_path, pack):
    path = tmp_path / "f.npz"
    pack(path, **arrays())
    whole = path.read_bytes()
    for spot in range(0, len(whole), 41):
        path.write_bytes(whole[:spot] + bytes([whole[spot] ^ 0x55]) + whole[spot + 1 :])
        try:
            load_features(path)
        except ReidError as error:
            assert str(path) in str(error)
        path.write_bytes(whole[:spot])
        with pytest.raises(ReidError):
            load_features(path)


def test_json_is_plain_and_names_cameras(split):
    scores = evaluate_split(MODEL, split)
    value = json.loads(json.dumps(scores_to_json(scores, split.camera_names), allow_nan=False))
    for name in ("mAP", "rank1"):
        low, high = value["intervals"][name]
        assert 0 <= low <= (value["mAP"] if name == "mAP" else value["cmc"][0]) <= high <= 1
    assert (value["mAP"], value["mINP"], value["cmc"]) == (1, 1, [1, 1, 1, 1])
    assert (value["num_queries"], value["num_valid_queries"]) == (3, 3)
    assert value["per_camera"][1] == {
        "query_camera": "yard", "gallery_camera": None, "mAP": 1, "rank1": 1, "num_valid_queries": 1
    }  # fmt: skip
    assert {(row["query_camera"], row["gallery_camera"]) for row in value["per_camera_pair"]} == {
        ("gate", "yard"), ("yard", "gate")
    }  # fmt: skip
    assert scores_to_json(scores)["per_camera"][0]["query_camera"] == 0


def test_cameras_without_names_count_from_one_as_files_do():
    ids = IdentitySet((Path("a"), Path("b")), np.array([1, 2], np.int64), np.array([0, 2], np.int64))
    nobody = IdentitySet((), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert name_cameras(RetrievalSplit(nobody, ids)) == ("camera 1", "camera 2", "camera 3")
    assert name_cameras(RetrievalSplit(ids, nobody, ("gate", "yard"))) == ("gate", "yard", "camera 3")
    assert name_cameras(RetrievalSplit(nobody, nobody)) == ()


def test_a_centred_split_is_ranked_by_centred_rows(split, caplog):
    """The yard has no mean of its own: it gets that of all cameras, and that is said."""
    rng = np.random.default_rng(0)
    means = camera_means({"gate": rng.random((5, 3), np.float32), "hall": rng.random((9, 3), np.float32)}, PEOPLE)
    sides = [
        (centre(MODEL.embed(one.paths), [("gate", "yard")[camid] for camid in one.camids], means), one.pids, one.camids)
        for one in (split.query, split.gallery)
    ]
    expected, found = rank_scores(sides[0], sides[1]), evaluate_split(MODEL, split, centring=means)
    assert found.mAP == expected.mAP and list(found.cmc) == list(expected.cmc)
    features = embed_split(MODEL, split, centring=means)
    np.testing.assert_allclose(features.query_embeddings, sides[0][0], atol=1e-6)
    np.testing.assert_allclose(features.gallery_embeddings, sides[1][0], atol=1e-6)
    assert "no mean of yard" in caplog.text and "knows gate, hall" in caplog.text
