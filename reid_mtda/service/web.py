"""The page: server-rendered, forms that work without scripts, everything within the rights of whoever is signed in."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse, Response

from reid_mtda.data.enough_people import LEAST_PEOPLE
from reid_mtda.errors import ReidError
from reid_mtda.gallery.filter import Filter
from reid_mtda.service import api, api_cameras
from reid_mtda.service.api import Parts, jpeg, sightings_page
from reid_mtda.service.app_state import alerts_of, camera_means_of, service_of
from reid_mtda.service.middleware import Sent, Who, identify
from reid_mtda.service.queries import SearchError
from reid_mtda.service.render import camera_names, page, text_of
from reid_mtda.service.review import OPEN
from reid_mtda.service.roles import Role
from reid_mtda.service.schemas import Id, Name
from reid_mtda.service.searches import Asked, Reason, size_seen
from reid_mtda.service.site_time import SiteTime
from reid_mtda.service.timeline import draw_timeline
from reid_mtda.service.transition_times import travel_times

router = APIRouter()

_SEE_OTHER = 303


def wants_page(request: Request) -> bool:
    """Whether a person at a browser waits for the answer."""
    programs = ("/api/", "/metrics", "/static/")
    return not request.url.path.startswith(programs) and "text/html" in request.headers.get("accept", "")


def error_page(request: Request, status: int, message: str, headers: dict[str, str]) -> Response:
    """An error in the page's clothes; who is not signed in is sent to sign in.

    Args:
        request: the request.
        status: HTTP's.
        message: what is said.
        headers: sent with it.
    """
    if status == 401 and request.url.path != "/login":
        target = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/login?next={quote(target)}", _SEE_OTHER)
    try:
        who = identify(request)
    except ReidError:  # nobody, or what is told here is that nothing can be read
        who = None
    response = page(request, "error.html", who, status=status, code=status, message=message)
    response.headers.update(headers)
    return response


# ----------------------------------------------------------------------------------------------- cameras, sightings


@router.get("/")
def cameras_page(request: Request, who: Who, parts: Parts) -> Response:
    """The cameras, live."""
    last_event = parts.system.events.last  # before anything is read: what happens meanwhile is told again
    states = [state for name, state in parts.system.pool.states().items() if who.sees(name)]
    recent, _ = sightings_page(parts, who, limit=12)
    alerts = alerts_of(parts, who)
    return page(
        request,
        "cameras.html",
        who,
        cameras=states,
        recent=recent,
        disk=api.disk_words(parts.system.disk.message, who),
        alerts=alerts,
        last_event=last_event,
    )


@router.get("/sightings")
def sightings(
    request: Request,
    who: Who,
    parts: Parts,
    camera: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int | None, Query(ge=1, lt=2**62)] = None,
) -> Response:
    """Who was seen lately."""
    rows, following = sightings_page(parts, who, Filter([camera] if camera else None), before=before, limit=48)
    names = camera_names(parts, who)
    return page(request, "sightings.html", who, rows=rows, following=following, cameras=names, camera=camera)


@router.get("/sightings/{number}")
def sighting(request: Request, number: Id, who: Who, parts: Parts) -> Response:
    """One sighting, large; looking at it is audited."""
    row = parts.queries.sighting(who, number)
    parts.access_log.sighting(who, number, row)
    return page(request, "sighting.html", who, number=number, row=row)


@router.post("/cameras/{name}/{action}")
def camera_action(request: Request, name: str, action: str, sent: Sent) -> Response:
    """Pause or resume."""
    who, _ = sent
    if action not in ("pause", "resume"):
        raise SearchError("there is nothing here", 404)
    (api_cameras.pause if action == "pause" else api_cameras.resume)(name, who, service_of(request))
    return RedirectResponse("/status", _SEE_OTHER)


@router.get("/status")
def status(request: Request, who: Who, parts: Parts) -> Response:
    """Camera health, the model and its thresholds."""
    states = [state for name, state in parts.system.pool.states().items() if who.sees(name)]
    thresholds = parts.calibration.current()
    rows = [
        (pair, value)
        for pair, value in sorted(thresholds.pairs.items())
        if all(not name or who.sees(name) for name in pair)
    ]
    return page(
        request,
        "status.html",
        who,
        cameras=states,
        kept=parts.system.kept.count() if parts.system.kept is not None else {},
        manifest=parts.system.model.manifest,
        gallery_size=size_seen(parts.system.gallery, who),
        thresholds=thresholds,
        rows=rows,
        means=camera_means_of(parts, who),
        people=parts.calibration.people,
        least_people=LEAST_PEOPLE,
        drift={
            name: value for name, value in parts.system.model_server.drift_monitor.drift().items() if who.sees(name)
        },
        disk=api.disk_words(parts.system.disk.message, who),
        alerts=alerts_of(parts, who),
        models=parts.models,
    )


# ---------------------------------------------------------------------------------------------------------- search


@router.get("/search")
def search_form(
    request: Request,
    who: Who,
    parts: Parts,
    sighting: Annotated[int | None, Query(ge=1, lt=2**62)] = None,
    pick: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The form of a search: by upload, by sighting or by a person picked live."""
    who.need(Role.OPERATOR)
    shown = ""
    if sighting is not None:
        parts.queries.sighting(who, sighting)
        shown = f"/api/v1/sightings/{sighting}/thumbnail"
    elif pick:
        parts.queries.picked(who, pick)
        shown = f"/picks/{quote(pick, safe='')}/picture"
    names = camera_names(parts, who)
    return page(
        request,
        "search.html",
        who,
        sighting=sighting,
        pick=pick,
        shown=shown,
        cameras=names,
        limited=travel_times(parts.system).are_stated,
        centred=parts.system.gallery.is_centred,
    )


@router.get("/picks/{pick_id}/picture")
def pick_picture(pick_id: Name, who: Who, parts: Parts) -> Response:
    """The person picked."""
    return jpeg(parts.queries.picked(who, pick_id))


@router.post("/search")
def search(request: Request, sent: Sent) -> Response:
    """Search and show the answer."""
    who, form = sent
    service = service_of(request)
    reason = Reason(text_of(form, "purpose"), text_of(form, "case_reference"))
    asked = _asked(form, service.times)
    picture = form.get("picture")
    if text_of(form, "sighting_id"):
        query = service.queries.of_sighting(who, _sighting_id(form))
    elif pick := text_of(form, "pick_id"):
        query = service.queries.of_pick(who, pick)
    elif isinstance(picture, UploadFile):
        camera, seen_s = text_of(form, "seen_camera") or None, _time(text_of(form, "seen_at"), service.times)
        whole = text_of(form, "whole_picture") == "yes"
        query = service.queries.of_upload(who, picture.file.read(), seen_camera=camera, seen_s=seen_s, whole=whole)
    else:
        raise SearchError("choose a picture first", 422)
    made = service.searches.search(who, query, reason, asked)
    return RedirectResponse(f"/searches/{made.id}", _SEE_OTHER)


@router.get("/searches/{search_id}")
def answer(request: Request, search_id: Name, who: Who, parts: Parts) -> Response:
    """The answer."""
    made = parts.searches.kept(who, search_id)
    return page(
        request,
        "answer.html",
        who,
        search=made,
        asked=made.asked,
        cameras=camera_names(parts, who),
        timeline=draw_timeline(made, parts.times),
        reviews={r.candidate_id: r for r in parts.reviews.states(made.query.key).values()},
    )


@router.get("/searches/{search_id}/picture")
def answer_picture(search_id: Name, who: Who, parts: Parts) -> Response:
    """The picture searched for."""
    return jpeg(parts.searches.kept(who, search_id).query.picture)


@router.post("/searches/{search_id}/filters")
def refine(request: Request, search_id: str, sent: Sent) -> Response:
    """The same search with other filters."""
    who, form = sent
    service = service_of(request)
    made = service.searches.refine(who, search_id, _asked(form, service.times))
    return RedirectResponse(f"/searches/{made.id}", _SEE_OTHER)


@router.post("/searches/{search_id}/reviews")
def propose(request: Request, search_id: str, sent: Sent) -> Response:
    """The first decision on a hit."""
    who, form = sent
    service = service_of(request)
    number = _sighting_id(form)
    made = service.searches.kept(who, search_id)
    api.propose_review(service, who, made, number, text_of(form, "decision"))
    return RedirectResponse(f"/searches/{search_id}#s{number}", _SEE_OTHER)


def _sighting_id(form: FormData) -> int:
    text = text_of(form, "sighting_id")
    # Python refuses to read numbers of some thousand digits.
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise SearchError("sighting: expected a number", 422)
    return int(text)


def _asked(form: FormData, times: SiteTime) -> Asked:
    cameras = tuple(str(name) for name in form.getlist("cameras") if name)
    score = text_of(form, "min_score")
    count = text_of(form, "k") or "20"
    try:
        return Asked(
            k=int(count),
            where=Filter(
                cameras=cameras or None,
                start_s=_time(text_of(form, "start"), times),
                end_s=_time(text_of(form, "end"), times),
                min_score=float(score) if score else None,
            ),
            keep_unreachable=text_of(form, "keep_unreachable") == "yes",
            rerank=text_of(form, "rerank") == "yes",
        )
    except ValueError:
        raise SearchError("filters: a number cannot be read; check them", 422) from None


def _time(text: str, times: SiteTime) -> float | None:
    """What a ``datetime-local`` field holds, in the site's own time."""
    try:
        return times.parse(text) if text else None
    except (ValueError, OverflowError):
        raise SearchError("a time cannot be read; expected e.g. 2026-03-01T08:00", 422) from None


# --------------------------------------------------------------------------------------------------------- reviews


@router.get("/reviews")
def reviews(request: Request, who: Who, parts: Parts, state: Annotated[str, Query(max_length=20)] = OPEN) -> Response:
    """Matches that wait for a second pair of eyes, or were decided."""
    who.need(Role.OPERATOR)
    listed = parts.reviews.listed(who, state=state if state != "all" else None)
    return page(request, "reviews.html", who, reviews=listed, state=state)


@router.post("/reviews/{number}")
def decide(request: Request, number: Id, sent: Sent) -> Response:
    """The second decision."""
    who, form = sent
    api.decide_review(service_of(request), who, number, text_of(form, "decision"))
    return RedirectResponse("/reviews", _SEE_OTHER)
