"""The verbs that fill galleries and answer from them; none of them needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from reid_mtda.console import Bars, console, print_failures, print_hits, print_json, print_table
from reid_mtda.errors import ConfigError, StorageError

SiteArg = Annotated[Path, typer.Argument(help="Folder with one YAML file per camera, e.g. cameras/street.")]
ModelOpt = Annotated[Path, typer.Option("--model", help="Exported model folder (model.onnx and manifest.json).")]
GalleryOpt = Annotated[Path, typer.Option("--gallery", help="Gallery folder.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]


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
        from reid_mtda.evaluate.rank_plots import check_sheet, draw_contact_sheet
        from reid_mtda.gallery.search import answer_to_json
        from reid_mtda.workflow.footage import search_gallery

        unused = {"--purpose": purpose, "--case": case, "--certificate": certificate}
        _check_options("without --server", needed=here, refused=unused)
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
    holdout: Annotated[
        str | None, typer.Option(help="Labelled pictures that a new model must rank no worse: FOLDER or NAME:FOLDER.")
    ] = None,
) -> None:
    """Open every camera of a site, keep the gallery filled, and answer on a page and an API until Ctrl-C."""
    from reid_mtda.service.run import serve as run_service

    run_service(
        site, model, gallery, host=host, port=port, config=config, state=state,
        certificate=certificate, key=key, tls=tls, holdout=holdout, tell=print,
    )  # fmt: skip


def token(
    state: Annotated[Path, typer.Argument(help="State folder of a service: GALLERY-service unless --state named one.")],
    user: Annotated[str, typer.Option(help="Whom it is for.")],
    role: Annotated[str, typer.Option(help="viewer, operator, reviewer or admin.")] = "admin",
    days: Annotated[float, typer.Option(help="How long it is valid.")] = 30.0,
) -> None:
    """Make an access token where the last one was lost; the service may run meanwhile."""
    from reid_mtda.service.audit import FILE, Audit
    from reid_mtda.service.auth import Auth, Role

    if not (state / FILE).is_file():
        raise StorageError(f"{state}: holds no {FILE}; expected the state folder of a service")
    if role.upper() not in Role.__members__:
        raise ConfigError(f"--role: got {role!r}, expected one of {', '.join(one.label for one in Role)}")
    auth, log = Auth(state), Audit(state)
    try:
        text, info = auth.create(user, Role[role.upper()], days=days, created_by="command line")
        log.add("command line", "token_created", token=info.id, for_user=user, role=info.role.label, cameras=None)
    finally:
        auth.close()
        log.close()
    print(text)


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
