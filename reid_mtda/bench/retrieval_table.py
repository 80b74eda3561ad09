"""Several runs of one experiment, seed by seed, as one table: mean and spread, written into a page by its markers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.bench.result_plots import plot_results
from reid_mtda.bench.results import load_json, markdown_table, results_of_runs, spread, write_results
from reid_mtda.errors import DataError
from reid_mtda.evaluation.bootstrap import MEASURES, interval, paired_interval, people_from_json
from reid_mtda.scores import PersonScores


def read_run(folder: Path) -> dict[str, Any]:
    """One run's ``run.json``, ``scores.json`` and ``stages.json``.

    Raises:
        DataError: a file is missing or damaged: the run has not come to its end.
    """
    remedy = "delete it and run the command of the run again"
    return {name: load_json(Path(folder) / f"{name}.json", _SHAPES[name], remedy=remedy) for name in _SHAPES}


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "run": lambda card: isinstance(card, dict) and {"config", "seed", "versions"} <= card.keys(),
    "scores": lambda rows: (
        isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) and "method" in row for row in rows)
    ),
    "stages": lambda stages: isinstance(stages, dict) and all(isinstance(row, dict) for row in stages.values()),
}
"""What a finished run's files look like."""


def check_alike(runs: Sequence[dict[str, Any]]) -> list[int]:
    """The seeds of ``runs``.

    Raises:
        DataError: runs that differ in more than the seed, or a seed that stands twice: no table may mix them.
    """
    configs = [{key: value for key, value in run["run"]["config"].items() if key != "seed"} for run in runs]
    if any(config != configs[0] for config in configs):
        raise DataError("runs: they differ in more than the seed, expected one experiment; make a table of each")
    methods = [[row["method"] for row in run["scores"]] for run in runs]
    if any(names != methods[0] for names in methods):
        raise DataError("runs: their scores have other rows, expected the same; delete scores.json and run them again")
    seeds = [int(run["run"]["seed"]) for run in runs]
    if len(set(seeds)) != len(seeds):
        raise DataError(f"runs: got seeds {seeds}, expected each once")
    return seeds


def seeds_table(folders: Sequence[Path], scores: Sequence[list[dict[str, Any]]] | None = None) -> str:
    """Markdown: a row per method with mean and standard deviation over seeds, in percent, and what it costs.

    In square brackets stands the 95 % interval of a bootstrap over people. A second table has the differences of the
    student to every other row, seed by seed. ``scores`` stand in for the runs' own, e.g. those on other pictures.
    """
    runs = [read_run(folder) for folder in folders]
    if scores is not None:
        runs = [{**run, "scores": rows} for run, rows in zip(runs, scores, strict=True)]
    seeds = check_alike(runs)
    cameras = list(runs[0]["scores"][0]["per_camera"])
    centred = any("centred" in row for row in runs[0]["scores"])
    heads = ["method", "mAP", "rank-1", *(["mAP, centred", "rank-1, centred"] if centred else [])]
    heads += ["rank-1, camera to camera", *(f"mAP {camera}" for camera in cameras)]
    heads += ["weights", "MACs", "ms", "train s", "peak MB"]
    table = []
    for number, row in enumerate(runs[0]["scores"]):
        rows = [run["scores"][number] for run in runs]
        cells = [_with_interval(rows, key) for key in MEASURES]
        if centred:
            cells += [_with_interval([each.get("centred", {}) for each in rows], key) for key in MEASURES]
        cells.append(spread([each.get("camera_to_camera", {}).get("rank1", np.nan) for each in rows]))
        cells += [spread([each["per_camera"][camera]["mAP"] for each in rows]) for camera in cameras]
        name = f"**{row['method']}**" if row["ours"] else row["method"]
        milliseconds = np.median([each["ms"] for each in rows])
        known = row["params"] is not None  # of a ready-made teacher only the time can be told
        cost = [f"{row['params'] / 1e6:.2f} M", f"{row['macs'] / 1e6:.0f} M"] if known else ["?", "?"]
        cost += [f"{milliseconds:.2f}", *_training(runs, row["method"])]
        table.append([name, *cells, *cost])
    card = runs[0]["run"]
    over = "Mean ± standard deviation over seeds" if len(seeds) > 1 else "Seed"
    commits = ", ".join(sorted({run["run"]["versions"]["commit"] for run in runs}))
    lines = [
        *markdown_table(heads, table),
        "",
        f"{over} {', '.join(map(str, seeds))}, in percent; selection rule: last weights; "
        f"[95 % interval, bootstrap over people]; centred: each camera's mean embedding of its unlabelled training "
        f"crops subtracted; ms: one crop through ONNX Runtime; train s, peak MB: of the row's own stage. "
        f"Commit {commits}, torch {card['versions'].get('torch', '?')}, "
        f"{card['versions']['machine']}.",
    ]
    if recovered := _recovered(runs):
        lines[-1] = f"{recovered} {lines[-1]}"
    return "\n".join([*lines, *_differences(runs)])


def _differences(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a table: the student minus every other row, by seed and on average; none where people are not kept."""
    nothing: dict[str, Any] = {}
    own = [next((row for row in run["scores"] if row["ours"]), nothing) for run in runs]
    forms: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"": lambda row: row}
    if all("centred" in row for row in own):
        forms[", centred"] = lambda row: dict(row.get("centred", {}))
    lines = []
    for number, other in enumerate(runs[0]["scores"]):
        cells = []
        for form in forms.values():
            pairs = [(form(row), form(run["scores"][number])) for row, run in zip(own, runs, strict=True)]
            if not all(a.get("people") and b.get("people") for a, b in pairs):
                cells += ["?", "?"]
                continue
            for key, measure in MEASURES.items():
                by_seed = [100 * (a[key] - b[key]) for a, b in pairs]
                bounds = paired_interval(_people([a for a, _ in pairs]), _people([b for _, b in pairs]), measure)
                each = f" ({', '.join(f'{value:+.1f}' for value in by_seed)})" if len(by_seed) > 1 else ""
                cells.append(f"{np.mean(by_seed):+.1f}{each} {_bounds(bounds)}")
        if not other["ours"] and set(cells) != {"?"}:
            lines.append([other["method"], *cells])
    if not lines:
        return []
    heads = [f"{name}{form}" for form in forms for name in ("mAP", "rank-1")]
    title = next((row["method"] for row in own if row), "")
    return [
        "",
        *markdown_table([f"{title} minus", *heads], lines),
        "",
        "Points, mean (each seed) [95 % interval of the paired difference, bootstrap over people].",
    ]


def _people(rows: Sequence[Mapping[str, Any]]) -> list[PersonScores]:
    return [people_from_json(kept) for row in rows for kept in row["people"]]


def _with_interval(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    text = spread([row.get(key, np.nan) for row in rows])
    if not all(row.get("people") for row in rows):
        return text  # of a run from before people were kept
    return f"{text} {_bounds(interval(_people(rows), MEASURES[key]))}"


def _bounds(found: tuple[float, float]) -> str:
    return f"[{100 * found[0]:.1f}, {100 * found[1]:.1f}]"


_GOALS = {
    "teachers, each on its camera": "the teachers",
    "oracle (target labels)": "the oracle",
}


def _recovered(runs: Sequence[dict[str, Any]]) -> str:
    """Which share of the way from source only to teachers and oracle the student goes, in words.

    Nothing of a way that is unknown, or no longer than its own spread over seeds: a share of that says nothing.
    """
    measures: dict[str, Callable[[dict[str, Any]], float]] = {
        "mAP": lambda row: float(row["mAP"]),
        "rank-1 from camera to camera": lambda row: float(row["camera_to_camera"]["rank1"]),
    }
    sentences = []
    for goal, title in _GOALS.items():
        said = []
        for name, measure in measures.items():
            ways, gains = [], []
            for run in runs:
                rows = {row["method"]: row for row in run["scores"]}
                try:
                    low, high = measure(rows["source only"]), measure(rows[goal])
                    own = measure(next(row for row in run["scores"] if row["ours"]))
                except (KeyError, StopIteration):
                    break
                ways.append(high - low)
                gains.append(own - low)
            else:
                deviation = float(np.std(ways, ddof=1)) if len(ways) > 1 else 0.0
                if min(ways) > 0 and np.mean(ways) > deviation:
                    shares = [gain / way for gain, way in zip(gains, ways, strict=True)]
                    said.append(f"{spread(shares)} % by {name} ({100 * np.mean(gains):+.1f} points)")
        if said:
            sentences.append(f"The student recovers {' and '.join(said)} of the way from source only to {title}.")
    return " ".join(sentences)


def plot_seeds(folders: Sequence[Path], path: Path) -> None:
    """Draw the same rows: mAP by camera, against the weights of a deployment, and against the distilled student.

    The numbers stand beside ``path`` as JSON.
    """
    runs = [read_run(folder) for folder in folders]
    check_alike(runs)
    ours = next(row["method"] for row in runs[0]["scores"] if row["ours"])
    results = results_of_runs(runs)
    write_results(path.with_suffix(".json"), "reid", results)
    plot_results(results, path, measure="mAP", base=ours)


def stages_table(folder: Path) -> str:
    """Markdown: seconds and peak memory of each stage of one run."""
    stages = read_run(folder)["stages"]
    every = {
        "seconds": sum(row["seconds"] for row in stages.values()),
        "peak_mb": max(row["peak_mb"] for row in stages.values()),
    }
    rows = [
        (name, f"{row['seconds']:.0f}", f"{row['peak_mb']:.0f} MB") for name, row in [*stages.items(), ("all", every)]
    ]
    return "\n".join(markdown_table(("stage", "seconds", "peak memory"), rows))


_STAGES = {"source only": "source training", "teachers, each on its camera": "teachers", "distilled student": "student"}
"""The stage in which a row's network was trained, where its name is another than the row's."""


def _training(runs: Sequence[dict[str, Any]], method: str) -> tuple[str, str]:
    """Mean seconds and highest memory of the stage that trained a row; nothing for a row that only scores."""
    stages = [run["stages"].get(_STAGES.get(method, method)) for run in runs]
    known = [stage for stage in stages if stage]
    if len(known) < len(runs):
        return "", ""
    seconds = float(np.mean([stage["seconds"] for stage in known]))
    return f"{seconds:.0f}", f"{max(stage['peak_mb'] for stage in known):.0f}"
