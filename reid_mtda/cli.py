"""``reid-mtda <verb>``: every verb is one function of ``workflow``; torch is imported only by the verbs that train."""

from __future__ import annotations

import errno
import logging
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from reid_mtda.console import (
    Bars,
    console,
    drop_output,
    fail,
    print_failures,
    print_hits,
    print_json,
    print_results,
    print_table,
)
from reid_mtda.errors import ConfigError, ReidError, StorageError

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

SiteArg = Annotated[Path, typer.Argument(help="Folder with one YAML file per camera, e.g. cameras/street.")]
ModelOpt = Annotated[Path, typer.Option("--model", help="Exported model folder (model.onnx and manifest.json).")]
GalleryOpt = Annotated[Path, typer.Option("--gallery", help="Gallery folder.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]


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
    rows = [
        (
            names[row.query_camid]
            if row.query_camid is not None and row.query_camid < len(names)
            else f"camera {row.query_camid}",
            str(row.num_valid_queries),
            f"{100 * row.mAP:.1f}",
            f"{100 * row.rank1:.1f}",
        )
        for row in scores.per_camera
    ]
    print_table(("query camera", "queries", "mAP %", "rank-1 %"), rows)


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


@app.command()
def index(site: SiteArg, model: ModelOpt, gallery: GalleryOpt) -> None:
    """Fill a gallery with everyone a site's footage shows."""
    from reid_mtda.site import load_site
    from reid_mtda.workflow.footage import index_site

    with Bars() as bars:
        reports, failures = index_site(load_site(site), model, gallery, bars)
    print_table(
        ("camera", "frames", "detections", "sightings"),
        [(r.camera, str(r.frames), str(r.detections), str(r.sightings)) for r in reports.values()],
    )
    print_failures(failures)


@app.command()
def search(
    picture: Annotated[Path, typer.Argument(help="Picture of the person asked for.")],
    model: Annotated[Path | None, typer.Option("--model", help="Exported model folder, with --gallery.")] = None,
    gallery: Annotated[Path | None, typer.Option("--gallery", help="Gallery folder, with --model.")] = None,
    server: Annotated[str | None, typer.Option(help="Ask a running service instead, e.g. http://host:8080.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="REID_MTDA_TOKEN", help="With --server: access token; the variable hides it.")
    ] = None,
    purpose: Annotated[str | None, typer.Option(help="With --server: why you search; it is audited.")] = None,
    case: Annotated[str | None, typer.Option(help="With --server: case reference; it is audited.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="With --server: PEM certificate to trust.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Sightings shown.")] = 10,
    camera: Annotated[list[str] | None, typer.Option(help="Only this camera; may be repeated.")] = None,
    since: Annotated[str | None, typer.Option(help="Only sightings from this time on, ISO 8601 with zone.")] = None,
    until: Annotated[str | None, typer.Option(help="Only sightings up to this time, ISO 8601 with zone.")] = None,
    min_score: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Only sightings this similar (cosine).")
    ] = None,
    detector: Annotated[str | None, typer.Option(help="Person detector for pictures that show more than one.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the answers as a picture here (.png).")] = None,
    json_: JsonOpt = False,
) -> None:
    """Where else was this person seen? Ranked sightings of a gallery, or of a running service."""
    from reid_mtda.workflow.footage import iso_time_s

    filters: dict[str, Any] = {
        "k": k,
        "cameras": camera or None,
        "start_s": iso_time_s(since, where="--since") if since else None,
        "end_s": iso_time_s(until, where="--until") if until else None,
        "min_score": min_score,
    }
    here = {"--model": model, "--gallery": gallery}
    if server is not None:
        from reid_mtda.service.client import Client

        given = {"--token": token, "--purpose": purpose, "--case": case}
        _check_options("with --server", needed=given, refused={**here, "--detector": detector, "--sheet": sheet})
        with Client(server, token or "", certificate=certificate) as client:
            found = client.search_picture(picture, purpose=purpose or "", case_reference=case or "", **filters)
        for name in found["unknown_cameras"]:
            console.print(f"camera {name!r} is not among those the service shows you", highlight=False)
    else:
        from reid_mtda.evaluate.pictures import check_sheet, draw_contact_sheet
        from reid_mtda.live.search import answer_to_json
        from reid_mtda.workflow.footage import search_gallery

        strangers = {"--purpose": purpose, "--case": case, "--certificate": certificate}
        _check_options("without --server", needed=here, refused=strangers)
        if sheet is not None:
            check_sheet(sheet)
        image, answer = search_gallery(picture, model or Path(), gallery or Path(), detector=detector, **filters)
        if sheet is not None:
            draw_contact_sheet(sheet, image, answer)
        found = answer_to_json(answer)
    if json_:
        print_json(found)
        return
    print_hits(found)
    if sheet is not None:
        console.print(f"look at {sheet}", highlight=False)


def _check_options(when: str, *, needed: Mapping[str, object], refused: Mapping[str, object]) -> None:
    for name, value in needed.items():
        if value is None:
            raise ConfigError(
                f"Missing option '{name}'; search expects --model and --gallery, "
                "or --server, --token, --purpose and --case; see 'reid-mtda search --help'"
            )
    for name, value in refused.items():
        if value is not None:
            raise ConfigError(f"search: got {name} {when}, where it means nothing; leave it out")


@app.command()
def serve(
    site: SiteArg,
    model: ModelOpt,
    gallery: Annotated[Path, typer.Option("--gallery", help="Gallery folder; made when missing.")],
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    config: Annotated[Path | None, typer.Option(help="Service settings, e.g. configs/live/street.yaml.")] = None,
    state: Annotated[Path | None, typer.Option(help="Tokens, audit and reviews; else beside the gallery.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM certificate for TLS, with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve over TLS; a certificate is made when none is given.")
    ] = False,
    check_set: Annotated[
        str | None, typer.Option(help="Labelled pictures that a new model must rank no worse: FOLDER or NAME:FOLDER.")
    ] = None,
) -> None:
    """Open every camera of a site, keep the gallery filled, and answer on a page and an API until Ctrl-C."""
    from reid_mtda.service.run import serve as run_service

    run_service(
        site, model, gallery, host=host, port=port, config=config, state=state,
        certificate=certificate, key=key, tls=tls, check_set=check_set, tell=print,
    )  # fmt: skip


@audit.command()
def verify(
    state: Annotated[Path, typer.Argument(help="State folder of a service: GALLERY-service unless --state named one.")],
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH as printed before; shows that no entries were cut off since.")
    ] = None,
) -> None:
    """Walk the whole chain: intact, with its count and last hash, or the first entry that was changed."""
    from reid_mtda.service.audit import FILE, verify_audit

    noted = None
    if head is not None:
        number, _, digest = head.partition(":")
        if not (number.isascii() and number.isdigit() and 0 < len(number) < 16 and len(digest) == 64):
            raise ConfigError(f"--head: got {head!r}, expected NUMBER:HASH as 'reid-mtda audit verify' printed it")
        noted = (int(number), digest.lower())
    report = verify_audit(state, head=noted)
    if not report.is_sound:
        raise StorageError(f"{state / FILE}: {report.fault}; keep the folder as it is and compare with a backup")
    print(f"intact: {report.entries} entries, head {report.entries}:{report.head}")


@app.command()
def benchmark(
    config: Annotated[Path, typer.Argument(help="A preset of configs/benchmark, e.g. configs/benchmark/digits.yaml.")],
    out: Annotated[Path, typer.Option(help="Run folder; a stopped benchmark goes on from there.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights that the preset names.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each; closed sets alone.")] = 1,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Re-identification: run this seed, again for more; else 0, 1, 2.")
    ] = None,
    targets_by: Annotated[
        str | None, typer.Option(help="Re-identification: data sets as targets, camera by camera, or each a set.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Re-identification: override of the preset.")] = None,
    full: Annotated[bool, typer.Option("--full", help="The long table: the preset's NAME_full.yaml instead.")] = False,
) -> None:
    """Run a benchmark, every method under one budget: closed sets (Digits, Office31, ...) or re-identification."""
    from reid_mtda.errors import ConfigError
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
        from reid_mtda.benchmark import run_benchmark

        made = run_benchmark(config, out, root=root, weights=weights or Path(), workers=workers)
    else:
        from reid_mtda.workflow.experiment import run_seeds

        with Bars() as bars:
            made = run_seeds(
                config, out, seeds or (0, 1, 2), set_ or (), bars, root=root, weights=weights, targets_by=targets_by
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
    elif (runs[0] / "cells").is_dir():
        from reid_mtda.evaluate.tables import markdown, read_cells, summarise

        text = markdown(summarise(read_cells(runs[0]))).rstrip()
    else:
        text = stages_table(runs[0]) if stages else seeds_table(runs)
    if page is None:
        print(text)
    else:
        fill_page(page, name, text)


def main() -> None:
    """Run the command line: a ReidError is one line on standard error and exit code 2, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if len(sys.argv) == 1:
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
