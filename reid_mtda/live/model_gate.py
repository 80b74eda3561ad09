"""Whether a candidate student may go live: shown to be no worse, within cameras and between them, judged without labels
on what the cameras saw lately, and on a labelled check set where one is given.

Two pictures of one tracklet are one person; tracklets of one camera that overlap in time are different people. How
often the first score higher than the second (the area under the ROC curve) needs no label, and falls when a model
fits a camera badly. It is near 1 for every model, though, and says nothing of other cameras: ``between_cameras`` does.

A candidate passes when it is *shown* to lose less than a margin (non-inferiority): where the data cannot tell, it is
not judged, and does not pass.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from reid_mtda.camera_settings import Travel
from reid_mtda.centring import CameraMeans, centre
from reid_mtda.errors import ModelError
from reid_mtda.live.between_cameras import Views, negatives_below, possible_pairs, round_trips
from reid_mtda.live.holdout import Holdout, HoldoutComparison
from reid_mtda.live.paired_tests import LEVEL, holm, p_of_worse
from reid_mtda.model import Model
from reid_mtda.types import DoubleArray, FloatArray, ImageArray, Tracklet

_PER_CAMERA = 150
MIN_TRACKLETS = 10
MARGIN = 0.02


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
    """Scores within one camera, 0.5 (chance) to 1; ``is_worse``: by more than chance and the tolerance."""

    current: float
    candidate: float
    tracklets: int
    is_worse: bool


@dataclass(frozen=True)
class SiteComparison:
    """A score over the tracklets of all cameras, 0 to 1. Of the loss ``least_lost`` and ``most_lost`` are the ends of
    its interval, 95 % each.
    """

    current: float
    candidate: float
    tracklets: int
    least_lost: float
    most_lost: float

    @property
    def is_no_worse(self) -> bool:
        """The loss is shown to be below the margin."""
        return self.most_lost < MARGIN

    @property
    def is_worse(self) -> bool:
        """There is a loss beyond chance, and it reaches the margin."""
        return self.least_lost > 0 and self.current - self.candidate >= MARGIN


@dataclass(frozen=True)
class GateReport:
    """The comparison of a candidate with the model that serves; ``skipped`` cameras had too few tracklets.

    ``site`` holds what is judged over all cameras by name: within cameras, and between them where there are two.
    ``learnt`` tracklets were left out, for one of the models learnt from them.
    """

    cameras: dict[str, CameraComparison]
    skipped: tuple[str, ...]
    checks: dict[str, HoldoutComparison] = field(default_factory=dict)
    site: dict[str, SiteComparison] = field(default_factory=dict)
    learnt: int = 0

    @property
    def passes(self) -> bool:
        """Over all cameras it is shown to be no worse, and nowhere worse, with labels or without."""
        is_shown = bool(self.cameras) and all(one.is_no_worse for one in self.site.values())
        return is_shown and not (_worse(self.cameras) or _worse(self.checks))

    @property
    def _learnt(self) -> str:
        return f"; {self.learnt} tracklets do not count, for a model learnt from them" if self.learnt else ""

    @property
    def reason(self) -> str:
        """Why, in words."""
        if not self.cameras:
            return "no camera saw enough people yet to judge" + self._learnt
        skipped = f"; not judged, too few people seen at once: {', '.join(self.skipped)}" if self.skipped else ""
        skipped += self._learnt
        worse = _worse(self.cameras), _worse(self.checks), _worse(self.site)
        if any(worse):
            found = (
                f"worse at {worse[0]}" if worse[0] else "",
                f"worse on the check set at {worse[1]}" if worse[1] else "",
                f"worse {worse[2]}" if worse[2] else "",
            )
            return ", ".join(part for part in found if part) + skipped
        if open_ := [name for name, one in self.site.items() if not one.is_no_worse]:
            most = max(one.most_lost for one in self.site.values())
            return (
                f"not judged {', '.join(open_)}: the tracklets seen so far leave room for a loss of {most:.3f}, "
                f"expected below {MARGIN:g}; ask again when more people were seen{skipped}"
            )
        checked = f", nor on the check set at {', '.join(self.checks)}" if self.checks else ""
        return f"no worse at {', '.join(self.cameras)}{checked}{skipped}"


def _worse(comparisons: Mapping[str, CameraComparison | HoldoutComparison | SiteComparison]) -> str:
    return ", ".join(f"{name} ({v.current:.3f} -> {v.candidate:.3f})" for name, v in comparisons.items() if v.is_worse)


def compare_models(
    samples: Sequence[GateSample],
    current: Model,
    candidate: Model,
    *,
    centring: tuple[CameraMeans | None, CameraMeans | None] = (None, None),
    cameras: Collection[str] = (),
    travel: Mapping[tuple[str, str], Travel] | None = None,
    tolerance: float = 0.005,
    holdout: Holdout | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> GateReport:
    """Compare two models camera by camera, and over the site within and between cameras.

    A camera counts as worse when its score falls by more than ``tolerance`` and a paired test over its tracklets
    (Wilcoxon, one-sided, 5 % over all cameras by Holm's rule) agrees: with many cameras one falls by chance. Over the
    site the candidate must be shown to lose less than ``MARGIN``. Of ``cameras`` those without samples are named as
    skipped, too. ``stopped`` is asked before each batch of crops: a check set takes minutes, and a service must end in
    seconds.

    Args:
        samples: tracklets that cameras showed of late.
        current: the model that serves.
        candidate: the model that may take its place.
        centring: what the embeddings of each are centred with where it serves: its own means; None: nothing.
        cameras: names of those to judge.
        travel: how long people take from one camera to another; a way back takes as long unless it is stated, too.
        tolerance: share by which a score may fall.
        holdout: labelled pictures that are judged, too; None: there are none.
        stopped: asked now and then; True: leave off.

    Raises:
        ModelError: a model fails on the crops, or ``stopped``.
        ImageError: a picture of the check set is gone or damaged.
    """
    current, candidate = (_unless(stopped, model) for model in (current, candidate))
    falls: dict[str, tuple[DoubleArray, DoubleArray]] = {}
    skipped = []
    judged: list[GateSample] = []
    views: list[tuple[Views, Views]] = []
    for camera in sorted({*cameras, *(sample.camera for sample in samples)}):
        own = [sample for sample in samples if sample.camera == camera]
        if own:
            views.append((_views(own, current, centring[0]), _views(own, candidate, centring[1])))
            judged.extend(own)
        before, after = (_auc(own, seen) for seen in views[-1]) if own else (np.zeros(0), np.zeros(0))
        usable = np.isfinite(before) & np.isfinite(after)
        if np.count_nonzero(usable) < MIN_TRACKLETS:
            skipped.append(camera)
            continue
        falls[camera] = before[usable], after[usable]
    p_values = {name: p_of_worse(before, after, tolerance) for name, (before, after) in falls.items()}
    worse = holm(p_values)
    comparisons = {
        name: CameraComparison(float(before.mean()), float(after.mean()), len(before), name in worse)
        for name, (before, after) in falls.items()
    }
    possible = possible_pairs(
        [one.camera for one in judged], np.array([(one.start_s, one.end_s) for one in judged]), travel or {}
    )
    site = _site_comparisons(list(falls.values()), judged, views, possible) if falls else {}
    checks = holdout.compare(current, candidate, centring) if holdout else {}
    return GateReport(comparisons, tuple(skipped), checks, site)


def _site_comparisons(
    within: Sequence[tuple[DoubleArray, DoubleArray]],
    samples: Sequence[GateSample],
    views: Sequence[tuple[Views, Views]],
    possible: npt.NDArray[np.bool_],
) -> dict[str, SiteComparison]:
    """What is judged over all cameras; between them alone what enough tracklets can tell."""
    measured = {"within cameras": tuple(np.concatenate(side) for side in zip(*within, strict=True))}
    names = sorted({sample.camera for sample in samples})
    camera = np.array([names.index(sample.camera) for sample in samples], np.int64)
    models = [
        Views(np.concatenate([one.early for one in side]), np.concatenate([one.late for one in side]))
        for side in zip(*views, strict=True)
    ]
    measured["between cameras"] = tuple(round_trips(model, camera, possible) for model in models)
    measured["between cameras, against certain negatives"] = negatives_below(
        models, camera, _together(samples), possible
    )
    found = {}
    for name, (before, after) in measured.items():
        usable = np.isfinite(before) & np.isfinite(after)
        if np.count_nonzero(usable) >= MIN_TRACKLETS:
            found[name] = _site_comparison(before[usable], after[usable])
    return found


def _site_comparison(before: DoubleArray, after: DoubleArray) -> SiteComparison:
    lost = before - after
    reach = float(stats.t.ppf(1 - LEVEL, len(lost) - 1) * lost.std(ddof=1) / np.sqrt(len(lost)))
    mean = float(lost.mean())
    return SiteComparison(float(before.mean()), float(after.mean()), len(lost), mean - reach, mean + reach)


def _together(samples: Sequence[GateSample]) -> npt.NDArray[np.bool_]:
    """Tracklets of one camera that were on view at one time, bool (N, N)."""
    start, end = (np.array([getattr(sample, name) for sample in samples]) for name in ("start_s", "end_s"))
    names = np.array([sample.camera for sample in samples])
    track = np.array([sample.track_id for sample in samples])
    overlap = (start[:, None] <= end) & (start <= end[:, None])
    return np.asarray(overlap & (names[:, None] == names) & (track[:, None] != track))


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
    return _auc(samples, _views(samples, model, None)) if samples else np.zeros(0)


def _views(samples: Sequence[GateSample], model: Model, centring: CameraMeans | None) -> Views:
    early = model.embed([sample.early for sample in samples])
    late = model.embed([sample.late for sample in samples])
    if not (np.isfinite(early).all() and np.isfinite(late).all()):
        raise ModelError(f"model {model.model_id}: gave numbers that are not finite; export it again")
    if centring is None:
        return Views(early, late)
    names = [sample.camera for sample in samples]
    return Views(centre(early, names, centring), centre(late, names, centring))


def _auc(samples: Sequence[GateSample], views: Views) -> DoubleArray:
    scores = views.early @ views.late.T
    found = np.full(len(samples), np.nan)
    for row, beside in enumerate(_together(samples)):
        if beside.any():
            rest = scores[row, beside]
            found[row] = np.mean((rest < scores[row, row]) + 0.5 * (rest == scores[row, row]))
    return found
