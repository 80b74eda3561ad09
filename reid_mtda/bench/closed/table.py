"""From a closed-set benchmark's run folder to its table: every number comes from its trials."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.bench.result_plots import plot_results
from reid_mtda.bench.results import load_json, markdown_table, results_of_trials, spread, write_results
from reid_mtda.errors import DataError
from reid_mtda.evaluation.bootstrap import LEVEL, RESAMPLES
from reid_mtda.files import atomic_write


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """All finished trials of a benchmark run, in a fixed order.

    Raises:
        DataError: the folder holds none, or a damaged one.
    """
    files = sorted((Path(folder) / "trials").glob("*/seed*/*.json"))
    if not files:
        raise DataError(f"{folder}: no finished trials, expected trials/<source>/seed<k>/<row>.json; run the benchmark")
    remedy = "delete it and run the benchmark again"
    return [load_json(file, lambda found: isinstance(found, dict), remedy=remedy) for file in files]


def summarise(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each row, the least accurate first: mean over sources and targets, spread over seeds, costs.

    ``means`` are those over sources and targets, by seed; ``spread`` is their standard deviation, nan of one seed.
    """
    by_row: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for trial in trials:
        by_row[trial["row"]].append(trial)
    source_only = {
        (c["source"], c["seed"], t): a for c in by_row.get("source_only", []) for t, a in c["accuracy"].items()
    }
    table = []
    for row, members in by_row.items():
        per_seed = defaultdict(list)
        pairs = defaultdict(list)
        for trial in members:
            per_seed[trial["seed"]].append(np.mean(list(trial["accuracy"].values())))
            for target, value in trial["accuracy"].items():
                pairs[f"{trial['source']}>{target}"].append(value)
        means = [float(np.mean(values)) for _, values in sorted(per_seed.items())]
        below = [pair for pair, values in pairs.items() if np.mean(values) < np.mean(_source_values(source_only, pair))]
        table.append(
            {
                "row": row,
                "kind": members[0]["kind"],
                "selection": members[0]["selection"],
                "seeds": sorted(per_seed),
                "average": float(np.mean(means)),
                "means": means,
                "spread": float(np.std(means, ddof=1)) if len(means) > 1 else float("nan"),
                "pairs": {pair: float(np.mean(values)) for pair, values in sorted(pairs.items())},
                "below_source_only": sorted(below) if source_only else None,
                "source_mass": members[0].get("source_mass"),
                **{key: float(np.mean([c[key] for c in members])) for key in _COSTS},
                **{key: sorted({str(trial.get(key, "unknown")) for trial in members}) for key in _VERSIONS},
            }
        )
    return sorted(table, key=lambda entry: entry["average"])


_VERSIONS = ("commit", "torch", "machine")
_COSTS = ("weights", "networks", "macs", "latency_ms", "wall_s", "teachers_s", "peak_mb")


def _source_values(source_only: dict[tuple[str, int, str], float], pair: str) -> list[float]:
    source, target = pair.split(">")
    return [value for (s, _, t), value in source_only.items() if (s, t) == (source, target)] or [-np.inf]


def write_tables(folder: Path) -> Path:
    """Write ``results.json``, ``results.csv``, ``table.md`` and the plots of a run folder; return the table's path."""
    folder = Path(folder)
    trials = read_trials(folder)
    rows = summarise(trials)
    results = results_of_trials(trials, _COSTS)
    write_results(folder / "results.json", "closed_set", results)
    with atomic_write(folder / "results.csv") as temporary:
        temporary.write_text(_csv(trials), encoding="utf-8")
    with atomic_write(folder / "table.md") as temporary:
        temporary.write_text(markdown(rows), encoding="utf-8")
    plot_results(results, folder / "results.png", measure="accuracy", base="published")
    return folder / "table.md"


def _csv(trials: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "kind", "source", "seed", "target", "selection", "accuracy", *_COSTS, "commit"])
    for trial in trials:
        for target, value in trial["accuracy"].items():
            start = [trial[key] for key in ("row", "kind", "source", "seed")]
            writer.writerow(
                [*start, target, trial["selection"], value, *(trial[key] for key in _COSTS), trial["commit"]]
            )
    return text.getvalue()


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as a Markdown table, in percent; the selection rule stands with every number."""
    heads = [
        "row",
        "accuracy",
        "below source only",
        "source labels",
        "selection",
        "weights",
        "MACs",
        "ms",
        "wall s",
        "teachers s",
        "peak MB",
    ]
    cells = [
        (
            row["row"],
            spread(row["means"]),
            _below(row),
            "" if row["source_mass"] is None else f"{100 * row['source_mass']:.0f} %",
            row["selection"],
            f"{row['weights']:,.0f}",
            f"{row['macs'] / 1e6:.1f} M",
            f"{row['latency_ms']:.2f}",
            *(f"{row[key]:.0f}" for key in ("wall_s", "teachers_s", "peak_mb")),
        )
        for row in rows
    ]
    pairs = sorted({pair for row in rows for pair in row["pairs"]})
    by_pair = [
        (pair, *(f"{100 * row['pairs'][pair]:.1f}" if pair in row["pairs"] else "" for row in rows)) for pair in pairs
    ]
    lines = [
        *markdown_table(heads, cells),
        "",
        *markdown_table(["source > target", *(row["row"] for row in rows)], by_pair),
    ]
    made = {key: ", ".join(sorted({value for row in rows for value in row[key]})) for key in _VERSIONS}
    seeds = {tuple(row["seeds"]) for row in rows}
    over = "; ".join(", ".join(map(str, each)) for each in sorted(seeds))
    unequal = (
        " (rows differ: not yet finished)" if len(seeds) > 1 or len({len(row["pairs"]) for row in rows}) > 1 else ""
    )
    lines += [
        "",
        f"Percent, mean over all transfers ± standard deviation over seeds {over}{unequal}; "
        f"source labels: learning rate times weight that the student's network gets of them, against source only; "
        f"ms: one picture on one target, torch; wall s: a source and seed, teachers apart. "
        f"Commit {made['commit']}, torch {made['torch']}, {made['machine']}.",
    ]
    return "\n".join(lines) + "\n"


def differences(trials: Sequence[dict[str, Any]], against: str) -> str:
    """Markdown: every row minus the row ``against``, in points, paired by source, target and seed.

    In square brackets is the 95 % interval of a bootstrap over transfers, each the mean of its seeds.

    Raises:
        DataError: no such row, or one that shares no trial with it.
    """
    by_row: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    for trial in trials:
        for target, value in trial["accuracy"].items():
            by_row[trial["row"]][f"{trial['source']}>{target}", trial["seed"]] = value
    if against not in by_row:
        raise DataError(f"--against: got {against}, expected a row of the table: {', '.join(by_row)}")
    base = by_row.pop(against)
    lines = []
    for row, values in by_row.items():
        both = sorted(values.keys() & base.keys())
        if not both:
            raise DataError(f"{row}: shares no trial with {against}; run the benchmark to its end")
        gains = {key: 100 * (values[key] - base[key]) for key in both}
        by_seed = [np.mean([gains[key] for key in both if key[1] == seed]) for seed in sorted({key[1] for key in both})]
        transfers = [
            np.mean([gains[key] for key in both if key[0] == pair]) for pair in sorted({key[0] for key in both})
        ]
        draw = np.random.default_rng(0).integers(len(transfers), size=(RESAMPLES, len(transfers)))
        low, high = np.quantile(np.asarray(transfers)[draw].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        lines.append((float(np.mean(by_seed)), row, by_seed, f"[{low:.1f}, {high:.1f}]"))
    cells = [
        (row, f"{mean:+.1f} ({', '.join(f'{value:+.1f}' for value in by_seed)}) {bounds}")
        for mean, row, by_seed, bounds in sorted(lines, key=lambda line: line[:2])
    ]
    note = "Points, mean (each seed) [95 % interval, bootstrap over transfers], paired by source, target and seed."
    return "\n".join([*markdown_table([f"minus {against}", "accuracy"], cells), "", note])


def _below(row: dict[str, Any]) -> str:
    """How many of the transfers lie below source only, and which, if they are few."""
    below = row["below_source_only"]
    if below is None:
        return "?"  # there is no such row
    names = f" ({', '.join(below)})" if 0 < len(below) <= 2 else ""
    return f"{len(below)} of {len(row['pairs'])}{names}"
