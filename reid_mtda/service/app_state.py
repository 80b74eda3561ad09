"""The service's parts in one place, made once per process and handed to every request."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from reid_mtda.errors import StorageError
from reid_mtda.live.holdout import load_holdout
from reid_mtda.live.site_means import MeanOfCamera, SiteMeans
from reid_mtda.live.system import LiveSystem
from reid_mtda.live.url_policy import UrlPolicy
from reid_mtda.service.access_log import AccessLog
from reid_mtda.service.audit import Audit
from reid_mtda.service.audit_anchor import AuditAnchor
from reid_mtda.service.audit_chain import FIRST_HASH, Head
from reid_mtda.service.calibration import Calibration
from reid_mtda.service.cameras import Cameras
from reid_mtda.service.erasure import Erasures
from reid_mtda.service.erasure_requests import ErasureRequests
from reid_mtda.service.live_pictures import LivePictures
from reid_mtda.service.metrics import Metrics
from reid_mtda.service.model_registry import ModelRegistry
from reid_mtda.service.notify.notifier import Notifier
from reid_mtda.service.queries import Queries
from reid_mtda.service.review import Reviews
from reid_mtda.service.roles import Principal, Role
from reid_mtda.service.searches import Searches
from reid_mtda.service.serving_record import ServingRecord
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.service.site_time import SiteTime, site_time
from reid_mtda.service.throttle import Throttle
from reid_mtda.service.tokens import Auth
from reid_mtda.types import Detect, ImageArray
from reid_mtda.vision.crops import encode_jpeg

log = logging.getLogger(__name__)


@dataclass
class AppState:
    """What requests work with."""

    system: LiveSystem
    settings: ServiceSettings
    auth: Auth
    audit: Audit
    reviews: Reviews
    queries: Queries
    searches: Searches
    access_log: AccessLog
    calibration: Calibration
    metrics: Metrics
    models: ModelRegistry
    cameras: Cameras
    means: SiteMeans
    times: SiteTime
    erasures: Erasures
    erasure_requests: ErasureRequests
    notifier: Notifier | None = None
    live_pictures: LivePictures = field(default_factory=lambda: LivePictures(_live_jpeg))
    throttle: Throttle = field(default_factory=Throttle)
    closing: threading.Event = field(default_factory=threading.Event)
    anchor: AuditAnchor | None = None
    listeners: int = 0
    secure_cookies: bool = False
    last_head: Head = (0, FIRST_HASH)  # of the audit, at start and stop
    started_s: float = field(default_factory=time.time)

    def close(self) -> None:
        """Close the service's files; the live system is stopped by whoever started it."""
        self.closing.set()
        for part in (self.auth, self.audit, self.reviews, self.cameras, self.erasure_requests, self.notifier):
            if part is not None:
                part.close()


def make_app_state(
    system: LiveSystem,
    state: Path,
    settings: ServiceSettings | None = None,
    *,
    serving: ServingRecord,
    detect: Detect | None = None,
) -> AppState:
    """Put the parts together; ``state`` is the folder of the service's own files.

    Args:
        system: the live system, started or not.
        state: made when missing, for its owner alone.
        settings: of the service.
        serving: the model that answers and where it lies.
        detect: finds people in uploaded pictures; None: an upload is one person.
    """
    settings = settings or ServiceSettings()
    state = Path(state)
    audit, auth = Audit(state), Auth(state)
    means = SiteMeans(state, settings.centred)
    calibration = Calibration(
        system, state, settings, means, lambda why: audit.add("service", "camera_means_renewed", cameras=dict(why))
    )
    metrics = Metrics(system, calibration)
    reviews = Reviews(state, issuers=auth.issuers)
    searches = Searches(system, audit, calibration.current, on_search=metrics.searched)
    candidates = Path(settings.candidates) if settings.candidates else state / "candidates"
    holdout = load_holdout(settings.holdout, settings.holdout_tolerance) if settings.holdout else None
    queries = Queries(system, detect)
    policy = UrlPolicy(settings.allowed_schemes, settings.allowed_hosts)
    service = AppState(
        system=system,
        settings=settings,
        auth=auth,
        audit=audit,
        reviews=reviews,
        queries=queries,
        searches=searches,
        access_log=AccessLog(audit, searches),
        models=ModelRegistry(system, state, serving, audit, reviews, searches, candidates, means, holdout),
        means=means,
        calibration=calibration,
        metrics=metrics,
        cameras=Cameras(system, state, policy, audit),
        times=site_time(system.follower.site.timezone),
        erasures=Erasures(system, state, audit, reviews, searches, queries),
        anchor=AuditAnchor(settings.audit_anchor, state) if settings.audit_anchor else None,
        erasure_requests=ErasureRequests(state, issuers=auth.issuers),
    )
    service.erasures.holders.append(service.erasure_requests)
    if not settings.notify.is_empty:
        service.notifier = Notifier(system, state, settings.notify, service.closing)
        service.erasures.holders.append(service.notifier.outbox)
        metrics.follow_outbox(service.notifier.counts)
    _follow_retention(service)
    system.periodic_checks.append(lambda: _check_audit(service))
    return service


def note_head(service: AppState, *, at_once: bool) -> None:
    """Note the audit's head outside, where the settings name a place; an alert as long as that fails."""
    if service.anchor is None:
        return
    try:
        (service.anchor.note if at_once else service.anchor.follow)(service.audit.head)
        service.system.alerts.put("audit anchor", "")
    except StorageError as error:
        log.error("%s", error)
        service.system.alerts.put("audit anchor", str(error))


def _check_audit(service: AppState) -> None:
    """Walk what came to the audit, note its head, and say for as long as it is so what is wrong with it."""
    note_head(service, at_once=False)
    service.audit.check()
    service.system.alerts.put("audit", "; ".join(service.audit.doubts()))


def _follow_retention(service: AppState) -> None:
    """Let sightings that grow old take their reviews, picks and kept answers along, and audit each turn beforehand."""

    def note(counts: dict[str, int]) -> None:
        service.audit.add("service", "retention", removed=counts)

    service.system.on_letting_go, service.system.on_retention = service.erasures.forget, note


def alerts_of(service: AppState, who: Principal) -> dict[str, str]:
    """What is wrong with the service, by subject, as far as it concerns somebody: operators, of cameras they see."""
    if who.role < Role.OPERATOR:
        return {}
    found = service.system.alerts.all()
    of_camera = {subject: subject.removeprefix("camera ") for subject in found if subject.startswith("camera ")}
    return {
        subject: text for subject, text in found.items() if subject not in of_camera or who.sees(of_camera[subject])
    }


def camera_means_of(service: AppState, who: Principal) -> dict[str, MeanOfCamera]:
    """Where the means that are subtracted come from, of the cameras somebody sees; empty where none are."""
    system = service.system
    if not system.gallery.is_centred:
        return {}
    names = sorted({*system.pool.states(), *system.gallery.cameras()})
    return service.means.tell(system.model, [name for name in names if who.sees(name)])


def _live_jpeg(image: ImageArray) -> bytes:
    return encode_jpeg(image, longest_px=1280, quality=80)


def service_of(request: Request) -> AppState:
    """The service behind a request."""
    service: AppState = request.app.state.service
    return service
