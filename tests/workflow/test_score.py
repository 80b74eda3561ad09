"""Scores of a run are kept; a damaged file of them says what to do."""

import json

import numpy as np
import pytest
from builders import PREPROCESS, write_crops

from reid_mtda.config import AdaptConfig
from reid_mtda.errors import DataError
from reid_mtda.runs import Run
from reid_mtda.types import IdentitySet, RetrievalSplit
from reid_mtda.workflow.score import by_camera, score_run


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "[1]", '[{"mAP": 1}]'])
def test_damaged_scores_are_to_be_deleted(tmp_path, text):
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"scores\.json: damaged, .*; delete it and run again"):
        score_run(Run(tmp_path, 0), AdaptConfig(), {}, {})


def test_pictures_of_a_camera_without_a_network_find_nobody(tmp_path):
    paths, pids = write_crops(tmp_path, people=2, pictures=3)
    sides = (IdentitySet(paths, pids, np.array([0, 1, 2] * 2, np.int64)) for _ in range(2))
    split = RetrievalSplit(*sides, ("gate", "market", "yard"))

    def opened():
        return (lambda crops: np.ones((len(crops), 4), np.float32)), PREPROCESS

    features = by_camera({"gate": opened, "yard": opened}, {"street": split})(split)
    assert features.query_embeddings.any(axis=1).tolist() == [True, False, True] * 2
    with pytest.raises(DataError, match="street: no camera of the test pictures has a network of its own, got lobby"):
        by_camera({"lobby": opened}, {"street": split})(split)


def test_kept_scores_are_not_made_again(tmp_path):
    rows = [{"method": "distilled student", "mAP": 0.5}]
    (tmp_path / "scores.json").write_text(json.dumps(rows), encoding="utf-8")
    assert score_run(Run(tmp_path, 0), AdaptConfig(), {}, {}) == rows
