"""The REST API of cameras: how they are, their pictures, and adding, removing and pausing them while running."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.responses import Response

from reid_mtda.gallery.search import iso_utc
from reid_mtda.live.camera import LivePicture
from reid_mtda.service import schemas as s
from reid_mtda.service.api import ERRORS, Parts, jpeg
from reid_mtda.service.app_state import AppState
from reid_mtda.service.middleware import SiteAdmin, Who
from reid_mtda.service.queries import SearchError
from reid_mtda.service.roles import Principal, Role

router = APIRouter(prefix="/api/v1", tags=["cameras"], responses=ERRORS)


@router.get("/cameras")
def cameras(who: Who, parts: Parts) -> list[s.CameraOut]:
    """All cameras you may see."""
    return [s.CameraOut.of(state) for name, state in parts.system.pool.states().items() if who.sees(name)]


@router.get("/cameras/{name}")
def camera(name: s.Name, who: Who, parts: Parts) -> s.CameraOut:
    """One camera."""
    return s.CameraOut.of(parts.system.pool.state(known_camera(parts, who, name)))


def known_camera(parts: AppState, who: Principal, name: str) -> str:
    """``name``, when it is a camera that this person may see.

    Args:
        parts: the service's parts.
        who: who is signed in.
        name: how it is called.

    Raises:
        SearchError: 404 otherwise; another's camera looks like none.
    """
    if not who.sees(name) or name not in parts.system.pool.states():
        raise SearchError(f"camera {name[:64]!r}: no such camera", 404)
    return name


@router.post("/cameras", status_code=201)
def add_camera(body: s.CameraIn, who: SiteAdmin, parts: Parts) -> s.CameraOut:
    """Add a camera, for good; its address must be on the list of the settings, now and at every start."""
    return s.CameraOut.of(parts.cameras.add(who, body.name, body.camera()))


@router.delete("/cameras/{name}", status_code=204)
def remove_camera(name: s.Name, who: Who, parts: Parts) -> None:
    """Remove a camera, for good; its sightings stay until retention or erasure takes them."""
    who.need(Role.ADMIN)
    if not (who.sees(name) and name in parts.cameras.refused):
        known_camera(parts, who, name)
    parts.cameras.remove(who, name)


@router.post("/cameras/{name}/restore", status_code=201)
def put_back(name: s.Name, who: Who, parts: Parts) -> s.CameraOut:
    """Take up a camera of the site's files again that was removed."""
    who.need(Role.ADMIN)
    if not who.sees(name):
        raise SearchError(f"camera {name[:64]!r}: no such camera", 404)
    return s.CameraOut.of(parts.cameras.put_back(who, name))


@router.post("/cameras/{name}/pause")
def pause(name: s.Name, who: Who, parts: Parts) -> s.CameraOut:
    """Let go of a camera until it is resumed, also over a restart."""
    return _switch(parts, who, name, paused=True)


@router.post("/cameras/{name}/resume")
def resume(name: s.Name, who: Who, parts: Parts) -> s.CameraOut:
    """Take a camera up again."""
    return _switch(parts, who, name, paused=False)


def _switch(parts: AppState, who: Principal, name: str, *, paused: bool) -> s.CameraOut:
    who.need(Role.OPERATOR)
    return s.CameraOut.of(parts.cameras.switch(who, known_camera(parts, who, name), paused=paused))


@router.get("/cameras/{name}/picture", response_class=Response)
def picture(name: s.Name, who: Who, parts: Parts) -> Response:
    """The newest picture, JPEG; X-People: the people followed in it as JSON, X-Fps: frames a second now."""
    newest = parts.system.pool.worker(known_camera(parts, who, name)).picture
    if newest is None:
        raise SearchError(f"camera {name!r}: no picture yet", 404)
    response = jpeg(parts.live_pictures.jpeg(newest))
    response.headers["X-People"] = json.dumps(people_of(newest), separators=(",", ":"))
    response.headers["X-Fps"] = f"{parts.system.pool.state(name).stream.fps:.1f}"
    response.headers["X-Taken"] = iso_utc(newest.frame.time_s)
    return response


def people_of(newest: LivePicture) -> list[dict[str, Any]]:
    """The people of a picture with their boxes as shares of its width and height."""
    height, width = newest.frame.image.shape[:2]
    ids = newest.people.track_id
    if ids is None:
        return []
    shares = newest.people.xyxy / np.array([width, height, width, height], np.float32)
    return [
        {"track_id": track, "box": [round(side, 4) for side in box]}
        for track, box in zip(ids.tolist(), shares.tolist(), strict=True)
    ]


@router.post("/cameras/{name}/picks", status_code=201)
def pick(name: s.Name, body: s.PickIn, who: Who, parts: Parts) -> s.PickOut:
    """Hold a person of the newest picture for a search."""
    picked = parts.queries.pick(who, name, body.track_id)
    return s.PickOut(pick_id=picked.id, camera=picked.camera)
