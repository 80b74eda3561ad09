"""``reid-mtda backup``: gallery and state of a service in one file, put back or looked through."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import GalleryOpt

StateOpt = Annotated[Path | None, typer.Option("--state", help="State folder; else beside the gallery.")]
FileArg = Annotated[Path, typer.Argument(help="The backup's file.")]


def make(file: FileArg, gallery: GalleryOpt, state: StateOpt = None) -> None:
    """Write a service's gallery and state into one file; the service may run meanwhile."""
    from reid_mtda.service.backup import make_backup

    report = make_backup(gallery, _state(gallery, state), file)
    print(f"{report.sightings} sightings, {report.files} files, {report.bytes / 1e6:.1f} MB, audit head {report.head}")
    print(
        f"{file} holds pictures, tokens' hashes and cameras' passwords: keep it as safe as the service, and no longer"
    )


def restore(file: FileArg, gallery: GalleryOpt, state: StateOpt = None) -> None:
    """Put a backup back into folders that are not there yet."""
    from reid_mtda.service.backup import restore_backup

    report = restore_backup(file, gallery, _state(gallery, state))
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(report.made_s))
    print(f"{report.sightings} sightings as they stood at {made} UTC, audit head {report.head}")
    print("what was erased since is in it again: look for erasures in the audit of then and make them once more")


def verify(file: FileArg) -> None:
    """Read all of a backup: hashes, databases, the audit's chain."""
    from reid_mtda.service.backup import verify_backup

    report = verify_backup(file)
    print(f"whole: {report.sightings} sightings, {report.files} files, audit head {report.head}")


def _state(gallery: Path, state: Path | None) -> Path:
    return state or gallery.with_name(f"{gallery.name}-service")
