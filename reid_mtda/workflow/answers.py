"""Scores and model folders asked for one at a time: ``evaluate`` and ``export``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_mtda.data.datasets import load_dataset
from reid_mtda.data.mot_ground_truth import TrackletTruth, label_tracklets, read_mot
from reid_mtda.data.reid import load_folder
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluate.ranking import rank_scores
from reid_mtda.evaluate.retrieval import evaluate_features, evaluate_split, load_features, name_cameras
from reid_mtda.live.ingest import mean_embedding
from reid_mtda.model import Model, load_model, write_manifest
from reid_mtda.runs import Progress, silent
from reid_mtda.types import ModelManifest, Preprocess, RetrievalScores
from reid_mtda.vision.picture_files import find_pictures
from reid_mtda.vision.preprocess import read_image

if TYPE_CHECKING:
    from reid_mtda.models.embedder import Embedder


def evaluate_model(
    *,
    model: Path | None,
    data: str,
    root: Path | None,
    features: Path | None,
    crops: Path | None,
    truth: Path | None,
    rerank: bool = False,
    progress: Progress = silent,
) -> tuple[RetrievalScores, tuple[str, ...]]:
    """Score a file of embeddings, or a model on a data set or on harvested crops with truth.

    Returns:
        The scores, and camera names where they are known.

    Raises:
        ConfigError: not exactly one thing to score, or no model for it.
    """
    if sum(given is not None for given in (root, features, crops)) != 1:
        raise ConfigError("evaluate: expected one of --root FOLDER, --features FILE.npz, --crops FOLDER; give one")
    if features is not None:
        return evaluate_features(load_features(features), rerank=rerank), ()
    if model is None:
        raise ConfigError("evaluate: no model given, expected --model FOLDER (or --features FILE.npz alone)")
    opened = load_model(model)
    if crops is not None:
        if truth is None:
            raise ConfigError("evaluate: --crops needs --truth FOLDER with one CAMERA.txt in MOT format per camera")
        labelled = label_tracklets(crops, {camera: read_mot(truth / f"{camera}.txt") for camera in load_folder(crops)})
        return score_tracklets(opened, labelled, rerank=rerank), labelled.cameras
    _, split = load_dataset(data, root, where="--data", half="test")

    if len(np.unique(np.concatenate([split.query.pids, split.gallery.pids]))) == 1:
        raise DataError(f"{root}: test pictures show one identity alone, expected two or more: every answer is right")
    scores = evaluate_split(opened, split, rerank=rerank, progress=progress)
    return scores, name_cameras(split)


def score_tracklets(model: Model, labelled: TrackletTruth, *, rerank: bool = False) -> RetrievalScores:
    """Search every tracklet among all others: the question a user asks of the gallery, with its truth."""
    if not labelled.paths:
        raise DataError(
            "crops: no tracklet overlaps a person of the truth; check that truth and footage belong together"
        )
    rows = np.stack([mean_embedding(model.embed(paths)) for paths in labelled.paths])
    truth = (labelled.pids, labelled.camids)
    return rank_scores(rows, *truth, rows, *truth, rerank=rerank)


def export_weights(
    weights: Path,
    out: Path,
    *,
    crops: Path | None = None,
    arch: str | None = None,
    height: int | None = None,
    width: int | None = None,
    bgr255: bool = False,
) -> ModelManifest:
    """Make a model folder from a run's checkpoint, weights in torchreid's names, or a ready-made ONNX / IR file.

    Raises:
        ModelError: unreadable or unfit weights, or an export that answers otherwise than torch.
        DataError: no crops to compare the export on; a ready-made file needs none.
    """
    if weights.suffix in (".onnx", ".xml"):
        preprocess = Preprocess(height=height or 256, width=width or 128)
        if bgr255:
            preprocess = replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), channels="BGR")
        return write_manifest(weights, out, arch=arch or weights.stem, preprocess=preprocess, trained_on=weights.name)
    from reid_mtda.export import export_student

    model = _build(weights, arch)
    default = Preprocess() if arch else _trained_size(weights)
    folder = Path("(none)") if crops is None else crops
    found = find_pictures(folder) if folder.is_dir() else ()
    if not found:
        raise DataError(f"--crops {folder}: no pictures there, expected real crops to compare the export with torch on")
    return export_student(
        model,
        out,
        arch=model.spec.arch,
        preprocess=Preprocess(height=height or default.height, width=width or default.width),
        trained_on=weights.name,
        check_crops=[read_image(path) for path in found[:32]],
    )


def _build(weights: Path, arch: str | None) -> Embedder:
    from reid_mtda.models.checkpoint import load_embedder, load_zoo_weights
    from reid_mtda.models.embedder import EmbedderSpec, build_embedder

    if arch is None:
        return load_embedder(weights)
    model = build_embedder(EmbedderSpec(arch=arch, neck=False), seed=0)
    load_zoo_weights(model, weights)
    return model.eval()


def _trained_size(weights: Path) -> Preprocess:
    """The crop size stored beside a checkpoint's weights."""
    from reid_mtda.models.checkpoint import load_tensors

    _, card = load_tensors(weights, kind="embedder")
    size = card.get("input")
    return Preprocess(height=size[0], width=size[1]) if size else Preprocess()
