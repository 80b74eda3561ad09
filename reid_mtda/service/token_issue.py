"""Handing out tokens and taking them back: one way for page, API, command line and start, audited before it is done."""

from __future__ import annotations

from collections.abc import Iterable

from reid_mtda.service.audit import Audit
from reid_mtda.service.roles import Principal, Role
from reid_mtda.service.tokens import Auth, TokenInfo

TOKEN_DAYS = 90.0
"""Life of a token unless somebody says otherwise."""


def issue_token(
    auth: Auth,
    audit: Audit,
    user: str,
    role: str,
    *,
    by: Principal | str,
    days: float = TOKEN_DAYS,
    cameras: Iterable[str] | None = None,
) -> tuple[str, TokenInfo]:
    """Make a token; its text is in this answer and nowhere else.

    Args:
        auth: where it is kept.
        audit: where it is noted, or there is no token.
        user: whom it is for.
        role: name of their role.
        by: who makes it.
        days: its life.
        cameras: those they may see; None: all, also those still to come.

    Raises:
        AccessError: a name, role or life that cannot be.
        StorageError: it could not be audited or kept; no token was made.
    """

    def note(info: TokenInfo) -> None:
        audit.add(by, "token_created", token=info.id, for_user=info.user, role=info.role.label, cameras=info.cameras)

    return auth.create(user, Role.of(role), days=days, cameras=cameras, created_by=by, audit=note)


def revoke_token(auth: Auth, audit: Audit, token_id: str, *, by: Principal | str) -> bool:
    """Make a token and its sessions worthless at once; False when there is none such, or it was revoked before.

    Args:
        auth: the tokens.
        audit: notes it first.
        token_id: its public number.
        by: who asked for it.

    Raises:
        StorageError: it could not be audited or kept; the token is valid as before.
    """
    return auth.revoke(token_id, audit=lambda: audit.add(by, "token_revoked", token=token_id))
