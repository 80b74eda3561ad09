"""Letting people go: sightings with everything that hangs on them, and a receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reid_mtda.gallery.gallery import Gallery
from reid_mtda.service.app_state import AppState
from reid_mtda.service.audit import AuditEntry
from reid_mtda.service.auth import Principal
from reid_mtda.service.queries import sighting_key
from reid_mtda.types import Sighting


@dataclass(frozen=True)
class Receipt:
    """What went, and the audit entry that says so."""

    entry: AuditEntry
    sightings: tuple[int, ...]
    reviews: int
    crops: int


def erase(
    service: AppState, user: str | Principal, choose: Callable[[Gallery], Mapping[int, Sighting]], reason: str
) -> Receipt:
    """Remove sightings: vector, row, thumbnail, crops kept to adapt to, kept answers, reviews and their pictures.

    ``choose`` is asked for them by number once no model can change and no camera adds any more: numbers read before
    may be other people's by then.

    The intention is audited first: an erasure that a kill interrupts is then seen in the audit as begun. The sightings
    themselves go last: what was interrupted finds them again when it is repeated, and so completes.
    """
    with service.system.writes_paused():
        gallery = service.system.gallery
        rows = choose(gallery)
        keys = {sighting_key(row) for row in rows.values()}
        service.audit.add(user, "erasure_begun", sightings=sorted(rows), reason=reason)
        if (aside := service.system.previous_gallery) is not None:
            aside.delete(number for number, row in aside.sightings().items() if sighting_key(row) in keys)
        crops = 0
        for row in rows.values():
            service.system.samples.forget(row.camera, [row.track_id])
            if service.system.kept is not None:
                crops += service.system.kept.forget(row.camera, [row.track_id])
        reviews = service.reviews.forget(keys)
        service.searches.forget(keys)
        removed = set(gallery.delete(rows))
        reviews += service.reviews.forget(keys)  # of those proposed meanwhile
        entry = service.audit.add(
            user, "erasure", sightings=sorted(removed), reviews=reviews, crops=crops, reason=reason
        )
    for camera, count in Counter(rows[number].camera for number in removed).items():
        service.system.events.publish("erased", camera, count=count)
    return Receipt(entry, tuple(sorted(removed)), reviews, crops)
