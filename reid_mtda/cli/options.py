"""Options that several verbs take alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SiteArg = Annotated[Path, typer.Argument(help="Folder with one YAML file per camera; 'street' is the embedded one.")]
ModelOpt = Annotated[Path, typer.Option("--model", help="Model folder, or a name of 'reid-mtda models'.")]
GalleryOpt = Annotated[Path, typer.Option("--gallery", help="Gallery folder.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]
SetOpt = Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. seed=1 or distil.steps=50.")]
DeviceOpt = Annotated[str, typer.Option(help="Where torch computes: auto, cpu, cuda, cuda:N or mps.")]
ModelDeviceOpt = Annotated[
    str,
    typer.Option("--device", help="Where the model runs: auto, cpu; ONNX: cuda, tensorrt, coreml; OpenVINO: gpu, npu."),
]
PrecisionOpt = Annotated[str, typer.Option(help="fp32, or bf16: backbones in bfloat16, where the device has it.")]
ThreadsOpt = Annotated[int | None, typer.Option(min=1, help="CPU threads of torch; else as many as it takes itself.")]
