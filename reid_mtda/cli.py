"""``reid-mtda <verb>``: every verb is one function of ``workflow``; torch is imported only by the verbs that train."""

from __future__ import annotations

import errno
import logging
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda import cli_live
from reid_mtda.cli_live import JsonOpt, SiteArg
from reid_mtda.console import (
    Bars,
    console,
    drop_output,
    fail,
    print_camera_scores,
    print_failures,
    print_json,
    print_results,
    print_table,
)
from reid_mtda.errors import ConfigError, ReidError

app = typer.Typer(
    name="reid-mtda",
    help="Person re-identification that adapts itself, without labels, to every camera of a site.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
audit = typer.Typer(help="The record of who searched what, when and why.", no_args_is_help=True)
app.add_typer(audit, name="audit")
INTERRUPTED = 130
"""What typer returns after Ctrl-C."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder; a stopped demo goes on from there.")] = Path("runs/demo"),
    config: Annotated[Path | None, typer.Option(help="Another preset than configs/adapt/demo.yaml.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. seed=1 or distil.steps=50.")] = None,
) -> None:
    """Run the main job on the embedded street: footage, crops, teachers, one student, gallery, answers."""
    from reid_mtda.workflow.demo import demo as run_demo

    with Bars() as bars:
        report = run_demo(out, config, set_ or (), bars)
    print_results(report["results"])
    console.print(f"\nLook at {out / 'report.html'} and {out / 'retrieval.png'}. What to type next:", highlight=False)
    for command in report["next"]:
        print(f"  {command}", file=sys.stderr)
    print_failures(report["failures"])


@app.command()
def harvest(
    site: SiteArg,
    out: Annotated[Path, typer.Option(help="Folder for the crops, one sub-folder per camera.")],
    max_crops: Annotated[int, typer.Option(min=1, max=100, help="Best crops kept of one tracklet.")] = 8,
) -> None:
    """Turn a site's footage into crops: detect and follow people, keep the best pictures of each."""
    from reid_mtda.site import load_site
    from reid_mtda.workflow.footage import harvest_site

    with Bars() as bars:
        reports, failures = harvest_site(load_site(site), out, max_crops, bars)
    print_table(
        ("camera", "frames", "detections", "tracklets", "crops"),
        [(r.camera, str(r.frames), str(r.detections), str(r.tracklets), str(r.crops)) for r in reports.values()],
    )
    print_failures(failures)


@app.command()
def adapt(
    site: SiteArg,
    config: Annotated[Path, typer.Option(help="Preset, e.g. configs/adapt/demo.yaml.")],
    out: Annotated[Path, typer.Option(help="Run folder; a stopped job goes on from there.")],
    crops: Annotated[
        Path | None, typer.Option(help="Learn from the crops that a service keeps, STATE/crops, instead of footage.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. seed=1 or distil.steps=50.")] = None,
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


@app.command()
def evaluate(
    model: Annotated[Path | None, typer.Option("--model", help="Exported model folder.")] = None,
    data: Annotated[str, typer.Option(help="market1501, msmt17, cuhk03np, torchreid:NAME.")] = "market1501",
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    features: Annotated[Path | None, typer.Option(help="Score a file of embeddings (.npz) instead.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Score harvested crops, tracklet by tracklet.")] = None,
    truth: Annotated[Path | None, typer.Option(help="With --crops: folder of CAMERA.txt truth in MOT format.")] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours.")] = False,
    json_: JsonOpt = False,
) -> None:
    """Score a model on a data set, or embeddings alone: CMC, mAP, mINP, per camera and camera pair."""
    from reid_mtda.evaluate.bootstrap import MEASURES, interval
    from reid_mtda.evaluate.retrieval import scores_to_json
    from reid_mtda.workflow.answers import evaluate_model

    with Bars() as bars:
        scores, names = evaluate_model(
            model=model, data=data, root=root, features=features, crops=crops, truth=truth, rerank=rerank, progress=bars
        )
    if json_:
        print_json(scores_to_json(scores, names))
        return
    ranks = {f"rank-{rank}": f"{100 * scores.cmc[rank - 1]:.1f}" for rank in (1, 5, 10) if rank <= len(scores.cmc)}
    print_table(("mAP %", "mINP %", *ranks), [(f"{100 * scores.mAP:.1f}", f"{100 * scores.mINP:.1f}", *ranks.values())])
    left_out = scores.num_queries - scores.num_valid_queries
    console.print(f"{scores.num_valid_queries} queries; {left_out} without an answer in another camera left out")
    if scores.per_person is not None:
        bounds = {name: interval([scores.per_person], measure) for name, measure in MEASURES.items()}
        said = ", ".join(f"{name} {100 * low:.1f} to {100 * high:.1f} %" for name, (low, high) in bounds.items())
        console.print(f"95 % intervals, bootstrap over {len(scores.per_person.pids)} people: {said}", highlight=False)
    print_camera_scores(scores, names)


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="A run's checkpoint, torchreid weights (.npz), or .onnx / .xml.")],
    out: Annotated[Path, typer.Option(help="Model folder to make.")],
    crops: Annotated[Path | None, typer.Option(help="Real crops on which the export is compared with torch.")] = None,
    arch: Annotated[str | None, typer.Option(help="For torchreid's weights: the network, e.g. osnet_x0_25.")] = None,
    height: Annotated[int | None, typer.Option(min=8, help="Crop height the network was trained at.")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="Crop width the network was trained at.")] = None,
    bgr255: Annotated[bool, typer.Option("--bgr255", help="A ready-made network that takes BGR in 0..255.")] = False,
) -> None:
    """Make a model folder that runs without torch; refused when it answers otherwise than torch does."""
    from reid_mtda.workflow.answers import export_weights

    manifest = export_weights(weights, out, crops=crops, arch=arch, height=height, width=width, bgr255=bgr255)
    console.print(f"model {manifest.model_id} stands in {out}", highlight=False)


app.command()(cli_live.index)
app.command()(cli_live.search)
app.command()(cli_live.serve)
app.command()(cli_live.token)
audit.command()(cli_live.verify)


@app.command()
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
    full: Annotated[bool, typer.Option("--full", help="The long table: the preset's NAME_full.yaml instead.")] = False,
) -> None:
    """Run a benchmark, every method under one budget: closed sets (Digits, Office31, ...) or re-identification."""
    from reid_mtda.schema import read_yaml

    if full:
        config, short = config.with_name(f"{config.stem}_full.yaml"), config
        if not config.is_file():
            raise ConfigError(f"--full: {short} has no long table, expected {config}; leave it out")
    closed = "rows" in read_yaml(config)
    unfit = {"--seed": seeds, "--set": set_, "--targets-by": targets_by} if closed else {"--workers": workers > 1}
    for option in (name for name, given in unfit.items() if given):
        kind, remedy = ("closed sets", "write it into the preset") if closed else ("re-identification", "leave it out")
        raise ConfigError(f"{option}: {config} is a benchmark of {kind}, which does not take it; {remedy}")
    if closed:
        from reid_mtda.bench import run_benchmark

        made = run_benchmark(config, out, root=root, weights=weights or Path(), workers=workers)
    else:
        from reid_mtda.workflow.experiment import run_seeds

        with Bars() as bars:
            made = run_seeds(
                config, out, seeds or (1, 2, 3), set_ or (), bars, root=root, weights=weights, targets_by=targets_by
            )
    print(made.read_text(encoding="utf-8"))


@app.command()
def table(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders of one experiment, a seed each; or a closed-set benchmark's.")
    ],
    data: Annotated[str, typer.Option(help="With --root: archive, market1501, ..., torchreid:NAME.")] = "archive",
    root: Annotated[Path | None, typer.Option(help="Score the runs' networks on this data set instead.")] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Time and memory of the first run instead.")] = False,
    page: Annotated[Path | None, typer.Option(help="Write it into this page between <!-- NAME --> markers.")] = None,
    name: Annotated[str, typer.Option(help="Name of the markers.")] = "street",
) -> None:
    """Make the results table of finished runs: mean and spread over seeds, from the run folders alone."""
    from reid_mtda.evaluate.seeds import fill_page, seeds_table, stages_table

    if root is not None:
        from reid_mtda.workflow.experiment import table_elsewhere

        text = table_elsewhere(runs, data, root)
    elif (runs[0] / "trials").is_dir():
        from reid_mtda.evaluate.tables import markdown, read_trials, summarise

        text = markdown(summarise(read_trials(runs[0]))).rstrip()
    else:
        text = stages_table(runs[0]) if stages else seeds_table(runs)
    if page is None:
        print(text)
    else:
        fill_page(page, name, text)


def main() -> None:
    """Run the command line: a ReidError is one line on standard error and exit code 2, never a traceback."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if sys.argv[1:] in ([], ["audit"]):
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except typer.TyperException as error:
        message, context = getattr(error, "format_message", error.__str__)(), getattr(error, "ctx", None)
        fail(f"{message.rstrip('.')}; see '{context.command_path if context else 'reid-mtda'} --help'")
    except (KeyboardInterrupt, typer.Abort):
        fail("stopped by Ctrl-C; what was finished is kept: run the same command again to go on")
    except ReidError as error:
        fail(str(error))
    except OSError as error:
        drop_output()
        if error.errno == errno.EPIPE:
            sys.exit(2)
        where = error.filename or "disk or standard output"  # a failed write does not tell where it went
        if error.errno == errno.ENOSPC:
            fail(f"{where}: no space left; free some and run the same command again")
        fail(f"{where}: {error.strerror or error}; check the path and its permissions")
    sys.exit(code if isinstance(code, int) else 0)
