"""Erasing somebody by picture, for pages and programs: asked for on an answer's page, decided by somebody else."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.search import iso_utc
from reid_mtda.service.api import ERRORS, Parts, jpeg
from reid_mtda.service.app_state import AppState, service_of
from reid_mtda.service.erasure_requests import ERASED, REFUSED, ErasureRequest
from reid_mtda.service.middleware import Sent, Who
from reid_mtda.service.queries import SearchError, number_of
from reid_mtda.service.render import page, text_of
from reid_mtda.service.review import ReviewError
from reid_mtda.service.roles import Principal, Role
from reid_mtda.service.schemas import Body, Id, Name, Printable
from reid_mtda.types import Sighting

router = APIRouter()
api_router = APIRouter(prefix="/api/v1", responses=ERRORS)

_SEE_OTHER = 303


class AskIn(Body):
    """Sightings among the answers of your own search that show the person who is to be erased."""

    search_id: Name
    sighting_ids: list[Id] = Field(min_length=1, max_length=200)
    reason: Printable = Field(min_length=3, max_length=200)


class VerdictIn(Body):
    """The second decision."""

    decision: Literal["erase", "refuse"]


class RequestOut(BaseModel):
    """A request; ``sighting_ids`` are those that are still there while it is open."""

    id: int
    state: str
    sighting_ids: list[int]
    count: int
    reason: str
    case_reference: str
    first_user: str
    first: str
    second_user: str | None
    second: str | None


@api_router.get("/erasures/requests", tags=["privacy"])
def requests(who: Who, parts: Parts) -> list[RequestOut]:
    """Requests to erase somebody, open ones first."""
    who.need(Role.OPERATOR)
    return [_out(parts, request) for request in parts.erasure_requests.listed(who)]


@api_router.post("/erasures/requests", tags=["privacy"], status_code=201)
def ask_api(body: AskIn, who: Who, parts: Parts) -> RequestOut:
    """The first decision: ask that the person of your search is erased."""
    return _out(parts, ask(parts, who, body.search_id, body.sighting_ids, body.reason))


@api_router.post("/erasures/requests/{number}/decision", tags=["privacy"])
def decide_api(number: Id, body: VerdictIn, who: Who, parts: Parts) -> RequestOut:
    """The second decision, by an admin who is somebody else; ``erase`` removes the sightings at once."""
    return _out(parts, decide(parts, who, number, body.decision))


@api_router.get("/erasures/requests/{number}/picture", tags=["privacy"], response_class=Response)
def picture(number: Id, who: Who, parts: Parts) -> Response:
    """Who is searched for, JPEG."""
    who.need(Role.OPERATOR)
    return jpeg(parts.erasure_requests.picture(who, number))


@router.get("/erasures")
def erasures_page(request: Request, who: Who, parts: Parts) -> Response:
    """Who is to be erased."""
    who.need(Role.OPERATOR)
    listed = [(one, _numbers(parts, one)) for one in parts.erasure_requests.listed(who)]
    return page(request, "erasures.html", who, requests=listed)


@router.post("/searches/{search_id}/erasure")
def ask_form(request: Request, search_id: str, sent: Sent) -> Response:
    """The first decision, from the page of an answer."""
    who, form = sent
    who.need(Role.OPERATOR)
    texts = [text for text in form.getlist("sighting_ids") if isinstance(text, str)]
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in texts):
        raise SearchError("sighting: expected a number", 422)
    reason = text_of(form, "reason")
    if not 3 <= len(reason) <= 200 or not reason.isprintable():
        raise SearchError("reason: expected 3 to 200 printable characters; say who asked for it", 422)
    ask(service_of(request), who, search_id, [int(text) for text in texts], reason)
    return RedirectResponse("/erasures", _SEE_OTHER)


@router.post("/erasures/{number}")
def decide_form(request: Request, number: Id, sent: Sent) -> Response:
    """The second decision."""
    who, form = sent
    decide(service_of(request), who, number, text_of(form, "decision"))
    return RedirectResponse("/erasures", _SEE_OTHER)


def ask(parts: AppState, who: Principal, search_id: str, numbers: list[int], reason: str) -> ErasureRequest:
    """Enter the first decision.

    Args:
        parts: the service.
        who: asks.
        search_id: of their own search for the person.
        numbers: of the sightings that show the person, among its answers.
        reason: why, for the receipt.

    Raises:
        SearchError: not the asker's search, or a sighting that is not among its answers.
    """
    who.need(Role.OPERATOR)
    made = parts.searches.kept(who, search_id)
    answers = {judged.hit.sighting_id: judged.hit.sighting for judged in made.hits}
    if others := [number for number in numbers if number not in answers]:
        raise SearchError(f"sighting {others[0]}: is not among the answers of this search", 404)

    def noted(request: int) -> None:
        parts.audit.add(who, "erasure_asked", request=request, sightings=sorted(numbers), search_id=made.id)

    keys = [answers[number].key for number in dict.fromkeys(numbers)]
    case = made.reason.case_reference
    return parts.erasure_requests.ask(who, keys, made.query.picture, reason=reason, case_reference=case, audit=noted)


def decide(parts: AppState, who: Principal, number: int, decision: str) -> ErasureRequest:
    """Enter the second decision, and erase where it says so.

    Args:
        parts: the service.
        who: decides.
        number: of the request.
        decision: ``erase`` or ``refuse``.

    Raises:
        AccessError: not an admin, or the same person.
        ReviewError: no such open request, or no such decision.
        StorageError: the audit or the disk refused; what was begun is completed later.
    """
    who.need(Role.ADMIN)
    if decision not in ("erase", "refuse"):
        raise ReviewError(f"decision: got {decision[:40]!r}, expected 'erase' or 'refuse'", 422)
    request = parts.erasure_requests.check_second(who, number)
    if decision == "refuse":
        parts.audit.add(who, "erasure_refused", request=number)
        return parts.erasure_requests.close_request(who, number, REFUSED)
    parts.audit.add(who, "erasure_approved", request=number, asked_by=request.first_user)

    def choose(gallery: Gallery) -> dict[int, Sighting]:
        numbers = [found for key in request.keys if (found := number_of(gallery, key)) is not None]
        return gallery.lookup(numbers)

    parts.erasures.erase(who, choose, request.reason)
    return parts.erasure_requests.close_request(who, number, ERASED)


def _numbers(parts: AppState, request: ErasureRequest) -> list[int]:
    gallery = parts.system.gallery
    return [number for key in request.keys if (number := number_of(gallery, key)) is not None]


def _out(parts: AppState, request: ErasureRequest) -> RequestOut:
    return RequestOut(
        id=request.id,
        state=request.state,
        sighting_ids=_numbers(parts, request),
        count=request.count,
        reason=request.reason,
        case_reference=request.case_reference,
        first_user=request.first_user,
        first=iso_utc(request.first_s),
        second_user=request.second_user,
        second=None if request.second_s is None else iso_utc(request.second_s),
    )
