"""Run a closed-set benchmark: every row on every source and seed.

A *trial* is one source and one seed; a *row* is one method. What a row needs of a trial's teachers is trained once and
shared by the rows. A finished row of a trial is a JSON file: the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from reid_mtda.bench.closed.methods import KINDS, WITHOUT_TARGETS, with_own_batchnorm
from reid_mtda.bench.closed.published import check_quirks
from reid_mtda.bench.closed.settings import BenchmarkConfig, row_settings, source_mass, teacher_settings
from reid_mtda.bench.closed.table import write_tables
from reid_mtda.bench.closed.trial import Ensemble, Trial
from reid_mtda.data.classification import CLOSED_SETS
from reid_mtda.data.closed_domain import ClosedDomain
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.files import write_json
from reid_mtda.models.cost import count_macs, median_ms
from reid_mtda.progress import Progress, silent
from reid_mtda.provenance import versions
from reid_mtda.runs import HOST, Compute, Run, open_run, stage
from reid_mtda.schema import load_yaml


def run_benchmark(
    config: Path,
    out: Path,
    root: Path | None = None,
    weights: Path = Path(),
    workers: int = 1,
    compute: Compute = HOST,
) -> Path:
    """Run every missing trial of the preset ``config`` into the run folder ``out``; return the table's path.

    Args:
        config: a file of configs/benchmark.
        out: run folder; a stopped benchmark goes on there.
        root: folder of the data set.
        weights: folder of ImageNet weight files that the preset names.
        workers: processes, one thread each; 1 runs here with torch's threads.
        compute: where torch computes, as ``models.device.choose_compute`` gives it.

    Raises:
        DataError: no data set at ``root``.
        ConfigError: a preset with unknown keys, domains or settings; or ``out`` holds another benchmark.
    """
    settings = load_yaml(Path(config), BenchmarkConfig)
    domains = load_domains(settings, root)
    sources = settings.sources or tuple(domains)
    unknown = sorted(set(sources) - set(domains))
    if unknown:
        raise ConfigError(f"{config}: sources: got {unknown[0]!r}, expected some of {', '.join(domains)}")
    for name, row in settings.rows.items():
        teacher_settings(settings, row)
        row_settings(settings, row, where=f"{config}: rows.{name}")
        check_quirks(row.quirks, where=f"{config}: rows.{name}.quirks")
        if row.quirks and not row.kind.startswith("progressive"):
            raise ConfigError(f"{config}: rows.{name}.quirks: are of progressive rows, got a {row.kind} row; drop them")
    run = open_run(Path(out), seed=settings.seeds[0], config=settings.model_dump(mode="json"), compute=compute)
    command = " ".join(["python", *sys.argv]) if sys.argv else ""
    write_json(run.folder / "provenance.json", {"command": command, "workers": workers, **versions()})
    jobs = [(settings, root, Path(weights), run.folder, s, seed, compute) for seed in settings.seeds for s in sources]
    if workers == 1:
        for job in jobs:
            run_trial(*job)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for future in [pool.submit(_run_trial_alone, *job) for job in jobs]:
                future.result()
    return write_tables(run.folder)


def load_domains(config: BenchmarkConfig, root: Path | None) -> dict[str, ClosedDomain]:
    """The domains of the preset's data set.

    Raises:
        DataError: ``root`` is not given, or does not hold the data set.
    """
    if root is None:
        raise DataError(f"{config.data}: got no --root, expected the data set's folder; nothing is downloaded")
    domains = CLOSED_SETS[config.data](Path(root), size=config.size)
    if config.max_pictures:
        domains = {name: domain.limited(config.max_pictures) for name, domain in domains.items()}
    return domains


def _run_trial_alone(*job: Any) -> None:
    torch.set_num_threads(1)
    run_trial(*job)


def run_trial(
    config: BenchmarkConfig,
    root: Path | None,
    weights: Path,
    folder: Path,
    source: str,
    seed: int,
    compute: Compute = HOST,
    progress: Progress = silent,
) -> None:
    """Run the rows of one source and seed that have no result yet.

    Args:
        config: settings of the whole benchmark.
        root: folder of the data sets; None: as the preset says.
        weights: folder of pre-trained weights.
        folder: the run folder.
        source: the source domain.
        seed: of what is drawn.
        compute: where torch computes, and in which precision.
        progress: called as the work goes on.
    """
    place = Path(folder) / "trials" / source / f"seed{seed}"
    missing = [name for name in config.rows if not (place / f"{name}.json").exists()]
    if not missing:
        return
    domains = load_domains(config, root)
    own = domains.pop(source)
    for name in missing:
        row = config.rows[name]
        chosen = config.model_copy(update={"selection": row.selection or config.selection})
        trial = Trial(chosen, own, domains, weights, Run(place, seed, compute), progress)
        if config.init == "source_only":  # a start that is trained is no row's own time
            for net in (row.student or config.student, row.teacher_net or config.teacher):
                trial.build(net, "start")
        run = trial.run.child(f"rows/{name}", drawn_as=row.kind)
        began = time.perf_counter()
        trial.forget_unfinished(run)
        with stage(run, "row"):
            models = KINDS[row.kind](trial, row, run)
            if row.own_batchnorm:
                models = with_own_batchnorm(trial, models)
        result = {
            "row": name,
            "kind": row.kind,
            "source": source,
            "seed": seed,
            "selection": "last" if row.kind in WITHOUT_TARGETS else chosen.selection,
            "accuracy": {target: trial.score(models[target], target) for target in domains},
            "source_mass": source_mass(config, row, targets=len(domains)),
            **_cost(models, config.size),
            "wall_s": round(time.perf_counter() - began - trial.new_teacher_seconds + trial.reused_seconds, 2),
            "teachers_s": round(trial.teacher_seconds, 2),
            "peak_mb": _peak(run),
            **versions(),
        }
        write_json(place / f"{name}.json", result)


def _cost(models: Mapping[str, Ensemble], size: int) -> dict[str, float | int]:
    """Weights of everything a deployment needs, and MACs and latency of one picture on one target.

    Networks that differ in their BatchNorm statistics alone are one network; each one's statistics count.
    """
    everything = {id(model): model for ensemble in models.values() for model in ensemble}.values()
    weights = {id(weight): weight.numel() for model in everything for weight in model.parameters()}
    distinct = {tuple(id(weight) for weight in model.parameters()) for model in everything}
    statistics = sum(b.numel() for model in everything for b in model.buffers() if b.is_floating_point())
    ensemble = next(iter(models.values()))
    picture = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        latency_ms = median_ms(lambda: [model.eval()(picture) for model in ensemble])
    return {
        "weights": sum(weights.values()) + statistics,
        "networks": len(distinct),
        "macs": sum(count_macs(model, (size, size)) for model in ensemble),
        "latency_ms": round(latency_ms, 3),
    }


def _peak(run: Run) -> float:
    return float(json.loads((run.folder / "stages.json").read_text(encoding="utf-8"))["row"]["peak_mb"])
