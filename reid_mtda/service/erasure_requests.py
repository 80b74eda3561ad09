"""Erasing somebody by picture: one person finds and chooses the sightings, another one decides; nobody alone.

What was asked for holds the picture searched for and the sightings' keys until it is decided; then both go.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reid_mtda.errors import StorageError
from reid_mtda.service.database import Database
from reid_mtda.service.four_eyes import Issuers, why_one_person
from reid_mtda.service.review import ReviewError
from reid_mtda.service.roles import AccessError, Principal, Role

FILE = "erasure_requests.sqlite"
OPEN, ERASED, REFUSED, GONE = "open", "erased", "refused", "gone"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, keys TEXT NOT NULL, count INTEGER NOT NULL, picture BLOB,
    reason TEXT NOT NULL, case_reference TEXT NOT NULL, first_user TEXT NOT NULL, first_token TEXT,
    first_s REAL NOT NULL, second_user TEXT, second_token TEXT, second_s REAL, state TEXT NOT NULL
);
"""
_MOST_OPEN = 200


@dataclass(frozen=True)
class ErasureRequest:
    """What somebody asks to erase: the sightings' keys while it is open, ``count`` of them when it was asked for."""

    id: int
    keys: tuple[str, ...]
    count: int
    reason: str
    case_reference: str
    first_user: str
    first_token: str | None
    first_s: float
    second_user: str | None
    second_s: float | None
    state: str

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras of its sightings."""
        return tuple(sorted({key.rsplit("/", 2)[0] for key in self.keys}))


class ErasureRequests:
    """The requests of one service.

    Args:
        folder: state folder of the service.
        issuers: who made which token, to tell whether two people decided.
        clock: POSIX seconds, for tests.
    """

    def __init__(
        self, folder: Path, *, issuers: Issuers = lambda token_id: (), clock: Callable[[], float] = time.time
    ) -> None:
        self._database = Database(Path(folder) / FILE, _SCHEMA)
        self._issuers, self._clock = issuers, clock
        self.left = ""  # of what was decided, on the disk

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def ask(
        self,
        principal: Principal,
        keys: Sequence[str],
        picture: bytes,
        *,
        reason: str,
        case_reference: str,
        audit: Callable[[int], object],
    ) -> ErasureRequest:
        """The first decision: these sightings show the person of ``picture``, who is to be erased.

        Args:
            principal: who says so.
            keys: of the sightings.
            picture: who is searched for, JPEG.
            reason: why, for the receipt.
            case_reference: of the search.
            audit: notes its number; where that fails nothing is asked for.

        Raises:
            AccessError: a role below operator.
            ReviewError: no sightings, or too many requests wait.
        """
        principal.need(Role.OPERATOR)
        if not keys:
            raise ReviewError("erasure: no sightings chosen; tick those that show the person", 422)
        with self._database.write() as connection:
            (waiting,) = connection.execute("SELECT count(*) FROM requests WHERE state = ?", (OPEN,)).fetchone()
            if waiting >= _MOST_OPEN:
                raise ReviewError(f"erasure: {waiting} requests wait for a decision; decide some first", 409)
            number = connection.execute(
                "INSERT INTO requests (keys, count, picture, reason, case_reference, first_user, first_token, first_s, "
                "state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    json.dumps(sorted(keys)),
                    len(keys),
                    picture,
                    reason,
                    case_reference,
                    principal.user,
                    principal.token_id,
                    self._clock(),
                    OPEN,
                ),
            ).lastrowid
            audit(int(number or 0))
        return self.get(principal, int(number or 0))

    def check_second(self, principal: Principal, number: int) -> ErasureRequest:
        """An open request that this person may decide.

        Raises:
            AccessError: a role below admin, or the same person.
            ReviewError: no such request, or it is decided already.
        """
        principal.need(Role.ADMIN)
        request = self.get(principal, number)
        if request.state != OPEN:
            raise ReviewError(f"erasure {number}: is {request.state} already; nothing was changed", 409)
        if problem := why_one_person(request.first_user, request.first_token, principal, self._issuers):
            raise AccessError(f"four eyes: {problem}", 403)
        return request

    def close_request(self, principal: Principal, number: int, state: str) -> ErasureRequest:
        """Note who decided; picture and keys go.

        Args:
            principal: who.
            number: of the request.
            state: what it came to.
        """
        with self._database.write() as connection:
            connection.execute(
                "UPDATE requests SET second_user = ?, second_token = ?, second_s = ?, state = ?, keys = '[]', "
                "picture = NULL WHERE id = ?",
                (principal.user, principal.token_id, self._clock(), state, number),
            )
        self.finish_forgetting()
        return replace(self.get(principal, number), keys=())

    def get(self, principal: Principal, number: int) -> ErasureRequest:
        """One request.

        Raises:
            ReviewError: there is none, or none whose cameras this person sees.
        """
        rows = self._database.read("SELECT * FROM requests WHERE id = ?", (number,))
        if not rows or not _visible(principal, request := _request(rows[0])):
            raise ReviewError(f"erasure {number}: no such request", 404)
        return request

    def picture(self, principal: Principal, number: int) -> bytes:
        """Who is searched for, JPEG, while the request is open.

        Raises:
            ReviewError: as ``get``; or it is decided, and the picture gone.
        """
        self.get(principal, number)
        (row,) = self._database.read("SELECT picture FROM requests WHERE id = ?", (number,))
        if row["picture"] is None:
            raise ReviewError(f"erasure {number}: is decided; its picture is gone", 404)
        return bytes(row["picture"])

    def listed(self, principal: Principal, limit: int = 100) -> list[ErasureRequest]:
        """Requests that this person may see: open ones first, then the newest."""
        rows = self._database.read("SELECT * FROM requests ORDER BY state != ?, id DESC LIMIT ?", (OPEN, limit))
        return [request for request in map(_request, rows) if _visible(principal, request)]

    def forget(self, keys: Iterable[str]) -> int:
        """Sightings went: requests that name them do not any more; one that names none is over. How many changed."""
        gone, changed = set(keys), 0
        with self._database.write() as connection:
            for row in connection.execute("SELECT id, keys FROM requests WHERE state = ?", (OPEN,)).fetchall():
                named = json.loads(row["keys"])
                rest = [key for key in named if key not in gone]
                if len(rest) == len(named):
                    continue
                changed += 1
                state, picture = ("state", "picture") if rest else (f"'{GONE}'", "NULL")
                connection.execute(
                    f"UPDATE requests SET keys = ?, state = {state}, picture = {picture} WHERE id = ?",
                    (json.dumps(rest), row["id"]),
                )
        if changed:
            self.finish_forgetting()
        return changed

    def finish_forgetting(self) -> str:
        """Empty the log in which what went still stands; what is left, e.g. as another process reads, or ''."""
        try:
            is_done = self._database.empty_log()
        except StorageError as error:
            self.left = str(error)
        else:
            where = self._database.path
            self.left = "" if is_done else f"the bytes of erasure requests in {where}, which another process reads"
        return self.left


def _request(row: sqlite3.Row) -> ErasureRequest:
    values = {name: row[name] for name in ErasureRequest.__dataclass_fields__ if name != "keys"}
    return ErasureRequest(keys=tuple(json.loads(row["keys"])), **values)


def _visible(principal: Principal, request: ErasureRequest) -> bool:
    return all(principal.sees(camera) for camera in request.cameras)
