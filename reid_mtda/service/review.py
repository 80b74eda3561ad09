"""Matches that people decide on: one proposes, another one decides; nobody alone.

The query's picture is kept with the review, so that the second person sees what the first saw; it goes when either
sighting is erased or grows old.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reid_mtda.errors import ReidError, StorageError
from reid_mtda.service.database import Database
from reid_mtda.service.four_eyes import Issuers, why_one_person
from reid_mtda.service.roles import AccessError, Principal, Role

SAME, DIFFERENT = "same", "different"
OPEN, CONFIRMED, REJECTED, DISPUTED = "open", "confirmed", "rejected", "disputed"
NOBODY = 0  # a number that no sighting has

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT, query_key TEXT NOT NULL, query_id INTEGER, query_camera TEXT,
    candidate_key TEXT NOT NULL, candidate_id INTEGER NOT NULL, candidate_camera TEXT NOT NULL,
    score REAL NOT NULL, case_reference TEXT NOT NULL, picture BLOB NOT NULL,
    first_user TEXT NOT NULL, first_decision TEXT NOT NULL, first_s REAL NOT NULL,
    second_user TEXT, second_decision TEXT, second_s REAL, state TEXT NOT NULL, first_token TEXT, second_token TEXT,
    UNIQUE (query_key, candidate_key)
);
CREATE INDEX IF NOT EXISTS by_candidate ON reviews (candidate_key);
"""
_MIGRATIONS = ("ALTER TABLE reviews ADD COLUMN first_token TEXT; ALTER TABLE reviews ADD COLUMN second_token TEXT",)
_COLUMNS = (
    "id, query_key, query_id, query_camera, candidate_key, candidate_id, candidate_camera, score, case_reference, "
    "first_user, first_decision, first_s, second_user, second_decision, second_s, state, first_token, second_token"
)


class ReviewError(ReidError):
    """A decision that cannot be taken; ``status`` is what HTTP calls it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Review:
    """One question: is the person of the query the one of the candidate? ``state`` is what two people said to it."""

    id: int
    query_key: str
    query_id: int | None
    query_camera: str | None
    candidate_key: str
    candidate_id: int
    candidate_camera: str
    score: float
    case_reference: str
    first_user: str
    first_decision: str
    first_s: float
    second_user: str | None
    second_decision: str | None
    second_s: float | None
    state: str
    first_token: str | None
    second_token: str | None


@dataclass(frozen=True)
class Proposal:
    """What the first person says. ``query_key`` and ``candidate_key`` name the pictures for good."""

    query_key: str
    query_id: int | None
    query_camera: str | None
    candidate_key: str
    candidate_id: int
    candidate_camera: str
    score: float
    case_reference: str
    picture: bytes


class Reviews:
    """The reviews of one service.

    Args:
        folder: state folder of the service.
        issuers: who made which token, to tell whether two people decided.
        clock: POSIX seconds, for tests.
    """

    def __init__(
        self, folder: Path, *, issuers: Issuers = lambda token_id: (), clock: Callable[[], float] = time.time
    ) -> None:
        self._database = Database(Path(folder) / "reviews.sqlite", _SCHEMA, _MIGRATIONS)
        self._issuers, self._clock = issuers, clock
        self.left = ""  # of removed reviews, on the disk

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def propose(
        self, principal: Principal, proposal: Proposal, decision: str, *, audit: Callable[[int], object]
    ) -> Review:
        """The first decision; it stands only where ``audit`` could note its number.

        Args:
            principal: who asks.
            proposal: the pair, and how it was found.
            decision: ``same`` or ``different``.
            audit: notes it, with what names it; what it raises undoes the decision.

        Raises:
            AccessError: a role below operator.
            ReviewError: not a decision, or the pair has a review already.
        """
        principal.need(Role.OPERATOR)
        _check(decision)
        with self._database.write() as connection:
            try:
                cursor = connection.execute(
                    "INSERT INTO reviews (query_key, query_id, query_camera, candidate_key, candidate_id, "
                    "candidate_camera, score, case_reference, picture, first_user, first_decision, first_s, state, "
                    "first_token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        proposal.query_key,
                        proposal.query_id,
                        proposal.query_camera,
                        proposal.candidate_key,
                        proposal.candidate_id,
                        proposal.candidate_camera,
                        proposal.score,
                        proposal.case_reference,
                        proposal.picture,
                        principal.user,
                        decision,
                        self._clock(),
                        OPEN,
                        principal.token_id,
                    ),
                )
            except sqlite3.IntegrityError:
                raise ReviewError("this pair is under review already; see the list of reviews", 409) from None
            audit(int(cursor.lastrowid or 0))
        return self.get(principal, int(cursor.lastrowid or 0))

    def decide(self, principal: Principal, number: int, decision: str, *, audit: Callable[[str], object]) -> Review:
        """The second decision: by somebody else, with the role reviewer; two who disagree leave it disputed.

        It stands only where ``audit`` could note the state it leads to.

        Args:
            principal: who asks.
            number: its number.
            decision: ``same`` or ``different``.
            audit: notes it, with what names it; what it raises undoes the decision.

        Raises:
            AccessError: the same person, or too low a role.
            ReviewError: no such review, or it is decided already.
        """
        principal.need(Role.REVIEWER)
        _check(decision)
        review = self.get(principal, number)
        if review.state != OPEN:
            raise ReviewError(f"review {number}: is {review.state} already; nothing was changed", 409)
        if problem := why_one_person(review.first_user, review.first_token, principal, self._issuers):
            raise AccessError(f"four eyes: {problem}", 403)
        state = DISPUTED if decision != review.first_decision else CONFIRMED if decision == SAME else REJECTED
        with self._database.write() as connection:
            changed = connection.execute(
                "UPDATE reviews SET second_user = ?, second_decision = ?, second_s = ?, second_token = ?, state = ? "
                "WHERE id = ? AND state = ?",
                (principal.user, decision, self._clock(), principal.token_id, state, number, OPEN),
            ).rowcount
            if changed:
                audit(state)
        if not changed:
            raise ReviewError(f"review {number}: somebody else was faster; look at it again", 409)
        return self.get(principal, number)

    def get(self, principal: Principal, number: int) -> Review:
        """One review.

        Raises:
            ReviewError: there is none, or none that this person may see.
        """
        found = self._database.read(f"SELECT {_COLUMNS} FROM reviews WHERE id = ?", (number,))
        if not found or not _visible(principal, review := Review(**dict(found[0]))):
            raise ReviewError(f"review {number}: no such review", 404)
        return review

    def picture(self, principal: Principal, number: int) -> bytes:
        """The query's picture, JPEG.

        Raises:
            ReviewError: as ``get``.
        """
        self.get(principal, number)
        return bytes(self._database.read("SELECT picture FROM reviews WHERE id = ?", (number,))[0]["picture"])

    def listed(
        self, principal: Principal, *, state: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[Review]:
        """Reviews that this person may see, newest first.

        Args:
            principal: who asks.
            state: only those in this state; None: all.
            before: only numbers below it; None: all.
            limit: how many at most.
        """
        conditions, values = ["1"], list[str | int]()
        if state is not None:
            conditions.append("state = ?")
            values.append(state)
        if before is not None:
            conditions.append("id < ?")
            values.append(before)
        query = f"SELECT {_COLUMNS} FROM reviews WHERE {' AND '.join(conditions)} ORDER BY id DESC"
        reviews = (Review(**dict(row)) for row in self._database.read(query, values))
        return [review for review in reviews if _visible(principal, review)][:limit]

    def states(self, query_key: str) -> dict[str, Review]:
        """Reviews of one query by candidate."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM reviews WHERE query_key = ?", (query_key,))
        return {row["candidate_key"]: Review(**dict(row)) for row in rows}

    def forget(self, keys: Iterable[str], prefixes: Iterable[str] = (), camera: str | None = None) -> int:
        """Remove the reviews of sightings that go, pictures included; returns how many. ``left`` says what remains.

        Args:
            keys: of the sightings.
            prefixes: how the keys of queries begin that go, too, each with / at its end.
            camera: all of it goes: also reviews of its live pictures that 0.1 made, which name no track.
        """
        removed = 0
        with self._database.write() as connection:
            for key in keys:
                removed += connection.execute(
                    "DELETE FROM reviews WHERE query_key = ? OR candidate_key = ?", (key, key)
                ).rowcount
            for prefix in prefixes:  # the character after / is 0: by the index, without those that merely begin alike
                removed += connection.execute(
                    "DELETE FROM reviews WHERE query_key >= ? AND query_key < ?", (prefix, prefix[:-1] + "0")
                ).rowcount
            removed += connection.execute(
                "DELETE FROM reviews WHERE query_camera = ? AND query_key LIKE 'live:%'", (camera,)
            ).rowcount
        if removed:
            self.finish_forgetting()
        return removed

    def finish_forgetting(self) -> str:
        """Empty the log in which removed reviews still stand; what is left, e.g. as another process reads, or ''."""
        try:
            is_done = self._database.empty_log()
        except StorageError as error:
            self.left = str(error)
        else:
            self.left = "" if is_done else f"the bytes of reviews in {self._database.path}, which another process reads"
        return self.left

    def renumber(self, number_of: Callable[[str], int | None]) -> int:
        """The gallery was made anew: sightings have other numbers, their keys stand. Returns how many reviews changed.

        One that is not in it (``number_of`` its key is None) loses its number: else it would show whoever has that
        number now.
        """
        changed = 0
        query = "SELECT id, query_key, query_id, candidate_key, candidate_id FROM reviews"
        with self._database.write() as connection:
            for row in connection.execute(query).fetchall():
                numbers = number_of(row["query_key"]), number_of(row["candidate_key"]) or NOBODY
                if numbers == (row["query_id"], row["candidate_id"]):
                    continue
                changed += 1
                connection.execute(
                    "UPDATE reviews SET query_id = ?, candidate_id = ? WHERE id = ?", (*numbers, row["id"])
                )
        return changed


def _visible(principal: Principal, review: Review) -> bool:
    query_seen = review.query_camera is None or principal.sees(review.query_camera)
    return query_seen and principal.sees(review.candidate_camera)


def _check(decision: str) -> None:
    if decision not in (SAME, DIFFERENT):
        raise ReviewError(f"decision: got {decision[:40]!r}, expected {SAME!r} or {DIFFERENT!r}", 422)
