"""``reid-mtda evidence verify``: a package of evidence, looked through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    file: Annotated[Path, typer.Argument(help="The package, a zip file.")],
    state: Annotated[
        Path | None, typer.Option(help="State folder of the service that made it: its audit must hold the entries.")
    ] = None,
) -> None:
    """Check every hash of a package, and with --state that the service's audit says the same."""
    from reid_mtda.service.evidence import verify_evidence

    report = verify_evidence(file, state)
    where = "as the audit says" if report.is_in_audit else "by its own hashes; give --state to compare with the audit"
    print(f"unchanged, {where}: review {report.review}, {report.files} files, audit head {report.head}")
