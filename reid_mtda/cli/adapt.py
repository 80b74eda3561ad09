"""``reid-mtda adapt``: one student for every camera of a site, or for crops that lie on disk."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import DeviceOpt, PrecisionOpt, SetOpt, ThreadsOpt
from reid_mtda.console import Bars, complain, console, print_failures
from reid_mtda.errors import ConfigError


def adapt(
    config: Annotated[Path, typer.Option(help="Preset, e.g. configs/adapt/demo.yaml.")],
    out: Annotated[Path, typer.Option(help="Run folder; a stopped job goes on from there.")],
    site: Annotated[
        Path | None, typer.Argument(help="Folder with one YAML file per camera; without it see --crops and --data.")
    ] = None,
    crops: Annotated[
        Path | None,
        typer.Option(help="With a site: crops that a service keeps, STATE/crops. Alone: a folder of crops per camera."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A data set as target: market1501, msmt17, torchreid:NAME, ..., archive.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="With --data: its folder, or an archive's file.")] = None,
    tracklets: Annotated[str, typer.Option(help="With --data: given, as the data set tells them, or none.")] = "given",
    split: Annotated[
        str | None, typer.Option(help="With --data archive: given, validation or drawn; else its own, or everybody.")
    ] = None,
    set_: SetOpt = None,
    device: DeviceOpt = "auto",
    precision: PrecisionOpt = "fp32",
    threads: ThreadsOpt = None,
) -> None:
    """Adapt one student to every camera, without labels: of a site, a folder of crops, a data set or the preset's."""
    from reid_mtda.models.device import choose_compute
    from reid_mtda.presets import load_config
    from reid_mtda.site import load_site
    from reid_mtda.workflow.adapt import adapt_cameras, adapt_crops
    from reid_mtda.workflow.people import PEOPLE
    from reid_mtda.workflow.targets import choose_target

    given = {}
    if (data is None) != (root is None):
        raise ConfigError("adapt: --data and --root belong together: the name of a data set and where it lies")
    if data is None and (split is not None or tracklets != "given"):
        raise ConfigError("adapt: --tracklets and --split are for --data; leave them out")
    if sum(given is not None for given in (site or crops, data)) > 1:
        raise ConfigError("adapt: got --data beside a site or crops, expected one of them")
    if data is not None and root is not None:
        if tracklets not in ("given", "none"):
            raise ConfigError(f"--tracklets: got {tracklets!r}, expected given or none")
        given["targets"] = [choose_target(data, root, tracklets, split)]
    settings, compute = load_config(config, set_ or (), given=given), choose_compute(device, precision, threads)
    if site is not None and crops is not None:
        # Copies of them must not stay behind where a service manager or a job queue stops it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Bars() as bars:
        if site is not None:
            adapted = adapt_cameras(load_site(site), settings, out, bars, crops=crops, compute=compute)
        else:
            adapted = adapt_crops(settings, out, bars, crops=crops, compute=compute)
    console.print(
        f"student {adapted.manifest.model_id} stands in {adapted.model_folder}. What to type next:", highlight=False
    )
    model = ["--model", str(adapted.model_folder)]
    command = ["reid-mtda", "index", str(site or "YOUR_SITE"), *model, "--gallery", str(out / "gallery")]
    if data is not None and data != "archive":
        command = ["reid-mtda", "evaluate", *model, "--data", data, "--root", str(root)]
    print(f"  {shlex.join(command)}", file=sys.stderr)
    if adapted.too_few:
        complain(
            f"too few people to call this student better than the model before: {', '.join(adapted.too_few)} "
            f"({out / PEOPLE}); film longer, or keep that model until the gate has judged"
        )
    print_failures(adapted.failures)
