"""``reid-mtda export``: a model folder that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import ModelDeviceOpt
from reid_mtda.console import console


def export(
    weights: Annotated[Path, typer.Argument(help="A run's checkpoint, torchreid's .pth(.tar) or .npz, .onnx, .xml.")],
    out: Annotated[Path, typer.Option(help="Model folder to make.")],
    crops: Annotated[Path | None, typer.Option(help="Real crops on which the export is compared with torch.")] = None,
    arch: Annotated[str | None, typer.Option(help="For torchreid's weights: the network, e.g. osnet_x0_25.")] = None,
    height: Annotated[int | None, typer.Option(min=8, help="Crop height; else as the file says, or 256.")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="Crop width; else as the file says, or 128.")] = None,
    bgr255: Annotated[bool, typer.Option("--bgr255", help="A ready-made network that takes BGR in 0..255.")] = False,
    output: Annotated[str | None, typer.Option(help="Of an .onnx / .xml with several: the embedding's name.")] = None,
    device: ModelDeviceOpt = "cpu",
) -> None:
    """Make a model folder that runs without torch; refused when it answers otherwise than torch does."""
    from reid_mtda.workflow.export import GivenNetwork, export_weights

    given = GivenNetwork(crops=crops, arch=arch, height=height, width=width, bgr255=bgr255, output=output)
    manifest = export_weights(weights, out, given, device=device)
    console.print(f"model {manifest.model_id} stands in {out}", highlight=False)
