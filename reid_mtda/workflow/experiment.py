"""One experiment on labelled data sets: their training halves, labels taken away, are the targets; the rest scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reid_mtda.config import AdaptConfig, load_config
from reid_mtda.evaluate.seeds import plot_seeds, seeds_table
from reid_mtda.runs import Progress, atomic_write, open_run, silent, stage
from reid_mtda.workflow.adapt import (
    STUDENT_SOURCE,
    TEACHER_SOURCE,
    adapt_teachers,
    distil_student,
    load_source,
    pretrain,
)
from reid_mtda.workflow.baselines import train_baselines
from reid_mtda.workflow.demo import demo
from reid_mtda.workflow.score import score_run
from reid_mtda.workflow.targets import load_benchmark, together, with_tracklets


def run_seeds(
    preset: Path,
    out: Path,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    progress: Progress = silent,
    *,
    root: Path | None = None,
    weights: Path | None = None,
) -> Path:
    """Run a re-identification preset once per seed, in ``out/SEED``; return the path of the table of them all.

    ``root`` and ``weights`` are the folders of the data sets and of the weights that the preset names. A preset
    without ``targets`` films the embedded street, as the demo does. Finished seeds are kept.

    Raises:
        ConfigError: a preset or an override that does not fit, or a run folder with other settings.
    """
    for seed in seeds:
        config = load_config(preset, [*overrides, f"seed={seed}"], root=root, weights=weights)
        if config.targets:
            run_experiment(config, Path(out) / str(seed), progress)
        else:
            demo(Path(out) / str(seed), preset, [*overrides, f"seed={seed}"], progress)
    folders = [Path(out) / str(seed) for seed in seeds]
    path = Path(out) / "table.md"
    with atomic_write(path) as temporary:
        temporary.write_text(seeds_table(folders) + "\n", encoding="utf-8")
    plot_seeds(folders, Path(out) / "results.png")
    return path


def run_experiment(config: AdaptConfig, out: Path, progress: Progress = silent) -> list[dict[str, Any]]:
    """Teachers, student, baselines and variants on ``config.targets``; the rows of ``scores.json``.

    Raises:
        ConfigError: ``out`` holds a run with other settings.
        DataError: targets that are not there or hold nothing to adapt to.
    """
    run = open_run(out, seed=config.seed, config=config.model_dump())
    with stage(run, "data"):
        source, benchmark = load_source(config, run), load_benchmark(config.targets, run)
    targets = benchmark.unlabelled
    with stage(run, "source training"):
        teacher_source = pretrain(run, TEACHER_SOURCE, config.teacher, config.teacher_source, source, config, progress)
        student_source = pretrain(run, STUDENT_SOURCE, config.student, config.student_source, source, config, progress)
    with stage(run, "teachers"):
        adapt_teachers(run, teacher_source, source, targets, config, progress)
    with stage(run, "student"):
        distil_student(run, student_source, source, targets, config, progress)
    with stage(run, "baselines and variants"):
        labelled = together(list(benchmark.labelled.values()))
        train_baselines(
            run,
            config,
            source,
            targets,
            labelled,
            progress,
            lambda kind: with_tracklets(benchmark, config.targets, kind),
        )
    with stage(run, "score"):
        return score_run(run, config, benchmark.tests, targets)
