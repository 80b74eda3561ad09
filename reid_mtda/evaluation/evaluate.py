"""From pictures, or from a file of embeddings, to retrieval scores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_mtda.arrays import read_arrays
from reid_mtda.centring import CameraMeans, centre
from reid_mtda.errors import DataError, ShapeError
from reid_mtda.evaluation.average_precision import Side, rank_scores
from reid_mtda.evaluation.bootstrap import MEASURES, interval
from reid_mtda.evaluation.cosine import Floats, as_floats
from reid_mtda.junk import is_person
from reid_mtda.model import Model
from reid_mtda.progress import Progress, silent
from reid_mtda.scores import CameraScores, RetrievalScores
from reid_mtda.types import FloatArray, IntArray, RetrievalSplit

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Features:
    """Embeddings of both sides with their truth, as a file of features holds them."""

    query_embeddings: Floats
    query_pids: npt.NDArray[np.integer[Any]]
    query_camids: npt.NDArray[np.integer[Any]]
    gallery_embeddings: Floats
    gallery_pids: npt.NDArray[np.integer[Any]]
    gallery_camids: npt.NDArray[np.integer[Any]]

    @property
    def query(self) -> Side:
        """The queries."""
        return self.query_embeddings, self.query_pids, self.query_camids

    @property
    def gallery(self) -> Side:
        """The gallery."""
        return self.gallery_embeddings, self.gallery_pids, self.gallery_camids


def embed_split(
    model: Model, split: RetrievalSplit, *, centring: CameraMeans | None = None, progress: Progress = silent
) -> Features:
    """Embed both sides of a test; with ``centring`` they are centred by camera.

    Args:
        model: the model.
        split: query and gallery of the test.
        centring: the means of cameras that are subtracted; None: none are.
        progress: called as the work goes on.
    """
    rows = model.embed((*split.query.paths, *split.gallery.paths), progress=progress)
    if centring is not None:
        camids = np.concatenate([split.query.camids, split.gallery.camids])
        rows = centre_named(rows, camids, name_cameras(split), centring)
    count = len(split.query)
    return Features(
        rows[:count], split.query.pids, split.query.camids, rows[count:], split.gallery.pids, split.gallery.camids
    )


def centre_named(rows: FloatArray, camids: IntArray, camera_names: Sequence[str], centring: CameraMeans) -> FloatArray:
    """Centre ``rows`` (N, D) of cameras ``camids`` (N,); a warning names cameras that ``centring`` has no mean of.

    Args:
        rows: (N, D) embeddings.
        camids: (N,) the number of each row's camera.
        camera_names: names by camid.
        centring: the means of cameras that are subtracted.
    """
    names = [camera_names[camid] for camid in camids]
    if unknown := sorted(set(names) - centring.by_camera.keys()):
        known = ", ".join(centring.by_camera)
        log.warning(
            "centring: no mean of %s, the mean of all cameras is subtracted there; the model knows %s",
            ", ".join(unknown),
            known,
        )
    return centre(rows, names, centring)


def evaluate_features(features: Features, *, max_rank: int = 50, rerank: bool = False) -> RetrievalScores:
    """Score embeddings; refusals as for `rank_scores`.

    Args:
        features: embeddings of both sides with their truth.
        max_rank: length R of the CMC curve.
        rerank: rank by k-reciprocal distances.
    """
    return rank_scores(features.query, features.gallery, max_rank=max_rank, rerank=rerank)


def evaluate_split(
    model: Model,
    split: RetrievalSplit,
    *,
    max_rank: int = 50,
    rerank: bool = False,
    centring: CameraMeans | None = None,
    progress: Progress = silent,
) -> RetrievalScores:
    """Embed both sides of a test and score the ranking.

    Args:
        model: embeds the pictures.
        split: queries and gallery with their truth.
        max_rank: length R of the CMC.
        rerank: re-rank by k-reciprocal neighbours.
        centring: both sides are centred with it, by the names of the split's cameras.
        progress: told ("embed", pictures done, pictures in all).

    Returns:
        The scores, by camera and by pair of cameras, too.

    Raises:
        DataError: a side is empty, or no query has a right answer in another camera.
        ImageError: a file that is no picture.
    """
    for side, entries in (("query", split.query), ("gallery", split.gallery)):
        if not len(entries):
            raise DataError(f"{side}: got no pictures, expected at least one; choose data with a test half")
    features = embed_split(model, split, centring=centring, progress=progress)
    return evaluate_features(features, max_rank=max_rank, rerank=rerank)


def load_features(path: Path) -> Features:
    """Read a NumPy ``.npz`` file of embeddings and their truth; other arrays in it are ignored.

    Rows of negative pids are left out, as in data sets (`reid_mtda.junk`), and how many there are is logged.

    Args:
        path: holds ``query_embeddings`` (Q, D) and ``gallery_embeddings`` (G, D), numbers; ``query_pids``,
            ``query_camids`` (Q,), ``gallery_pids``, ``gallery_camids`` (G,), integers of any width.

    Raises:
        DataError: no such file, not an ``.npz``, an array is missing or holds Python objects.
        ShapeError: an array of another shape or kind.
    """
    path = Path(path)
    names = tuple(Features.__dataclass_fields__)
    expected = f"expected an .npz file with {', '.join(names)}, saved with numpy.savez"
    arrays = read_arrays(path, names, expected=expected)
    for side in ("query", "gallery"):
        rows = as_floats(f"{path}: {side}_embeddings", arrays[f"{side}_embeddings"])
        for name in (f"{side}_pids", f"{side}_camids"):
            ids = arrays[name]
            if ids.shape != (len(rows),) or (len(rows) and ids.dtype.kind not in "iu"):
                raise ShapeError(f"{path}: {name}: got {ids.dtype} {ids.shape}, expected integers ({len(rows)},)")
        kept = is_person(arrays[f"{side}_pids"], where=f"{path}: {side}")
        for name in ("embeddings", "pids", "camids"):
            arrays[f"{side}_{name}"] = arrays[f"{side}_{name}"][kept]
    return Features(**arrays)


def name_cameras(split: RetrievalSplit) -> tuple[str, ...]:
    """The printed name of each camid: the split's own, else ``camera 1`` on, as the files of data sets count."""
    count = int(max(split.query.camids.max(initial=-1), split.gallery.camids.max(initial=-1))) + 1
    return split.camera_names + tuple(f"camera {number + 1}" for number in range(len(split.camera_names), count))


def scores_to_json(scores: RetrievalScores, camera_names: Sequence[str] = ()) -> dict[str, Any]:
    """Scores as JSON values, fractions and counts; ``intervals`` are those of a bootstrap over people, [low, high].

    A camera is named where ``camera_names`` has its name, else numbered; ``gallery_camera`` None is the whole gallery.
    """

    def name(camid: int | None) -> str | int | None:
        return camera_names[camid] if camid is not None and 0 <= camid < len(camera_names) else camid

    def rows(table: Sequence[CameraScores]) -> list[dict[str, Any]]:
        return [
            {
                "query_camera": name(row.query_camid),
                "gallery_camera": name(row.gallery_camid),
                "mAP": row.mAP,
                "rank1": row.rank1,
                "num_valid_queries": row.num_valid_queries,
            }
            for row in table
        ]

    return {
        "mAP": scores.mAP,
        "mINP": scores.mINP,
        "cmc": [float(value) for value in scores.cmc],
        "intervals": {
            name: list(interval([scores.per_person], measure))
            for name, measure in MEASURES.items()
            if scores.per_person is not None
        },
        "num_queries": scores.num_queries,
        "num_valid_queries": scores.num_valid_queries,
        "tied": scores.tied,
        "per_camera": rows(scores.per_camera),
        "per_camera_pair": rows(scores.per_camera_pair),
    }
