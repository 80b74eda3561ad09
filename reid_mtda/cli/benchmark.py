"""``reid-mtda benchmark``: every method under one budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import DeviceOpt, PrecisionOpt, ThreadsOpt
from reid_mtda.console import Bars, console
from reid_mtda.errors import ConfigError

KINDS = ("closed_set", "reid", "objectives")
"""What a preset of a benchmark may be of, by its key ``kind``."""


def benchmark(
    config: Annotated[Path, typer.Argument(help="A preset of configs/benchmark, e.g. configs/benchmark/digits.yaml.")],
    out: Annotated[Path, typer.Option(help="Run folder; a stopped benchmark goes on from there.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights that the preset names.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each; closed sets alone.")] = 1,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Re-identification: run this seed, again for more; else 1, 2, 3."),
    ] = None,
    targets_by: Annotated[
        str | None, typer.Option(help="Re-identification: data sets as targets, camera by camera, or each a set.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Re-identification: override of the preset.")] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Re-identification: make a model folder of each row's student as well.")
    ] = False,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", help="Objectives: run this part of the table, again for more; else all."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The long table: the preset's NAME_full.yaml instead.")] = False,
    device: DeviceOpt = "auto",
    precision: PrecisionOpt = "fp32",
    threads: ThreadsOpt = None,
) -> None:
    """Run a benchmark, every method under one budget: closed sets (Digits, ...), re-identification or objectives."""
    from reid_mtda.models.device import choose_compute
    from reid_mtda.schema import read_yaml

    if full:
        config, short = config.with_name(f"{config.stem}_full.yaml"), config
        if not config.is_file():
            raise ConfigError(f"--full: {short} has no long table, expected {config}; leave it out")
    stated = read_yaml(config).get("kind")
    if stated not in KINDS:
        raise ConfigError(f"{config}: kind: got {stated!r}, expected one of {', '.join(KINDS)}, which its table is of")
    closed = stated == KINDS[0]
    unfit = {"--seed": seeds, "--set": set_, "--targets-by": targets_by, "--export": export}
    unfit = {"--workers": workers > 1} if stated == KINDS[1] else unfit
    of_kind = dict(zip(KINDS, ("closed sets", "re-identification", "objectives"), strict=True))
    for option in (name for name, given in unfit.items() if given):
        kind = of_kind[str(stated)]
        remedy = "leave it out" if stated == KINDS[1] else "write it into the preset"
        raise ConfigError(f"{option}: {config} is a benchmark of {kind}, which does not take it; {remedy}")
    if part and stated != KINDS[2]:
        raise ConfigError(f"--part: {config} has no parts, expected a preset of kind {KINDS[2]}; leave it out")
    compute = choose_compute(device, precision, threads)
    if stated == KINDS[2]:
        from reid_mtda.bench.objectives import run_objectives

        with Bars() as bars:
            places: dict[str, Path | None] = {"root": root, "weights": weights}
            made = run_objectives(
                config, out, **places, parts=part or (), workers=workers, progress=bars, compute=compute
            )
        print(made.read_text(encoding="utf-8"))
        return
    if closed:
        from reid_mtda.bench.closed.runner import run_benchmark

        made = run_benchmark(config, out, root=root, weights=weights or Path(), workers=workers, compute=compute)
    else:
        from reid_mtda.bench.experiment import run_seeds

        with Bars() as bars:
            given = {"root": root, "weights": weights}
            made = run_seeds(
                config, out, seeds or (1, 2, 3), set_ or (), bars, **given, targets_by=targets_by, compute=compute
            )
        if export:
            from reid_mtda.bench.experiment import export_students

            for folder in export_students(config, out, seeds or (1, 2, 3)):
                console.print(f"model folder {folder}", highlight=False)
    print(made.read_text(encoding="utf-8"))
