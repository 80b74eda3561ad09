"""The table of distillation objectives: the student with each beside the student without it, on the same draws.

A preset names parts, each a preset of its own (re-identification or closed sets) with what it changes, and rows, each
an objective. A part is run as any benchmark is, so a stopped one goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from reid_mtda.bench.results import markdown_table
from reid_mtda.bench.retrieval_table import read_run
from reid_mtda.bench.score import OURS
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluation.paired import holm, paired_difference
from reid_mtda.files import atomic_write
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import HOST, Compute
from reid_mtda.schema import Strict, load_yaml, read_yaml

WITHOUT = "staged"
"""The row of a closed set's part without any objective."""


class Part(Strict):
    """One benchmark: its preset beside the table's, what it changes there, and which rows it has."""

    preset: str
    root: str = Field(default="", description="of its data, below --root")
    seeds: tuple[int, ...] = Field(default=tuple(range(1, 9)), min_length=1)
    changes: dict[str, Any] = Field(default_factory=dict, description="top-level keys of the preset that are replaced")
    rows: tuple[str, ...] = Field(default=(), description="names of the table's rows; none: all")
    others: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="of closed sets alone: rows of other kinds, as their presets have them"
    )
    differing: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="rows whose settings are others in this part, e.g. at its loop's temperature"
    )


class ObjectivesConfig(Strict):
    """The whole table: ``rows`` by name, each the settings that it changes of the student's loop."""

    kind: str = "objectives"
    parts: dict[str, Part]
    rows: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """A row's numbers in one part by seed, those of the student without it, and seconds of both by seed."""

    row: str
    values: tuple[float, ...]
    others: tuple[float, ...]
    seconds: tuple[float, ...]
    other_seconds: tuple[float, ...]


def run_objectives(
    preset: Path,
    out: Path,
    *,
    root: Path | None = None,
    weights: Path | None = None,
    parts: Sequence[str] = (),
    workers: int = 1,
    progress: Progress = silent,
    compute: Compute = HOST,
) -> Path:
    """Run the parts of ``preset`` in ``out/PART`` and write the table of them; return its path.

    Args:
        preset: e.g. configs/benchmark/objectives.yaml.
        out: run folder; a stopped table goes on there.
        root: folder of the data sets; each part has a folder below it.
        weights: folder of the weights that presets name.
        parts: which of them; none: all.
        workers: processes of a closed set's part.
        progress: called after each step of a re-identification part.
        compute: where torch computes.

    Raises:
        ConfigError: an unknown part or row.
    """
    config = load_yaml(Path(preset), ObjectivesConfig)
    for name in parts or config.parts:
        if name not in config.parts:
            raise ConfigError(f"{preset}: got part {name!r}, expected one of {', '.join(config.parts)}")
        part = config.parts[name]
        unknown = sorted({*part.rows, *part.differing} - config.rows.keys())
        if unknown:
            raise ConfigError(
                f"{preset}: parts.{name}.rows: got {unknown[0]!r}, expected some of rows; name one of those"
            )
        place = Path(out) / name
        place.mkdir(parents=True, exist_ok=True)
        values = _preset_of(Path(preset), part, config.rows)
        written = place / "preset.yaml"
        with atomic_write(written) as temporary:
            temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
        where = None if root is None else Path(root) / part.root
        if values["kind"] == "closed_set":
            from reid_mtda.bench.closed.runner import run_benchmark

            run_benchmark(written, place, root=where, weights=weights or Path(), workers=workers, compute=compute)
        else:
            from reid_mtda.bench.experiment import run_seeds

            run_seeds(written, place, part.seeds, (), progress, root=where, weights=weights, compute=compute)
    path = Path(out) / "table.md"
    text = parts_table(out)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def parts_of(out: Path) -> list[Path]:
    """The folders of a table's parts in ``out``; none: it is a run of another kind."""
    return sorted(place.parent for place in Path(out).glob("*/preset.yaml"))


def parts_table(out: Path) -> str:
    """Markdown of all parts in the run folder ``out`` that have results.

    Raises:
        DataError: none has.
    """
    blocks = []
    for place in parts_of(out):
        measured = read_part(place)
        if measured:
            blocks.append("\n".join([f"**{place.name}**", "", *objectives_table(measured)]))
    if not blocks:
        raise DataError(
            f"{out}: no part has results yet, expected a row beside the student without it; run the benchmark"
        )
    return "\n\n".join(blocks)


def _preset_of(preset: Path, part: Part, rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The part's preset with the table's rows in place of its own."""
    values = {**read_yaml(preset.with_name(part.preset)), **part.changes}
    chosen = {name: part.differing.get(name, rows[name]) for name in part.rows or rows}
    if values["kind"] == "closed_set":
        closed = {name: {"kind": "staged", "settings": settings} for name, settings in chosen.items()}
        return {**values, "seeds": list(part.seeds), "rows": {WITHOUT: {"kind": "staged"}, **closed, **part.others}}
    variants = {name: {"distil": settings} for name, settings in chosen.items()}
    return {**values, "baselines": [], "mean_of_teachers": False, "variants": variants}


def read_part(folder: Path) -> list[Measured]:
    """What a part's run folder holds, row by row, on the seeds that both the row and the student without it have."""
    closed = (Path(folder) / "trials").is_dir()
    if closed and not any((Path(folder) / "trials").glob("*/seed*/*.json")):
        return []
    numbers = _closed_numbers(Path(folder)) if closed else _reid_numbers(Path(folder))
    base = numbers.pop(WITHOUT if closed else OURS, {})
    found = []
    for row, own in numbers.items():
        draws = sorted(own.keys() & base.keys())
        if draws:
            found.append(
                Measured(
                    row,
                    tuple(own[draw][0] for draw in draws),
                    tuple(base[draw][0] for draw in draws),
                    tuple(own[draw][1] for draw in draws),
                    tuple(base[draw][1] for draw in draws),
                )
            )
    return found


def _closed_numbers(folder: Path) -> dict[str, dict[int, tuple[float, float]]]:
    """By row and seed: accuracy over all transfers, and seconds; of seeds that have all sources alike."""
    from reid_mtda.bench.closed.table import read_trials

    each: dict[str, dict[int, list[tuple[str, float, float]]]] = {}
    for trial in read_trials(folder):
        accuracy = float(np.mean(list(trial["accuracy"].values())))
        each.setdefault(trial["row"], {}).setdefault(trial["seed"], []).append(
            (trial["source"], accuracy, trial["wall_s"])
        )
    sources = {row: {seed: {s for s, _, _ in own} for seed, own in seeds.items()} for row, seeds in each.items()}
    whole = sources.get(WITHOUT, {})
    return {
        row: {
            seed: (float(np.mean([a for _, a, _ in own])), float(np.sum([t for _, _, t in own])))
            for seed, own in seeds.items()
            if sources[row][seed] == whole.get(seed)
        }
        for row, seeds in each.items()
    }


def _reid_numbers(folder: Path) -> dict[str, dict[int, tuple[float, float]]]:
    """By row and seed: mAP over all cameras, and seconds of its stage."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for place in sorted(folder.glob("[0-9]*")):
        if not (place / "scores.json").exists():
            continue
        run = read_run(place)
        for score in run["scores"]:
            method = str(score["method"])
            if not method.startswith(OURS) or "BatchNorm" in method:
                continue
            row = method.removeprefix(f"{OURS}, ")
            stage = run["stages"].get("student" if row == OURS else f"distilled student, {row}", {})
            found.setdefault(row, {})[int(run["run"]["seed"])] = (
                float(score["mAP"]),
                float(stage.get("seconds", np.nan)),
            )
    return found


def objectives_table(measured: Sequence[Measured]) -> list[str]:
    """Lines of Markdown: each row's number, its paired difference with interval, p after Holm, and cost.

    Points are percent; the interval is Student's over seeds; cost is the median over seeds of the seconds with the
    objective over those without.
    """
    differences = [paired_difference(own.values, own.others) for own in measured]
    adjusted = holm([difference.p for difference in differences])
    order = sorted(range(len(measured)), key=lambda number: -differences[number].mean)
    lines = []
    for number in order:
        own, found = measured[number], differences[number]
        times = np.asarray(own.seconds) / np.asarray(own.other_seconds)
        cells = [
            own.row,
            f"{100 * np.mean(own.values):.1f}",
            f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]",
            f"{adjusted[number]:.2f}",
            f"{np.median(times):.2f}",
            str(len(own.values)),
        ]
        lines.append([cell.replace("+nan", "?").replace("nan", "?") for cell in cells])
    heads = ["objective", "with", "minus without", "p, Holm", "time", "seeds"]
    bases = sorted({own.others for own in measured}, key=len)[-1]
    return [
        *markdown_table(heads, lines),
        "",
        f"Percent; the student without any has {100 * np.mean(bases):.1f} over {len(bases)} seeds. In brackets the "
        "95 % interval of the paired difference over seeds; p of Student's paired test, corrected over the rows "
        "(Holm); time: seconds with the objective over those without, median.",
    ]
