"""Whether what a gallery says is still on the disk: its file, and the pictures of its sightings."""

from __future__ import annotations

from collections.abc import Callable

from reid_mtda.errors import ReidError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.alerts import Alerts

_NEWEST = 20
_EACH = 500


class GalleryWatch:
    """Looks at the file, at the newest pictures and at the next five hundred, again and again; alerts say what is gone.

    Args:
        gallery: the gallery that answers, at the moment of asking.
        alerts: told under ``gallery`` and ``pictures``.
    """

    def __init__(self, gallery: Callable[[], Gallery], alerts: Alerts) -> None:
        self._gallery, self._alerts = gallery, alerts
        self._of = ""
        self._last = self._lost = self._lost_before = 0

    def poll(self) -> None:
        """One look."""
        gallery = self._gallery()
        if self._of != str(gallery.folder):
            self._of, self._last, self._lost, self._lost_before = str(gallery.folder), 0, 0, 0
        try:
            gallery.check_place()
        except ReidError as error:
            self._alerts.put("gallery", str(error))
            return
        self._alerts.put("gallery", "")
        self._look_at_pictures(gallery)

    def _look_at_pictures(self, gallery: Gallery) -> None:
        newest = gallery.newest(_NEWEST)
        lost_newest, _ = gallery.lost_pictures(newest[-1] - 1, _NEWEST) if newest else ([], 0)
        lost, last = gallery.lost_pictures(self._last, _EACH)
        self._lost += len(lost)
        self._last = last
        if last == 0:  # once round: what was lost then counts until the next round is over
            self._lost_before, self._lost = self._lost, 0
        known = max(self._lost, self._lost_before, len(lost_newest))
        place = gallery.folder / "thumbnails"
        self._alerts.put(
            "pictures",
            f"{place}: pictures of at least {known} sightings are gone from the disk, which nobody erased; put them "
            "back from a backup: without them people cannot be looked at, nor carried over to another model"
            if known
            else "",
        )
