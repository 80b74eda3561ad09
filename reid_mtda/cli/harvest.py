"""``reid-mtda harvest``: footage to crops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import SiteArg
from reid_mtda.console import Bars, print_failures, print_table


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
    if reports:  # a head above nothing tells nothing
        print_table(
            ("camera", "frames", "detections", "too low", "tracklets", "crops"),
            [
                (r.camera, str(r.frames), str(r.detections), str(r.too_low), str(r.tracklets), str(r.crops))
                for r in reports.values()
            ],
        )
    print_failures(failures)
