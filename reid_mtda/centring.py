"""Camera-centred search: what all crops of a camera have in common is the camera, not a person; it is subtracted.

Raw embeddings are kept and centred when they are compared, so that a mean may change and nothing is embedded anew.
NumPy only: scores, gallery and the running service use the same function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reid_mtda.errors import DataError, ShapeError
from reid_mtda.types import FloatArray, check_array

Centred = Literal["off", "auto", "on"]
"""Whether vectors are centred when they are compared; ``auto``: where the model's folder knows what it takes."""

SHRINKAGE = 20
"""People whose weight the common mean has in a camera's mean: a camera that saw N others counts N / (N + 20)."""


def share_of(people: int) -> float:
    """What the mean of so many people counts where it is subtracted, 0 to 1; the common mean counts the rest.

    >>> share_of(20)
    0.5
    """
    return people / (people + SHRINKAGE)


@dataclass(frozen=True, eq=False)
class CameraMeans:
    """What is subtracted from embeddings: ``by_camera`` float32 (D,) each, ``common`` (D,) for any other camera."""

    common: FloatArray
    by_camera: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        check_array("camera means, common", self.common, np.float32, (None,))
        for name, mean in self.by_camera.items():
            check_array(f"camera means, {name}", mean, np.float32, (len(self.common),))

    @property
    def mark(self) -> str:
        """Twelve digits that change with any mean: scores made with other means are on another scale."""
        digest = hashlib.sha256(self.common.tobytes())
        for name, mean in sorted(self.by_camera.items()):
            digest.update(name.encode() + b"\0" + mean.tobytes())
        return digest.hexdigest()[:12]

    def of(self, cameras: Iterable[str | None]) -> FloatArray:
        """The mean of each of ``cameras`` float32 (N, D); None, or a camera without a mean, gets the common one."""
        rows = [self.common if name is None else self.by_camera.get(name, self.common) for name in cameras]
        return np.stack(rows) if rows else np.zeros((0, len(self.common)), np.float32)


def camera_means(embeddings: Mapping[str, FloatArray], people: Mapping[str, int]) -> CameraMeans:
    """Average each camera's embeddings, drawn towards the mean of all cameras where few people were seen.

    mean_c = common + N_c / (N_c + 20) * (m_c - common), where m_c is the plain mean of camera c and ``common`` the
    mean of all m_c weighted by N_c. The mean of a few people is those people: subtracted whole, it takes away what
    tells them apart, and a camera that kept what others lose would be unlike them.

    Args:
        embeddings: unlabelled crops of each camera, float32 (N, D); a camera without any is left out.
        people: how many people those crops show, by camera; about, since nobody knows. The number of tracklets is an
            upper bound.

    Raises:
        DataError: no camera has crops, or one has crops and no count of people.
        ShapeError: embeddings of different sizes.
    """
    means: dict[str, FloatArray] = {}
    for name, rows in embeddings.items():
        check_array(f"camera means, {name}", rows, np.float32, (None, None))
        if not len(rows):
            continue
        if people.get(name, 0) < 1:
            raise DataError(
                f"camera means: got {people.get(name)} people for the {len(rows)} crops of {name}, expected 1 or more"
            )
        means[name] = rows.mean(axis=0)
    return shrunk_means(means, people)


def shrunk_means(means: Mapping[str, FloatArray], people: Mapping[str, int]) -> CameraMeans:
    """Draw plain means float32 (D,) by camera towards that of all cameras; ``people``, refusals: as `camera_means`."""
    if not means:
        raise DataError("camera means: got no crops, expected some of at least one camera; harvest footage")
    if len({len(mean) for mean in means.values()}) > 1:
        sizes = ", ".join(f"{name}: {len(mean)}" for name, mean in means.items())
        raise ShapeError(f"camera means: got embeddings of different sizes ({sizes}); embed all with one model")
    counts = np.array([people[name] for name in means], np.float64)
    common = np.average(np.stack(list(means.values())), axis=0, weights=counts).astype(np.float32)
    weights = (counts / (counts + SHRINKAGE)).astype(np.float32)
    shrunk = {
        name: common + weight * (mean - common) for (name, mean), weight in zip(means.items(), weights, strict=True)
    }
    return CameraMeans(common, shrunk)


def centre(embeddings: FloatArray, cameras: Iterable[str | None], means: CameraMeans) -> FloatArray:
    """Subtract from each embedding its camera's mean and scale the rows to length 1 again, float32 (N, D).

    A row that is its camera's mean becomes zeros; so does a row of zeros, which stands for a picture without an
    embedding.

    Args:
        embeddings: float32 (N, D), rows of length 1 or 0, of the model that ``means`` are of.
        cameras: the camera (N,) of each row; None: from elsewhere.
        means: of `camera_means`.

    Raises:
        ShapeError: another size of embeddings than the means', or not one camera for each row.
    """
    check_array("centred embeddings", embeddings, np.float32, (None, len(means.common)))
    taken = means.of(cameras)
    if len(taken) != len(embeddings):
        raise ShapeError(f"centred embeddings: got {len(taken)} cameras for {len(embeddings)} rows, expected as many")
    moved = embeddings - np.where(embeddings.any(axis=1, keepdims=True), taken, 0)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.where(length > 0, length, 1), np.float32)
