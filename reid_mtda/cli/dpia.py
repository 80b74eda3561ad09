"""``reid-mtda dpia``: the facts that an impact assessment asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import SiteArg


def dpia(
    site: SiteArg,
    config: Annotated[Path | None, typer.Option(help="Service settings, as given to 'reid-mtda serve'.")] = None,
) -> None:
    """Print what a data protection impact assessment asks about a site, and what its files do not say yet; Markdown."""
    from reid_mtda.schema import load_yaml
    from reid_mtda.service.dpia import dpia_sheet
    from reid_mtda.service.settings import ServiceSettings
    from reid_mtda.site import load_site

    settings = load_yaml(config, ServiceSettings) if config is not None else ServiceSettings()
    loaded = load_site(site)
    print(dpia_sheet(loaded.name, loaded.cameras, settings), end="")
