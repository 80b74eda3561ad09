"""Several runs of one experiment, seed by seed, as one table: mean and spread, written into a page by its markers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.errors import DataError
from reid_mtda.evaluate.tables import plot
from reid_mtda.runs import atomic_write


def read_run(folder: Path) -> dict[str, Any]:
    """One run's ``run.json``, ``scores.json`` and ``stages.json``.

    Raises:
        DataError: a file is missing or damaged: the run has not come to its end.
    """
    found = {}
    for name in ("run", "scores", "stages"):
        path = Path(folder) / f"{name}.json"
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{path}: cannot be read ({reason}); expected a finished run, run it to its end") from None
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}); delete it and run the command of the run again") from None
        if not _SHAPES[name](found[name]):
            raise DataError(f"{path}: damaged, not what a run writes; delete it and run the command of the run again")
    return found


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

    ``scores`` stand in for the runs' own, e.g. those on other pictures.
    """
    runs = [read_run(folder) for folder in folders]
    if scores is not None:
        runs = [{**run, "scores": rows} for run, rows in zip(runs, scores, strict=True)]
    seeds = check_alike(runs)
    cameras = list(runs[0]["scores"][0]["per_camera"])
    lines = [
        "| method | mAP | rank-1 | rank-1, camera to camera | "
        + " | ".join(f"mAP {camera}" for camera in cameras)
        + " | weights | MACs | ms | train s | peak MB |",
        "|---|" + "---|" * (8 + len(cameras)),
    ]
    for number, row in enumerate(runs[0]["scores"]):
        rows = [run["scores"][number] for run in runs]
        cells = [_spread([each[key] for each in rows]) for key in ("mAP", "rank1")]
        cells.append(_spread([each.get("camera_to_camera", {}).get("rank1", np.nan) for each in rows]))
        cells += [_spread([each["per_camera"][camera]["mAP"] for each in rows]) for camera in cameras]
        name = f"**{row['method']}**" if row["ours"] else row["method"]
        milliseconds = np.median([each["ms"] for each in rows])
        known = row["params"] is not None  # of a ready-made teacher only the time can be told
        cost = [f"{row['params'] / 1e6:.2f} M", f"{row['macs'] / 1e6:.0f} M"] if known else ["?", "?"]
        cost += [f"{milliseconds:.2f}", *_training(runs, row["method"])]
        lines.append(f"| {name} | " + " | ".join(cells + cost) + " |")
    card = runs[0]["run"]
    over = "Mean ± standard deviation over seeds" if len(seeds) > 1 else "Seed"
    commits = ", ".join(sorted({run["run"]["versions"]["commit"] for run in runs}))
    lines += [
        "",
        f"{over} {', '.join(map(str, seeds))}, in percent; selection rule: last weights; "
        f"ms: one crop through ONNX Runtime; train s, peak MB: of the row's own stage. "
        f"Commit {commits}, torch {card['versions'].get('torch', '?')}, "
        f"{card['versions']['machine']}.",
    ]
    if recovered := _recovered(runs):
        lines[-1] = f"{recovered} {lines[-1]}"
    return "\n".join(lines)


def _recovered(runs: Sequence[dict[str, Any]]) -> str:
    """Which share of the way from source only to the teachers the student goes, in words; '' where that is unknown."""
    measures: dict[str, Callable[[dict[str, Any]], float]] = {
        "mAP": lambda row: float(row["mAP"]),
        "rank-1 from camera to camera": lambda row: float(row["camera_to_camera"]["rank1"]),
    }
    said = []
    for name, measure in measures.items():
        shares = []
        for run in runs:
            rows = {row["method"]: row for row in run["scores"]}
            try:
                low, high = (measure(rows[method]) for method in ("source only", "teachers, each on its camera"))
                own = measure(next(row for row in run["scores"] if row["ours"]))
            except (KeyError, StopIteration):
                return ""
            shares.append((own - low) / (high - low) if high > low else np.nan)
        said.append(f"{_spread(shares)} % by {name}")
    return f"The student recovers {' and '.join(said)} of the way from source only to the teachers."


def plot_seeds(folders: Sequence[Path], path: Path) -> None:
    """Plots of the same rows: mAP by camera, against the weights of a deployment, and against the distilled student."""
    runs = [read_run(folder) for folder in folders]
    check_alike(runs)
    rows = []
    for number, row in enumerate(runs[0]["scores"]):
        same = [run["scores"][number] for run in runs]
        cameras = {camera: [each["per_camera"][camera]["mAP"] for each in same] for camera in row["per_camera"]}
        rows.append(
            {
                "row": row["method"],
                "average": float(np.mean([each["mAP"] for each in same])),
                "pairs": {f"source>{camera}": float(np.mean(values)) for camera, values in cameras.items()},
                "weights": row["params"],
            }
        )
    plot(rows, path, measure="mAP", base_row=next(row["method"] for row in runs[0]["scores"] if row["ours"]))


def stages_table(folder: Path) -> str:
    """Markdown: seconds and peak memory of each stage of one run."""
    stages = read_run(folder)["stages"]
    lines = ["| stage | seconds | peak memory |", "|---|---|---|"]
    lines += [f"| {name} | {row['seconds']:.0f} | {row['peak_mb']:.0f} MB |" for name, row in stages.items()]
    total = sum(row["seconds"] for row in stages.values())
    return "\n".join([*lines, f"| all | {total:.0f} | {max(row['peak_mb'] for row in stages.values()):.0f} MB |"])


def fill_page(page: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in ``page``.

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


def _spread(values: Sequence[float]) -> str:
    if np.isnan(values).any():
        return "?"  # a run from before this number was kept
    mean = 100 * float(np.mean(values))
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {100 * float(np.std(values, ddof=1)):.1f}"
