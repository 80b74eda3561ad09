"""``reid-mtda doctor``: what needs doing before, or while, a service runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import JsonOpt
from reid_mtda.console import print_json


def doctor(
    site: Annotated[
        Path | None, typer.Argument(help="Folder of camera files: each camera is asked for a frame.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Model folder, or a name of 'reid-mtda models'.")
    ] = None,
    gallery: Annotated[Path | None, typer.Option("--gallery", help="Gallery folder, for its disk.")] = None,
    state: Annotated[Path | None, typer.Option(help="State folder; else beside the gallery.")] = None,
    config: Annotated[Path | None, typer.Option(help="Service settings.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a camera may take for its first frame.")] = 10.0,
    json_: JsonOpt = False,
) -> None:
    """Look at packages, devices, networks, cameras, disk, clock and zone; exit code 1 when something needs doing."""
    from reid_mtda.workflow.doctor import Finding, Wanted, examine

    marks = {"ok": " ok ", "note": "note", "fault": "TODO"}
    found: list[Finding] = []
    for finding in examine(Wanted(site, model, gallery, state, config, timeout)):
        found.append(finding)
        if not json_:
            print(f"{marks[finding.state]}  {finding.part:<9} {finding.name}: {finding.text}", flush=True)
    faults = sum(finding.state == "fault" for finding in found)
    if json_:
        print_json({"is_sound": not faults, "findings": [asdict(finding) for finding in found]})
    elif faults:
        print(f"\n{faults} of {len(found)} need doing, marked TODO")
    raise typer.Exit(1 if faults else 0)
