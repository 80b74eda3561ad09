"""The job of ``evaluate``: scores of embeddings, or of a model on a data set or on crops with truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_mtda.camera_means import need_centring
from reid_mtda.centring import CameraMeans
from reid_mtda.data.datasets import load_dataset
from reid_mtda.data.mot_ground_truth import TrackletTruth, label_tracklets, read_mot
from reid_mtda.data.reid import load_folder
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluation.average_precision import rank_scores
from reid_mtda.evaluation.evaluate import (
    centre_named,
    evaluate_features,
    evaluate_split,
    load_features,
    name_cameras,
)
from reid_mtda.live.ingest import mean_embedding
from reid_mtda.model import Model, load_model
from reid_mtda.progress import Progress, silent
from reid_mtda.scores import RetrievalScores

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Scored:
    """What is scored: a model on one of ``root`` and ``crops``, or ``features`` alone.

    Args:
        model: an exported model folder.
        root: folder of a data set.
        data: its name; None: market1501.
        crops: harvested crops.
        truth: folder of their ground truth in MOT format, one CAMERA.txt for each camera.
        features: a file of embeddings.
    """

    model: Path | None = None
    root: Path | None = None
    data: str | None = None
    crops: Path | None = None
    truth: Path | None = None
    features: Path | None = None


def evaluate_model(
    scored: Scored,
    *,
    rerank: bool = False,
    centred: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> tuple[RetrievalScores, tuple[str, ...]]:
    """Score a file of embeddings, or a model on a data set or on harvested crops with truth.

    Args:
        scored: a model and pictures, or embeddings.
        rerank: rank by k-reciprocal distances.
        centred: embeddings are centred by camera.
        device: where the model runs, as for ``load_model``.
        progress: called as the work goes on.

    Returns:
        The scores, and camera names where they are known.

    Raises:
        ConfigError: not exactly one thing to score, no model for it, or ``centred`` (by camera) with a file of
            embeddings or a model that says too little of its cameras.
    """
    model, root, features, crops, truth = scored.model, scored.root, scored.features, scored.crops, scored.truth
    if sum(given is not None for given in (root, features, crops)) != 1:
        raise ConfigError("evaluate: expected one of --root FOLDER, --features FILE.npz, --crops FOLDER; give one")
    unused = {"--truth": truth if crops is None else None, "--data": scored.data if root is None else None}
    if features is not None:
        unused |= {"--model": model, "--device": None if device == "cpu" else device}
    if named := [option for option, given in unused.items() if given is not None]:
        used = "--features" if features is not None else "--crops" if crops is not None else "--root"
        raise ConfigError(f"evaluate: got {' and '.join(named)} with {used}, which does not use it; leave it out")
    if features is not None:
        if centred:
            raise ConfigError("evaluate: got --centred with --features, which names no cameras; score a model")
        return evaluate_features(load_features(features), rerank=rerank), ()
    if model is None:
        raise ConfigError("evaluate: no model given, expected --model FOLDER (or --features FILE.npz alone)")
    opened = load_model(model, device=device)
    centring = need_centring(opened.folder or model, opened.manifest) if centred else None
    if crops is not None:
        if truth is None:
            raise ConfigError("evaluate: --crops needs --truth FOLDER with one CAMERA.txt in MOT format per camera")
        labelled = label_tracklets(crops, {camera: read_mot(truth / f"{camera}.txt") for camera in load_folder(crops)})
        return score_tracklets(opened, labelled, rerank=rerank, centring=centring), labelled.cameras
    _, split = load_dataset(scored.data or "market1501", root, where="--data", half="test")

    if len(np.unique(np.concatenate([split.query.pids, split.gallery.pids]))) == 1:
        raise DataError(f"{root}: test pictures show one identity alone, expected two or more: every answer is right")
    scores = evaluate_split(opened, split, rerank=rerank, centring=centring, progress=progress)
    return scores, name_cameras(split)


def score_tracklets(
    model: Model, labelled: TrackletTruth, *, rerank: bool = False, centring: CameraMeans | None = None
) -> RetrievalScores:
    """Search every tracklet among all others: the question a user asks of the gallery, with its truth.

    Args:
        model: the model.
        labelled: embeddings' pictures with identity, camera and tracklet.
        rerank: rank by k-reciprocal distances.
        centring: the means of cameras that are subtracted; None: none are.
    """
    if not labelled.paths:
        raise DataError(
            "crops: no tracklet overlaps a person of the truth; check that truth and footage belong together"
        )
    rows = np.stack([mean_embedding(model.embed(paths)) for paths in labelled.paths])
    if centring is not None:
        rows = centre_named(rows, labelled.camids, labelled.cameras, centring)
    truth = (labelled.pids, labelled.camids)
    return rank_scores((rows, *truth), (rows, *truth), rerank=rerank)
