"""``reid-mtda index``: footage into a gallery."""

from __future__ import annotations

from reid_mtda.cli.options import GalleryOpt, ModelDeviceOpt, ModelOpt, SiteArg
from reid_mtda.console import Bars, print_failures, print_table


def index(site: SiteArg, model: ModelOpt, gallery: GalleryOpt, device: ModelDeviceOpt = "cpu") -> None:
    """Fill a gallery with everyone a site's footage shows."""
    from reid_mtda.site import load_site
    from reid_mtda.workflow.footage import index_site

    with Bars() as bars:
        reports, failures = index_site(load_site(site), model, gallery, bars, device=device)
    if reports:  # a head above nothing tells nothing
        print_table(
            ("camera", "frames", "detections", "too low", "sightings"),
            [(r.camera, str(r.frames), str(r.detections), str(r.too_low), str(r.sightings)) for r in reports.values()],
        )
    print_failures(failures)
