"""The web application: routes, errors in words, guards; given a made service, it starts nothing itself."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

import reid_mtda
from reid_mtda.errors import ConfigError, GalleryError, ImageError, ModelError, ReidError, StorageError
from reid_mtda.service import (
    api,
    api_admin,
    api_cameras,
    web,
    web_admin,
    web_cameras,
    web_erasures,
    web_sign_in,
)
from reid_mtda.service.app_state import AppState
from reid_mtda.service.middleware import ServiceMiddleware, error_json
from reid_mtda.service.queries import SearchError
from reid_mtda.service.review import ReviewError
from reid_mtda.service.roles import AccessError

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[ReidError], int], ...] = (
    (ConfigError, 422),
    (ImageError, 422),
    (GalleryError, 422),
    (ModelError, 503),
    (StorageError, 507),
)
_LOCAL = ("127.0.0.1", "localhost", "::1")


def create_app(service: AppState, *, host: str = "127.0.0.1", secure: bool = False) -> FastAPI:
    """Make the application.

    Args:
        service: its parts.
        host: the address served on; requests for other names are refused, but for those of ``page_hosts``.
        secure: whether it is served over TLS.
    """
    app = FastAPI(
        title="reid_mtda",
        version=reid_mtda.__version__,
        description="Where else was this person seen? Send 'Authorization: Bearer TOKEN' with every request.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    service.secure_cookies = secure
    app.state.service = service
    app.include_router(api.router)
    app.include_router(api_cameras.router)
    app.include_router(api_admin.router)
    app.include_router(api_admin.open_router)
    app.include_router(web_erasures.api_router)
    app.include_router(web_cameras.router, include_in_schema=False)  # before the page's /cameras/{name}/{action}
    app.include_router(web.router, include_in_schema=False)
    app.include_router(web_sign_in.router, include_in_schema=False)
    app.include_router(web_admin.router, include_in_schema=False)
    app.include_router(web_erasures.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "pages" / "static"))
    app.add_exception_handler(ReidError, _told)
    app.add_exception_handler(RequestValidationError, _wrong_form)
    app.add_exception_handler(HTTPException, _refused)
    hosts = (*_LOCAL, host, *service.settings.page_hosts)
    app.add_middleware(
        ServiceMiddleware,
        hosts=hosts,
        max_body=int(service.settings.max_upload_mb * 1e6),
        on_answer=service.metrics.answered,
        on_fault=_unexpected,
        on_refusal=_told,
        secure=secure,
    )
    return app


async def _told(request: Request, error: Exception) -> Response:
    """A refusal of this package: its own words."""
    status = getattr(error, "status", None) or next((code for kind, code in _STATUS if isinstance(error, kind)), 400)
    headers: dict[str, str] = {}
    if isinstance(error, AccessError) and error.retry_after_s:
        headers["Retry-After"] = f"{error.retry_after_s:.0f}"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return await _answer(request, status, _kind(error), str(error), headers)


def _kind(error: Exception) -> str:
    if isinstance(error, AccessError | SearchError | ReviewError):
        return {401: "unauthorised", 403: "forbidden", 404: "not_found", 429: "throttled"}.get(error.status, "refused")
    return type(error).__name__.removesuffix("Error").lower()


async def _wrong_form(request: Request, error: Exception) -> Response:
    """Wrong types and ranges, by field; what was sent is not repeated."""
    found: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    parts = [f"{'.'.join(str(part) for part in fault['loc'][1:]) or 'body'}: {fault['msg']}" for fault in found[:8]]
    return await _answer(request, 422, "invalid", "; ".join(parts) or "the request is not valid", {})


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = {404: "there is nothing here", 405: "this method is not allowed here"}.get(
        status, "the request is not valid"
    )
    return await _answer(request, status, {404: "not_found", 405: "method"}.get(status, "invalid"), text, {})


async def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours: it goes to the log, not to the client."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return await _answer(request, 500, "internal", "something failed here; it is in the service's log", {})


async def _answer(request: Request, status: int, kind: str, message: str, headers: dict[str, str]) -> Response:
    if web.wants_page(request):
        return web.error_page(request, status, message, headers)
    return error_json(status, kind, message, **headers)
