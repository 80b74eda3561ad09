"""Results of benchmarks of either kind in one form: a method's numbers on one target, from one source, with one seed.

Closed-set trials and finished re-identification runs are read into it, and drawn and written from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reid_mtda.errors import DataError
from reid_mtda.files import atomic_write, write_json

Kind = Literal["closed_set", "reid"]
ALL = "all"
"""The target of numbers over all targets at once, where they are no mean over targets."""


@dataclass(frozen=True)
class Result:
    """Numbers of ``method``, adapted from ``source`` to ``target`` with ``seed``, by what they measure."""

    method: str
    source: str
    target: str
    seed: int
    numbers: Mapping[str, float | None]


def kind_of(folder: Path) -> Kind:
    """Tell of which kind the benchmark in a run folder is."""
    return "closed_set" if (Path(folder) / "trials").is_dir() else "reid"


def results_of_trials(trials: Sequence[Mapping[str, Any]], costs: Sequence[str]) -> list[Result]:
    """Results of closed-set trials: accuracy on each target, and ``costs`` by their names."""
    return [
        Result(
            trial["row"],
            trial["source"],
            target,
            trial["seed"],
            {"accuracy": value, **{name: trial[name] for name in costs}},
        )
        for trial in trials
        for target, value in trial["accuracy"].items()
    ]


def results_of_runs(runs: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Results of re-identification runs: mAP and rank-1 on each camera, and over all of them."""
    found = []
    for run in runs:
        source, seed = run["run"]["config"].get("source", {}).get("name", "?"), int(run["run"]["seed"])
        for row in run["scores"]:
            for target, numbers in {ALL: row, **row["per_camera"]}.items():
                kept = {name: numbers[name] for name in ("mAP", "rank1")} | {"weights": row["params"]}
                found.append(Result(row["method"], source, target, seed, kept))
    return found


def write_results(path: Path, kind: Kind, results: Sequence[Result]) -> None:
    """Write results as JSON: ``{"kind": ..., "results": [{method, source, target, seed, numbers}, ...]}``.

    Args:
        path: the file.
        kind: of which benchmark.
        results: one for each method, source, target and seed.
    """
    write_json(path, {"kind": kind, "results": [asdict(result) for result in results]})


def load_json(path: Path, is_sound: Callable[[Any], bool], *, remedy: str) -> Any:
    """Read a JSON file that a run wrote.

    Args:
        path: the file.
        is_sound: whether a content has the form that a run gives it.
        remedy: ends the message of a refusal.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected a finished run, run it to its end"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); {remedy}") from None
    if not is_sound(found):
        raise DataError(f"{path}: damaged, not what a run writes; {remedy}")
    return found


def spread(values: Sequence[float]) -> str:
    """Say fractions in percent: their mean, and the standard deviation where there is more than one; ? for unknown.

    >>> spread([0.5, 0.54]), spread([0.5]), spread([float("nan")])
    ('52.0 ± 2.8', '50.0', '?')
    """
    if np.isnan(values).any():
        return "?"
    mean = 100 * float(np.mean(values))
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {100 * float(np.std(values, ddof=1)):.1f}"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Make the lines of a Markdown table."""
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]


def fill_page(page: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in ``page``.

    Args:
        page: the page's file.
        name: how it is called.
        text: what is written there.

    Raises:
        DataError: the page lacks the markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = page.read_text(encoding="utf-8") if page.is_file() else ""
    if content.count(begin) != 1 or content.count(end) != 1 or content.index(begin) > content.index(end):
        raise DataError(f"{page}: expected the lines {begin} and {end}, once each; add them where the table belongs")
    head, rest = content.split(begin)
    _, tail = rest.split(end)
    with atomic_write(page) as temporary:
        temporary.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
