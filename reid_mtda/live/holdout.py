"""The gate's labelled half: pictures whose people are known, ranked by the model that answers and by the candidate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reid_mtda.centring import CameraMeans
from reid_mtda.data.reid import DATASETS
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluation.evaluate import evaluate_split, name_cameras
from reid_mtda.model import Model
from reid_mtda.types import RetrievalSplit


@dataclass(frozen=True)
class HoldoutComparison:
    """One camera's mAP as fractions, over so many queries; ``is_worse``: lower by more than the tolerance."""

    current: float
    candidate: float
    queries: int
    is_worse: bool


@dataclass(frozen=True, eq=False)
class Holdout:
    """A labelled test; a candidate's mAP may lie below the current model's by ``tolerance`` at most, at each camera."""

    split: RetrievalSplit
    tolerance: float

    def compare(
        self,
        current: Model,
        candidate: Model,
        centring: tuple[CameraMeans | None, CameraMeans | None] = (None, None),
    ) -> dict[str, HoldoutComparison]:
        """Comparisons by camera of the queries; a camera whose queries nobody can answer has none.

        Args:
            current: the model that serves.
            candidate: the one to take its place.
            centring: of each, where it serves; left aside where it knows none of the set's cameras, whose pictures then
                would all lose the mean of other places.

        Raises:
            ImageError: a picture is gone or damaged.
            DataError: no query has a right answer in another camera.
        """
        names = set(name_cameras(self.split))
        before, after = (
            evaluate_split(model, self.split, centring=means if means and names & means.by_camera.keys() else None)
            for model, means in zip((current, candidate), centring, strict=True)
        )
        return {
            self._name(old.query_camid): HoldoutComparison(
                old.mAP, new.mAP, old.num_valid_queries, old.mAP - new.mAP > self.tolerance
            )
            for old, new in zip(before.per_camera, after.per_camera, strict=True)
            if old.num_valid_queries
        }

    def _name(self, camid: int | None) -> str:
        names = self.split.camera_names
        return names[camid] if camid is not None and camid < len(names) else f"camera {(camid or 0) + 1}"


def load_holdout(given: str, tolerance: float) -> Holdout:
    """Read the check set ``FOLDER`` (Market-1501's layout) or ``NAME:FOLDER`` with a name of ``data.reid.DATASETS``.

    Raises:
        ConfigError: no folder given.
        DataError: nothing of the kind stands there, or it has no test half.
    """
    name, colon, folder = given.partition(":")
    if not colon or name not in DATASETS:
        name, folder = "market1501", given
    if not folder.strip():
        raise ConfigError(f"holdout: got {given!r}, expected FOLDER or NAME:FOLDER, NAME one of {', '.join(DATASETS)}")
    _, split = DATASETS[name](Path(folder), half="test")
    if not (len(split.query) and len(split.gallery)):
        raise DataError(f"{folder}: a check set needs query/ and bounding_box_test/, got no test half; add them")
    return Holdout(split, tolerance)
