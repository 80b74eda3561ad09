"""What the embeddings say about themselves, without labels: drift since the adaptation, and consistency."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reid_mtda.errors import StorageError
from reid_mtda.files import write_json
from reid_mtda.types import FloatArray

log = logging.getLogger(__name__)

_REFERENCE = 200
_RECENT = 200


@dataclass
class _Camera:
    reference: FloatArray | None = None
    reference_count: int = 0
    recent: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=_RECENT))
    within: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))


class DriftMonitor:
    """Per camera: a reference, what it looked like when this model was adapted to it, and the last 200 embeddings.

    A camera that the model was not adapted to has the mean of its first 200 embeddings under this model as reference.

    Args:
        file: keeps the references of 200, so that a restart goes on with them: what fewer people make would say too
            much about each. A camera that was moved gets a new one when its entry is removed. None: in memory alone.
        dim: length D of an embedding.
        adapted: mean embedding float32 (D,) of each camera that this model was adapted to; such a camera that was
            moved gets a new one by an adaptation.
        as_compared: (rows, camera of each) -> rows as a search compares them: what ``within`` tells is on its scale.
    """

    def __init__(
        self,
        file: Path | None = None,
        dim: int | None = None,
        adapted: Mapping[str, FloatArray] | None = None,
        as_compared: Callable[[FloatArray, Sequence[str]], FloatArray] = lambda rows, cameras: rows,
    ) -> None:
        self._lock = threading.Lock()
        self._as_compared = as_compared
        self._file = file
        self._adapted = dict(adapted or {})
        references = (_load(file, dim) if file else {}) | self._adapted
        self._cameras = {name: _Camera(mean, _REFERENCE) for name, mean in references.items()}

    def sighting(self, camera: str, vector: FloatArray, rows: FloatArray) -> None:
        """Take a sighting's ``vector`` (D,) and its crops' ``rows`` (K, D).

        Args:
            camera: the camera's name.
            vector: (D,) of length 1.
            rows: (N, D) embeddings.
        """
        with self._lock:
            kept = self._cameras.setdefault(camera, _Camera())
            if kept.reference_count < _REFERENCE:
                kept.reference = vector.copy() if kept.reference is None else kept.reference + vector
                kept.reference_count += 1
                if kept.reference_count == _REFERENCE:
                    kept.reference /= _REFERENCE
                    self._save()
            kept.recent.append(vector)
            if len(rows) > 1:
                kept.within.append(_cosine(*self._as_compared(_halves(rows), [camera, camera])))

    def _save(self) -> None:
        if self._file is None:
            return
        whole = {
            name: kept.reference
            for name, kept in self._cameras.items()
            if kept.reference_count == _REFERENCE and name not in self._adapted
        }
        try:
            write_json(self._file, whole)
        except StorageError as error:  # the sighting stands all the same
            log.warning("%s", error)

    def drift(self) -> dict[str, float]:
        """1 - cosine between the mean of a camera's recent embeddings and its reference; cameras with >= 20 of them."""
        with self._lock:
            return {
                name: max(0.0, 1.0 - _cosine(np.mean(list(kept.recent), axis=0), kept.reference))
                for name, kept in self._cameras.items()
                if kept.reference is not None and len(kept.recent) >= 20
            }

    def forget_within(self) -> None:
        """Embeddings are compared otherwise from now on: what halves of tracklets scored is on another scale."""
        with self._lock:
            for kept in self._cameras.values():
                kept.within.clear()

    def within(self) -> dict[str, tuple[float, ...]]:
        """Cosines between the halves of one tracklet, by camera: what one person scores against themselves."""
        with self._lock:
            return {name: tuple(kept.within) for name, kept in self._cameras.items()}


def _halves(rows: FloatArray) -> FloatArray:
    """The means of the first and the second half of ``rows`` (K, D), as two sightings: (2, D) of length 1."""
    half = len(rows) // 2
    means = np.stack([rows[:half].mean(axis=0), rows[half:].mean(axis=0)])
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), np.float32)


def _load(file: Path, dim: int | None) -> dict[str, FloatArray]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        means = {str(name): np.asarray(mean, np.float32) for name, mean in kept.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s: not readable (%s); drift is measured against what comes now", file, error)
        return {}
    return {name: mean for name, mean in means.items() if mean.shape == (dim,) and np.isfinite(mean).all()}


def _cosine(left: FloatArray, right: FloatArray) -> float:
    return float(left @ right / max(float(np.linalg.norm(left) * np.linalg.norm(right)), 1e-12))
