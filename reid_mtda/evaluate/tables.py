"""From a benchmark's run folder to tables and plots: every number comes from its trials."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.errors import DataError
from reid_mtda.runs import atomic_write, write_json


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """All finished trials of a benchmark run, in a fixed order.

    Raises:
        DataError: the folder holds none, or a damaged one.
    """
    files = sorted((Path(folder) / "trials").glob("*/seed*/*.json"))
    if not files:
        raise DataError(f"{folder}: no finished trials, expected trials/<source>/seed<k>/<row>.json; run the benchmark")
    trials = []
    for file in files:
        try:
            trials.append(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise DataError(f"{file}: damaged ({error}); delete it and run the benchmark again") from None
    return trials


def summarise(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each row, the least accurate first: mean over sources and targets, spread over seeds, costs.

    The spread is the standard deviation, over seeds, of the mean over sources; one seed has a spread of nan.
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
                "spread": float(np.std(means, ddof=1)) if len(means) > 1 else float("nan"),
                "pairs": {pair: float(np.mean(values)) for pair, values in sorted(pairs.items())},
                "below_source_only": sorted(below) if source_only else None,
                **{key: float(np.mean([c[key] for c in members])) for key in _COSTS},
                **{key: sorted({str(trial.get(key, "unknown")) for trial in members}) for key in _VERSIONS},
            }
        )
    return sorted(table, key=lambda entry: entry["average"])


def _spread(row: Mapping[str, Any]) -> str:
    average = f"{100 * row['average']:.1f}"
    return average if np.isnan(row["spread"]) else f"{average} ± {100 * row['spread']:.1f}"


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
    write_json(folder / "results.json", {"rows": rows, "trials": trials})
    with atomic_write(folder / "results.csv") as temporary:
        temporary.write_text(_csv(trials), encoding="utf-8")
    with atomic_write(folder / "table.md") as temporary:
        temporary.write_text(markdown(rows), encoding="utf-8")
    plot(rows, folder / "results.png")
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
    lines = [
        "| row | accuracy | below source only | selection | weights | MACs | ms | wall s | teachers s | peak MB |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        lines.append(
            f"| {row['row']} | {_spread(row)} | {_below(row)} "
            f"| {row['selection']} | {row['weights']:,.0f} | {row['macs'] / 1e6:.1f} M | {row['latency_ms']:.2f} "
            f"| {row['wall_s']:.0f} | {row['teachers_s']:.0f} | {row['peak_mb']:.0f} |"
        )
    pairs = sorted({pair for row in rows for pair in row["pairs"]})
    lines += [
        "",
        "| source > target | " + " | ".join(row["row"] for row in rows) + " |",
        "|" + "---|" * (len(rows) + 1),
    ]
    for pair in pairs:
        values = " | ".join(f"{100 * row['pairs'][pair]:.1f}" if pair in row["pairs"] else "" for row in rows)
        lines.append(f"| {pair} | {values} |")
    made = {key: ", ".join(sorted({value for row in rows for value in row[key]})) for key in _VERSIONS}
    seeds = {tuple(row["seeds"]) for row in rows}
    over = "; ".join(", ".join(map(str, each)) for each in sorted(seeds))
    unequal = (
        " (rows differ: not yet finished)" if len(seeds) > 1 or len({len(row["pairs"]) for row in rows}) > 1 else ""
    )
    lines += [
        "",
        f"Percent, mean over all transfers ± standard deviation over seeds {over}{unequal}; "
        f"ms: one picture on one target, torch; wall s: a source and seed, teachers apart. "
        f"Commit {made['commit']}, torch {made['torch']}, {made['machine']}.",
    ]
    return "\n".join(lines) + "\n"


def _below(row: dict[str, Any]) -> str:
    """How many of the transfers lie below source only, and which, if they are few."""
    below = row["below_source_only"]
    if below is None:
        return "?"  # there is no such row
    names = f" ({', '.join(below)})" if 0 < len(below) <= 2 else ""
    return f"{len(below)} of {len(row['pairs'])}{names}"


def plot(rows: Sequence[dict[str, Any]], path: Path, *, measure: str = "accuracy", base_row: str = "published") -> None:
    """``measure`` by target, against size, and each row's difference to ``base_row``'s."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 6 + 0.12 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    by_target, by_size, effect = figure.subplots(1, 3)
    targets = sorted({pair.split(">")[1] for row in rows for pair in row["pairs"]})
    places, heaviest = np.arange(len(targets)), max(row["weights"] or 0.0 for row in rows)
    for number, row in enumerate(rows):
        means = [
            100 * np.mean([v for p, v in row["pairs"].items() if p.endswith(f">{t}")] or [np.nan]) for t in targets
        ]
        colour = colormaps["tab20"](number % 20)
        by_target.bar(places + 0.8 * number / len(rows), means, 0.8 / len(rows), label=row["row"], color=colour)
        if row["weights"]:
            by_size.scatter(row["weights"] / 1e6, 100 * row["average"], color=colour)
    named: list[float] = []  # names that would lie on each other are left to the legend
    span = 100 * (max(row["average"] for row in rows) - min(row["average"] for row in rows))
    for row in sorted(rows, key=lambda row: (row["row"] != base_row, -row["average"])):
        height = 100 * row["average"]
        if row["weights"] and all(abs(height - other) > 0.018 * span for other in named):
            named.append(height)
            side = "right" if row["weights"] > heaviest / 2 else "left"  # into the picture, not out of it
            by_size.annotate(row["row"], (row["weights"] / 1e6, height), fontsize=6, ha=side)
    by_target.set_xticks(places + 0.4, targets, rotation=30, ha="right")
    by_target.set_ylabel(f"{measure}, %")
    by_target.set_title("by target, mean over sources and seeds")
    figure.legend(*by_target.get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=4)
    by_size.set_xlabel("weights, millions")
    by_size.set_ylabel(f"{measure}, %")
    by_size.set_title("against size")
    base = next((row for row in rows if row["row"] == base_row), rows[0])
    names = [row["row"] for row in rows if row is not base]
    effect.barh(names, [100 * (row["average"] - base["average"]) for row in rows if row is not base])
    effect.axvline(0, color="black", linewidth=0.8)
    effect.set_title(f"difference to {base['row']!r}, points")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
