"""``reid-mtda frigate``: a side-car of Frigate."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import GalleryOpt, ModelOpt


def frigate(
    settings: Annotated[Path, typer.Argument(help="YAML: mqtt (host, port ...), url of Frigate, retention_days ...")],
    model: ModelOpt,
    gallery: GalleryOpt,
) -> None:
    """Take the people whom Frigate finds into a gallery and tell whom each looks like, until Ctrl-C."""
    from reid_mtda.gallery.gallery import Gallery
    from reid_mtda.model import load_model
    from reid_mtda.schema import load_yaml
    from reid_mtda.service.notify.frigate import FrigateSettings, SideCar, run_side_car
    from reid_mtda.zoo.folder import resolve_model

    asked, loaded = load_yaml(settings, FrigateSettings), load_model(resolve_model(model))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Gallery.open(gallery, loaded) as opened:
        run_side_car(asked, SideCar(asked, loaded, opened), stop, lambda line: print(line, flush=True))
