"""The tool that tells what an objective costs names every objective, with time and weights of its own."""

import runpy
import sys
from pathlib import Path

from reid_mtda.train.objectives.known_objectives import OBJECTIVES

TOOL = Path(__file__).parents[2] / "tools" / "benchmark_objectives.py"


def test_every_objective_has_a_row(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--calls", "1", "--batch", "16", "--crops", "64"])
    runpy.run_path(str(TOOL))["main"]()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].removeprefix("| ") for row in rows] == list(OBJECTIVES)
    weights = {row[0].removeprefix("| "): row[2] for row in rows}
    assert weights["balanced"] == "0 |" and weights["dual_head"] == "11,640 |"
    assert all(float(row[1]) >= 0 for row in rows)
