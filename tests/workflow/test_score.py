"""Scores of a run are kept; a damaged file of them says what to do."""

import json

import pytest

from reid_mtda.config import AdaptConfig
from reid_mtda.errors import DataError
from reid_mtda.runs import Run
from reid_mtda.workflow.score import score_run


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "[1]", '[{"mAP": 1}]'])
def test_damaged_scores_are_to_be_deleted(tmp_path, text):
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"scores\.json: damaged, .*; delete it and run again"):
        score_run(Run(tmp_path, 0), AdaptConfig(), {}, {})


def test_kept_scores_are_not_made_again(tmp_path):
    rows = [{"method": "distilled student", "mAP": 0.5}]
    (tmp_path / "scores.json").write_text(json.dumps(rows), encoding="utf-8")
    assert score_run(Run(tmp_path, 0), AdaptConfig(), {}, {}) == rows
