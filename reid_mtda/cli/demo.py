"""``reid-mtda demo``: the main job on the embedded street."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import DeviceOpt, PrecisionOpt, SetOpt, ThreadsOpt
from reid_mtda.console import Bars, console, print_failures, print_results


def demo(
    out: Annotated[Path, typer.Option(help="Run folder; a stopped demo goes on from there.")] = Path("runs/demo"),
    config: Annotated[Path | None, typer.Option(help="Another preset than configs/adapt/demo.yaml.")] = None,
    set_: SetOpt = None,
    device: DeviceOpt = "auto",
    precision: PrecisionOpt = "fp32",
    threads: ThreadsOpt = None,
) -> None:
    """Run the main job on the embedded street: footage, crops, teachers, one student, gallery, answers."""
    from reid_mtda.bench.demo import demo as run_demo
    from reid_mtda.models.device import choose_compute

    compute = choose_compute(device, precision, threads)
    with Bars() as bars:
        report = run_demo(out, config, set_ or (), bars, compute)
    print_results(report["results"])
    console.print(f"\nLook at {out / 'report.html'} and {out / 'retrieval.png'}. What to type next:", highlight=False)
    for command in report["next"]:
        print(f"  {command}", file=sys.stderr)
    print_failures(report["failures"])
