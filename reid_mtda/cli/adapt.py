"""``reid-mtda adapt``: one student for every camera of a site."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import SetOpt, SiteArg
from reid_mtda.console import Bars, console, print_failures


def adapt(
    site: SiteArg,
    config: Annotated[Path, typer.Option(help="Preset, e.g. configs/adapt/demo.yaml.")],
    out: Annotated[Path, typer.Option(help="Run folder; a stopped job goes on from there.")],
    crops: Annotated[
        Path | None, typer.Option(help="Learn from the crops that a service keeps, STATE/crops, instead of footage.")
    ] = None,
    set_: SetOpt = None,
) -> None:
    """Adapt one student to every camera of a site, without labels of the site."""
    from reid_mtda.config import load_config
    from reid_mtda.site import load_site
    from reid_mtda.workflow.adapt import adapt_cameras

    if crops is not None:  # copies of them must not stay behind where a service manager or a job queue stops it
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Bars() as bars:
        adapted = adapt_cameras(load_site(site), load_config(config, set_ or ()), out, bars, crops=crops)
    console.print(
        f"student {adapted.manifest.model_id} stands in {adapted.model_folder}. What to type next:", highlight=False
    )
    command = ["reid-mtda", "index", str(site), "--model", str(adapted.model_folder), "--gallery", str(out / "gallery")]
    print(f"  {shlex.join(command)}", file=sys.stderr)
    print_failures(adapted.failures)
