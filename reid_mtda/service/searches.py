"""Searches as people make them: with a purpose, within their rights, audited, judged by the calibrated threshold."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.rerank import RERANKED, rerank_hits
from reid_mtda.live.system import LiveSystem
from reid_mtda.live.thresholds import Thresholds
from reid_mtda.service.audit import Audit
from reid_mtda.service.queries import Query, SearchError
from reid_mtda.service.roles import Principal, Role
from reid_mtda.service.transition_times import LeftOut, TravelTimes, travel_times
from reid_mtda.types import SearchHit

_KEPT = 500
KEPT_S = 2 * 3600.0
MAX_HITS = 200
_MAX_CAMERAS, _MAX_NAME = 1000, 64
_LOOKED_AT = 10_000


@dataclass(frozen=True)
class Reason:
    """Why somebody searches; both are required and stand in the audit."""

    purpose: str
    case_reference: str

    def __post_init__(self) -> None:
        for name, value, longest in (("purpose", self.purpose, 200), ("case_reference", self.case_reference, 64)):
            if not 3 <= len(value.strip()) <= longest or not value.isprintable():
                raise SearchError(f"{name}: expected 3 to {longest} printable characters; say why you search", 422)


@dataclass(frozen=True)
class Asked:
    """What somebody asks for: at most ``k`` answers, ``where`` to look.

    ``keep_unreachable`` shows also what nobody could have reached by the site's travel times. ``rerank`` orders the
    nearest by whom they have near them in common with the query (`gallery.rerank`); scores stay.
    """

    k: int = 20
    where: Filter = EVERYTHING
    keep_unreachable: bool = False
    rerank: bool = False


@dataclass(frozen=True, eq=False)
class Judged:
    """A hit with the threshold between its camera and the query's."""

    hit: SearchHit
    threshold: float

    @property
    def is_match(self) -> bool:
        """The score reaches the threshold."""
        return self.hit.score >= self.threshold


@dataclass(frozen=True, eq=False)
class Search:
    """A search and its answer, kept for a while for the one who made it."""

    id: str
    user: str
    made_s: float
    reason: Reason
    query: Query
    asked: Asked
    gallery_size: int
    hits: tuple[Judged, ...]
    is_calibrated: bool
    milliseconds: float
    travel: TravelTimes
    left_out: LeftOut
    unknown_cameras: tuple[str, ...]
    is_centred: bool = False

    @property
    def matches(self) -> tuple[Judged, ...]:
        """Hits at or above their threshold."""
        return tuple(judged for judged in self.hits if judged.is_match)

    @property
    def path(self) -> tuple[Judged, ...]:
        """The person's way over the cameras: the matches in order of time, without jumps that nobody can make."""
        possible = self.travel.possible_together(judged.hit.sighting for judged in self.matches)
        steps = [judged for judged, is_possible in zip(self.matches, possible, strict=True) if is_possible]
        return tuple(sorted(steps, key=lambda judged: judged.hit.sighting.start_s))


class Searches:
    """Makes searches and keeps their answers in memory; nothing of a searched picture is written to disk."""

    def __init__(
        self,
        system: LiveSystem,
        audit: Audit,
        thresholds: Callable[[], Thresholds],
        *,
        on_search: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._system, self._audit, self._thresholds = system, audit, thresholds
        self._on_search = on_search
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Search] = OrderedDict()

    def search(self, principal: Principal, query: Query, reason: Reason, asked: Asked) -> Search:
        """Ask the gallery; the audit knows of it before the answer is given.

        Args:
            principal: who asks.
            query: who is sought.
            reason: why, for the audit.
            asked: filters and number of answers.

        Raises:
            AccessError: a role below operator.
            SearchError: too many answers or names asked for, or a query of a model that no longer answers.
        """
        principal.need(Role.OPERATOR)
        _check(asked)
        gallery, thresholds = self._system.gallery, self._thresholds()
        if query.model_id != gallery.model_id:
            raise SearchError("the model was changed since this query; search again from its picture", 409)
        began = time.perf_counter()
        travel = travel_times(self._system)
        hits, left_out = _ask(gallery, query, replace(asked, where=seen_by(principal, asked.where)), travel)
        seconds = time.perf_counter() - began
        self._on_search(seconds)
        judged = tuple(Judged(hit, thresholds.of(query.camera, hit.sighting.camera)) for hit in hits)
        search = Search(
            id=secrets.token_urlsafe(12),
            user=principal.user,
            made_s=time.time(),
            reason=reason,
            query=query,
            asked=asked,
            gallery_size=size_seen(gallery, principal),
            hits=judged,
            is_calibrated=thresholds.is_calibrated,
            milliseconds=1000 * seconds,
            travel=travel,
            left_out=left_out,
            unknown_cameras=self._unknown(principal, asked.where),
            is_centred=gallery.is_centred,
        )
        self._audit.add(
            principal,
            "search",
            purpose=reason.purpose,
            case_reference=reason.case_reference,
            input=query.key,
            gallery=gallery.folder.name,
            model_id=gallery.model_id,
            gallery_size=len(gallery),
            cameras=asked.where.cameras,
            start_s=asked.where.start_s,
            end_s=asked.where.end_s,
            seen=None if query.seen is None else [query.seen.camera, query.seen.start_s],
            left_out=left_out.too_soon + left_out.too_late,
            hits=len(judged),
            matches=len(search.matches),
            search_id=search.id,
        )
        self._keep(search)
        return search

    def _unknown(self, principal: Principal, where: Filter) -> tuple[str, ...]:
        """Cameras asked for that are not there for this person: none of the name, or one they do not see."""
        asked, there = set(where.cameras or ()), {*self._system.pool.states(), *self._system.pool.former}
        if not asked <= there:  # a gallery may hold what no camera here ever saw
            there.update(self._system.gallery.cameras())
        return tuple(sorted(name for name in asked if name not in there or not principal.sees(name)))

    def refine(self, principal: Principal, search_id: str, asked: Asked) -> Search:
        """The same query with other filters, as a search of its own.

        Args:
            principal: who asks.
            search_id: of the search.
            asked: filters and number of answers.

        Raises:
            SearchError: as ``kept`` and ``search``.
        """
        before = self.kept(principal, search_id)
        return self.search(principal, before.query, before.reason, asked)

    def kept(self, principal: Principal, search_id: str) -> Search:
        """An answer given before, to whom it was given.

        Raises:
            AccessError: a role below operator: what a name may read is what its token may, whoever searched before.
            SearchError: there is none such for this person, or not any more.
        """
        principal.need(Role.OPERATOR)
        with self._lock:
            self._drop_old()
            search = self._kept.get(search_id)
        if search is None or not _is_theirs(search, principal):
            raise SearchError("no such search; answers are kept for two hours, for the one who searched", 404)
        # Rights may have shrunk since, and sightings may have gone.
        there = self._system.gallery.lookup([judged.hit.sighting_id for judged in search.hits])
        hits = tuple(
            judged
            for judged in search.hits
            if principal.sees(judged.hit.sighting.camera) and judged.hit.sighting_id in there
        )
        return replace(search, hits=hits)

    def that_found(self, principal: Principal, number: int) -> str | None:
        """The newest kept search of this person among whose answers the sighting is."""
        with self._lock:
            self._drop_old()
            theirs = [search for search in reversed(self._kept.values()) if search.user == principal.user]
        found = (one.id for one in theirs if any(judged.hit.sighting_id == number for judged in one.hits))
        return next(found, None)

    def forget(self, keys: Iterable[str], prefixes: Iterable[str] = ()) -> int:
        """Drop kept answers whose query was erased, by key or by how it begins, and erased hits; how many answers."""
        gone, begins = set(keys), tuple(prefixes)
        with self._lock:
            dropped = [n for n, one in self._kept.items() if one.query.key in gone or one.query.key.startswith(begins)]
            for number in dropped:
                del self._kept[number]
            for number, one in self._kept.items():
                hits = tuple(judged for judged in one.hits if judged.hit.sighting.key not in gone)
                if len(hits) < len(one.hits):
                    self._kept[number] = replace(one, hits=hits)
        return len(dropped)

    def forget_all(self) -> None:
        """Drop everything kept: sightings have other numbers now."""
        with self._lock:
            self._kept.clear()

    def _keep(self, search: Search) -> None:
        with self._lock:
            self._kept[search.id] = search
            self._drop_old()

    def _drop_old(self) -> None:
        """The oldest go first; called under the lock."""
        oldest_s = time.time() - KEPT_S
        while self._kept and (len(self._kept) > _KEPT or next(iter(self._kept.values())).made_s < oldest_s):
            self._kept.popitem(last=False)


def size_seen(gallery: Gallery, principal: Principal) -> int:
    """Sightings of the cameras that somebody sees: how many there are elsewhere is not theirs to know."""
    where = seen_by(principal, EVERYTHING)
    return len(gallery) if where == EVERYTHING else gallery.count(where)


def seen_by(principal: Principal, where: Filter) -> Filter:
    """``where``, of the cameras that somebody may see."""
    return replace(where, cameras=principal.scope(where.cameras))


def _is_theirs(search: Search, principal: Principal) -> bool:
    """They made it, and may still see the camera that its picture comes from."""
    camera = search.query.camera
    return search.user == principal.user and (camera is None or principal.sees(camera))


def _ask(gallery: Gallery, query: Query, asked: Asked, travel: TravelTimes) -> tuple[list[SearchHit], LeftOut]:
    """The hits that pass, and what was left out; more are asked for until enough are reachable."""
    seen = None if asked.keep_unreachable or not travel.are_stated else query.seen
    # The sighting searched for would be its own best answer.
    count = (max(asked.k, RERANKED) if asked.rerank else asked.k) + (query.sighting_id is not None)
    while True:
        answer = gallery.search(query.vector, count, where=asked.where, camera=query.taken_by)
        others = tuple(hit for hit in answer.hits if hit.sighting_id != query.sighting_id)
        if asked.rerank:
            others = rerank_hits(gallery, query.vector, others, camera=query.taken_by)
        hits, left_out = travel.reachable(seen, others, asked.k)
        if len(hits) == asked.k or len(answer.hits) < count or count >= _LOOKED_AT:
            return hits, left_out
        count = min(8 * count, _LOOKED_AT)


def _check(asked: Asked) -> None:
    if not 1 <= asked.k <= MAX_HITS:
        raise SearchError(f"k: got {asked.k}, expected 1 to {MAX_HITS}", 422)
    # They go into the audit as they were asked for, which nobody can shorten afterwards.
    names = asked.where.cameras or ()
    if len(names) > _MAX_CAMERAS or any(len(name) > _MAX_NAME or not name.isprintable() for name in names):
        raise SearchError(
            f"cameras: expected at most {_MAX_CAMERAS} names of at most {_MAX_NAME} printable characters", 422
        )
