"""``reid-mtda audit verify``: the audit's chain, looked through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.errors import ConfigError, StorageError


def verify(
    state: Annotated[Path, typer.Argument(help="State folder of a service: GALLERY-service unless --state named one.")],
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH as printed before; shows that no entries were cut off since.")
    ] = None,
) -> None:
    """Walk the whole chain: intact, with its count and last hash, or the first entry that was changed."""
    from reid_mtda.service.audit import FILE, verify_audit

    noted = None
    if head is not None:
        number, _, digest = head.partition(":")
        if not (number.isascii() and number.isdigit() and 0 < len(number) < 16 and len(digest) == 64):
            raise ConfigError(f"--head: got {head!r}, expected NUMBER:HASH as 'reid-mtda audit verify' printed it")
        noted = (int(number), digest.lower())
    report = verify_audit(state, head=noted)
    if not report.is_sound:
        raise StorageError(f"{state / FILE}: {report.fault}; keep the folder as it is and compare with a backup")
    print(f"intact: {report.entries} entries, head {report.entries}:{report.head}")
