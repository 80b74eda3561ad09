"""``reid-mtda search``: where else a person was seen."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import JsonOpt, ModelDeviceOpt
from reid_mtda.console import console, print_hits, print_json
from reid_mtda.errors import ConfigError


def search(
    picture: Annotated[Path, typer.Argument(help="Picture of the person asked for.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="With --gallery: model folder, or a name of 'reid-mtda models'.")
    ] = None,
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
    whole_picture: Annotated[
        bool, typer.Option("--whole-picture", help="With --server: search even where no person is found in it.")
    ] = False,
    centred: Annotated[
        bool, typer.Option("--centred", help="With --gallery: subtract each camera's mean before comparing.")
    ] = False,
    seen_camera: Annotated[
        str | None,
        typer.Option(help="With --centred, or --server that centres: the camera that took the picture, if known."),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Order the nearest 200 by the neighbours that they share with the picture.")
    ] = False,
    sheet: Annotated[Path | None, typer.Option(help="Write the answers as a picture here (.png).")] = None,
    device: ModelDeviceOpt = "cpu",
    json_: JsonOpt = False,
) -> None:
    """Where else was this person seen? Ranked sightings of a gallery, or of a running service."""
    from reid_mtda.evaluation.rank_plots import check_sheet, draw_contact_sheet
    from reid_mtda.gallery.filter import Filter
    from reid_mtda.vision.preprocess import read_image
    from reid_mtda.workflow.footage import iso_time_s

    start_s = iso_time_s(since, where="--since") if since else None
    end_s = iso_time_s(until, where="--until") if until else None
    if start_s is not None and end_s is not None and start_s > end_s:
        raise ConfigError(f"--since {since} lies after --until {until}; swap them")
    where = Filter(cameras=camera or None, start_s=start_s, end_s=end_s, min_score=min_score)
    here = {"--model": model, "--gallery": gallery}
    if sheet is not None:
        check_sheet(sheet)
    if server is not None:
        from reid_mtda.service.client import Client

        given = {"--token": token, "--purpose": purpose, "--case": case}
        unused: dict[str, object] = {**here, "--detector": detector, "--centred": "" if centred else None}
        _check_options("with --server", needed=given, refused=unused)
        with Client(server, token or "", certificate=certificate) as client:
            found = client.search_picture(
                picture,
                purpose=purpose or "",
                case_reference=case or "",
                k=k,
                where=where,
                whole_picture=whole_picture,
                seen_camera=seen_camera,
                rerank=rerank,
            )
            if sheet is not None:
                with tempfile.TemporaryDirectory() as folder:
                    draw_contact_sheet(sheet, read_image(picture), client.with_pictures(found, Path(folder)))
        if found["remark"]:
            console.print(found["remark"], highlight=False)
        for name in found["unknown_cameras"]:
            console.print(f"camera {name!r} is not among those the service shows you", highlight=False)
    else:
        from reid_mtda.gallery.search import answer_to_json
        from reid_mtda.workflow.footage import search_gallery

        unused = {"--purpose": purpose, "--case": case, "--certificate": certificate}
        unused["--whole-picture"] = "" if whole_picture else None
        _check_options("without --server", needed=here, refused=unused)
        image, answer = search_gallery(
            picture,
            model or Path(),
            gallery or Path(),
            detector=detector,
            k=k,
            where=where,
            device=device,
            centred=centred,
            seen_camera=seen_camera,
            rerank=rerank,
        )
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
