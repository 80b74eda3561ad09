"""Whether a candidate student may go live: no camera worse, judged without labels on what the cameras saw lately, and
on a labelled check set where one is given.

Two pictures of one tracklet are one person; tracklets of one camera that overlap in time are different people. How
often the first score higher than the second (the area under the ROC curve) needs no label, and falls when a model
fits a camera badly.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from reid_mtda.errors import ModelError
from reid_mtda.live.holdout import Holdout, HoldoutComparison
from reid_mtda.model import Model
from reid_mtda.types import DoubleArray, FloatArray, ImageArray, Tracklet

_PER_CAMERA = 150
MIN_TRACKLETS = 10


@dataclass(frozen=True, eq=False)
class GateSample:
    """One tracklet: when, and two of its crops, an early and a late one."""

    camera: str
    track_id: int
    start_s: float
    end_s: float
    early: ImageArray
    late: ImageArray


class GateSamples:
    """The last tracklets of each camera, in memory alone; erasure and retention reach them there."""

    def __init__(self, per_camera: int = _PER_CAMERA) -> None:
        self._lock = threading.Lock()
        self._per_camera = per_camera
        self._kept: dict[str, deque[GateSample]] = {}

    def take(self, tracklet: Tracklet) -> None:
        """Keep the first and last crop of a tracklet with at least two."""
        if len(tracklet.crops) < 2:
            return
        early, late = tracklet.crops[0], tracklet.crops[-1]
        sample = GateSample(tracklet.camera, tracklet.track_id, tracklet.start_s, tracklet.end_s, early, late)
        with self._lock:
            self._kept.setdefault(tracklet.camera, deque(maxlen=self._per_camera)).append(sample)

    def forget(self, camera: str, track_ids: Iterable[int]) -> None:
        """Drop erased tracklets."""
        gone = set(track_ids)
        self._keep(camera, lambda sample: sample.track_id not in gone)

    def all(self) -> list[GateSample]:
        """What is kept, of all cameras."""
        with self._lock:
            return [sample for kept in self._kept.values() for sample in kept]

    def _keep(self, camera: str, stays: Callable[[GateSample], bool]) -> None:
        with self._lock:
            if camera in self._kept:
                self._kept[camera] = deque(filter(stays, self._kept[camera]), maxlen=self._per_camera)


@dataclass(frozen=True)
class CameraComparison:
    """One camera's scores, 0.5 (chance) to 1; ``is_worse``: by more than chance and more than the tolerance."""

    current: float
    candidate: float
    tracklets: int
    is_worse: bool


@dataclass(frozen=True)
class GateReport:
    """The comparison of a candidate with the model that serves; ``skipped`` cameras had too few tracklets."""

    cameras: dict[str, CameraComparison]
    skipped: tuple[str, ...]
    checks: dict[str, HoldoutComparison] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        """At least one camera could be judged without labels, and none got worse, with labels or without."""
        return bool(self.cameras) and not (_worse(self.cameras) or _worse(self.checks))

    @property
    def reason(self) -> str:
        """Why, in words."""
        if not self.cameras:
            return "no camera saw enough people yet to judge"
        skipped = f"; not judged, too few people seen at once: {', '.join(self.skipped)}" if self.skipped else ""
        worse = _worse(self.cameras), _worse(self.checks)
        if any(worse):
            found = (f"worse at {worse[0]}" if worse[0] else "", f"worse on the check set at {worse[1]}")
            return ", ".join(part for part, names in zip(found, worse, strict=True) if names) + skipped
        checked = f", nor on the check set at {', '.join(self.checks)}" if self.checks else ""
        return f"no worse at {', '.join(self.cameras)}{checked}{skipped}"


def _worse(comparisons: Mapping[str, CameraComparison | HoldoutComparison]) -> str:
    return ", ".join(f"{name} ({v.current:.3f} -> {v.candidate:.3f})" for name, v in comparisons.items() if v.is_worse)


def compare_models(
    samples: Sequence[GateSample],
    current: Model,
    candidate: Model,
    *,
    cameras: Collection[str] = (),
    tolerance: float = 0.005,
    holdout: Holdout | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> GateReport:
    """Compare two models camera by camera.

    A camera counts as worse when its score falls by more than ``tolerance`` and a paired test over its tracklets
    (Wilcoxon, one-sided, 5 %) agrees: a coin's luck must not stop a good model, nor let a bad one pass unseen. Of
    ``cameras`` those without samples are named as skipped, too. ``stopped`` is asked before each batch of crops: a
    check set takes minutes, and a service must end in seconds.

    Raises:
        ModelError: a model fails on the crops, or ``stopped``.
        ImageError: a picture of the check set is gone or damaged.
    """
    current, candidate = (_unless(stopped, model) for model in (current, candidate))
    comparisons, skipped = {}, []
    for camera in sorted({*cameras, *(sample.camera for sample in samples)}):
        own = [sample for sample in samples if sample.camera == camera]
        before, after = pair_auc(own, current), pair_auc(own, candidate)
        usable = np.isfinite(before) & np.isfinite(after)
        if np.count_nonzero(usable) < MIN_TRACKLETS:
            skipped.append(camera)
            continue
        before, after = before[usable], after[usable]
        comparisons[camera] = CameraComparison(
            float(before.mean()), float(after.mean()), len(before), _is_worse(before, after, tolerance)
        )
    return GateReport(comparisons, tuple(skipped), holdout.compare(current, candidate) if holdout else {})


def _unless(stopped: Callable[[], bool], model: Model) -> Model:
    """``model``, refusing the next batch once ``stopped``."""

    def network(crops: FloatArray) -> FloatArray:
        if stopped():
            raise ModelError("gate: the service stopped before the comparison; start it again and ask anew")
        return model.network(crops)

    return replace(model, network=network)


def pair_auc(samples: Sequence[GateSample], model: Model) -> DoubleArray:
    """For each tracklet of one camera, the share of others on view at its time that it scores below itself.

    Returns:
        float64 (N,) in [0, 1]; NaN for a tracklet that was alone.
    """
    if not samples:
        return np.zeros(0)
    early = model.embed([sample.early for sample in samples])
    late = model.embed([sample.late for sample in samples])
    if not (np.isfinite(early).all() and np.isfinite(late).all()):
        raise ModelError(f"model {model.model_id}: gave numbers that are not finite; export it again")
    scores = early @ late.T
    found = np.full(len(samples), np.nan)
    for row, one in enumerate(samples):
        others = [
            column
            for column, other in enumerate(samples)
            if other.track_id != one.track_id and other.start_s <= one.end_s and one.start_s <= other.end_s
        ]
        if others:
            rest = scores[row, others]
            found[row] = np.mean((rest < scores[row, row]) + 0.5 * (rest == scores[row, row]))
    return found


def _is_worse(before: DoubleArray, after: DoubleArray, tolerance: float) -> bool:
    if before.mean() - after.mean() <= tolerance or np.array_equal(before, after):
        return False
    return bool(stats.wilcoxon(before, after, alternative="greater", zero_method="zsplit").pvalue < 0.05)
