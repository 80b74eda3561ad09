"""What the embeddings say about themselves, without labels: drift against the first days, and consistency."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from reid_mtda.types import FloatArray

_REFERENCE = 200
_RECENT = 200
_BATCHES = 512


@dataclass
class _Camera:
    reference_sum: FloatArray | None = None
    reference_count: int = 0
    recent: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=_RECENT))
    within: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))


class Observations:
    """Per camera: a reference of its first embeddings under this model, and the recent ones beside it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, _Camera] = {}
        self._batches: deque[tuple[int, float]] = deque(maxlen=_BATCHES)
        self.batch_crops_total = 0

    def sighting(self, camera: str, vector: FloatArray, rows: FloatArray) -> None:
        """Take a sighting's ``vector`` (D,) and its crops' ``rows`` (K, D)."""
        with self._lock:
            kept = self._cameras.setdefault(camera, _Camera())
            if kept.reference_count < _REFERENCE:
                kept.reference_sum = vector.copy() if kept.reference_sum is None else kept.reference_sum + vector
                kept.reference_count += 1
            kept.recent.append(vector)
            if len(rows) > 1:
                half = len(rows) // 2
                kept.within.append(_cosine(rows[:half].mean(axis=0), rows[half:].mean(axis=0)))

    def batch(self, crops: int, seconds: float) -> None:
        """Take the size and time of a batch."""
        with self._lock:
            self._batches.append((crops, seconds))

    def batches(self) -> list[tuple[int, float]]:
        """Size and seconds of the last batches."""
        with self._lock:
            return list(self._batches)

    def drift(self) -> dict[str, float]:
        """1 - cosine between a camera's mean of recent embeddings and that of its first; cameras with >= 20 of them."""
        with self._lock:
            return {
                name: 1.0 - _cosine(np.mean(list(kept.recent), axis=0), kept.reference_sum)
                for name, kept in self._cameras.items()
                if kept.reference_sum is not None and len(kept.recent) >= 20
            }

    def within(self) -> dict[str, tuple[float, ...]]:
        """Cosines between the halves of one tracklet, by camera: what one person scores against themselves."""
        with self._lock:
            return {name: tuple(kept.within) for name, kept in self._cameras.items()}


def _cosine(left: FloatArray, right: FloatArray) -> float:
    return float(left @ right / max(float(np.linalg.norm(left) * np.linalg.norm(right)), 1e-12))
