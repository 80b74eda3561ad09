"""Scores of a run are kept; a damaged file of them says what to do."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import PREPROCESS, write_crops

from reid_mtda.bench.embedded import by_camera, embed_test, opened_late, remembering
from reid_mtda.bench.score import score_run, score_tests
from reid_mtda.config import AdaptConfig
from reid_mtda.errors import DataError
from reid_mtda.model import Model
from reid_mtda.runs import Run
from reid_mtda.types import IdentitySet, ModelManifest, RetrievalSplit, UnlabelledSet


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "[1]", '[{"mAP": 1}]'])
def test_damaged_scores_are_to_be_deleted(tmp_path, text):
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"scores\.json: damaged, .*; delete it and run again"):
        score_run(Run(tmp_path, 0), AdaptConfig(), {}, {})


def split_of(tmp_path, names=("gate", "market", "yard")):
    paths, pids = write_crops(tmp_path, people=2, pictures=3)
    sides = (IdentitySet(paths, pids, np.array([0, 1, 2] * 2, np.int64)) for _ in range(2))
    return RetrievalSplit(*sides, names)


def test_pictures_of_a_camera_without_a_network_find_nobody(tmp_path):
    split = split_of(tmp_path)

    def opened():
        card = ModelManifest("m" * 12, "ones", 4, PREPROCESS, "nothing")
        return Model(card, lambda crops: np.ones((len(crops), 4), np.float32))

    network = opened_late(opened)
    features, centred = embed_test(split, "street", by_camera({"gate": network, "yard": network}), {})
    assert features.query_embeddings.any(axis=1).tolist() == [True, False, True] * 2 and centred is None
    with pytest.raises(DataError, match="street: no camera of the test pictures has a network of its own, got lobby"):
        embed_test(split, "street", by_camera({"lobby": network}), {})


def test_a_network_that_several_rows_ask_sees_each_picture_once():
    asked = []

    def embed(paths):
        asked.append(list(paths))
        return np.array([[len(path.name)] for path in paths], np.float32)

    remembered = remembering(embed)
    a, bb, ccc = (Path(name) for name in ("a", "bb", "ccc"))
    assert remembered([a, bb, a]).tolist() == [[1], [2], [1]]
    assert remembered((ccc, bb)).tolist() == [[3], [2]] and remembered([a]).tolist() == [[1]]
    assert asked == [[a, bb], [ccc]]


def biased(side, names, title):
    """A direction of each person and one of each camera that outweighs it; the name of a picture's folder is a person.

    The camera's stands out at a right angle, so that the means of few and of many people have it alike.
    """
    rows = np.zeros((len(side), 66), np.float32)
    for row, path in enumerate(side.paths):
        person = np.random.default_rng(int(path.parent.name)).standard_normal(64)
        rows[row, 2:] = person / np.linalg.norm(person)
        rows[row, side.camids[row]] = 2
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def people_in_two_cameras(folder, people):
    """Paths of one picture of each person in each of two cameras, by camera; a folder is a person."""
    return {name: tuple(folder / f"{person}/{name}.jpg" for person in people) for name in ("gate", "yard")}


def test_a_row_is_scored_plain_and_without_its_cameras_means(tmp_path):
    """A wrong person of the query's camera is nearer than the right one in the other, until cameras are centred."""
    shown, learnt = people_in_two_cameras(tmp_path, range(4)), people_in_two_cameras(tmp_path / "x", range(4, 402))
    side = IdentitySet(shown["gate"] + shown["yard"], np.tile(np.arange(4), 2), np.repeat([0, 1], 4))
    tests = {"set": RetrievalSplit(side, side, ("gate", "yard"))}
    targets = {name: UnlabelledSet(paths, name, np.arange(len(paths))) for name, paths in learnt.items()}
    row = score_tests(tests, biased, targets)
    assert row["mAP"] < 0.5 and row["centred"]["mAP"] == 1.0
    assert row["people"][0]["pids"] == row["centred"]["people"][0]["pids"] == [0, 1, 2, 3]
    assert "centred" not in score_tests(tests, biased)
    as_one = np.repeat(np.arange(2), 398)
    whole = UnlabelledSet(learnt["gate"] + learnt["yard"], "set", np.arange(796), as_one)
    assert score_tests(tests, biased, {"set": whole})["centred"] == row["centred"]
    assert score_tests(tests, biased, {f"set-{n}": t for n, t in targets.items()})["centred"] == row["centred"]


def test_no_picture_is_embedded_twice_for_a_row(tmp_path):
    shown = people_in_two_cameras(tmp_path, range(4))
    side = IdentitySet(shown["gate"] + shown["yard"], np.tile(np.arange(4), 2), np.repeat([0, 1], 4))
    seen = []

    def embed(side, names, title):
        seen.extend(side.paths)
        return biased(side, names, title)

    targets = {name: UnlabelledSet(paths, name) for name, paths in people_in_two_cameras(tmp_path, range(9)).items()}
    embed_test(RetrievalSplit(side, side, ("gate", "yard")), "set", embed, targets)
    assert len(seen) == len(set(seen)) == 18


def test_kept_scores_are_not_made_again(tmp_path):
    rows = [{"method": "distilled student", "mAP": 0.5}]
    (tmp_path / "scores.json").write_text(json.dumps(rows), encoding="utf-8")
    assert score_run(Run(tmp_path, 0), AdaptConfig(), {}, {}) == rows
