"""Deleting old sightings with all that hangs on them, in every gallery that has them; and only what somebody asked for.

From turn to turn each sighting goes soon after its camera's ``retention_days`` are over. A sighting that was past them
at the turn before already, and was not deleted then, belongs to a past that nobody has seen here yet: of a gallery that
is served for the first time, of a setting that was just lowered. It is counted, and waits until somebody says yes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reid_mtda.errors import ReidError, StorageError
from reid_mtda.files import write_json
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.clock_watch import YES
from reid_mtda.live.crop_store import CropStore
from reid_mtda.live.model_gate import GateSamples
from reid_mtda.types import Sighting

log = logging.getLogger(__name__)

_SLACK_S = 5.0
_DAY_S = 86400.0
_EVER = float("-inf")

LetGo = Callable[[Collection[Sighting]], None]
"""Told of sightings that go, to remove what hangs on them elsewhere; they stay where it raises a ``ReidError``."""


@dataclass(frozen=True)
class Due:
    """What a turn may delete, and what waits for a yes.

    ``spans`` are (since, before) by camera, POSIX seconds of arrival (or of the end, by setting) of what goes.
    """

    rows: dict[str, dict[int, Sighting]] = field(default_factory=dict)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many go, by camera, of those that have any."""
        return {name: len(rows) for name, rows in self.rows.items() if rows}

    @property
    def message(self) -> str:
        """What waits, in words; '' when nothing does."""
        if not self.waiting:
            return ""
        by_camera = ", ".join(f"{name}: {count}" for name, count in sorted(self.waiting.items()))
        return (
            f"{sum(self.waiting.values())} sightings ({by_camera}) are older than their camera's retention_days and "
            f"would be deleted now; they stay until you {YES}, or until retention_days of their cameras is raised"
        )


class Turns:
    """When each gallery was last looked through for old sightings, kept in a file; who looks may ask what is due.

    Args:
        file: made at the first turn; None: in memory alone.
        by_sighting: days count from when somebody was seen, not from when the sighting came in.
    """

    def __init__(self, file: Path | None, *, by_sighting: bool = False) -> None:
        self._file, self._by_sighting = file, by_sighting
        self._last_s = _read(file)

    def due(self, days: Mapping[str, float], gallery: Gallery, now_s: float, *, accept: bool = False) -> Due:
        """What of ``gallery`` is past its camera's ``days`` at ``now_s``; ``accept``: nothing of it waits.

        Args:
            days: by camera, how long sightings stay.
            gallery: where sightings stand.
            now_s: POSIX seconds.
            accept: what waits may go.
        """
        last_s = self._last_s.get(_name(gallery))
        found = Due()
        for name, limit_days in sorted(days.items()):
            before_s = now_s - limit_days * _DAY_S
            since_s = _EVER if accept else before_s if last_s is None else last_s - _SLACK_S - limit_days * _DAY_S
            since_s = min(since_s, before_s)
            found.spans[name] = since_s, before_s
            found.rows[name] = self._rows(gallery, name, since_s, before_s)
            if since_s > _EVER and (count := gallery.count_due(name, since_s, by_sighting=self._by_sighting)):
                found.waiting[name] = count
        return found

    def _rows(self, gallery: Gallery, name: str, since_s: float, before_s: float) -> dict[int, Sighting]:
        return gallery.due(name, before_s, since_s=since_s, by_sighting=self._by_sighting)

    def rows_of(self, due: Due, name: str, gallery: Gallery) -> dict[int, Sighting]:
        """What another gallery has of a camera in the same span.

        Args:
            due: what is past its retention.
            name: how it is called.
            gallery: where sightings stand.
        """
        since_s, before_s = due.spans[name]
        return self._rows(gallery, name, since_s, before_s)

    def note(self, gallery: Gallery, now_s: float) -> None:
        """A turn is over."""
        self._last_s[_name(gallery)] = now_s
        self._keep()

    def follow(self, old: Gallery, new: Gallery) -> None:
        """``new`` holds from now on what ``old`` held."""
        if (last_s := self._last_s.get(_name(old))) is not None:
            self._last_s[_name(new)] = last_s
            self._keep()

    def _keep(self) -> None:
        if self._file is not None:
            try:
                write_json(self._file, {"turns": self._last_s})
            except StorageError as error:  # an older turn is kept: more would wait, and nothing is lost
                log.warning("%s", error)


def expire_sightings(
    due: Due,
    turns: Turns,
    gallery: Gallery,
    previous_gallery: Gallery | None,
    kept: CropStore | None,
    samples: GateSamples,
    on_expire: LetGo,
) -> tuple[dict[str, int], bool]:
    """Delete what is ``due``; how many sightings by camera, of those that had any, and whether none had to be left.

    What hangs on a sighting goes first and the sighting last: after a kill or a fault the next turn finds it again.

    Args:
        due: what is past its retention.
        turns: how far retention went.
        gallery: where sightings stand.
        previous_gallery: that of the model before; None: there is none.
        kept: stored crops for adaptation; None: none are.
        samples: pictures for the gate, by camera.
        on_expire: told of rows before they go, and after.
    """
    gone: dict[str, int] = {}
    is_whole = True
    for name, rows in due.rows.items():
        try:
            tracks = {row.track_id for row in rows.values()}
            samples.forget(name, tracks)
            if kept is not None:
                kept.forget(name, tracks)
                # Crops whose sighting is not there any more, e.g. after a kill, are nobody's.
                kept.forget_before(name, due.spans[name][1], but=partial(_has_sighting, gallery, name))
            if rows:
                on_expire(rows.values())
            if previous_gallery is not None:
                previous_gallery.delete(turns.rows_of(due, name, previous_gallery))
            removed = gallery.delete(rows)
            if rows:
                on_expire(rows.values())  # of those proposed meanwhile
        except ReidError as error:
            log.error("retention of camera %s: %s", name, error)
            is_whole = False
            continue
        if removed:
            gone[name] = len(removed)
    return gone, is_whole


def keep_only(opted_in: Collection[str], kept: CropStore | None) -> None:
    """Let the crops go of cameras that were opted out or removed."""
    if kept is not None:
        try:
            kept.keep_only(opted_in)
        except StorageError as error:
            log.error("%s", error)


def _has_sighting(gallery: Gallery, camera: str, track_id: int) -> bool:
    return bool(gallery.of_track(camera, track_id))


def _name(gallery: Gallery) -> str:
    return str(gallery.folder.resolve())


def _read(file: Path | None) -> dict[str, float]:
    if file is None:
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): float(time_s) for name, time_s in kept["turns"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: cannot be read (%s); what is old already waits for a yes", file, error)
        return {}


def strays_message(cameras: Iterable[str], known: Collection[str]) -> str:
    """What is to be said of sightings of cameras that nothing here knows: they stay until somebody says for how long.

    >>> strays_message(["gate"], {"gate": 30})
    ''
    """
    strays = [name for name in cameras if name not in known]
    if not strays:
        return ""
    return (
        f"sightings of {', '.join(strays)} stay, for no camera of that name is here or was: give it a file with its "
        "retention_days, or erase them"
    )
