"""The REST API for admins: tokens, erasure, audit, the model and its thresholds; and health, for everybody."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.search import iso_utc
from reid_mtda.service import schemas as s
from reid_mtda.service import schemas_admin as a
from reid_mtda.service.api import ERRORS, Before, Limit, Parts
from reid_mtda.service.app_state import AppState, alerts_of, camera_means_of
from reid_mtda.service.dpia import dpia_sheet
from reid_mtda.service.middleware import SiteAdmin, Who
from reid_mtda.service.queries import SearchError
from reid_mtda.service.roles import AccessError, Principal, Role
from reid_mtda.service.searches import size_seen
from reid_mtda.service.token_issue import issue_token, revoke_token
from reid_mtda.types import Sighting

router = APIRouter(prefix="/api/v1", responses=ERRORS)
open_router = APIRouter()


# ---------------------------------------------------------------------------------------------------------- tokens


@router.get("/tokens", tags=["auth"])
def tokens(who: SiteAdmin, parts: Parts) -> list[a.TokenOut]:
    """All tokens, without their secrets."""
    return [a.TokenOut.of(token) for token in parts.auth.tokens()]


@router.post("/tokens", tags=["auth"], status_code=201)
def create_token(body: a.TokenIn, who: SiteAdmin, parts: Parts) -> a.NewTokenOut:
    """Make a token; its secret is in this answer and nowhere else."""
    # An admin of some cameras is none here: nobody hands out more than they have.
    text, info = issue_token(
        parts.auth, parts.audit, body.user, body.role, by=who, days=body.days, cameras=body.cameras
    )
    return a.NewTokenOut(**a.TokenOut.of(info).model_dump(), token=text)


@router.delete("/tokens/{token_id}", tags=["auth"], status_code=204)
def revoke(token_id: s.Name, who: SiteAdmin, parts: Parts) -> None:
    """Make a token worthless at once."""
    if not revoke_token(parts.auth, parts.audit, token_id, by=who):
        raise SearchError(f"token {token_id!r}: no such token, or revoked already", 404)


@router.get("/me", tags=["auth"])
def me(who: Who) -> dict[str, Any]:
    """Who you are to this service."""
    return {"user": who.user, "role": who.role.label, "cameras": None if who.cameras is None else sorted(who.cameras)}


# --------------------------------------------------------------------------------------------------------- erasure


@router.post("/erasures", tags=["privacy"], status_code=201)
def erasures(body: a.EraseIn, who: Who, parts: Parts) -> a.ReceiptOut:
    """Erase sightings with vector, row, thumbnail, kept crops, picks and reviews; the answer is the receipt.

    ``left`` names what is still on the disk, e.g. while another process reads the gallery: it is removed later, and an
    entry ``erasure_completed`` of the audit says when.
    """
    who.need(Role.ADMIN)
    if (body.sighting_ids is None) == (body.camera is None):
        raise SearchError("got both or neither of sighting_ids and camera, expected one of them", 422)
    if body.before_s is not None and body.camera is None:
        raise SearchError("before_s: got it with sighting_ids, expected it with camera; leave it out", 422)

    def choose(gallery: Gallery) -> dict[int, Sighting]:
        if body.model_id not in (None, gallery.model_id):
            raise SearchError(f"the model changed to {gallery.model_id}, and numbers with it; read them anew", 409)
        if body.sighting_ids is not None:
            rows = gallery.lookup(body.sighting_ids)
        elif who.sees(body.camera or ""):
            if body.camera not in (*parts.system.pool.states(), *parts.system.pool.former, *gallery.cameras()):
                raise SearchError(f"camera {body.camera!r}: neither here nor in the gallery; check the name", 404)
            rows = gallery.sightings(Filter([body.camera or ""]))
            rows = {n: row for n, row in rows.items() if body.before_s is None or row.end_s < body.before_s}
        else:
            rows = {}
        return {number: row for number, row in rows.items() if who.sees(row.camera)}

    whole_camera = body.camera if body.before_s is None and who.sees(body.camera or "") else None
    receipt = parts.erasures.erase(who, choose, body.reason, camera=whole_camera)
    return a.ReceiptOut(
        receipt=receipt.entry.number,
        hash=receipt.entry.hash,
        sightings=list(receipt.sightings),
        reviews=receipt.reviews,
        crops=receipt.crops,
        left=list(receipt.left),
        time=iso_utc(receipt.entry.time_s),
    )


@router.get("/dpia", tags=["privacy"], response_class=Response)
def dpia(who: SiteAdmin, parts: Parts) -> Response:
    """What an impact assessment asks about this service as it runs now, in Markdown."""
    cameras = {name: state.settings for name, state in parts.system.pool.states().items()}
    sheet = dpia_sheet(parts.system.follower.site.name, cameras, parts.settings)
    return Response(sheet, media_type="text/markdown; charset=utf-8", headers={"Cache-Control": "no-store"})


@router.post("/retention", tags=["privacy"])
def retention(
    who: SiteAdmin,
    parts: Parts,
    accept: Annotated[bool, Query(description="The clock is right, and what waits for a yes may go.")] = False,
) -> dict[str, int]:
    """Delete old sightings now instead of at the next turn; how many by camera. 409 says what waits for a yes."""
    return retention_turn(parts, who, accept=accept)


def retention_turn(parts: AppState, who: Principal, *, accept: bool) -> dict[str, int]:
    """One turn of retention in somebody's name, audited before anything goes.

    Args:
        parts: the service's parts.
        who: who is signed in.
        accept: what waits may go.

    Raises:
        SearchError: 409, the clock is in doubt, or old sightings wait for a yes.
    """
    system = parts.system
    gone = system.expire_sightings(
        accept=accept, note=lambda counts: parts.audit.add(who, "retention", removed=counts, accepted=accept)
    )
    if waits := system.alerts.of("clock") or system.alerts.of("old sightings"):
        raise SearchError(waits, 409)
    return gone


# ----------------------------------------------------------------------------------------------------------- audit


@router.get("/audit", tags=["audit"])
def audit(
    who: SiteAdmin,
    parts: Parts,
    before: Before = None,
    limit: Limit = 100,
    action: Annotated[str | None, Query(max_length=40)] = None,
) -> a.AuditPageOut:
    """Who did what, newest first."""
    entries = parts.audit.entries(before=before, limit=limit, action=action)
    following = entries[-1].number if len(entries) == limit and entries[-1].number > 1 else None
    return a.AuditPageOut(entries=[a.AuditOut.of(entry) for entry in entries], next=following)


@router.get("/audit/verification", tags=["audit"])
def verification(who: SiteAdmin, parts: Parts) -> dict[str, Any]:
    """Walk the whole chain now; ``doubts``: entries that say what of an earlier record is not there any more."""
    report = parts.audit.verify()
    found = {"is_sound": report.is_sound, "entries": report.entries, "head": report.head, "fault": report.fault}
    return {**found, "doubts": report.doubts}


# ----------------------------------------------------------------------------------------------------------- model


@router.get("/model", tags=["model"])
def model(who: Who, parts: Parts) -> a.ModelOut:
    """The model that answers, its thresholds and drift; of the cameras you may see."""
    manifest, thresholds = parts.system.model.manifest, parts.calibration.current()
    size = size_seen(parts.system.gallery, who)
    return a.ModelOut(
        model_id=manifest.model_id,
        arch=manifest.arch,
        embedding_dim=manifest.embedding_dim,
        trained_on=manifest.trained_on,
        gallery_size=size,
        is_calibrated=thresholds.is_calibrated,
        calibration=thresholds.words,
        expected_false_matches=thresholds.expected_false_matches(size) if thresholds.is_calibrated else None,
        asked_rate=thresholds.asked_rate,
        thresholds=[
            row for row in a.thresholds_out(thresholds) if all(not name or who.sees(name) for name in row.cameras)
        ],
        drift={
            name: value for name, value in parts.system.model_server.drift_monitor.drift().items() if who.sees(name)
        },
        learnt_from=thresholds.learnt,
        is_centred=parts.system.gallery.is_centred,
        camera_means={name: a.MeanOut.of(mean) for name, mean in camera_means_of(parts, who).items()},
    )


@router.post("/model/calibration", tags=["model"])
def calibrate_now(who: SiteAdmin, parts: Parts) -> list[a.ThresholdOut]:
    """Measure the thresholds anew, now."""
    parts.audit.add(who, "calibrated", model_id=parts.system.model.manifest.model_id)
    thresholds = parts.calibration.renew()
    return a.thresholds_out(thresholds)


@router.get("/model/candidates", tags=["model"])
def candidates(who: SiteAdmin, parts: Parts) -> a.ModelsOut:
    """Which models could be put in service, and how the last change went."""
    models = parts.models
    job = None if models.job is None else a.JobOut(**asdict(models.job))
    return a.ModelsOut(candidates=models.candidates(), can_roll_back=models.can_roll_back, job=job)


@router.post("/model/comparisons", tags=["model"])
def judge(body: a.CandidateIn, who: SiteAdmin, parts: Parts) -> a.GateOut:
    """Would the gate let this candidate pass?"""
    return a.GateOut.of(parts.models.compare_models(who, body.name))


@router.post("/model/promotions", tags=["model"], status_code=202)
def promote(body: a.CandidateIn, who: SiteAdmin, parts: Parts) -> a.JobOut:
    """Put a candidate in service, through the gate; old answers keep working until its gallery is complete."""
    return a.JobOut(**asdict(parts.models.promote(who, body.name)))


@router.post("/model/rollback", tags=["model"], status_code=202)
def roll_back(who: SiteAdmin, parts: Parts) -> a.JobOut:
    """Go back to the model before."""
    return a.JobOut(**asdict(parts.models.roll_back(who)))


# ---------------------------------------------------------------------------------------------------------- health


@router.get("/alerts", tags=["health"])
def alerts(who: Who, parts: Parts) -> dict[str, str]:
    """What is wrong with the service until it is mended, by subject: ``camera NAME``, ``site`` or ``model``."""
    who.need(Role.OPERATOR)
    return alerts_of(parts, who)


@router.get("/health", tags=["health"])
def health() -> dict[str, str]:
    """The process answers. Nothing else is told to those who are not signed in."""
    return {"status": "ok"}


@router.get("/ready", tags=["health"])
def ready(parts: Parts) -> JSONResponse:
    """200 when searches can be answered; cameras may still be connecting."""
    problem = problems(parts)
    return JSONResponse({"status": "not ready" if problem else "ready"}, 503 if problem else 200)


def problems(parts: AppState) -> str:
    """Why searches cannot be answered, or ''."""
    try:
        len(parts.system.gallery)
    except Exception as error:
        return str(error)
    return "stopping" if parts.closing.is_set() else ""


@open_router.get("/metrics", tags=["health"], response_class=Response)
def metrics(who: Who, parts: Parts) -> Response:
    """Prometheus' text form; for a token that sees all cameras."""
    if who.cameras is not None:
        raise AccessError("metrics show all cameras, your token is limited to some; ask an admin", 403)
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
