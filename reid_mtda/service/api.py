"""The REST API for operators: search, sightings, reviews, live events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.live.events import Event
from reid_mtda.service import schemas as s
from reid_mtda.service.app_state import AppState, service_of
from reid_mtda.service.evidence import make_evidence
from reid_mtda.service.middleware import Who
from reid_mtda.service.queries import SearchError
from reid_mtda.service.review import Proposal, Review
from reid_mtda.service.roles import AccessError, Principal, Role
from reid_mtda.service.searches import Asked, Reason, Search, seen_by
from reid_mtda.types import Sighting

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": s.ErrorOut} for code in (400, 401, 403, 404, 409, 413, 422, 429, 503, 507)
}
router = APIRouter(prefix="/api/v1", responses=ERRORS)

Parts = Annotated[AppState, Depends(service_of)]
Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=1, lt=2**62)]
After = Annotated[int | None, Query(ge=0, lt=2**62)]
_PAGE = 50
_POLL_S = 0.4
_CHECKED_S = 15.0


def jpeg(data: bytes) -> Response:
    """A picture for the one who asked alone: no cache keeps it."""
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


# ---------------------------------------------------------------------------------------------------------- search


@router.post("/search", tags=["search"])
def search(body: s.SearchIn, who: Who, parts: Parts) -> s.SearchOut:
    """Where else was the person of a sighting, or of a live picture, seen?"""
    reason = Reason(body.purpose, body.case_reference)
    if (body.sighting_id is None) == (body.pick_id is None):
        raise SearchError("got both or neither of sighting_id and pick_id, expected one of them", 422)
    if body.sighting_id is not None:
        query = parts.queries.of_sighting(who, body.sighting_id)
    else:
        query = parts.queries.of_pick(who, body.pick_id or "")
    return s.SearchOut.of(parts.searches.search(who, query, reason, body.asked))


@router.post("/search/picture", tags=["search"])
def search_picture(
    who: Who,
    parts: Parts,
    picture: Annotated[UploadFile, File()],
    purpose: Annotated[str, Form(max_length=200)],
    case_reference: Annotated[str, Form(max_length=64)],
    k: Annotated[int, Form(ge=1, le=200)] = 20,
    cameras: Annotated[list[str] | None, Form()] = None,
    start_s: Annotated[float | None, Form()] = None,
    end_s: Annotated[float | None, Form()] = None,
    min_score: Annotated[float | None, Form(ge=-1, le=1)] = None,
    keep_unreachable: Annotated[bool, Form()] = False,
    seen_camera: Annotated[str | None, Form(max_length=64)] = None,
    seen_s: Annotated[float | None, Form()] = None,
    whole_picture: Annotated[bool, Form()] = False,
    rerank: Annotated[bool, Form()] = False,
) -> s.SearchOut:
    """Where else was the person in an uploaded picture seen? Travel times count where ``seen_*`` say where and when.

    Where embeddings are centred by camera ``seen_camera`` may come alone: its mean is subtracted, else that of all.
    """
    reason = Reason(purpose, case_reference)
    who.need(Role.OPERATOR)
    query = parts.queries.of_upload(
        who, picture.file.read(), seen_camera=seen_camera, seen_s=seen_s, whole=whole_picture
    )
    asked = Asked(k, Filter(cameras, start_s, end_s, min_score), keep_unreachable, rerank)
    return s.SearchOut.of(parts.searches.search(who, query, reason, asked))


@router.get("/search/{search_id}", tags=["search"])
def search_again(search_id: s.Name, who: Who, parts: Parts) -> s.SearchOut:
    """An answer given to you within the last two hours."""
    return s.SearchOut.of(parts.searches.kept(who, search_id))


# ------------------------------------------------------------------------------------------------------- sightings


@router.get("/sightings", tags=["sightings"])
def sightings(
    who: Who,
    parts: Parts,
    camera: Annotated[list[str] | None, Query()] = None,
    start_s: float | None = None,
    end_s: float | None = None,
    before: Before = None,
    limit: Limit = _PAGE,
) -> s.SightingsOut:
    """Sightings, newest first."""
    page, following = sightings_page(parts, who, Filter(camera, start_s, end_s), before, limit)
    return s.SightingsOut(sightings=[s.SightingOut.of(n, row) for n, row in page.items()], next=following)


def sightings_page(
    parts: AppState,
    who: Principal,
    where: Filter = EVERYTHING,
    before: int | None = None,
    limit: int = _PAGE,
) -> tuple[dict[int, Sighting], int | None]:
    """A page of sightings that somebody may see, newest first, and where the next one begins.

    Args:
        parts: the service's parts.
        who: who is signed in.
        where: only those that pass.
        before: only numbers below it; None: all.
        limit: how many at most.
    """
    gallery = parts.system.gallery
    found = gallery.newest(limit + 1, before=before, where=seen_by(who, where))
    chosen = found[:limit]
    rows = gallery.lookup(chosen)
    following = chosen[-1] if len(found) > limit else None
    return {number: rows[number] for number in chosen if number in rows}, following


@router.get("/sightings/{number}", tags=["sightings"])
def sighting(number: s.Id, who: Who, parts: Parts) -> s.SightingOut:
    """One sighting; looking at it is audited."""
    found = parts.queries.sighting(who, number)
    parts.access_log.sighting(who, number, found)
    return s.SightingOut.of(number, found)


@router.get("/sightings/{number}/thumbnail", tags=["sightings"], response_class=Response)
def thumbnail(number: s.Id, who: Who, parts: Parts) -> Response:
    """Its picture, JPEG; fetching it with a token is audited once for each search that found it."""
    found = parts.queries.sighting(who, number)
    try:
        picture = found.thumbnail.read_bytes()
    except OSError:
        raise SearchError(f"sighting {number}: its picture is gone", 404) from None
    parts.access_log.picture(who, number, found)
    return jpeg(picture)


# --------------------------------------------------------------------------------------------------------- reviews


@router.get("/reviews", tags=["reviews"])
def reviews(
    who: Who, parts: Parts, state: Annotated[str | None, Query(max_length=20)] = None, before: Before = None,
    limit: Limit = _PAGE,
) -> list[s.ReviewOut]:  # fmt: skip
    """Reviews you may see, newest first."""
    who.need(Role.OPERATOR)
    return [s.ReviewOut.of(review) for review in parts.reviews.listed(who, state=state, before=before, limit=limit)]


@router.post("/reviews", tags=["reviews"], status_code=201)
def propose(body: s.ReviewIn, who: Who, parts: Parts) -> s.ReviewOut:
    """The first decision on a hit of your own search."""
    who.need(Role.OPERATOR)
    made = parts.searches.kept(who, body.search_id)
    return s.ReviewOut.of(parts.reviews.get(who, propose_review(parts, who, made, body.sighting_id, body.decision)))


def propose_review(parts: AppState, who: Principal, made: Search, number: int, decision: str) -> int:
    """Enter the first decision; returns the review's number.

    Args:
        parts: the service's parts.
        who: who is signed in.
        made: the search that found it.
        number: its number.
        decision: ``same`` or ``different``.

    Raises:
        SearchError: the sighting is not among the answers.
    """
    judged = next((judged for judged in made.hits if judged.hit.sighting_id == number), None)
    if judged is None:
        raise SearchError(f"sighting {number}: is not among the answers of this search", 404)
    candidate = judged.hit.sighting
    proposal = Proposal(
        query_key=made.query.key,
        query_id=made.query.sighting_id,
        query_camera=made.query.camera,
        candidate_key=candidate.key,
        candidate_id=number,
        candidate_camera=candidate.camera,
        score=judged.hit.score,
        case_reference=made.reason.case_reference,
        picture=made.query.picture,
    )

    def noted(review: int) -> None:
        parts.audit.add(who, "review_proposed", review=review, decision=decision, sighting_id=number, search_id=made.id)

    return parts.reviews.propose(who, proposal, decision, audit=noted).id


@router.post("/reviews/{number}/decision", tags=["reviews"])
def decide(number: s.Id, body: s.DecisionIn, who: Who, parts: Parts) -> s.ReviewOut:
    """The second decision, by somebody else."""
    return s.ReviewOut.of(decide_review(parts, who, number, body.decision))


def decide_review(parts: AppState, who: Principal, number: int, decision: str) -> Review:
    """Enter the second decision.

    Args:
        parts: the service's parts.
        who: who is signed in.
        number: its number.
        decision: ``same`` or ``different``.
    """

    def noted(state: str) -> None:
        parts.audit.add(who, "review_decided", review=number, decision=decision, state=state)

    return parts.reviews.decide(who, number, decision, audit=noted)


@router.get("/reviews/{number}/picture", tags=["reviews"], response_class=Response)
def review_picture(number: s.Id, who: Who, parts: Parts) -> Response:
    """The query's picture, JPEG."""
    who.need(Role.OPERATOR)
    return jpeg(parts.reviews.picture(who, number))


@router.get("/reviews/{number}/evidence", tags=["reviews"], response_class=Response)
def evidence(number: s.Id, who: Who, parts: Parts) -> Response:
    """A confirmed review as a package that others can check: pictures, times, both decisions, model, audit; a zip."""
    data = make_evidence(parts, who, number)
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="review-{number}.zip"'}
    return Response(data, media_type="application/zip", headers=headers)


# ---------------------------------------------------------------------------------------------------------- events


def _first_event(request: Request, response: Response, parts: Parts, after: After = None) -> int:
    """The number after which somebody wants to hear: ``Last-Event-ID``, else ``after``, else from now on."""
    if parts.listeners >= parts.settings.max_listeners:
        raise AccessError("too many open event streams; close one", 503, retry_after_s=10)
    response.headers["Cache-Control"] = "no-store"  # in addition to FastAPI's no-cache: no copy stays anywhere
    given = request.headers.get("last-event-id", "")
    begin = parts.system.events.last if after is None else after
    return int(given) if given.isascii() and given.isdigit() and len(given) < 16 else begin


@router.get("/events", tags=["events"], response_class=EventSourceResponse)
async def events(who: Who, parts: Parts, last: Annotated[int, Depends(_first_event)]) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: sightings, camera states, model changes; ``Last-Event-ID`` goes on where you left off.

    Without it ``after`` says where to begin; without that they begin now.
    """
    parts.listeners += 1
    checked = time.monotonic()
    try:
        yield ServerSentEvent(retry=3000)
        while not parts.closing.is_set():
            for event in parts.system.events.after(last):
                last = event.number
                if _may_hear(who, event):
                    data = {"camera": event.camera, "time_s": event.time_s, **event.detail}
                    if event.kind == "disk":
                        data["message"] = disk_words(data["message"], who)
                    yield ServerSentEvent(id=str(event.number), event=event.kind, data=data)
            await asyncio.sleep(_POLL_S)
            # However much is told in between: on a busy site no moment is quiet.
            if time.monotonic() - checked >= _CHECKED_S:
                checked = time.monotonic()
                if not await asyncio.to_thread(_still_valid, parts, who):
                    return
    finally:
        parts.listeners -= 1


def _may_hear(who: Principal, event: Event) -> bool:
    """Events of cameras that somebody sees; alerts name files of the server and are for operators, as elsewhere."""
    return (event.kind != "alert" or who.role >= Role.OPERATOR) and (event.camera is None or who.sees(event.camera))


def disk_words(message: str, who: Principal) -> str:
    """What is wrong with the disk; why, which may name a folder of the server, is for operators."""
    return message if who.role >= Role.OPERATOR else message.partition(":")[0]


def _still_valid(parts: AppState, who: Principal) -> bool:
    """Whether the listener's token or session still holds: an open stream must not outlive it, nor a sign-out."""
    if who.session is None:
        return any(token.id == who.token_id and token.is_valid(time.time()) for token in parts.auth.tokens())
    try:
        parts.auth.resume(who.session)
    except AccessError:
        return False
    return True
