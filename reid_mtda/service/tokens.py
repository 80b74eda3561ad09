"""Who may do what: expiring tokens kept as hashes, sessions of the page, roles, and rights per camera."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reid_mtda.service.database import Database
from reid_mtda.service.roles import AccessError, Principal, Role
from reid_mtda.service.user_names import RESERVED, check_user_name, person_key

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, user TEXT NOT NULL, role INTEGER NOT NULL, cameras TEXT,
    created_s REAL NOT NULL, expires_s REAL NOT NULL, revoked_s REAL, created_by TEXT NOT NULL, created_by_token TEXT
);
CREATE TABLE IF NOT EXISTS sessions (
    hash TEXT PRIMARY KEY, token_id TEXT NOT NULL REFERENCES tokens (id), expires_s REAL NOT NULL
);
"""
_MIGRATIONS = ("ALTER TABLE tokens ADD COLUMN created_by_token TEXT",)
_PREFIX = "rmt"
_DAY_S = 86400.0
_SESSION_S = 12 * 3600.0
_MAX_DAYS = 3650.0


@dataclass(frozen=True)
class TokenInfo:
    """A token as admins see it; the token itself is shown once, when made, and stored nowhere."""

    id: str
    user: str
    role: Role
    cameras: tuple[str, ...] | None
    created_s: float
    expires_s: float
    revoked_s: float | None
    created_by: str
    created_by_token: str | None = None

    def is_valid(self, now_s: float) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_s is None and now_s < self.expires_s


@dataclass(frozen=True)
class Issuer:
    """Who made a token, and by which token of theirs; None where that was not noted."""

    user: str
    token_id: str | None


class Auth:
    """Tokens and sessions in one file. A token is 256 random bits, so a plain hash of it cannot be turned back."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(Path(folder) / "access.sqlite", _SCHEMA, _MIGRATIONS)
        self._clock = clock

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def create(
        self,
        user: str,
        role: Role,
        *,
        days: float,
        cameras: Iterable[str] | None = None,
        created_by: str | Principal,
        audit: Callable[[TokenInfo], object] = lambda info: None,
    ) -> tuple[str, TokenInfo]:
        """Make a token: the text to hand over once, and what is kept of it.

        Args:
            user: whom it is for; spelled as in their other tokens.
            role: what they may do.
            days: its life, more than 0.
            cameras: those they may see; None: all, also those still to come.
            created_by: who makes it.
            audit: told of it; the token is made only where this did not raise.

        Raises:
            AccessError: a name that is none, reserved or spelled otherwise elsewhere, or a life out of range.
            StorageError: it could not be kept or audited; there is no such token then.
        """
        user = self._checked_name(user)
        if not 0 < days <= _MAX_DAYS:
            raise AccessError(f"days: got {days:g}, expected more than 0 and at most {_MAX_DAYS:g}", 422)
        number, secret, now = secrets.token_hex(4), secrets.token_urlsafe(32), self._clock()
        text = f"{_PREFIX}_{number}_{secret}"
        maker, maker_token = (
            (created_by.user, created_by.token_id) if isinstance(created_by, Principal) else (created_by, None)
        )
        info = TokenInfo(
            id=number,
            user=user,
            role=role,
            cameras=None if cameras is None else tuple(sorted(set(cameras))),
            created_s=now,
            expires_s=now + days * _DAY_S,
            revoked_s=None,
            created_by=maker,
            created_by_token=maker_token,
        )
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)",
                (
                    number,
                    _hash(text),
                    user,
                    int(role),
                    None if info.cameras is None else json.dumps(info.cameras),
                    now,
                    info.expires_s,
                    maker,
                    maker_token,
                ),
            )
            audit(info)
        return text, info

    def _checked_name(self, user: str) -> str:
        try:
            name = check_user_name(user)
        except ValueError as error:
            raise AccessError(f"user: {error}", 422) from None
        key = person_key(name)
        for row in self._database.read("SELECT DISTINCT user FROM tokens"):
            if row["user"] != name and person_key(row["user"]) == key:
                raise AccessError(
                    f"user: got {name!r}, which is {row['user']!r} in tokens made before; spell it so for the same "
                    "person, or choose a name that differs in more than case, accents, blanks or dots",
                    422,
                )
        return name

    def issuers(self, token_id: str | None) -> tuple[Issuer, ...]:
        """Who made a token, who made the token that they made it with, and so on; nobody of the machine itself."""
        found: list[Issuer] = []
        while token_id is not None:
            rows = self._database.read("SELECT created_by, created_by_token FROM tokens WHERE id = ?", (token_id,))
            token_id = rows[0]["created_by_token"] if rows else None
            if rows and rows[0]["created_by"] not in RESERVED:
                found.append(Issuer(rows[0]["created_by"], token_id))
        return tuple(found)

    def tokens(self) -> list[TokenInfo]:
        """All tokens, newest first."""
        return [_info(row) for row in self._database.read("SELECT * FROM tokens ORDER BY created_s DESC, id")]

    @property
    def has_admin(self) -> bool:
        """Somebody can still administer everything: an admin of some cameras makes no tokens."""
        now = self._clock()
        return any(
            token.role is Role.ADMIN and token.cameras is None and token.is_valid(now) for token in self.tokens()
        )

    def revoke(self, token_id: str, *, audit: Callable[[], object] = lambda: None) -> bool:
        """Make a token and its sessions worthless; False when there is none such.

        Raises:
            StorageError: it could not be kept or audited; the token is valid as before.
        """
        with self._database.write() as connection:
            changed = connection.execute(
                "UPDATE tokens SET revoked_s = ? WHERE id = ? AND revoked_s IS NULL", (self._clock(), token_id)
            ).rowcount
            connection.execute("DELETE FROM sessions WHERE token_id = ?", (token_id,))
            if changed:
                audit()
        return bool(changed)

    def identify(self, token: str) -> Principal:
        """Who shows ``token``.

        Raises:
            AccessError: 401, whatever is wrong with it.
        """
        found = self._database.read("SELECT * FROM tokens WHERE hash = ?", (_hash(token),))
        if not found or not (info := _info(found[0])).is_valid(self._clock()):
            raise AccessError("the token is unknown, expired or revoked; ask an admin for a new one", 401)
        return _principal(info)

    def open_session(self, token: str) -> tuple[str, float]:
        """Sign in: the session's secret for a cookie, and its seconds to live."""
        principal = self.identify(token)
        now, secret = self._clock(), secrets.token_urlsafe(32)
        (info,) = self._database.read("SELECT expires_s FROM tokens WHERE id = ?", (principal.token_id,))
        expires = min(now + _SESSION_S, float(info["expires_s"]))
        with self._database.write() as connection:
            connection.execute("DELETE FROM sessions WHERE expires_s < ?", (now,))
            connection.execute("INSERT INTO sessions VALUES (?, ?, ?)", (_hash(secret), principal.token_id, expires))
        return secret, expires - now

    def resume(self, session: str) -> Principal:
        """Whose session it is.

        Raises:
            AccessError: 401, when it ended or its token did.
        """
        query = "SELECT t.*, s.expires_s AS until_s FROM sessions s JOIN tokens t ON t.id = s.token_id WHERE s.hash = ?"
        found = self._database.read(query, (_hash(session),))
        now = self._clock()
        if not found or found[0]["until_s"] <= now or not (info := _info(found[0])).is_valid(now):
            raise AccessError("your session has ended; sign in again", 401)
        return _principal(info, session)

    def close_session(self, session: str) -> None:
        """Sign out."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM sessions WHERE hash = ?", (_hash(session),))


def csrf_matches(principal: Principal, given: str) -> bool:
    """Compare in constant time."""
    return bool(given) and hmac.compare_digest(principal.csrf.encode(), given.encode())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _info(row: sqlite3.Row) -> TokenInfo:
    return TokenInfo(
        id=row["id"],
        user=row["user"],
        role=Role(row["role"]),
        cameras=None if row["cameras"] is None else tuple(json.loads(row["cameras"])),
        created_s=row["created_s"],
        expires_s=row["expires_s"],
        revoked_s=row["revoked_s"],
        created_by=row["created_by"],
        created_by_token=row["created_by_token"],
    )


def _principal(info: TokenInfo, session: str | None = None) -> Principal:
    cameras = None if info.cameras is None else frozenset(info.cameras)
    return Principal(info.user, info.role, cameras, info.id, session)
