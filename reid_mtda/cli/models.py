"""``reid-mtda models``: ready-made networks by name. Nothing is fetched by any other verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import JsonOpt
from reid_mtda.console import Bars, complain, console, print_json, print_table
from reid_mtda.errors import ConfigError


def list_models(json_: JsonOpt = False) -> None:
    """Show the networks that can be fetched by name, and those that are here."""
    from reid_mtda.workflow.pull import verify_models
    from reid_mtda.zoo.folder import installed_models, models_folder
    from reid_mtda.zoo.table import load_table

    here, faults = installed_models(), verify_models()
    found = [
        {
            "name": name,
            "task": entry.task,
            "bytes": entry.bytes,
            "licence": entry.licence,
            "is_here": name in here,
            "fault": faults.get(name, ""),
            "about": entry.about,
            "card": entry.card,
        }
        for name, entry in load_table().items()
    ]
    for name, one in here.items():
        if name not in load_table():
            origin = one.origin
            found.append(
                {
                    "name": name,
                    "task": origin.task if origin else None,
                    "bytes": sum(file.bytes for file in origin.files.values()) if origin else None,
                    "licence": origin.licence if origin else None,
                    "is_here": True,
                    "fault": faults[name],
                    "about": f"Added from {origin.source}." if origin else "",
                    "card": None,
                }
            )
    if json_:
        print_json({"folder": str(models_folder()), "models": found})
        return
    print_table(
        ("name", "for", "MB", "licence", "here", ""),
        [
            (
                str(row["name"]),
                str(row["task"] or "?"),
                f"{row['bytes'] / 1e6:.1f}" if isinstance(row["bytes"], int) else "?",
                str(row["licence"] or "?"),
                "damaged" if row["fault"] else "yes" if row["is_here"] else "-",
                str(row["about"]),
            )
            for row in found
        ],
    )
    console.print(f"they are kept in {models_folder()}", highlight=False)


def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names as in 'reid-mtda models list'; none: the recommended two.")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Take the files from this folder, whatever their names there.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(envvar="REID_MTDA_MIRROR", help="Address below which they stand as NAME/FILE."),
    ] = None,
) -> None:
    """Fetch networks by name, check their hashes, and try them."""
    from reid_mtda.workflow.pull import pull_models
    from reid_mtda.zoo.folder import models_folder
    from reid_mtda.zoo.table import load_table

    table, fetched = load_table(), dict[str, bool]()
    try:
        with Bars() as bars:
            pull_models(
                names or (), source=from_, mirror=None if from_ else mirror, progress=bars, told=fetched.__setitem__
            )
    finally:
        for name, is_new in fetched.items():
            entry = table[name]
            use = f"'detector: {name}' in a camera file" if entry.task == "detector" else f"'--model {name}'"
            state = f"stands in {models_folder() / name}" if is_new else "was there"
            console.print(f"{name} {state} ({entry.licence}); use it with {use}", highlight=False)


def add(
    file: Annotated[Path, typer.Argument(help=".onnx, .xml with its .bin, or weights that 'reid-mtda export' reads.")],
    name: Annotated[str, typer.Option(help="What camera files and --model call it.")],
    task: Annotated[str, typer.Option(help="detector (finds people in frames) or reid (tells people apart).")],
    licence: Annotated[str | None, typer.Option(help="Its terms, noted for those who ask later.")] = None,
    height: Annotated[int | None, typer.Option(min=8, help="With reid: crop height; else as the file says.")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="With reid: crop width; else as the file says.")] = None,
    bgr255: Annotated[bool, typer.Option("--bgr255", help="With reid: it takes BGR in 0..255.")] = False,
    output: Annotated[str | None, typer.Option(help="With reid: which output is the embedding, of several.")] = None,
    arch: Annotated[str | None, typer.Option(help="With reid, torchreid's weights: the network.")] = None,
    crops: Annotated[Path | None, typer.Option(help="With reid: real crops to compare an export with.")] = None,
) -> None:
    """Take a network of your own into the models folder, try it, and note its hash and terms."""
    from reid_mtda.workflow.add_model import UNSTATED, add_model
    from reid_mtda.workflow.export import GivenNetwork

    if task not in ("detector", "reid"):
        raise ConfigError(f"--task: got {task!r}, expected detector or reid")
    place = add_model(
        file,
        name,
        task="reid" if task == "reid" else "detector",
        given=GivenNetwork(crops=crops, arch=arch, height=height, width=width, bgr255=bgr255, output=output),
        licence=licence,
    )
    terms = licence or f"{UNSTATED}, and weights carry those of the data they were trained on"
    console.print(f"{name} stands in {place}; its terms: {terms}", highlight=False)


def verify() -> None:
    """Hash every network of the models folder, and name those that are not what came in."""
    from reid_mtda.workflow.pull import verify_models
    from reid_mtda.zoo.folder import models_folder

    faults = verify_models()
    for name, fault in faults.items():
        if fault:
            complain(f"{models_folder() / name}: {fault}")
        else:
            print(f"{name}: sound")
    if not faults:
        console.print(f"{models_folder()}: no networks there; 'reid-mtda models pull' fetches some", highlight=False)
    if any(faults.values()):
        raise typer.Exit(2)
