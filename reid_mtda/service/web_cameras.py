"""The admins' pages of cameras: a new one, and the masks and zones of one, drawn over its picture."""

from __future__ import annotations

import base64
import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError
from reid_mtda.schema import parse
from reid_mtda.service.api import Parts
from reid_mtda.service.api_cameras import known_camera
from reid_mtda.service.app_state import AppState, service_of
from reid_mtda.service.first_look import look_at
from reid_mtda.service.middleware import Sent, SentByAdmin, SiteAdmin, Who
from reid_mtda.service.queries import SearchError
from reid_mtda.service.render import page, text_of
from reid_mtda.service.roles import Role
from reid_mtda.service.schemas import Name

router = APIRouter()

_MOST_TEXT = 100_000


@router.get("/cameras/{name}/regions")
def regions(request: Request, name: Name, who: Who, parts: Parts, saved: bool = False) -> Response:
    """The editor of a camera's masks and zones."""
    who.need(Role.ADMIN)
    state = parts.system.pool.state(known_camera(parts, who, name))
    return _editor(request, who, name, _rows(state.settings.masks, state.settings.zones), saved=saved)


@router.post("/cameras/{name}/regions")
def change_regions(request: Request, name: Name, sent: Sent) -> Response:
    """Write other masks and zones into the camera's file; what is no area is said, and what was drawn stays."""
    who, form = sent
    who.need(Role.ADMIN)
    parts = service_of(request)
    known_camera(parts, who, name)
    drawn = _read(text_of(form, "regions"))
    masks = [row["corners"] for row in drawn if row["kind"] == "mask"]
    zones = {row["name"]: row["corners"] for row in drawn if row["kind"] == "zone"}
    try:
        if len(zones) < sum(row["kind"] == "zone" for row in drawn):
            raise ConfigError("zones: two have the same name; give each its own")
        parts.cameras.set_regions(who, name, masks, zones)
    except ConfigError as error:
        return _editor(request, who, name, drawn, problem=str(error), status=422)
    return RedirectResponse(f"/cameras/{name}/regions?saved=true", 303)


def _editor(request: Request, who: Any, name: str, rows: list[dict[str, Any]], **more: Any) -> Response:
    status = more.pop("status", 200)
    values = {"saved": False, "problem": "", **more}
    return page(request, "regions.html", who, status=status, camera=name, regions=json.dumps(rows), **values)


def _rows(masks: Any, zones: Any) -> list[dict[str, Any]]:
    found = [{"kind": "mask", "name": "", "corners": polygon} for polygon in masks]
    return found + [{"kind": "zone", "name": zone, "corners": polygon} for zone, polygon in zones.items()]


def _read(text: str) -> list[dict[str, Any]]:
    """What the form holds: a list of areas, each with its kind, name and corners.

    Raises:
        SearchError: it is not such a list.
    """
    try:
        rows = json.loads(text or "[]") if len(text) <= _MOST_TEXT else None
        return [
            {
                "kind": {"mask": "mask", "zone": "zone"}[row["kind"]],
                "name": str(row.get("name", ""))[:64],
                "corners": [[float(x), float(y)] for x, y in row["corners"]],
            }
            for row in rows or []
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SearchError(
            "regions: cannot be read, expected a list of areas with kind, name and corners", 422
        ) from None


# ------------------------------------------------------------------------------------------------------ a new camera


@router.get("/cameras/new")
def new_camera(request: Request, who: SiteAdmin, parts: Parts, added: bool = False) -> Response:
    """The form of a new camera, which is looked at first."""
    return _form(request, who, parts, added=added)


@router.post("/cameras")
def look_or_add(request: Request, sent: SentByAdmin) -> Response:
    """Show what a camera sees, or write its file."""
    who, form = sent
    parts = service_of(request)
    name, address = text_of(form, "name"), text_of(form, "address")
    try:
        camera = parse(Camera, {"url": address}, where=f"camera {name}")
        if text_of(form, "action") == "add":
            parts.cameras.add_file(who, name, camera)
            return RedirectResponse("/cameras/new?added=true", 303)
        parts.cameras.check_look(who, name, camera)
        look = look_at(name, camera)
    except ConfigError as error:
        return _form(request, who, parts, camera=name, address=address, problem=str(error), status=422)
    return _form(request, who, parts, camera=name, address=address, look=look)


def _form(request: Request, who: Any, parts: AppState, **more: Any) -> Response:
    values = {"camera": "", "address": "", "problem": "", "look": None, "added": False, "status": 200, **more}
    look = values["look"]
    picture = base64.b64encode(look.jpeg).decode() if look is not None else ""
    is_first = not parts.system.pool.states() and not values["added"]
    hosts = parts.settings.allowed_hosts
    return page(request, "add_camera.html", who, picture=picture, is_first=is_first, hosts=hosts, **values)
