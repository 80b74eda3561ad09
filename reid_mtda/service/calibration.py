"""Thresholds of the running service: set again from recent sightings, kept on disk per model."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import asdict
from pathlib import Path

from reid_mtda.errors import ReidError
from reid_mtda.live.calibrate import Moment, PairThreshold, Thresholds, calibrate, pair_of
from reid_mtda.live.system import LiveSystem
from reid_mtda.runs import write_json
from reid_mtda.service.settings import ServiceSettings

log = logging.getLogger(__name__)

_SAMPLE = 2000


class Calibration:
    """The thresholds that judge answers now."""

    def __init__(self, system: LiveSystem, folder: Path, settings: ServiceSettings) -> None:
        self._system, self._folder, self._settings = system, Path(folder), settings
        self._lock = threading.Lock()
        self._current = self._load(system.manifest.model_id)
        self._due = 0.0
        self.made_s = 0.0

    def current(self) -> Thresholds:
        """The thresholds; made anew first when they are old or of another model."""
        model_id = self._system.manifest.model_id
        with self._lock:
            if self._current.model_id != model_id:
                self._current, self._due = self._load(model_id), 0.0
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + self._settings.calibrate_every_s
                try:
                    self._renew()
                except ReidError as error:
                    log.error("calibration: %s", error)
            return self._current

    def renew(self) -> Thresholds:
        """Make the thresholds anew, now."""
        with self._lock:
            self._due = time.monotonic() + self._settings.calibrate_every_s
            self._renew()
            return self._current

    def _renew(self) -> None:
        gallery = self._system.gallery
        numbers = gallery.numbers()[-_SAMPLE:].tolist()
        rows, vectors = gallery.lookup(numbers), gallery.vectors(numbers)
        moments = [
            Moment(row.camera, row.track_id, row.start_s, row.end_s, vectors[number])
            for number, row in rows.items()
            if number in vectors
        ]
        made = calibrate(
            moments,
            self._system.observed.within(),
            model_id=gallery.model_id,
            false_match_rate=self._settings.false_match_rate,
            overlapping=frozenset(pair_of(*pair) for pair in self._settings.overlapping),
        )
        # Too few sightings yet, e.g. after retention took many: what was measured before still holds for this model.
        if not made.is_calibrated and self._current.is_calibrated and self._current.model_id == made.model_id:
            return
        self._current, self.made_s = made, time.time()
        write_json(
            self._path(made.model_id),
            {
                "model_id": made.model_id,
                "asked_rate": made.asked_rate,
                "made_s": self.made_s,
                "pairs": [{"cameras": pair, **asdict(value)} for pair, value in sorted(made.pairs.items())],
            },
        )

    def _path(self, model_id: str) -> Path:
        return self._folder / f"thresholds-{model_id}.json"

    def _load(self, model_id: str) -> Thresholds:
        empty = Thresholds(model_id, self._settings.false_match_rate, {})
        try:
            there = json.loads(self._path(model_id).read_text(encoding="utf-8"))
            pairs = {}
            for row in there["pairs"]:
                left, right = row.pop("cameras")
                pairs[str(left), str(right)] = PairThreshold(**row)
            kept = Thresholds(str(there["model_id"]), float(there["asked_rate"]), pairs)
            return kept if (kept.model_id, kept.asked_rate) == (model_id, self._settings.false_match_rate) else empty
        except FileNotFoundError:
            return empty
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: not readable (%s); thresholds are measured anew", self._path(model_id), error)
            return empty
