"""Whoever looks at one sighting is audited, with the search that led them there.

A page of thumbnails is no opening, and its browser's requests (those of a session) are not audited one by one: the page
audits the sighting that is opened from it. Programs have no such page, so the first picture of a sighting that a token
fetches is an opening, once for each search that found it, and again after two hours.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from reid_mtda.service.audit import Audit
from reid_mtda.service.roles import Principal
from reid_mtda.service.searches import KEPT_S, Searches
from reid_mtda.types import Sighting

_REMEMBERED = 10_000
_Key = tuple[str, str, str | None]


class AccessLog:
    """Audits openings; ``search_id`` in the entry is the person's newest kept search that found the sighting."""

    def __init__(self, audit: Audit, searches: Searches) -> None:
        self._audit, self._searches = audit, searches
        self._lock = threading.Lock()
        self._pictures: OrderedDict[_Key, float] = OrderedDict()
        self._turns: dict[_Key, threading.Lock] = {}

    def sighting(self, principal: Principal, number: int, sighting: Sighting) -> None:
        """Somebody opened a sighting.

        Args:
            principal: who asks.
            number: its number.
            sighting: what is opened.
        """
        found_by = self._searches.that_found(principal, number)
        self._add(principal, "sighting_opened", number, sighting, found_by)

    def picture(self, principal: Principal, number: int, sighting: Sighting) -> None:
        """Somebody fetched a sighting's picture.

        Args:
            principal: who asks.
            number: its number.
            sighting: what is opened.
        """
        if principal.session is not None:
            return
        found_by = self._searches.that_found(principal, number)
        key = (principal.token_id, sighting.key, found_by)
        if self._is_noted(key):
            return
        # One at a time for one key alone: a picture is given once its entry stands, and others' do not wait for it.
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        try:
            with turn:
                if not self._is_noted(key):
                    self._add(principal, "picture_opened", number, sighting, found_by)
                    self._note(key)
        finally:
            with self._lock:
                self._turns.pop(key, None)

    def _is_noted(self, key: _Key) -> bool:
        with self._lock:
            return time.monotonic() - self._pictures.get(key, float("-inf")) < KEPT_S

    def _note(self, key: _Key) -> None:
        with self._lock:
            self._pictures[key] = time.monotonic()
            self._pictures.move_to_end(key)
            while len(self._pictures) > _REMEMBERED:
                self._pictures.popitem(last=False)

    def _add(self, principal: Principal, action: str, number: int, sighting: Sighting, found_by: str | None) -> None:
        self._audit.add(principal, action, sighting_id=number, camera=sighting.camera, search_id=found_by)
