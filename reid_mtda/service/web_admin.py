"""The admins' pages: who has access, who did what, which model answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from reid_mtda.service.api import Parts
from reid_mtda.service.app_state import service_of
from reid_mtda.service.auth import Role
from reid_mtda.service.middleware import Sent, Who
from reid_mtda.service.queries import SearchError
from reid_mtda.service.render import camera_names, page, text_of

router = APIRouter()

SEE_OTHER = 303


@router.get("/audit")
def audit(
    request: Request, who: Who, parts: Parts, before: Annotated[int | None, Query(ge=1, lt=2**62)] = None
) -> Response:
    """Who did what."""
    who.need(Role.ADMIN)
    who.need_all_cameras()
    entries = parts.audit.entries(before=before, limit=100)
    following = entries[-1].number if len(entries) == 100 else None
    return page(request, "audit.html", who, entries=entries, following=following, report=parts.audit.verify())


@router.get("/tokens")
def tokens(request: Request, who: Who, parts: Parts) -> Response:
    """Who has access."""
    who.need(Role.ADMIN)
    who.need_all_cameras()
    return page(request, "tokens.html", who, tokens=parts.auth.tokens(), made=None, cameras=camera_names(parts, who))


@router.post("/tokens")
def create_token(request: Request, sent: Sent) -> Response:
    """Make a token and show it this once."""
    who, form = sent
    parts = service_of(request)
    who.need(Role.ADMIN)
    who.need_all_cameras()
    cameras = tuple(str(name) for name in form.getlist("cameras") if name) or None
    try:
        days = float(text_of(form, "days") or "90")
    except ValueError:
        raise SearchError("days: expected a number", 422) from None
    role = Role.of(text_of(form, "role"))
    text, info = parts.auth.create(text_of(form, "user"), role, days=days, cameras=cameras, created_by=who.user)
    parts.audit.add(who.user, "token_created", token=info.id, for_user=info.user, role=role.label, cameras=info.cameras)
    listed, names = parts.auth.tokens(), camera_names(parts, who)
    return page(request, "tokens.html", who, tokens=listed, made=(text, info), cameras=names)


@router.post("/tokens/{token_id}/revoke")
def revoke(request: Request, token_id: str, sent: Sent) -> Response:
    """Make a token worthless."""
    who, _ = sent
    parts = service_of(request)
    who.need(Role.ADMIN)
    who.need_all_cameras()
    if parts.auth.revoke(token_id):
        parts.audit.add(who.user, "token_revoked", token=token_id)
    return RedirectResponse("/tokens", SEE_OTHER)


@router.post("/models")
def change_model(request: Request, sent: Sent) -> Response:
    """Put a candidate in service through the gate, or go back."""
    who, form = sent
    models = service_of(request).models
    who.need(Role.ADMIN)
    who.need_all_cameras()
    if text_of(form, "action") == "rollback":
        models.roll_back(who.user)
    else:
        models.promote(who.user, text_of(form, "name"))
    return RedirectResponse("/status#model", SEE_OTHER)
