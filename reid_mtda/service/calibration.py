"""Thresholds of the running service: set again from recent sightings, kept on disk per model.

They belong to the means that embeddings were centred with: with other means scores are on another scale, and thresholds
of before are not used.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from reid_mtda.camera_settings import Camera
from reid_mtda.centring import CameraMeans
from reid_mtda.data.enough_people import people_in_sightings
from reid_mtda.errors import ReidError
from reid_mtda.files import write_json
from reid_mtda.live.learnt import LearntPeople
from reid_mtda.live.site_means import SiteMeans, newest_vectors
from reid_mtda.live.system import LiveSystem
from reid_mtda.live.thresholds import Pair, PairThreshold, Thresholds, TrackRecord, calibrate, pair_of
from reid_mtda.service.settings import ServiceSettings

log = logging.getLogger(__name__)

_SAMPLE = 2000
_COUNTED = 1000


def overlapping_pairs(cameras: Mapping[str, Camera]) -> frozenset[Pair]:
    """Pairs of cameras that see the same ground, as the site's files say: those with a ``min_s`` stated as 0."""
    return frozenset(
        pair_of(name, neighbour)
        for name, camera in cameras.items()
        for neighbour, travel in camera.neighbours.items()
        if "min_s" in travel.model_fields_set and travel.min_s == 0
    )


def means_differ(one: CameraMeans | None, other: CameraMeans | None) -> bool:
    """Scores made with the one are on another scale than scores made with the other."""
    return (one and one.mark) != (other and other.mark)


def _refused(before: Thresholds, centring: str) -> str:
    """Why thresholds of ``before`` do not judge scores of now, '' where there were none."""
    if not before.pairs:
        return ""
    then, now = (f"centred by camera (means {mark})" if mark else "uncentred" for mark in (before.centring, centring))
    return f"those of before were measured {then}, and embeddings are compared {now}"


class Calibration:
    """The thresholds that judge answers now; measured in the background, never while somebody waits for an answer."""

    def __init__(
        self,
        system: LiveSystem,
        folder: Path,
        settings: ServiceSettings,
        means: SiteMeans,
        on_new_means: Callable[[Mapping[str, str]], object] = lambda why: None,
    ) -> None:
        self._system, self._folder, self._settings = system, Path(folder), settings
        self._means, self._on_new_means = means, on_new_means
        self._lock, self._measuring = threading.Lock(), threading.Lock()
        self._current = self._load(*self._scale())
        self._due = 0.0
        self.made_s = 0.0
        self.people: dict[str, int] = {}  # about how many each camera showed that keeps crops to adapt to
        system.periodic_checks.append(self.poll)

    def poll(self) -> None:
        """Notice pairs of the settings that name no camera; one may be added while running, so none is refused."""
        named = {name for pair in self._settings.overlapping for name in pair}
        unknown = ", ".join(sorted(named - self._system.pool.states().keys()))
        message = (
            f"overlapping: got {unknown}, no camera of this site; mend the settings, or the pair counts for nothing"
        )
        self._system.alerts.put("overlapping", message if unknown else "")
        if time.monotonic() >= self._due and self._measuring.acquire(blocking=False):
            threading.Thread(target=self._measure, name="calibrate", daemon=True).start()

    def _measure(self) -> None:
        """Measure in the background; whoever started it holds ``_measuring``."""
        try:
            self._due = time.monotonic() + self._settings.calibrate_every_s
            self._renew()
        except ReidError as error:
            log.error("calibration: %s", error)
        except Exception:  # the gallery may be closed meanwhile, at the end of the service
            log.exception("calibration failed; what was measured before holds")
        finally:
            self._measuring.release()

    def current(self) -> Thresholds:
        """The thresholds as they were last measured for what answers: the model, and the means it is centred with."""
        scale = self._scale()
        with self._lock:
            if (self._current.model_id, self._current.centring) != scale:
                self._current, self._due = self._load(*scale), 0.0
            return self._current

    def _scale(self) -> tuple[str, str]:
        """What scores of now are made with: the model's id, and the mark of the camera means, '' without any."""
        gallery = self._system.gallery
        return gallery.model_id, gallery.centring.mark if gallery.centring else ""

    def renew(self) -> Thresholds:
        """Make the thresholds anew, now."""
        with self._measuring:
            self._due = time.monotonic() + self._settings.calibrate_every_s
            self._renew()
        return self.current()

    def _renew_means(self) -> None:
        """Means first: what is measured afterwards is on their scale."""
        serving = self._system.model_server.serving
        means = self._means.renew(serving.gallery, serving.model, self._on_new_means)
        if serving is self._system.model_server.serving and means_differ(means, serving.gallery.centring):
            self._system.model_server.recentre(means)

    def _count_people(self) -> None:
        """Of the newest sightings of each camera that keeps crops: few people are not worth an adaptation."""
        gallery = self._system.gallery
        kept = [name for name, state in self._system.pool.states().items() if state.settings.keep_for_adaptation]
        rows = {name: newest_vectors(gallery, name, _COUNTED) for name in kept}
        self.people = {name: people_in_sightings(own) if len(own) else 0 for name, own in rows.items()}

    def _renew(self) -> None:
        self._renew_means()
        self._count_people()
        gallery = self._system.gallery
        model_id, centring = self._scale()
        learnt = LearntPeople(self._system.model, gallery.footage())
        newest = gallery.lookup(gallery.numbers()[-2 * _SAMPLE :].tolist())
        new = [n for n, row in newest.items() if not learnt.include(row.camera, row.start_s, row.end_s)]
        numbers = sorted(new)[-_SAMPLE:]
        cameras = {name: state.settings for name, state in self._system.pool.states().items()}
        named = frozenset(pair_of(*pair) for pair in self._settings.overlapping)
        rows, vectors = gallery.lookup(numbers), gallery.vectors(numbers, as_compared=True)
        records = [
            TrackRecord(row.camera, row.track_id, row.start_s, row.end_s, vectors[number])
            for number, row in rows.items()
            if number in vectors
        ]
        made = calibrate(
            records,
            self._system.model_server.drift_monitor.within(),
            model_id=model_id,
            centring=centring,
            false_match_rate=self._settings.false_match_rate,
            overlapping=named | overlapping_pairs(cameras),
        )
        made = replace(made, learnt=len(newest) - len(new))
        # Too few sightings yet, e.g. after retention took many: what was measured before on this scale still holds.
        with self._lock:
            there = self._current
            is_same_scale = (there.model_id, there.centring) == (made.model_id, made.centring)
            if not made.is_calibrated:
                if is_same_scale and there.is_calibrated:
                    return
                made = replace(made, refused=there.refused if is_same_scale else _refused(there, made.centring))
            self._current, self.made_s = made, time.time()
        write_json(
            self._path(made.model_id),
            {
                "model_id": made.model_id,
                "asked_rate": made.asked_rate,
                "centring": made.centring,
                "learnt": made.learnt,
                "made_s": self.made_s,
                "pairs": [{"cameras": pair, **asdict(value)} for pair, value in sorted(made.pairs.items())],
            },
        )

    def _path(self, model_id: str) -> Path:
        return self._folder / f"thresholds-{model_id}.json"

    def _load(self, model_id: str, centring: str) -> Thresholds:
        empty = Thresholds(model_id, self._settings.false_match_rate, {}, centring=centring)
        try:
            there = json.loads(self._path(model_id).read_text(encoding="utf-8"))
            pairs = {}
            for row in there["pairs"]:
                left, right = row.pop("cameras")
                pairs[str(left), str(right)] = PairThreshold(**row)
            of = str(there.get("centring", ""))
            rate, learnt = float(there["asked_rate"]), int(there.get("learnt", 0))
            kept = Thresholds(str(there["model_id"]), rate, pairs, centring=of, learnt=learnt)
            if (kept.model_id, kept.asked_rate) != (model_id, self._settings.false_match_rate):
                return empty
            if of == centring or not pairs:
                return replace(kept, centring=centring)
            refused = _refused(kept, centring)
            log.warning("%s: not used, %s; thresholds are measured anew", self._path(model_id), refused)
            return replace(empty, refused=refused)
        except FileNotFoundError:
            return empty
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: not readable (%s); thresholds are measured anew", self._path(model_id), error)
            return empty
