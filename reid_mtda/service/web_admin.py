"""The admins' pages: who has access, who did what, which model answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from reid_mtda.service.api import Parts
from reid_mtda.service.api_admin import retention_turn
from reid_mtda.service.app_state import service_of
from reid_mtda.service.middleware import SentByAdmin, SiteAdmin, Who
from reid_mtda.service.queries import SearchError
from reid_mtda.service.render import camera_names, page, text_of
from reid_mtda.service.token_issue import TOKEN_DAYS, issue_token, revoke_token

router = APIRouter()

SEE_OTHER = 303


@router.get("/audit")
def audit(
    request: Request, who: SiteAdmin, parts: Parts, before: Annotated[int | None, Query(ge=1, lt=2**62)] = None
) -> Response:
    """Who did what."""
    entries = parts.audit.entries(before=before, limit=100)
    following = entries[-1].number if len(entries) == 100 else None
    return page(request, "audit.html", who, entries=entries, following=following, report=parts.audit.check())


@router.get("/tokens")
def tokens(request: Request, who: SiteAdmin, parts: Parts) -> Response:
    """Who has access."""
    return page(request, "tokens.html", who, tokens=parts.auth.tokens(), made=None, cameras=camera_names(parts, who))


@router.post("/tokens")
def create_token(request: Request, sent: SentByAdmin) -> Response:
    """Make a token and show it this once."""
    who, form = sent
    parts = service_of(request)
    cameras = tuple(str(name) for name in form.getlist("cameras") if name) or None
    try:
        days = float(text_of(form, "days") or TOKEN_DAYS)
    except ValueError:
        raise SearchError("days: expected a number", 422) from None
    user, role = text_of(form, "user"), text_of(form, "role")
    text, info = issue_token(parts.auth, parts.audit, user, role, by=who, days=days, cameras=cameras)
    listed, names = parts.auth.tokens(), camera_names(parts, who)
    return page(request, "tokens.html", who, tokens=listed, made=(text, info), cameras=names)


@router.post("/tokens/{token_id}/revoke")
def revoke(request: Request, token_id: str, sent: SentByAdmin) -> Response:
    """Make a token worthless."""
    who, _ = sent
    parts = service_of(request)
    revoke_token(parts.auth, parts.audit, token_id, by=who)
    return RedirectResponse("/tokens", SEE_OTHER)


@router.get("/models")
def models_page(who: Who) -> Response:
    """Models stand on the page of the status; an address that takes a form is also typed and reloaded."""
    return RedirectResponse("/status#model", SEE_OTHER)


@router.post("/models")
def change_model(request: Request, sent: SentByAdmin) -> Response:
    """Put a candidate in service through the gate, or go back."""
    who, form = sent
    models = service_of(request).models
    if text_of(form, "action") == "rollback":
        models.roll_back(who)
    else:
        models.promote(who, text_of(form, "name"))
    return RedirectResponse("/status#model", SEE_OTHER)


@router.post("/retention")
def accept_retention(request: Request, sent: SentByAdmin) -> Response:
    """Yes: the clock is right, and the old sightings that wait may go."""
    who, _ = sent
    retention_turn(service_of(request), who, accept=True)
    return RedirectResponse("/status", SEE_OTHER)
