"""The service's parts in one place, made once per process and handed to every request."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from reid_mtda.live.addresses import UrlPolicy
from reid_mtda.live.checkset import load_check_set
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.access import Access, Principal, Role, Throttle
from reid_mtda.service.audit import Audit
from reid_mtda.service.calibration import Calibration
from reid_mtda.service.cameras import Cameras
from reid_mtda.service.metrics import Metrics
from reid_mtda.service.models import Models
from reid_mtda.service.openings import Openings
from reid_mtda.service.queries import Queries, sighting_key
from reid_mtda.service.review import Reviews
from reid_mtda.service.searches import Searches
from reid_mtda.service.serving import Serving
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.types import Detect, Sighting


@dataclass
class Service:
    """What requests work with."""

    system: LiveSystem
    settings: ServiceSettings
    access: Access
    audit: Audit
    reviews: Reviews
    queries: Queries
    searches: Searches
    openings: Openings
    calibration: Calibration
    metrics: Metrics
    models: Models
    cameras: Cameras
    throttle: Throttle = field(default_factory=Throttle)
    closing: threading.Event = field(default_factory=threading.Event)
    listeners: int = 0
    secure_cookies: bool = False
    started_s: float = field(default_factory=time.time)

    def close(self) -> None:
        """Close the service's files; the live system is stopped by whoever started it."""
        self.closing.set()
        for part in (self.access, self.audit, self.reviews, self.cameras):
            part.close()


def make_service(
    system: LiveSystem,
    state: Path,
    settings: ServiceSettings | None = None,
    *,
    serving: Serving,
    detect: Detect | None = None,
) -> Service:
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
    audit = Audit(state)
    calibration = Calibration(system, state, settings)
    metrics = Metrics(system, calibration)
    reviews = Reviews(state)
    searches = Searches(system, audit, calibration.current, on_search=metrics.searched)
    candidates = Path(settings.candidates) if settings.candidates else state / "candidates"
    check_set = load_check_set(settings.check_set, settings.check_tolerance) if settings.check_set else None
    policy = UrlPolicy(settings.allowed_schemes, settings.allowed_hosts)
    service = Service(
        system=system,
        settings=settings,
        access=Access(state),
        audit=audit,
        reviews=reviews,
        queries=Queries(system, detect),
        searches=searches,
        openings=Openings(audit, searches),
        models=Models(system, state, serving, audit, reviews, searches, candidates, check_set),
        calibration=calibration,
        metrics=metrics,
        cameras=Cameras(system, state, policy, audit),
    )
    _follow_retention(service)
    return service


def _follow_retention(service: Service) -> None:
    """Let sightings that grow old take their reviews and kept answers along, and give each turn a receipt."""

    def let_go(rows: Collection[Sighting]) -> None:
        keys = {sighting_key(row) for row in rows}
        service.reviews.forget(keys)
        service.searches.forget(keys)

    def receipt(removed: dict[str, int]) -> None:
        service.audit.add("service", "retention", removed=removed)

    service.system.on_letting_go, service.system.on_retention = let_go, receipt


def notices_of(service: Service, who: Principal) -> dict[str, str]:
    """What is wrong with the service, by subject, as far as it concerns somebody: operators, of cameras they see."""
    if who.role < Role.OPERATOR:
        return {}
    found = service.system.notices.all()
    of_camera = {subject: subject.removeprefix("camera ") for subject in found if subject.startswith("camera ")}
    return {
        subject: text for subject, text in found.items() if subject not in of_camera or who.sees(of_camera[subject])
    }


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service
