"""The few frozen types that carry everything between modules; NumPy only, checked when made.

Axis letters: N rows, K crops of one tracklet, Q queries, G gallery rows, R ranks, D embedding, H W frame, h w crop.
Pictures are RGB uint8; boxes are ``xyxy`` in pixels, right and bottom exclusive; times are POSIX seconds in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import ShapeError

ImageArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def check_array(where: str, array: object, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Raise ShapeError unless ``array`` is an ndarray of ``dtype`` and ``shape`` (None: any length).

    Args:
        where: opens the message.
        array: what was given.
        dtype: of its numbers.
        shape: its sides; None: any length.
    """
    if not isinstance(array, np.ndarray):
        raise ShapeError(f"{where}: got {type(array).__name__}, expected a NumPy array of {np.dtype(dtype)}")
    fits = array.ndim == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise ShapeError(f"{where}: got {array.dtype} {array.shape}, expected {np.dtype(dtype)} {wanted}")


def _check_image(where: str, image: object) -> None:
    check_array(where, image, np.uint8, (None, None, 3))


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of one camera: ``image`` uint8 (H, W, 3) RGB, taken at ``time_s``."""

    camera: str
    index: int
    time_s: float
    image: ImageArray

    def __post_init__(self) -> None:
        _check_image(f"Frame {self.index} of camera {self.camera!r}", self.image)


@dataclass(frozen=True, eq=False)
class Detections:
    """People found in one frame; none found is N = 0, not an error.

    ``xyxy`` float32 (N, 4) px; ``score`` float32 (N,) in [0, 1]; ``track_id`` int64 (N,) once tracked, else None.
    ``too_low`` counts people who were found as well but left out, for they are lower than ``min_height_px``.
    """

    xyxy: FloatArray
    score: FloatArray
    track_id: IntArray | None = None
    too_low: int = 0

    def __post_init__(self) -> None:
        check_array("Detections.xyxy", self.xyxy, np.float32, (None, 4))
        check_array("Detections.score", self.score, np.float32, (len(self.xyxy),))
        if self.track_id is not None:
            check_array("Detections.track_id", self.track_id, np.int64, (len(self.xyxy),))

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls) -> Detections:
        """No people: N = 0."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class Tracklet:
    """One person in one camera for one stretch of time: K >= 1 best crops in time order.

    ``crops`` K pictures uint8 (h_i, w_i, 3); ``xyxy`` float32 (K, 4) in the frame; ``frame_index`` int64 (K,);
    ``time_s`` float64 (K,), not decreasing. ``start_s`` and ``end_s`` are when the person was first and last
    seen, which can lie outside the times of the crops kept.
    """

    camera: str
    track_id: int
    crops: tuple[ImageArray, ...]
    xyxy: FloatArray
    frame_index: IntArray
    time_s: DoubleArray
    start_s: float = field(default=float("nan"))
    end_s: float = field(default=float("nan"))

    def __post_init__(self) -> None:
        where = f"Tracklet {self.track_id} of camera {self.camera!r}"
        if not self.crops:
            raise ShapeError(f"{where}: got no crops, expected at least one")
        for crop in self.crops:
            _check_image(where, crop)
        check_array(f"{where}, xyxy", self.xyxy, np.float32, (len(self.crops), 4))
        check_array(f"{where}, frame_index", self.frame_index, np.int64, (len(self.crops),))
        check_array(f"{where}, time_s", self.time_s, np.float64, (len(self.crops),))
        if np.any(np.diff(self.time_s) < 0):
            raise ShapeError(f"{where}: crops are not in time order")
        if np.isnan(self.start_s):
            object.__setattr__(self, "start_s", float(self.time_s[0]))
        if np.isnan(self.end_s):
            object.__setattr__(self, "end_s", float(self.time_s[-1]))


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """A labelled source: ``paths`` (N,), ``labels`` int64 (N,) in 0..C-1, ``camids`` int64 (N,) or None.

    ``tracklets`` int64 (N,), -1 where a picture has none: which of them a tracker followed, where the data set tells.
    """

    paths: tuple[Path, ...]
    labels: IntArray
    num_classes: int
    domain: str
    camids: IntArray | None = None
    tracklets: IntArray | None = None

    def __post_init__(self) -> None:
        where = f"LabelledSet {self.domain!r}"
        check_array(f"{where}, labels", self.labels, np.int64, (len(self.paths),))
        if len(self.labels) and not (self.labels.min() >= 0 and self.labels.max() < self.num_classes):
            got = f"{self.labels.min()}..{self.labels.max()}"
            raise ShapeError(f"{where}: labels out of range, got {got}, expected 0..{self.num_classes - 1}")
        for name, numbers in (("camids", self.camids), ("tracklets", self.tracklets)):
            if numbers is not None:
                check_array(f"{where}, {name}", numbers, np.int64, (len(self.paths),))

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class UnlabelledSet:
    """An unlabelled target: there is no label field to leak.

    ``tracklets`` int64 (N,) groups crops that one tracker followed without a break; -1 where a crop has none.
    ``cameras`` int64 (N,) tells which crops are of one camera, where a target holds several; None: all are of one.
    ``spans`` float64 (N, 2): from when to when a crop's tracklet was in view for certain, NaN where nobody knows.
    ``site`` is where the camera hangs: nobody is seen at two sites.
    """

    paths: tuple[Path, ...]
    domain: str
    tracklets: IntArray | None = None
    cameras: IntArray | None = None
    spans: DoubleArray | None = None
    site: str = ""

    def __post_init__(self) -> None:
        for name, numbers in (("tracklets", self.tracklets), ("cameras", self.cameras)):
            if numbers is not None:
                check_array(f"UnlabelledSet {self.domain!r}, {name}", numbers, np.int64, (len(self.paths),))
        if self.spans is not None:
            check_array(f"UnlabelledSet {self.domain!r}, spans", self.spans, np.float64, (len(self.paths), 2))

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class IdentitySet:
    """Test pictures with their truth: ``paths`` (N,), ``pids`` int64 (N,), ``camids`` int64 (N,)."""

    paths: tuple[Path, ...]
    pids: IntArray
    camids: IntArray

    def __post_init__(self) -> None:
        check_array("IdentitySet.pids", self.pids, np.int64, (len(self.paths),))
        check_array("IdentitySet.camids", self.camids, np.int64, (len(self.paths),))

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class RetrievalSplit:
    """The two sides of a retrieval test; ``camera_names[camid]`` is the printed name where known."""

    query: IdentitySet
    gallery: IdentitySet
    camera_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocess:
    """How a crop becomes model input: resize to (height, width), scale to [0, 1], subtract mean, divide by std.

    ``mean`` and ``std`` are in the order of ``channels``, which is what the model expects; crops are RGB always.
    """

    height: int = 256
    width: int = 128
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channels: Literal["RGB", "BGR"] = "RGB"

    def __post_init__(self) -> None:
        if not (8 <= self.height <= 2048 and 8 <= self.width <= 2048):
            raise ShapeError(f"Preprocess: got size {self.height}x{self.width}, expected 8..2048 each")
        if min(self.std) <= 0:
            raise ShapeError(f"Preprocess: got std {self.std}, expected three numbers > 0")
        if self.channels not in ("RGB", "BGR"):
            raise ShapeError(f"Preprocess: got channels {self.channels!r}, expected 'RGB' or 'BGR'")


@dataclass(frozen=True)
class ModelManifest:
    """The card that travels with exported weights.

    ``model_id`` binds a gallery: a hash of the weights and of all in the card that changes what comes out of them.
    ``output`` names the embedding among a network's outputs; None: it has one alone.
    """

    model_id: str
    arch: str
    embedding_dim: int
    preprocess: Preprocess
    trained_on: str
    output: str | None = None


@dataclass(frozen=True)
class Sighting:
    """One gallery row's meaning: a tracklet as it stands in the gallery.

    ``added_s``: POSIX seconds when it came in, which of a recording is later than ``end_s``; None where that was not
    noted (galleries of 0.1).
    """

    camera: str
    track_id: int
    start_s: float
    end_s: float
    thumbnail: Path
    added_s: float | None = None

    @property
    def key(self) -> str:
        """Its name for good: its number changes when the gallery is made anew."""
        return f"{self.camera}/{self.track_id}/{self.start_s:.3f}"


@dataclass(frozen=True)
class SearchHit:
    """One answer: cosine ``score`` in [-1, 1], larger is better; ``sighting_id`` names the row for later calls."""

    score: float
    sighting_id: int
    sighting: Sighting


@dataclass(frozen=True)
class SearchAnswer:
    """What a user gets: ``hits`` best first, out of ``gallery_size`` sightings embedded by model ``model_id``."""

    model_id: str
    gallery_size: int
    hits: tuple[SearchHit, ...]


Detect = Callable[[ImageArray], Detections]
"""uint8 (H, W, 3) RGB -> Detections."""

Embed = Callable[[FloatArray], FloatArray]
"""float32 (B, 3, h, w), preprocessed -> float32 (B, D), rows of length 1."""
