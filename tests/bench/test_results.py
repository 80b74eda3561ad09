"""One form of results for both kinds of benchmarks, one way to say a spread, one plot."""

import json

import numpy as np
import pytest

from reid_mtda.bench.result_plots import _rows, plot_results
from reid_mtda.bench.results import (
    ALL,
    Result,
    kind_of,
    load_json,
    markdown_table,
    results_of_runs,
    results_of_trials,
    spread,
    write_results,
)
from reid_mtda.errors import DataError

TRIALS = [
    {"row": row, "source": "a", "seed": seed, "accuracy": {"b": value, "c": value + 0.1}, "weights": 10}
    for row, seed, value in (("ours", 0, 0.5), ("ours", 1, 0.7), ("other", 0, 0.2), ("other", 1, 0.2))
]
GATE = {"gate": {"mAP": 0.4, "rank1": 0.3}}
OURS = {"method": "ours", "mAP": 0.5, "rank1": 0.6, "params": None, "per_camera": GATE}
RUNS = [{"run": {"seed": seed, "config": {"source": {"name": "lab"}}}, "scores": [OURS]} for seed in (3, 4)]


def test_both_kinds_are_told_in_one_form(tmp_path):
    closed, reid = results_of_trials(TRIALS, ["weights"]), results_of_runs(RUNS)
    assert closed[0] == Result("ours", "a", "b", 0, {"accuracy": 0.5, "weights": 10}) and len(closed) == 8
    assert reid[:2] == [
        Result("ours", "lab", ALL, 3, {"mAP": 0.5, "rank1": 0.6, "weights": None}),
        Result("ours", "lab", "gate", 3, {"mAP": 0.4, "rank1": 0.3, "weights": None}),
    ]
    for kind, results in (("closed_set", closed), ("reid", reid)):
        write_results(tmp_path / f"{kind}.json", kind, results)
        kept = json.loads((tmp_path / f"{kind}.json").read_text(encoding="utf-8"))
        assert kept["kind"] == kind and [Result(**entry) for entry in kept["results"]] == results


def test_a_plot_takes_either(tmp_path):
    plot_results(results_of_trials(TRIALS, ["weights"]), tmp_path / "a.png", measure="accuracy", base="ours")
    plot_results(results_of_runs(RUNS), tmp_path / "b.png", measure="mAP", base="nobody")
    assert (tmp_path / "a.png").stat().st_size > 10_000 < (tmp_path / "b.png").stat().st_size
    ours = next(row for row in _rows(results_of_trials(TRIALS, ["weights"]), "accuracy") if row.method == "ours")
    assert (ours.average, ours.by_target["c"], ours.weights) == (pytest.approx(0.65), pytest.approx(0.7), 10)
    (reid,) = _rows(results_of_runs(RUNS), "mAP")
    assert (reid.average, reid.by_target, reid.weights) == (0.5, {"gate": 0.4}, None), (
        "its mean over queries, not cameras"
    )


def test_a_spread_is_over_more_than_one():
    assert spread([0.5, 0.54, 0.58]) == f"54.0 ± {100 * np.std([0.5, 0.54, 0.58], ddof=1):.1f}"
    assert (spread([0.5]), spread([0.5, float("nan")])) == ("50.0", "?")


def test_tables_are_markdown():
    assert markdown_table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]


def test_the_kind_of_a_run_folder(tmp_path):
    (tmp_path / "closed/trials").mkdir(parents=True)
    assert (kind_of(tmp_path / "closed"), kind_of(tmp_path)) == ("closed_set", "reid")


@pytest.mark.parametrize(("text", "message"), [(None, "cannot be read"), ("{", "damaged"), ("[]", "not what a run")])
def test_what_a_run_did_not_write_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_json(tmp_path / "x.json", lambda found: isinstance(found, dict), remedy="delete it")
