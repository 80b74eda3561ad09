"""The table of objectives: parts from presets, the same draws with and without, intervals, going on, refusals."""

import json
from pathlib import Path

import pytest
import yaml
from closed_sets import bars

from reid_mtda.bench import objectives as module
from reid_mtda.bench.closed import runner as runner_module
from reid_mtda.bench.objectives import (
    Measured,
    ObjectivesConfig,
    Part,
    objectives_table,
    parts_of,
    parts_table,
    read_part,
    run_objectives,
)
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.presets import load_config
from reid_mtda.schema import load_yaml
from reid_mtda.train.objectives.known_objectives import OBJECTIVES

PRESET = Path(__file__).parents[2] / "configs" / "benchmark" / "objectives.yaml"
NET = {"arch": "lenet", "width": 0.1, "dropout": 0.0}


@pytest.fixture
def preset(tmp_path, monkeypatch):
    sets = {
        name: bars(name, paper=paper, seed=seed) for seed, (name, paper) in enumerate([("a", 20), ("b", 60), ("c", 90)])
    }
    monkeypatch.setitem(runner_module.CLOSED_SETS, "digits", lambda root, size: dict(sets))
    small = {
        "kind": "closed_set", "data": "digits", "sources": ["a"], "teacher": NET, "student": NET,
        "budget": {"epochs": 1, "steps_per_epoch": 2, "batch_size": 6}, "rows": {"oracle": {"kind": "oracle"}},
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    rows = {name: {"objectives": {name: 1.0}} for name in ("balanced", "routed", "neighbour_graph", "subclasses")}
    part = {
        "preset": "small.yaml",
        "seeds": [1, 2],
        "differing": {"balanced": {"logits_weight": 0, "objectives": {"balanced": 2.0}}},
    }
    path = tmp_path / "objectives.yaml"
    path.write_text(yaml.safe_dump({"kind": "objectives", "parts": {"small": part}, "rows": rows}))
    return path


def test_every_row_stands_beside_the_student_without_it_and_a_second_run_adds_nothing(preset, tmp_path, monkeypatch):
    made = run_objectives(preset, tmp_path / "out", root=tmp_path).read_text(encoding="utf-8")
    assert all(f"| {row} |" in made for row in ("balanced", "routed", "neighbour_graph", "subclasses"))
    assert "over 2 seeds" in made and "| oracle |" not in made
    trials = sorted((tmp_path / "out/small/trials").rglob("seed1/*.json"))
    assert [trial.stem for trial in trials if trial.parent.name == "seed1"] == [
        "balanced", "neighbour_graph", "routed", "staged", "subclasses",
    ]  # fmt: skip
    written = json.loads((tmp_path / "out/small/preset.yaml").read_text(encoding="utf-8"))
    assert written["rows"]["balanced"]["settings"] == {"logits_weight": 0, "objectives": {"balanced": 2.0}}
    assert parts_of(tmp_path / "out") == [tmp_path / "out/small"] and parts_of(tmp_path / "out/small") == []
    assert parts_table(tmp_path / "out") + "\n" == made
    monkeypatch.setattr(runner_module, "Trial", None)
    assert run_objectives(preset, tmp_path / "out", root=tmp_path).read_text(encoding="utf-8") == made


def test_a_part_or_row_that_is_not_there_is_refused(preset, tmp_path):
    with pytest.raises(ConfigError, match="got part 'larg', expected one of small"):
        run_objectives(preset, tmp_path / "out", root=tmp_path, parts=["larg"])
    values = yaml.safe_load(preset.read_text())
    values["parts"]["small"]["rows"] = ["balanced", "balancd"]
    preset.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"parts\.small\.rows: got 'balancd', expected some of rows"):
        run_objectives(preset, tmp_path / "out", root=tmp_path)
    with pytest.raises(DataError, match="no part has results yet"):
        parts_table(tmp_path / "nothing")


def test_seeds_that_a_row_lacks_do_not_count_and_re_identification_is_read_alike(tmp_path):
    for seed, (without, with_it) in {1: (0.40, 0.45), 2: (0.50, 0.53), 3: (0.60, None)}.items():
        place = tmp_path / str(seed)
        place.mkdir()
        rows = [("distilled student", without), ("distilled student, BatchNorm of each camera", 0.9)]
        rows += [("distilled student, balanced", with_it)] if with_it else []
        scores = [{"method": method, "mAP": value} for method, value in rows]
        stages = {"student": {"seconds": 10}, "distilled student, balanced": {"seconds": 12}}
        run = {"config": {}, "seed": seed, "versions": {}}
        for name, content in (("run", run), ("scores", scores), ("stages", stages)):
            (place / f"{name}.json").write_text(json.dumps(content))
    (found,) = read_part(tmp_path)
    assert found.row == "balanced" and found.values == (0.45, 0.53) and found.others == (0.40, 0.50)
    assert found.seconds == (12, 12) and found.other_seconds == (10, 10)
    table = objectives_table([found, Measured("worse", (0.3,), (0.4,), (5.0,), (10.0,))])
    assert table[2].startswith("| balanced | 49.0 | +4.0 [") and table[2].endswith("| 1.20 | 2 |")
    assert table[3] == "| worse | 30.0 | -10.0 [?, ?] | ? | 0.50 | 1 |"


def test_the_preset_that_is_shipped_names_every_objective_and_fits_its_parts():
    config = load_yaml(PRESET, ObjectivesConfig)
    named = {name for row in config.rows.values() for name in row.get("objectives", {})}
    assert named == set(OBJECTIVES)
    for name, part in config.parts.items():
        values = module._preset_of(PRESET, part, config.rows)
        assert part.seeds == tuple(range(1, 9)), name
        if values["kind"] == "closed_set":
            settings = load_values(values)
            assert set(settings.rows) == {"staged", *part.rows, *part.others}


def load_values(values):
    from reid_mtda.bench.closed.settings import BenchmarkConfig, row_settings
    from reid_mtda.schema import parse

    config = parse(BenchmarkConfig, values, where="objectives.yaml")
    for row in config.rows.values():
        row_settings(config, row)
    return config


def test_the_streets_part_is_a_preset_of_re_identification(tmp_path):
    config = load_yaml(PRESET, ObjectivesConfig)
    path = tmp_path / "street.yaml"
    path.write_text(json.dumps(module._preset_of(PRESET, config.parts["street"], config.rows)), encoding="utf-8")
    street = load_config(path)
    assert set(street.variants) == set(config.rows) and street.baselines == ()
    assert Part(preset="x").root == ""
