"""Pages from templates, and the words and numbers in them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse

from reid_mtda.service.app_state import AppState, service_of
from reid_mtda.service.roles import Principal, Role
from reid_mtda.service.site_time import SiteTime


@lru_cache(maxsize=4)
def _templates(times: SiteTime) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": times.moment, "clock": times.clock, "field": times.field}
    environment.filters |= {"ago": ago, "number": number_text}
    environment.globals |= {"Role": Role, "zone": times.name}
    return environment


def page(request: Request, name: str, who: Principal | None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render ``pages/name``.

    Args:
        request: the request.
        name: how it is called.
        who: who is signed in; None: nobody.
        status: HTTP's.
        **values: what the template shows.
    """
    html = _templates(service_of(request).times).get_template(name).render(who=who, path=request.url.path, **values)
    return HTMLResponse(html, status)


def camera_names(parts: AppState, who: Principal) -> list[str]:
    """The cameras that somebody sees."""
    return [name for name in parts.system.pool.states() if who.sees(name)]


def text_of(form: FormData, name: str) -> str:
    """A field of a form as text, '' when it is missing or a file."""
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def ago(seconds: float) -> str:
    """A stretch of time in words.

    >>> [ago(seconds) for seconds in (3, 200, 9000, 200000)]
    ['3 s', '3 min', '2 h 30 min', '2 d 7 h']
    """
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def number_text(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u2009")
