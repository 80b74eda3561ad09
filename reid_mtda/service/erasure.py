"""Erasure: sightings with all that hangs on them, a receipt that tells the truth, and an end to what was begun."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from reid_mtda.errors import ReidError
from reid_mtda.files import write_json
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.audit import Audit
from reid_mtda.service.audit_chain import AuditEntry
from reid_mtda.service.queries import Queries, live_prefix, live_prefixes
from reid_mtda.service.review import Reviews
from reid_mtda.service.roles import Principal
from reid_mtda.service.searches import Searches
from reid_mtda.types import Sighting

log = logging.getLogger(__name__)

FILE = "erasures.json"
_AGAIN_S = 10.0
_LATER_S = 30.0


class Holder(Protocol):
    """A file that holds something of sightings, by key, and must let go of it with them."""

    left: str

    def forget(self, keys: Iterable[str]) -> int:
        """Remove what is held of these sightings."""

    def finish_forgetting(self) -> str:
        """Remove the bytes of what was removed, as far as they can be; what is left, or ''."""


Choose = Callable[[Gallery], Mapping[int, Sighting]]
"""gallery -> the sightings that go, by number."""


@dataclass(frozen=True)
class Receipt:
    """What went, what of it is still on the disk, and the audit entry that says so."""

    entry: AuditEntry
    sightings: tuple[int, ...]
    reviews: int
    crops: int
    left: tuple[str, ...] = ()


class Erasures:
    """Erases sightings, and finishes later what could not be finished at once.

    What was begun stands in a file of the state folder until all of it is gone: a kill in between, and a process that
    reads a database whose deleted bytes are to be overwritten, delay an erasure and do not end it.

    Args:
        system: the live system.
        state: folder of the service's files.
        audit: where receipts are.
        reviews: of pictures that go.
        searches: kept answers that go.
        queries: people picked live that go.
    """

    def __init__(
        self, system: LiveSystem, state: Path, audit: Audit, reviews: Reviews, searches: Searches, queries: Queries
    ) -> None:
        self._system, self._file, self._audit = system, Path(state) / FILE, audit
        self._reviews, self._searches, self._queries = reviews, searches, queries
        self.holders: list[Holder] = []  # others that let go with them
        self._lock = threading.Lock()
        self._due = 0.0
        self._not_before: dict[str, float] = {}  # of those of this process: under way, or failed and perhaps repeated
        self._begun, self._unfinished = self._load()
        system.periodic_checks.append(self.poll)

    def erase(self, user: str | Principal, choose: Choose, reason: str, *, camera: str | None = None) -> Receipt:
        """Remove sightings: vector, row, thumbnail, crops kept to adapt to, picks, kept answers, reviews and pictures.

        The intention is kept and audited first: an erasure that a kill interrupts is completed by the next start, and
        seen in the audit as begun or resumed.

        Args:
            user: who asks.
            choose: asked for the sightings once no model can change and no camera adds any more: numbers read before
                may be other people's by then.
            reason: why, for the receipt.
            camera: all of this camera goes: also people picked from its live picture whom no sighting shows.

        Raises:
            StorageError: the audit or the disk refused; what was begun is completed later.
        """
        with self._system.writes_paused():
            rows = choose(self._system.gallery)
            keys = sorted(row.key for row in rows.values())
            name = secrets.token_hex(4)
            self._keep_begun(name, {"keys": keys, "camera": camera, "reason": reason})
            try:
                self._audit.add(user, "erasure_begun", erasure=name, sightings=sorted(rows), reason=reason)
            except BaseException:  # nobody asked, as far as the audit knows: nothing is done, now or later
                self._end(name)
                raise
            try:
                receipt = self._remove(user, rows, reason, camera, name)
            except BaseException:
                self._not_before[name] = time.monotonic() + _LATER_S
                raise
        self._end(name, receipt)
        return receipt

    def forget(self, rows: Collection[Sighting]) -> None:
        """Remove what hangs on sightings that go: reviews, kept answers, people picked; of retention, too."""
        keys = {row.key for row in rows}
        prefixes = live_prefixes(keys)
        self._reviews.forget(keys, prefixes)
        self._searches.forget(keys, prefixes)
        self._queries.forget(prefixes)
        for holder in self.holders:
            holder.forget(keys)

    def poll(self) -> None:
        """Complete what a kill interrupted, and remove what of earlier erasures is still on the disk."""
        if time.monotonic() < self._due:
            return
        for name, asked in list(self._begun.items()):
            if time.monotonic() >= self._not_before.get(name, 0.0):
                self._complete(name, asked)
        if not self._left() and not self._unfinished:
            self._system.alerts.put("erasure", "")
            return
        self._due = time.monotonic() + _AGAIN_S
        left = self._finish()
        if not left and self._unfinished:
            self._audit.add("service", "erasure_completed", receipts=sorted(self._unfinished))
            with self._lock:
                self._unfinished.clear()
                self._save()
        self._tell(left)

    def _tell(self, left: Collection[str]) -> None:
        message = f"of what was erased there is left: {'; '.join(left)}; it is tried again every few seconds"
        self._system.alerts.put("erasure", message if left else "")

    def _remove(
        self, user: str | Principal, rows: Mapping[int, Sighting], reason: str, camera: str | None, name: str
    ) -> Receipt:
        """What hangs on the sightings first, themselves last; called while no gallery is written to."""
        system = self._system
        keys = {row.key for row in rows.values()}
        prefixes = (*live_prefixes(keys), *(() if camera is None else (live_prefix(camera),)))
        if (aside := system.model_server.previous_gallery) is not None:
            aside.delete(number for row in rows.values() for number in _of_key(aside, row))
        crops = 0
        for of_camera in sorted({row.camera for row in rows.values()}):
            tracks = {row.track_id for row in rows.values() if row.camera == of_camera}
            system.samples.forget(of_camera, tracks)
            if system.kept is not None:
                crops += system.kept.forget(of_camera, tracks)
        reviews = self._reviews.forget(keys, prefixes, camera)
        self._searches.forget(keys, prefixes)
        self._queries.forget(prefixes)
        for holder in self.holders:
            holder.forget(keys)
        removed = set(system.gallery.delete(rows))
        reviews += self._reviews.forget(keys, prefixes)  # of those proposed meanwhile
        for holder in self.holders:
            holder.forget(keys)
        left = self._left()
        entry = self._audit.add(
            user,
            "erasure",
            erasure=name,
            sightings=sorted(removed),
            reviews=reviews,
            crops=crops,
            reason=reason,
            left=left,
        )
        for of_camera, count in Counter(rows[number].camera for number in removed).items():
            system.events.publish("erased", of_camera, count=count)
        return Receipt(entry, tuple(sorted(removed)), reviews, crops, tuple(left))

    def _complete(self, name: str, asked: dict[str, Any]) -> None:
        """An erasure that was begun and did not end: by key, for numbers may be others' since."""
        try:
            with self._system.writes_paused():
                gallery = self._system.gallery
                rows = {n: row for key in asked["keys"] for n, row in _called(gallery, key).items()}
                self._audit.add(
                    "service", "erasure_resumed", erasure=name, sightings=sorted(rows), reason=asked["reason"]
                )
                receipt = self._remove("service", rows, asked["reason"], asked["camera"], name)
            self._end(name, receipt)
        except ReidError as error:
            self._not_before[name] = time.monotonic() + _LATER_S
            log.error("erasure %s: %s; it is tried again", name, error)
            self._tell([f"what erasure {name} was to remove ({error})"])

    def _left(self) -> list[str]:
        """What of deleted things is still on the disk, as was seen at the last try."""
        galleries = (self._system.gallery, self._system.model_server.previous_gallery)
        of_galleries = (gallery.left_of_deleted for gallery in galleries if gallery is not None)
        of_holders = (holder.left for holder in self.holders)
        return [text for text in (*of_galleries, self._reviews.left, *of_holders) if text]

    def _finish(self) -> list[str]:
        with self._system.model_server.galleries_lock:  # no gallery is closed meanwhile
            for gallery in (self._system.gallery, self._system.model_server.previous_gallery):
                if gallery is not None:
                    gallery.finish_deleting()
        self._reviews.finish_forgetting()
        for holder in self.holders:
            holder.finish_forgetting()
        return self._left()

    def _keep_begun(self, name: str, asked: dict[str, Any]) -> None:
        with self._lock:
            self._begun[name], self._not_before[name] = asked, float("inf")
            try:
                self._save()
            except BaseException:
                del self._begun[name], self._not_before[name]
                raise

    def _end(self, name: str, receipt: Receipt | None = None) -> None:
        with self._lock:
            self._begun.pop(name, None), self._not_before.pop(name, None)
            if receipt is not None and receipt.left:
                self._unfinished.add(receipt.entry.number)
            self._save()
        if receipt is not None and receipt.left:
            self._tell(receipt.left)

    def _save(self) -> None:
        """Under the lock. Names of erased people stand in the file until they are gone, and no longer."""
        if not self._begun and not self._unfinished:
            self._file.unlink(missing_ok=True)
            return
        write_json(self._file, {"begun": self._begun, "receipts": sorted(self._unfinished)})
        self._file.chmod(0o600)

    def _load(self) -> tuple[dict[str, dict[str, Any]], set[int]]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            begun = {n: {k: asked[k] for k in ("keys", "camera", "reason")} for n, asked in kept["begun"].items()}
            return begun, {int(number) for number in kept["receipts"]}
        except FileNotFoundError:
            return {}, set()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("%s: cannot be read (%s); look for erasure_begun without erasure in the audit", self._file, error)
            return {}, set()


def _called(gallery: Gallery, key: str) -> dict[int, Sighting]:
    camera, track, _ = key.rsplit("/", 2)
    return {n: row for n, row in gallery.of_track(camera, int(track)).items() if row.key == key}


def _of_key(gallery: Gallery, sighting: Sighting) -> list[int]:
    return list(_called(gallery, sighting.key))
