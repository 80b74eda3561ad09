"""What stands before every request: host, size, headers, who asks, and that a form comes from our own page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reid_mtda.errors import ReidError
from reid_mtda.service.app_state import service_of
from reid_mtda.service.connections import owner_of
from reid_mtda.service.roles import AccessError, Principal, Role
from reid_mtda.service.tokens import csrf_matches

_Result = TypeVar("_Result")

COOKIE = "rmt_session"
_SAFE = ("GET", "HEAD", "OPTIONS")
_SMALL_BODY = 256 * 1024
_LOGIN, _LOGIN_BODY = "/login", 8 * 1024
_UPLOADS = ("/api/v1/search/picture", "/search")
_NOBODY = "sign in first, or send 'Authorization: Bearer TOKEN'"

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers send our own forms with "Origin: null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class ServiceMiddleware:
    """Outermost layer: refuses foreign hosts, large bodies and nobody's bodies, counts answers, sets their headers.

    Faults of ours are answered here, too, by ``on_fault``: what is answered further out has neither. So is whoever may
    not send what they send, by ``on_refusal``, before any of it is taken.
    A foreign ``Host`` is how a page elsewhere would talk to a service on the visitor's own machine (DNS rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: tuple[str, ...],
        max_body: int,
        on_answer: Callable[[int], None],
        on_fault: Callable[[Request, Exception], Awaitable[Response]],
        on_refusal: Callable[[Request, ReidError], Awaitable[Response]],
        secure: bool,
    ) -> None:
        self._app, self._hosts, self._max_body = app, {host.lower() for host in hosts}, max_body
        self._on_answer, self._on_fault, self._on_refusal, self._secure = on_answer, on_fault, on_refusal, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
                if self._secure or scope["scheme"] == "https":  # a trusted proxy may speak TLS for us
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
                self._on_answer(message["status"])
            await send(message)

        if problem := self._problem(scope):
            await error_json(*problem)(scope, receive, send_with_headers)
            return
        limit = self._limit(scope)
        taken = 0

        async def receive_limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise AccessError(f"the body is too large, expected at most {limit} bytes", 413)
            return message

        try:
            if scope["method"] not in _SAFE and scope["path"] != _LOGIN:
                try:
                    await run_in_threadpool(_check_sender, Request(scope))
                except ReidError as error:
                    response = await self._on_refusal(Request(scope), error)
                    await response(scope, receive, send_with_headers)
                    return
            await self._app(scope, receive_limited, send_with_headers)
        except ClientDisconnect:
            return  # nobody waits for an answer
        except Exception as error:
            if has_begun:
                raise
            response = await self._on_fault(Request(scope), error)
            await response(scope, receive, send_with_headers)

    def _limit(self, scope: Scope) -> int:
        if scope["path"] == _LOGIN:
            return _LOGIN_BODY
        return self._max_body if scope["path"] in _UPLOADS else _SMALL_BODY

    def _problem(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = (host.rsplit(":", 1)[0] if not host.endswith("]") else host).strip("[]").lower()
        if name not in self._hosts:
            return 400, "host", "this service does not answer under that host name; add it to page_hosts"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "length", "Content-Length is not a number"
        limit = self._limit(scope)
        if int(length) > limit:
            return 413, "too_large", f"the body is too large, got {length} bytes, expected at most {limit}"
        return None


def error_json(status: int, kind: str, message: str, **headers: str) -> JSONResponse:
    """An error as the API tells it.

    Args:
        status: HTTP's.
        kind: of error, a word for programs.
        message: what is said.
        **headers: sent with it.
    """
    return JSONResponse({"error": {"kind": kind, "message": message}}, status, headers)


def address_of(request: Request) -> str:
    """Whose failures count together."""
    return owner_of(request.client.host) if request.client else "?"


def identify(request: Request) -> Principal:
    """Who asks: by bearer token or by the page's session.

    Raises:
        AccessError: 401 nobody valid, 429 too many failures.
    """
    service = service_of(request)
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind:
        if kind.lower() != "bearer":
            raise AccessError("expected 'Authorization: Bearer TOKEN'", 401)
        return checked_token(request, token.strip(), service.auth.identify)
    if session := request.cookies.get(COOKIE):
        return service.auth.resume(session)
    raise AccessError(_NOBODY, 401)


def checked_token(request: Request, token: str, use: Callable[[str], _Result]) -> _Result:
    """``use(token)`` behind the throttle.

    Args:
        request: the request.
        token: the token that was given.
        use: what is done with the token.

    Raises:
        AccessError: 401 a wrong token, 429 too many of them.
    """
    try:
        return use(token)
    except AccessError:
        service_of(request).throttle.failed(address_of(request))
        raise


def api_principal(request: Request) -> Principal:
    """Who asks the API. A session's cookie alone changes nothing: the page's secret must be sent along.

    Raises:
        AccessError: 401, 403, 429.
    """
    principal = identify(request)
    if request.method not in _SAFE and principal.session is not None:
        check_origin(request)
        if not csrf_matches(principal, request.headers.get("x-csrf-token", "")):
            raise AccessError("the page's secret is missing or old (X-CSRF-Token); load the page again", 403)
    return principal


def _sender(request: Request) -> Principal:
    check_origin(request)
    return identify(request)


def _check_sender(request: Request) -> None:
    """Refuse whoever may not send at all: a body is read, an upload to the disk, before its route asks who sends it.

    Raises:
        AccessError: 401, 403, 429.
    """
    principal = (api_principal if request.url.path.startswith("/api/") else _sender)(request)
    if request.url.path in _UPLOADS:
        principal.need(Role.OPERATOR)


async def form_of(request: Request, principal: Annotated[Principal, Depends(_sender)]) -> tuple[Principal, FormData]:
    """Who sends a form of the page, and what is in it.

    Raises:
        AccessError: 401, 403.
    """
    # A search names each of its cameras in a field of its own.
    form = await request.form(max_files=1, max_fields=100 + service_of(request).settings.live.max_cameras)
    given = form.get("csrf", "")
    if principal.session is None or not csrf_matches(principal, given if isinstance(given, str) else ""):
        raise AccessError("the form is too old or not from this page; load the page again", 403)
    return principal, form


def check_origin(request: Request) -> None:
    """Refuse a form that another site sent.

    Raises:
        AccessError: 403.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise AccessError("forms are taken from this service's own pages only", 403)
    origin = request.headers.get("origin")
    if origin is not None and origin.split("://", 1)[-1] != request.headers.get("host"):
        raise AccessError("forms are taken from this service's own pages only", 403)


Who = Annotated[Principal, Depends(api_principal)]
"""A parameter of this type is the person who asks."""

Sent = Annotated[tuple[Principal, FormData], Depends(form_of)]
"""Who sends a form, and the form. Its route is a plain function: it may wait for a disk or the model, on a thread."""


def _admin_of_all(who: Who) -> Principal:
    who.need(Role.ADMIN)
    who.need_all_cameras()
    return who


def _admins_form(sent: Sent) -> tuple[Principal, FormData]:
    _admin_of_all(sent[0])
    return sent


SiteAdmin = Annotated[Principal, Depends(_admin_of_all)]
"""A parameter of this type is an admin of all cameras: whoever is limited to some is refused, as are other roles."""

SentByAdmin = Annotated[tuple[Principal, FormData], Depends(_admins_form)]
"""As ``Sent``, by a ``SiteAdmin``."""
