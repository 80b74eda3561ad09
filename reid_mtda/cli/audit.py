"""``reid-mtda audit verify``: the audit's chain, looked through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.console import console
from reid_mtda.errors import ConfigError, StorageError


def verify(
    state: Annotated[Path, typer.Argument(help="State folder of a service: GALLERY-service unless --state named one.")],
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH as printed before; shows that no entries were cut off since.")
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(help="File of lines that end in NUMBER:HASH, as 'audit_anchor' writes; all must stand."),
    ] = None,
) -> None:
    """Walk the whole chain: intact, with its count and last hash, or the first entry that was changed."""
    from reid_mtda.service.audit import FILE, verify_audit
    from reid_mtda.service.audit_anchor import read_anchors
    from reid_mtda.service.audit_chain import head_text, parse_head

    try:
        noted = None if head is None else parse_head(head)
    except ValueError as error:
        raise ConfigError(f"--head: {error} as 'reid-mtda audit verify' printed it") from None
    heads = ([] if noted is None else [noted]) + ([] if anchors is None else read_anchors(anchors))
    report = verify_audit(state, heads=heads)
    if not report.is_sound:
        raise StorageError(f"{state / FILE}: {report.fault}; keep the folder as it is and compare with a backup")
    for doubt in report.doubts:
        console.print(f"an entry says: {doubt}", highlight=False)
    print(f"intact: {report.entries} entries, head {head_text((report.entries, report.head))}")
