"""Plots of a benchmark's results: by target, against size, and the difference to one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_mtda.bench.results import ALL, Result
from reid_mtda.files import atomic_write


@dataclass(frozen=True)
class _Row:
    """A method's means over sources and seeds: over all targets, by target; ``weights`` None where unknown."""

    method: str
    average: float
    by_target: Mapping[str, float]
    weights: float | None


def plot_results(results: Sequence[Result], path: Path, *, measure: str, base: str) -> None:
    """Draw ``measure`` by target, against the weights of a deployment, and each method's difference to ``base``.

    Args:
        results: of one benchmark.
        path: the PNG to write.
        measure: what is drawn, a name among the numbers.
        base: the method that others are compared with; the lowest where it is not there.
    """
    rows = sorted(_rows(results, measure), key=lambda row: row.average)
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 6 + 0.12 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    by_target, by_size, effect = figure.subplots(1, 3)
    targets = sorted({target for row in rows for target in row.by_target})
    places, heaviest = np.arange(len(targets)), max(row.weights or 0.0 for row in rows)
    for number, row in enumerate(rows):
        means = [100 * row.by_target.get(target, np.nan) for target in targets]
        colour = colormaps["tab20"](number % 20)
        by_target.bar(places + 0.8 * number / len(rows), means, 0.8 / len(rows), label=row.method, color=colour)
        if row.weights:
            by_size.scatter(row.weights / 1e6, 100 * row.average, color=colour)
    named: list[float] = []  # names that would lie on each other are left to the legend
    span = 100 * (max(row.average for row in rows) - min(row.average for row in rows))
    for row in sorted(rows, key=lambda row: (row.method != base, -row.average)):
        height = 100 * row.average
        if row.weights and all(abs(height - other) > 0.018 * span for other in named):
            named.append(height)
            side = "right" if row.weights > heaviest / 2 else "left"  # into the picture, not out of it
            by_size.annotate(row.method, (row.weights / 1e6, height), fontsize=6, ha=side)
    by_target.set_xticks(places + 0.4, targets, rotation=30, ha="right")
    by_target.set_ylabel(f"{measure}, %")
    by_target.set_title("by target, mean over sources and seeds")
    figure.legend(*by_target.get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=4)
    by_size.set_xlabel("weights, millions")
    by_size.set_ylabel(f"{measure}, %")
    by_size.set_title("against size")
    other = next((row for row in rows if row.method == base), rows[0])
    names = [row.method for row in rows if row is not other]
    effect.barh(names, [100 * (row.average - other.average) for row in rows if row is not other])
    effect.axvline(0, color="black", linewidth=0.8)
    effect.set_title(f"difference to {other.method!r}, points")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _rows(results: Sequence[Result], measure: str) -> list[_Row]:
    rows = []
    for method in dict.fromkeys(result.method for result in results):
        own = [result for result in results if result.method == method]
        values: dict[str, list[float]] = {}
        for result in own:
            values.setdefault(result.target, []).append(float(result.numbers[measure] or 0.0))
        over_all = values.pop(ALL, [value for each in values.values() for value in each])
        weights = [result.numbers.get("weights") for result in own]
        rows.append(
            _Row(
                method,
                float(np.mean(over_all)),
                {target: float(np.mean(each)) for target, each in values.items()},
                None if any(value is None for value in weights) else float(np.mean([value or 0 for value in weights])),
            )
        )
    return rows
