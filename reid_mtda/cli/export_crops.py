"""``reid-mtda export-crops``: crops and tracks for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export_crops(
    crops: Annotated[Path, typer.Argument(help="Folder of 'reid-mtda harvest', or 'crops' of a service's state.")],
    out: Annotated[Path, typer.Option(help="Folder to write; nothing may be there.")],
    layout: Annotated[str, typer.Option(help="market1501, mot or coco.")] = "market1501",
) -> None:
    """Write crops and tracks as Market-1501, MOT or COCO, e.g. for CVAT; identities are tracklets of one camera."""
    from reid_mtda.data.crop_export import export_crops as write

    report = write(crops, out, layout)
    print(f"{report.crops} crops of {report.tracklets} tracklets of {report.cameras} cameras in {out}")
