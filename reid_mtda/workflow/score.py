"""Scores of every network a run holds, on labelled pictures that training never saw."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from reid_mtda.config import AdaptConfig
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluate.retrieval import embed_split, evaluate_features, evaluate_split, name_cameras
from reid_mtda.export import export_student
from reid_mtda.models.checkpoint import load_embedder
from reid_mtda.models.embedder import Embedder
from reid_mtda.runs import Run, write_json
from reid_mtda.runtime import load_exported
from reid_mtda.synthetic.street import draw_crops
from reid_mtda.types import Embed, FloatArray, Preprocess, RetrievalScores, RetrievalSplit
from reid_mtda.vision.preprocess import read_image
from reid_mtda.workflow.named import load_named

SELECTION_RULE = "last weights"
OURS = "distilled student"
STUDENTS = {
    "source only": "student_source.safetensors",
    "blending": "blending.safetensors",
    OURS: "student.safetensors",
    "oracle (target labels)": "oracle.safetensors",
}
ORDER = (
    "source only",
    "blending",
    "one small model per camera",
    "mean of teachers",
    "teachers, each on its camera",
    OURS,
    "oracle (target labels)",
)


def load_test(config: AdaptConfig, run: Run, seed: int) -> RetrievalSplit:
    """The labelled test pictures: the drawn street's unseen people, or a data set's query and gallery."""
    if config.test is None:
        raise ConfigError("test: missing, expected a section that names labelled test data")
    if config.test.name == "street":
        folder = run.folder / "test"
        if not (folder / "query").is_dir():
            draw_crops(folder, seed=seed, part="test", people=config.test.people)
        return load_named("market1501", folder, where="test")[1]
    return load_named(config.test.name, config.test.root, where="test")[1]


def as_embed(model: Embedder) -> Embed:
    """A torch model as an ``Embed``."""
    model.eval()

    def embed(crops: FloatArray) -> FloatArray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(crops)).embedding.numpy(), np.float32)

    return embed


def score_run(run: Run, config: AdaptConfig, split: RetrievalSplit) -> list[dict[str, Any]]:
    """Score every network of the run, rows as ``evaluate.report`` takes them; kept in ``scores.json``.

    Rows: source only, blending, one small model per camera and the oracle where trained, the teachers (each camera's
    pictures by its own teacher), their mean (each teacher alone on all pictures, scores averaged), the student.
    """
    path = run.folder / "scores.json"
    if path.exists():
        return _kept_scores(path)
    preprocess = config.input.preprocess()
    models = run.folder / "models"
    cost = measure_cost(load_embedder(models / "student.safetensors", run=run), preprocess, split)
    rows = []
    for name, file in STUDENTS.items():
        if (models / file).exists():
            scores = evaluate_split(as_embed(load_embedder(models / file, run=run)), preprocess, split)
            rows.append({"method": name, **describe(scores, split), **cost})
    for folder, together, alone in (
        ("per_camera", "one small model per camera", None),
        ("teachers", "teachers, each on its camera", "mean of teachers"),
    ):
        rows += score_by_camera(run, folder, together, alone, preprocess, split)
    rows.sort(key=lambda row: ORDER.index(row["method"]))
    for row in rows:
        row["ours"] = row["method"] == OURS
    write_json(path, rows)
    return rows


def _kept_scores(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        rows = None
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) and "method" in row for row in rows)):
        raise DataError(f"{path}: damaged, expected a row of scores per method; delete it and run again")
    return rows


def score_by_camera(
    run: Run, folder: str, together: str, alone: str | None, preprocess: Preprocess, split: RetrievalSplit
) -> list[dict[str, Any]]:
    """Rows of networks that belong to one camera each, one in memory at a time; no rows where there are none."""
    scores, whole, model = [], None, None
    for path in sorted((run.folder / folder).glob("*.safetensors")):
        model = load_embedder(path, run=run)
        own = embed_split(as_embed(model), preprocess, split)
        scores.append(evaluate_features(own))
        whole = whole or replace(
            own,
            query_embeddings=np.zeros_like(own.query_embeddings),
            gallery_embeddings=np.zeros_like(own.gallery_embeddings),
        )
        camid = split.camera_names.index(path.stem)
        whole.query_embeddings[split.query.camids == camid] = own.query_embeddings[split.query.camids == camid]
        whole.gallery_embeddings[split.gallery.camids == camid] = own.gallery_embeddings[split.gallery.camids == camid]
    if model is None or whole is None:
        return []
    cost = measure_cost(model, preprocess, split)
    rows = [{"method": together, **describe(evaluate_features(whole), split), **cost}]
    if alone:
        rows.append({"method": alone, **mean_of([describe(each, split) for each in scores]), **cost})
    return rows


def describe(scores: RetrievalScores, split: RetrievalSplit) -> dict[str, Any]:
    """The numbers of one table row, as fractions; cameras are those of the queries."""
    cameras = name_cameras(split)

    def name(camid: int | None) -> str:
        return "all" if camid is None else cameras[camid]

    return {
        "mAP": scores.mAP,
        "mINP": scores.mINP,
        "rank1": float(scores.cmc[0]),
        "cmc": [float(value) for value in scores.cmc[:20]],
        "num_valid_queries": scores.num_valid_queries,
        "per_camera": {name(row.query_camid): {"mAP": row.mAP, "rank1": row.rank1} for row in scores.per_camera},
        "per_camera_pair": {
            f"{name(row.query_camid)} -> {name(row.gallery_camid)}": {"mAP": row.mAP, "rank1": row.rank1}
            for row in scores.per_camera_pair
        },
    }


def mean_of(values: list[Any]) -> Any:
    """The mean of equally built nests of dicts, lists and numbers."""
    first = values[0]
    if isinstance(first, Mapping):
        return {key: mean_of([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [mean_of(list(items)) for items in zip(*values, strict=True)]
    return float(np.mean(values))


def measure_cost(
    model: Embedder, preprocess: Preprocess, split: RetrievalSplit, *, rounds: int = 30
) -> dict[str, float]:
    """Weights, multiply-accumulates of one crop, and milliseconds of one crop in the exported form on this CPU."""
    crops = torch.zeros(1, 3, preprocess.height, preprocess.width)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(crops)
    body = [p for name, p in model.named_parameters() if not name.startswith("classifier.")]
    with tempfile.TemporaryDirectory() as folder:
        export_student(
            model,
            Path(folder) / "model",
            arch=model.spec.arch,
            preprocess=preprocess,
            trained_on="cost",
            check_crops=[read_image(path) for path in split.query.paths[:4]],
        )
        embed, _ = load_exported(Path(folder) / "model")
        picture = crops.numpy()
        embed(picture)
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            embed(picture)
            times.append(time.perf_counter() - began)
    classes = model.classifier.weight.numel() if model.classifier is not None else 0
    return {
        "params": float(sum(p.numel() for p in body)),
        "macs": counter.get_total_flops() / 2 - classes,
        "ms": float(np.median(times) * 1000),
    }
