"""``reid-mtda serve``: the live service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import ModelOpt, SiteArg


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
    device: Annotated[
        str | None, typer.Option(help="Where the model runs, as for 'search'; else as the settings say.")
    ] = None,
    holdout: Annotated[
        str | None, typer.Option(help="Labelled pictures that a new model must rank no worse: FOLDER or NAME:FOLDER.")
    ] = None,
    accept_retention: Annotated[
        bool,
        typer.Option("--accept-retention", help="The clock is right: delete what is past its retention at this start."),
    ] = False,
) -> None:
    """Open every camera of a site, keep the gallery filled, and answer on a page and an API until Ctrl-C."""
    from reid_mtda.service.run import ServeOptions
    from reid_mtda.service.run import serve as run_service

    options = ServeOptions(
        host=host, port=port, config=config, state=state, certificate=certificate, key=key, tls=tls,
        device=device, holdout=holdout, accept_retention=accept_retention,
    )  # fmt: skip
    run_service(site, model, gallery, options, tell=print)
