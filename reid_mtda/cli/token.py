"""``reid-mtda token``: an access token where the last one was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.errors import ConfigError, StorageError


def token(
    state: Annotated[Path, typer.Argument(help="State folder of a service: GALLERY-service unless --state named one.")],
    user: Annotated[str, typer.Option(help="Whom it is for.")],
    role: Annotated[str, typer.Option(help="viewer, operator, reviewer or admin.")] = "admin",
    days: Annotated[float, typer.Option(help="How long it is valid.")] = 90.0,
) -> None:
    """Make an access token where the last one was lost; the service may run meanwhile."""
    from reid_mtda.service.audit import FILE, Audit
    from reid_mtda.service.roles import Role
    from reid_mtda.service.token_issue import issue_token
    from reid_mtda.service.tokens import Auth

    if not (state / FILE).is_file():
        raise StorageError(f"{state}: holds no {FILE}; expected the state folder of a service")
    if role.upper() not in Role.__members__:
        raise ConfigError(f"--role: got {role!r}, expected one of {', '.join(one.label for one in Role)}")
    auth, log = Auth(state), Audit(state)
    try:
        text, _ = issue_token(auth, log, user, role, by="command line", days=days)
    finally:
        auth.close()
        log.close()
    print(text)
