"""The closed-set benchmark: every kind of row, leaks, resuming, selection rules, tables."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from closed_sets import bars, same_state

from reid_mtda.bench.closed import runner as runner_module
from reid_mtda.bench.closed.methods import KINDS
from reid_mtda.bench.closed.runner import _cost, run_benchmark
from reid_mtda.bench.closed.settings import BenchmarkConfig, source_mass
from reid_mtda.bench.closed.table import differences, markdown, read_trials, summarise
from reid_mtda.bench.closed.trial import Trial
from reid_mtda.cli.table import table
from reid_mtda.data.closed_domain import ClosedDomain
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.models.classifier import ClassifierSpec, build_classifier, load_classifier
from reid_mtda.runs import Run
from reid_mtda.schema import load_yaml, parse

PRESETS = Path(__file__).parents[2] / "configs" / "benchmark"
NET = {"arch": "lenet", "width": 0.1, "dropout": 0.0}


def preset(path, **changes):
    values = {
        "data": "digits",
        "sources": ["a"],
        "seeds": [0],
        "teacher": NET,
        "student": NET,
        "budget": {"epochs": 2, "steps_per_epoch": 2, "batch_size": 6},
        "progressive": {"discriminator_width": 8},
        "rows": {kind: {"kind": kind} for kind in KINDS},
        **changes,
    }
    path.write_text(yaml.safe_dump(values))
    return path


def domains(relabel=False):
    found = {name: bars(name, paper=paper, seed=seed) for seed, (name, paper) in enumerate([("a", 20), ("b", 60), ("c", 90)])}  # fmt: skip # noqa: E501
    if relabel:
        for name in ("b", "c"):
            d = found[name]
            labels = (d.source.labels + 1) % 3
            found[name] = ClosedDomain(dataclasses.replace(d.source, labels=labels), d.target, d.test)
    return found


@pytest.fixture
def small_sets(monkeypatch):
    monkeypatch.setitem(runner_module.CLOSED_SETS, "digits", lambda root, size: domains())


def test_every_kind_of_row_gives_a_result_with_its_provenance(tmp_path, small_sets):
    table = run_benchmark(preset(tmp_path / "p.yaml"), tmp_path / "run", root=tmp_path)
    trials = {trial["row"]: trial for trial in read_trials(tmp_path / "run")}
    assert trials.keys() == KINDS.keys()
    for trial in trials.values():
        assert trial["accuracy"].keys() == {"b", "c"}
        assert all(0 <= value <= 1 for value in trial["accuracy"].values())
        assert trial["selection"] == "last" and trial["commit"] and trial["weights"] > 0 and trial["macs"] > 0
        assert trial["latency_ms"] > 0 and trial["peak_mb"] > 0 and trial["wall_s"] >= 0
    assert trials["per_target"]["networks"] == trials["mean_of_teachers"]["networks"] == 2
    assert trials["staged"]["networks"] == trials["merged"]["networks"] == 1
    assert "last" in table.read_text()
    for name in ("results.json", "results.csv", "results.png", "provenance.json"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_a_start_that_learnt_the_source_is_one_for_all_rows_and_no_rows_time(tmp_path, small_sets, monkeypatch):
    rows = {name: {"kind": name} for name in ("source_only", "blending", "progressive", "staged", "teachers")}
    starts = []
    built = Trial.build
    monkeypatch.setattr(
        Trial, "build", lambda self, net, name: starts.append((name, built(self, net, name))) or starts[-1][1]
    )
    run_benchmark(preset(tmp_path / "p.yaml", rows=rows, init="source_only"), tmp_path / "run", root=tmp_path)
    place = tmp_path / "run/trials/a/seed0"
    assert len(list(place.glob("start-*"))) == 1, "student and teacher are one network here"
    (start,) = (load_classifier(path) for path in place.glob("start-*/network.safetensors"))
    assert len(starts) > 5 and all(same_state(model, start) for _, model in starts)
    drawn = load_yaml(tmp_path / "p.yaml", BenchmarkConfig).model_copy(update={"init": "drawn"})
    assert not same_state(
        start, built(Trial(drawn, domains()["a"], {}, tmp_path, Run(place, 0)), drawn.student, "start")
    )
    preset(tmp_path / "q.yaml", rows=rows, init="source_only", budget={"epochs": 3, "steps_per_epoch": 2})
    run_benchmark(tmp_path / "q.yaml", tmp_path / "other", root=tmp_path)
    assert {p.name for p in place.glob("start-*")} != {
        p.name for p in (tmp_path / "other/trials/a/seed0").glob("start-*")
    }, "other settings, another start"


def test_the_progressive_loops_teachers_are_a_row_of_their_own(tmp_path, small_sets):
    """They come out of the training of the student's row, which is not done twice."""
    rows = {"kd_mtda": {"kind": "progressive"}, "its_teachers": {"kind": "progressive_teachers"}}
    run_benchmark(preset(tmp_path / "p.yaml", rows=rows), tmp_path / "run", root=tmp_path)
    place = tmp_path / "run/trials/a/seed0"
    assert {path.name for path in place.glob("progressive/b+c-*/*.safetensors")} == {
        "network.safetensors", "teacher-b.safetensors", "teacher-c.safetensors"
    }  # fmt: skip
    trials = {trial["row"]: trial for trial in read_trials(tmp_path / "run")}
    assert trials["its_teachers"]["networks"] == 2 and trials["kd_mtda"]["networks"] == 1
    assert trials["its_teachers"]["source_mass"] is None


def test_a_row_may_have_teachers_of_another_network(tmp_path, small_sets):
    wide = {**NET, "width": 0.2}
    rows = {
        "narrow": {"kind": "progressive_teachers"},
        "wide": {"kind": "progressive_teachers", "teacher_net": wide},
        "wide staged": {"kind": "teachers", "teacher_net": wide},
    }
    run_benchmark(preset(tmp_path / "p.yaml", rows=rows), tmp_path / "run", root=tmp_path)
    weights = {trial["row"]: trial["weights"] for trial in read_trials(tmp_path / "run")}
    assert weights["wide"] == weights["wide staged"] > weights["narrow"]


def test_rows_of_the_progressive_loop_share_their_draws(tmp_path, small_sets):
    """A quirk that changes no weight changes no figure; unpaired, such a row once stood 0.9 lower."""
    rows = {"kd_mtda": {"kind": "progressive"}, "attached": {"kind": "progressive", "quirks": ["teacher_attached"]}}
    run_benchmark(preset(tmp_path / "p.yaml", rows=rows), tmp_path / "run", root=tmp_path)
    networks = list((tmp_path / "run").rglob("progressive/*/network.safetensors"))
    assert len(networks) == 2 and same_state(*(load_classifier(path) for path in networks))


def test_what_a_row_learns_from_source_labels_is_told():
    config = parse(
        BenchmarkConfig,
        {
            "budget": {"epochs": 20, "batch_size": 32},
            "source_only": {"alignment": "none", "learning_rate": 0.01},
            "rows": {
                "source_only": {"kind": "source_only"},
                "twice": {"kind": "blending", "settings": {"learning_rate": 0.02}},
                "kd_mtda": {"kind": "progressive", "settings": {"student_learning_rate": 0.01}},
                "kd_stda": {"kind": "progressive_single", "settings": {"student_learning_rate": 0.01}},
                "staged": {"kind": "staged"},
            },
        },
        where="p",
    )
    mass = {name: source_mass(config, row, targets=2) for name, row in config.rows.items()}
    assert (mass["source_only"], mass["twice"], mass["staged"]) == (pytest.approx(1), pytest.approx(2), None)
    rates = [(1 + 10 * e / 20) ** -0.75 for e in range(20)]
    by_hand = sum(0.1 * 5 ** (e / 20) * 0.5 * rate for e, rate in enumerate(rates)) / sum(rates)
    assert mass["kd_stda"] == pytest.approx(by_hand) == pytest.approx(mass["kd_mtda"] / 2)


def test_no_row_but_the_oracle_depends_on_target_labels(tmp_path, monkeypatch):
    """The oracle is this rule's mutant: it reads them, and it is caught."""
    found = []
    for relabel in (False, True):
        monkeypatch.setitem(runner_module.CLOSED_SETS, "digits", lambda root, size, r=relabel: domains(relabel=r))
        run_benchmark(preset(tmp_path / "p.yaml"), tmp_path / f"run{relabel}", root=tmp_path)
        rows, place = {}, tmp_path / f"run{relabel}" / "trials" / "a" / "seed0"
        for file in sorted(place.glob("**/metrics.jsonl")):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            rows[str(file.parent.relative_to(place))] = [
                {k: v for k, v in line.items() if k != "time_s"} for line in lines
            ]
        found.append(rows)
    assert found[0].keys() == found[1].keys()
    assert {re.split("[/-]", name.removeprefix("rows/"))[0] for name in found[0]} == {
        "source_only", "blending", "teachers", "progressive", "staged", "oracle"
    }  # fmt: skip
    changed = {name for name in found[0] if found[0][name] != found[1][name]}
    assert changed == {"rows/oracle"}


def test_finished_cells_are_kept_and_missing_ones_are_made(tmp_path, small_sets):
    config = preset(tmp_path / "p.yaml", rows={"source_only": {"kind": "source_only"}, "staged": {"kind": "staged"}})
    run_benchmark(config, tmp_path / "run", root=tmp_path)
    place = tmp_path / "run" / "trials" / "a" / "seed0"
    kept, first = (place / "source_only.json").stat().st_mtime_ns, json.loads((place / "staged.json").read_text())
    (place / "staged.json").unlink()
    run_benchmark(config, tmp_path / "run", root=tmp_path)
    assert (place / "source_only.json").stat().st_mtime_ns == kept
    assert json.loads((place / "staged.json").read_text())["accuracy"] == first["accuracy"]


def test_a_run_folder_of_another_benchmark_is_refused(tmp_path, small_sets):
    rows = {"source_only": {"kind": "source_only"}}
    run_benchmark(preset(tmp_path / "p.yaml", rows=rows), tmp_path / "run", root=tmp_path)
    with pytest.raises(ConfigError, match=r"holds a run with other settings"):
        run_benchmark(preset(tmp_path / "q.yaml", rows=rows, max_pictures=9), tmp_path / "run", root=tmp_path)


def test_rows_of_the_same_network_train_it_once_and_its_statistics_are_those_of_each_target(tmp_path, small_sets):
    rows = {"plain": {"kind": "progressive"}, "own": {"kind": "progressive", "own_batchnorm": True}}
    run_benchmark(preset(tmp_path / "p.yaml", rows=rows), tmp_path / "run", root=tmp_path)
    place = tmp_path / "run" / "trials" / "a" / "seed0"
    assert len(list(place.glob("progressive/*/network.safetensors"))) == 1
    plain, own = (json.loads((place / f"{name}.json").read_text()) for name in rows)
    assert own["networks"] == plain["networks"] == 1 and own["weights"] > plain["weights"]
    assert own["wall_s"] >= plain["wall_s"] / 2  # its training counts, although it was not repeated


def test_an_epoch_chosen_by_a_rule_has_the_targets_statistics_as_the_last_one_has(tmp_path, small_sets):
    """One epoch: every rule chooses the last, so that every rule must give the same network."""
    scores = []
    for rule in ("last", "entropy"):
        config = preset(
            tmp_path / f"{rule}.yaml",
            rows={"teachers": {"kind": "teachers", "teacher": {"batchnorm": "per_domain"}}},
            selection=rule,
            budget={"epochs": 1, "steps_per_epoch": 3, "batch_size": 6},
        )
        run_benchmark(config, tmp_path / rule, root=tmp_path)
        files = sorted((tmp_path / rule).glob("trials/a/seed0/teachers/*/network.safetensors"))
        scores.append([load_classifier(file).state_dict() for file in files])
    for last, chosen in zip(*scores, strict=True):
        for name, value in last.items():
            torch.testing.assert_close(chosen[name], value, msg=name)


@pytest.mark.parametrize("rule", ["entropy", "mutual_information", "oracle"])
def test_the_selection_rule_is_printed_with_every_number(rule, tmp_path, small_sets):
    rows = {name: {"kind": name} for name in ("blending", "progressive", "staged", "teachers")}
    config = preset(tmp_path / "p.yaml", rows=rows, selection=rule)
    table = run_benchmark(config, tmp_path / "run", root=tmp_path).read_text()
    assert table.count(f"| {rule} |") == len(rows)


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "blending"},
        {"kind": "teachers", "teacher": {"batchnorm": "per_domain"}},
    ],
    ids=["blending", "teachers"],
)
def test_the_oracle_rule_is_never_below_the_last_epoch(row, tmp_path, small_sets):
    """The rows differ in the choice of epoch alone, and the oracle chooses on what is scored."""
    budget, rows = {"epochs": 5, "steps_per_epoch": 2, "batch_size": 6}, {"row": row}
    averages = {}
    for rule in ("last", "oracle"):
        config = preset(tmp_path / f"{rule}.yaml", rows=rows, selection=rule, budget=budget)
        run_benchmark(config, tmp_path / rule, root=tmp_path)
        averages[rule] = summarise(read_trials(tmp_path / rule))[0]["average"]
    assert averages["oracle"] >= averages["last"]


@pytest.mark.parametrize("kind", ["progressive", "teachers"])
def test_a_row_of_another_rule_is_what_a_table_of_that_rule_gives(kind, tmp_path, small_sets):
    """Its networks are its own, although all else is alike; the rule stands with it alone."""
    budget = {"epochs": 4, "steps_per_epoch": 2, "batch_size": 6}
    rows = {"last": {"kind": kind}, "chosen": {"kind": kind, "selection": "oracle"}}
    table = run_benchmark(preset(tmp_path / "p.yaml", rows=rows, budget=budget), tmp_path / "both", root=tmp_path)
    both = {row["row"]: row for row in summarise(read_trials(tmp_path / "both"))}
    assert both["last"]["selection"] == "last" and both["chosen"]["selection"] == "oracle"
    assert table.read_text().count("| oracle |") == 1
    alone = preset(tmp_path / "o.yaml", rows={"chosen": {"kind": kind}}, selection="oracle", budget=budget)
    run_benchmark(alone, tmp_path / "alone", root=tmp_path)
    assert both["chosen"]["pairs"] == summarise(read_trials(tmp_path / "alone"))[0]["pairs"]
    place = tmp_path / "both" / "trials" / "a" / "seed0"
    assert len(list(place.rglob("network.safetensors"))) == (2 if kind == "progressive" else 4)


def test_two_workers_give_what_one_gives(tmp_path):
    # A spawned worker loads the data itself, so this needs files rather than a patched loader.
    rng = np.random.default_rng(0)
    for name, shape in {"mnist": (28, 28), "mnistm": (32, 32, 3), "usps": (16, 16), "svhn_small": (32, 32, 3)}.items():
        x, y = rng.integers(0, 256, (20, *shape)).astype(np.uint8), (np.arange(20) % 10).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "fonts.npz", x=rng.integers(0, 256, (40, 32, 32)).astype(np.uint8),
             y=(np.arange(40) % 10).astype(np.uint8), font=np.arange(40) // 10)  # fmt: skip
    config = preset(tmp_path / "p.yaml", sources=["mnist", "usps"], rows={"source_only": {"kind": "source_only"}})
    for workers in (1, 2):
        run_benchmark(config, tmp_path / str(workers), root=tmp_path, workers=workers)
    first, second = (summarise(read_trials(tmp_path / str(workers)))[0]["pairs"] for workers in (1, 2))
    assert first == second


def test_refusals_say_what_to_do(tmp_path, small_sets):
    with pytest.raises(DataError, match=r"digits: got no --root, expected the data set's folder"):
        run_benchmark(preset(tmp_path / "p.yaml"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"sources: got 'z', expected some of a, b, c"):
        run_benchmark(preset(tmp_path / "p.yaml", sources=["z"]), tmp_path / "run", root=tmp_path)
    wrong = {"x": {"kind": "staged", "settings": {"temprature": 3.0}}}
    with pytest.raises(ConfigError, match=r"rows.x: unknown key 'temprature'; did you mean 'temperature'"):
        run_benchmark(preset(tmp_path / "p.yaml", rows=wrong), tmp_path / "run", root=tmp_path)


@pytest.mark.parametrize(
    "name", ["digits", "digits_full", "digits_quirks", "digits_trial", "office31", "officehome", "imageclef"]
)
def test_presets_are_complete_and_valid(name):
    path = PRESETS / f"{name}.yaml"
    config = load_yaml(path, BenchmarkConfig)
    for row in config.rows.values():
        runner_module.row_settings(config, row, where=str(path))
        runner_module.teacher_settings(config, row)
    assert len(config.seeds) >= 3 and config.selection == "last"


def trial(row, seed, **accuracy):
    costs = dict.fromkeys(("weights", "networks", "macs", "latency_ms", "wall_s", "teachers_s", "peak_mb"), 1.0)
    return {"row": row, "kind": "staged", "source": "a", "seed": seed, "selection": "last", "accuracy": accuracy,
            "commit": "x", **costs}  # fmt: skip


def test_the_spread_is_over_seeds_and_targets_below_source_only_are_named():
    rows = summarise(
        [trial("source_only", 0, b=0.5, c=0.9), trial("ours", 0, b=0.7, c=0.8), trial("ours", 1, b=0.9, c=0.8)]
    )
    ours = next(row for row in rows if row["row"] == "ours")
    assert ours["average"] == pytest.approx(0.8)
    assert ours["spread"] == pytest.approx(np.std([0.75, 0.85], ddof=1))
    assert ours["below_source_only"] == ["a>c"]
    assert "| ours | 80.0 ± 7.1 | 1 of 2 (a>c) |  | last |" in markdown(rows) and "seeds 0" in markdown(rows)


def test_a_folder_without_cells_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no finished trials, expected trials/<source>/seed<k>/<row>.json"):
        read_trials(tmp_path)


def test_a_damaged_cell_is_named(tmp_path):
    file = tmp_path / "trials" / "mnist" / "seed0" / "ours.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"row": ')
    with pytest.raises(DataError, match=r"ours.json: damaged .*; delete it and run the benchmark again"):
        read_trials(tmp_path)


def test_one_network_with_statistics_of_its_own_for_each_target_counts_once(tmp_path):
    spec = ClassifierSpec(arch="lenet", num_classes=10, dropout=0.0)
    model = build_classifier(spec, seed=0)
    pictures = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 3), dtype=np.uint8)
    domains = {name: SimpleNamespace(target=SimpleNamespace(pictures=shown)) for name, shown in
               {"dark": pictures // 4, "light": 255 - pictures // 4}.items()}  # fmt: skip
    trial = Trial(BenchmarkConfig(rows={}), None, domains, tmp_path, Run(tmp_path, 0))
    own = {name: [trial.with_batchnorm_of(model, name)] for name in domains}
    means = [each[0].state_dict()["backbone.1.running_mean"] for each in own.values()]
    assert not torch.allclose(*means), "the two targets got the same statistics"
    cost, alone = _cost(own, 28), _cost({"dark": [model]}, 28)
    statistics = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    assert cost["networks"] == 1 and cost["weights"] == alone["weights"] + statistics
    assert _cost({"dark": [model], "light": [build_classifier(spec, seed=1)]}, 28)["networks"] == 2


def test_rows_are_compared_transfer_by_transfer_and_seed_by_seed():
    """Seeds differ by far more than rows do: paired, that falls away."""
    rows = [trial("base", seed, b=0.5 + seed / 10, c=0.3) for seed in range(3)]
    rows += [trial("ours", seed, b=0.52 + seed / 10, c=0.34) for seed in range(3)]
    rows += [trial("less", seed, b=0.49 + seed / 10, c=0.29) for seed in (0, 1)]
    lines = differences(rows, "base").splitlines()
    assert lines[2] == "| less | -1.0 (-1.0, -1.0) [-1.0, -1.0] |"
    assert lines[3] == "| ours | +3.0 (+3.0, +3.0, +3.0) [2.0, 4.0] |"
    with pytest.raises(DataError, match=r"--against: got bse, expected a row of the table: base, ours, less"):
        differences(rows, "bse")


def test_the_command_tells_the_differences_of_closed_sets_alone(tmp_path, small_sets, capsys):
    rows = {name: {"kind": name} for name in ("source_only", "blending")}
    run_benchmark(preset(tmp_path / "p.yaml", rows=rows), tmp_path / "run", root=tmp_path)
    table([tmp_path / "run"], against="source_only")
    assert "| minus source_only | accuracy |\n|---|---|\n| blending | " in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"--against: is of a closed-set benchmark"):
        table([tmp_path / "run"], root=tmp_path, against="source_only")


def test_rows_of_other_seeds_and_tables_without_source_only_say_so():
    rows = [trial("ours", 0, b=0.5), trial("ours", 1, b=0.6), trial("theirs", 1, b=0.6)]
    text = markdown(summarise(rows))
    assert "over seeds 0, 1; 1 (rows differ: not yet finished)" in text
    assert text.count("| ? |  | last |") == 2 and "0 of 1" not in text
