"""One experiment on labelled data sets: their training halves, labels taken away, are the targets; the rest scores."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reid_mtda.bench.baselines import train_baselines
from reid_mtda.bench.demo import demo
from reid_mtda.bench.embedded import write_means
from reid_mtda.bench.retrieval_table import plot_seeds, read_run, seeds_table
from reid_mtda.bench.score import score_elsewhere, score_run, students
from reid_mtda.config import AdaptConfig, TargetData
from reid_mtda.data.archive import names_split
from reid_mtda.data.reid import load_folder
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.export import export_student
from reid_mtda.files import atomic_write
from reid_mtda.models.checkpoint import load_embedder
from reid_mtda.presets import load_config
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import HOST, Compute, Run, check_run_format, open_run, stage
from reid_mtda.schema import parse
from reid_mtda.vision.preprocess import read_image
from reid_mtda.workflow.adapt import load_source
from reid_mtda.workflow.targets import concat_sets, load_benchmark, load_pictures_of, load_targets, with_tracklets
from reid_mtda.workflow.training import STUDENT_SOURCE, TEACHER_SOURCE, adapt_teachers, distil_student, pretrain


def run_seeds(
    preset: Path,
    out: Path,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    progress: Progress = silent,
    *,
    root: Path | None = None,
    weights: Path | None = None,
    targets_by: str | None = None,
    compute: Compute = HOST,
) -> Path:
    """Run a re-identification preset once per seed, in ``out/SEED``; return the path of the table of them all.

    ``root`` and ``weights`` are the folders of the data sets and of the weights that the preset names; ``targets_by``
    (``camera`` or ``set``) overrules how the preset splits its data sets. A preset without ``targets`` films the
    embedded street, as the demo does. Finished seeds are kept. ``compute`` is where torch computes.

    Args:
        preset: the preset's file.
        out: folder for what is made.
        seeds: of the runs, one each.
        overrides: ``key=value`` that stand above the file, e.g. ``distil.steps=50``.
        progress: called as the work goes on.
        root: folder of the data sets; None: as the preset says.
        weights: folder of pre-trained weights.
        targets_by: ``camera`` or ``set``: how data sets are split; None: as the preset says.
        compute: where torch computes, and in which precision.

    Raises:
        ConfigError: a preset or an override that does not fit, or a run folder with other settings.
    """
    if len(set(seeds)) != len(seeds) or min(seeds, default=-1) < 0:
        raise ConfigError(f"--seed: got {', '.join(map(str, seeds)) or 'none'}, expected numbers from 0, each once")
    places: dict[str, Any] = {"root": root, "weights": weights, "targets_by": targets_by}
    configs = {seed: load_config(preset, overrides, given={"seed": seed}, **places) for seed in seeds}
    first = configs[seeds[0]]
    if not first.targets and (first.test is None or first.test.name != "street"):
        raise ConfigError(
            f"{preset}: got neither rows (a closed set), targets (data sets) nor test: {{name: street}}, expected one "
            "of them; take a preset of configs/benchmark"
        )
    given = [f"--{name.replace('_', '-')}" for name, value in places.items() if value is not None]
    if not first.targets and given:
        raise ConfigError(f"{preset}: films the embedded street, got {given[0]}, which is for data sets; leave it out")
    for seed, config in configs.items():
        if config.targets:
            run_experiment(config, Path(out) / str(seed), progress, compute)
        else:
            demo(Path(out) / str(seed), preset, [*overrides, f"seed={seed}"], progress, compute)
    folders = [Path(out) / str(seed) for seed in seeds]
    path = Path(out) / "table.md"
    with atomic_write(path) as temporary:
        temporary.write_text(seeds_table(folders) + "\n", encoding="utf-8")
    plot_seeds(folders, Path(out) / "results.png")
    return path


def export_students(preset: Path, out: Path, seeds: Sequence[int]) -> list[Path]:
    """Make a model folder of each network for all cameras that the finished runs of ``run_seeds`` hold.

    Each has the means of the cameras' unlabelled crops, so that searches and scores with it can be centred. Rows whose
    BatchNorm statistics differ by camera are the row beside them with other statistics, and have none.

    Args:
        preset: as `run_seeds` took it; what decided the result is read from the runs.
        out: its folder.
        seeds: whose runs.

    Returns:
        The folders, ``out/SEED/exported/ROW``; those that stand there are kept.

    Raises:
        DataError: a run that is not finished.
        ModelError: an export that answers otherwise than torch.
    """
    folders = []
    for seed in seeds:
        place = Path(out) / str(seed)
        settings = {k: v for k, v in read_run(place)["run"]["config"].items() if k in AdaptConfig.model_fields}
        run, config = Run(place, seed), parse(AdaptConfig, settings, where=f"{place}/run.json")
        targets = load_targets(config.targets, run) if config.targets else load_folder(place / "crops")
        crops = [path for target in targets.values() for path in target.paths[:8]]
        for name, file in students(run, config).items():
            folder = place / "exported" / re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
            if not folder.exists():
                model = load_embedder(file, run=run)
                manifest = export_student(
                    model,
                    folder,
                    arch=model.spec.arch,
                    preprocess=config.input.preprocess(),
                    trained_on=f"{preset.stem}, seed {seed}: {name}",
                    check_crops=[read_image(path) for path in crops[:32]],
                )
                write_means(folder, manifest, targets, [target.title for target in config.targets])
            folders.append(folder)
    return folders


def run_experiment(
    config: AdaptConfig, out: Path, progress: Progress = silent, compute: Compute = HOST
) -> list[dict[str, Any]]:
    """Teachers, student, baselines and variants on ``config.targets``; the rows of ``scores.json``.

    Args:
        config: settings of the whole run.
        out: folder for what is made.
        progress: called as the work goes on.
        compute: where torch computes, and in which precision.

    Raises:
        ConfigError: ``out`` holds a run with other settings.
        DataError: targets that are not there or hold nothing to adapt to, or one that could not be adapted to.
    """
    run = open_run(out, seed=config.seed, config=config.model_dump(), compute=compute)
    with stage(run, "data"):
        source, benchmark = load_source(config, run), load_benchmark(config.targets, run)
    targets = benchmark.unlabelled
    with stage(run, "source training"):
        teacher_source = pretrain(run, TEACHER_SOURCE, config.teacher, config.teacher_source, source, config, progress)
        student_source = pretrain(run, STUDENT_SOURCE, config.student, config.student_source, source, config, progress)
    with stage(run, "teachers"):
        failures = adapt_teachers(run, teacher_source, source, targets, config, progress)
        if failures:
            raise DataError(
                f"{run.folder}: a table needs every target, got {len(failures)} without a teacher: "
                + "; ".join(f"{name}: {message}" for name, message in failures.items())
            )
    with stage(run, "student"):
        distil_student(run, student_source, source, targets, config, progress)
    train_baselines(
        run,
        config,
        source,
        targets,
        concat_sets(list(benchmark.labelled.values())),
        progress,
        lambda kind: with_tracklets(benchmark, config.targets, kind),
    )
    with stage(run, "score"):
        return score_run(run, config, benchmark.tests, targets)


def table_elsewhere(folders: Sequence[Path], data: str, root: Path) -> str:
    """The table of finished runs, a seed each, with their networks scored on the test half of another data set.

    ``archive`` is an ``.npz`` file of crops: its own test people are tested, all people where it names none.

    Args:
        folders: run folders, a seed each.
        data: name of a data set, or an archive.
        root: folder of the data set.

    Raises:
        ConfigError: an unknown data set.
        DataError: runs that are not finished or differ in more than the seed, or no test pictures at ``root``.
    """
    scores = []
    with tempfile.TemporaryDirectory() as room:
        given = data == "archive" and names_split(root)
        target = TargetData(name=data, root=str(root), test_share=1.0, split="given" if given else "drawn")
        split = load_pictures_of(target, Run(Path(room), 0))[1]
        if not len(split.query):
            raise DataError(f"{root}: got no test pictures, expected some; complete that half")
        for folder in folders:
            card = read_run(folder)["run"]
            check_run_format(card, folder)
            config = {k: v for k, v in card["config"].items() if k in AdaptConfig.model_fields}
            scores.append(score_elsewhere(folder, parse(AdaptConfig, config, where=f"{folder}/run.json"), split))
    return seeds_table(folders, scores)
