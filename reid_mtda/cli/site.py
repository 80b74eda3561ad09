"""``reid-mtda site init``: a site from the addresses of its cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.console import console, print_failures, print_table


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new site, e.g. cameras/shop.")],
    addresses: Annotated[list[str], typer.Argument(help="ADDRESS or NAME=ADDRESS of each camera, as in camera files.")],
    detector: Annotated[
        str | None,
        typer.Option(help="For all; else auto: the best of 'reid-mtda models' that is here, or motion."),
    ] = None,
    fps: Annotated[float, typer.Option(min=0.1, max=60, help="Frames analysed per second.")] = 5.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a camera may take for its first frame.")] = 15.0,
) -> None:
    """Open cameras, write a file for each that answers, and a picture of what they see."""
    from reid_mtda.site import load_site
    from reid_mtda.workflow.site_init import init_site, name_cameras

    made = init_site(folder, name_cameras(addresses), detector=detector, fps=fps, timeout_s=timeout)
    if made.people:
        cameras = load_site(folder).cameras
        rows = [(name, cameras[name].detector, "-" if n is None else str(n)) for name, n in made.people.items()]
        print_table(("camera", "detector", "people in its first frame"), rows)
        console.print(f"look at {made.picture}; camera files stand in {folder}", highlight=False)
    print_failures(made.failures)
