"""The pages to sign in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from reid_mtda.service.app_state import AppState, service_of
from reid_mtda.service.middleware import COOKIE, Sent, check_origin, checked_token
from reid_mtda.service.render import page, text_of
from reid_mtda.service.roles import AccessError

router = APIRouter()

_SEE_OTHER = 303


@router.get("/login")
def login_form(request: Request, next: Annotated[str, Query(max_length=500)] = "/") -> Response:
    """The form to sign in."""
    return page(request, "login.html", None, next=_own_path(next), message="")


async def _login_fields(request: Request) -> FormData:
    check_origin(request)
    return await request.form(max_files=0, max_fields=5)


@router.post("/login")
def login(request: Request, form: Annotated[FormData, Depends(_login_fields)]) -> Response:
    """Sign in with a token."""
    target, service = _own_path(text_of(form, "next") or "/"), service_of(request)
    try:
        secret, seconds = checked_token(request, text_of(form, "token"), lambda token: _sign_in(service, token))
    except AccessError as error:
        response: Response = page(request, "login.html", None, status=error.status, next=target, message=str(error))
        if error.retry_after_s:
            response.headers["Retry-After"] = f"{error.retry_after_s:.0f}"
        return response
    response = RedirectResponse(target, _SEE_OTHER)
    is_secure = service.secure_cookies or request.url.scheme == "https"  # a trusted proxy may speak TLS for us
    response.set_cookie(COOKIE, secret, max_age=int(seconds), httponly=True, samesite="strict", secure=is_secure)
    return response


def _sign_in(service: AppState, token: str) -> tuple[str, float]:
    """Audited first: whom the audit cannot note is not signed in."""
    service.audit.add(service.auth.identify(token), "signed_in")
    return service.auth.open_session(token)


@router.post("/logout")
def logout(request: Request, sent: Sent) -> Response:
    """Sign out."""
    who, _ = sent
    service_of(request).auth.close_session(who.session or "")
    response = RedirectResponse("/login", _SEE_OTHER)
    response.delete_cookie(COOKIE)
    return response


def _own_path(path: str) -> str:
    """``path`` when it is one of ours, else the first page: no sending people elsewhere."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"
