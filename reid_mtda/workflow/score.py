"""Scores of every network a run holds, on labelled pictures that training never saw."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid_mtda.config import AdaptConfig
from reid_mtda.data.batches import load_pictures
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluate.retrieval import Features, embed_paths, embed_split, evaluate_features, name_cameras
from reid_mtda.models.checkpoint import load_embedder
from reid_mtda.models.embedder import Embedder
from reid_mtda.runs import Run, write_json
from reid_mtda.runtime import load_exported
from reid_mtda.synthetic.street import draw_crops
from reid_mtda.train.common import recompute_batchnorm
from reid_mtda.types import Embed, FloatArray, IdentitySet, Preprocess, RetrievalScores, RetrievalSplit, UnlabelledSet
from reid_mtda.workflow.adapt import ready_made
from reid_mtda.workflow.cost import measure_cost, milliseconds
from reid_mtda.workflow.named import load_named

SELECTION_RULE = "last weights"
OURS = "distilled student"
STUDENTS = {
    "source only": "student_source.safetensors",
    "blending": "blending.safetensors",
    "merge of small models": "merged.safetensors",
    OURS: "student.safetensors",
    "oracle (target labels)": "oracle.safetensors",
}
OWN_BATCHNORM = "{}, BatchNorm of each camera"
ORDER = (
    "source only",
    OWN_BATCHNORM.format("source only"),
    "blending",
    OWN_BATCHNORM.format("blending"),
    "one small model per camera",
    "merge of small models",
    OWN_BATCHNORM.format("merge of small models"),
    "mean of teachers",
    "teachers, each on its camera",
    OURS,
    OWN_BATCHNORM.format(OURS),
    "oracle (target labels)",
)
Opened = tuple[Embed, Preprocess]
"""A network at work and what its crops must look like."""


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


def score_run(
    run: Run, config: AdaptConfig, tests: Mapping[str, RetrievalSplit], targets: Mapping[str, UnlabelledSet]
) -> list[dict[str, Any]]:
    """Score every network of the run, rows as ``evaluate.report`` takes them; kept in ``scores.json``.

    Rows: source only, the baselines that were trained, the teachers (each camera's pictures by its own teacher), their
    mean (each teacher alone on all pictures, scores averaged), the student, and the variants. Source only, blending,
    the merge and the student stand there a second time with BatchNorm statistics of each camera's unlabelled
    ``targets``.
    """
    path = run.folder / "scores.json"
    if path.exists():
        return _kept_scores(path)
    preprocess, models = config.input.preprocess(), run.folder / "models"
    crop = next(iter(tests.values())).query.paths[:4]
    cost = measure_cost(load_embedder(models / "student.safetensors", run=run), preprocess, crop)
    per_domain = {f"{OURS}, {name}" for name, v in config.variants.items() if v.distil.get("batchnorm") == "per_domain"}
    rows = []
    for name, file in _students(run, config).items():
        model = load_embedder(file, run=run)
        rows.append({"method": name, **score_tests(tests, by_one((as_embed(model), preprocess))), **cost})
        if OWN_BATCHNORM.format(name) in ORDER or name in per_domain:
            own = {camera: _with_batchnorm_of(model, target, preprocess) for camera, target in targets.items()}
            rows.append({"method": OWN_BATCHNORM.format(name), **score_tests(tests, by_camera(own, tests)), **cost})
    small = {path.stem: _stored(path, preprocess, run) for path in sorted((run.folder / "per_camera").glob("*"))}
    if small:
        rows.append({"method": "one small model per camera", **score_tests(tests, by_camera(small, tests)), **cost})
    rows += _score_teachers(run, config, tests, targets)
    rows.sort(key=lambda row: ORDER.index(row["method"]) if row["method"] in ORDER else len(ORDER))
    for row in rows:
        row["ours"] = row["method"] == OURS
    write_json(path, rows)
    return rows


def score_elsewhere(folder: Path, config: AdaptConfig, split: RetrievalSplit) -> list[dict[str, Any]]:
    """Score a finished run's networks on pictures of other cameras: how the adaptation carries to unseen ones.

    Networks of one camera each have none of theirs there; of the teachers the mean of their scores is told.
    """
    run, preprocess, tests = Run(Path(folder), config.seed), config.input.preprocess(), {"elsewhere": split}
    rows = []
    for name, file in _students(run, config).items():
        model = load_embedder(file, run=run)
        cost = measure_cost(model, preprocess, split.query.paths[:4])
        rows.append({"method": name, **score_tests(tests, by_one((as_embed(model), preprocess))), **cost})
    each = []
    for path in sorted((run.folder / "teachers").glob("*.safetensors")):
        teacher = load_embedder(path, run=run)
        cost = measure_cost(teacher, preprocess, split.query.paths[:4])
        each.append({**score_tests(tests, by_one((as_embed(teacher), preprocess))), **cost})
    if each:
        shared = {key: each[0][key] for key in ("params", "macs", "ms")}
        rows.append({"method": "mean of teachers", **mean_of(each), **_times(shared, len(each))})
    return [{**row, "ours": row["method"] == OURS} for row in rows]


def _times(cost: Mapping[str, float | None], networks: int) -> dict[str, float | None]:
    return {key: None if value is None else networks * value for key, value in cost.items()}


def _students(run: Run, config: AdaptConfig) -> dict[str, Path]:
    """The networks for all cameras that the run holds, by the names of their rows."""
    files = {name: run.folder / "models" / file for name, file in STUDENTS.items()}
    files |= {f"{OURS}, {name}": run.folder / f"variants/{name}.safetensors" for name in config.variants}
    return {name: file for name, file in files.items() if file.exists()}


def _kept_scores(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        rows = None
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) and "method" in row for row in rows)):
        raise DataError(f"{path}: damaged, expected a row of scores per method; delete it and run again")
    return rows


def _score_teachers(
    run: Run, config: AdaptConfig, tests: Mapping[str, RetrievalSplit], targets: Mapping[str, UnlabelledSet]
) -> list[dict[str, Any]]:
    preprocess = config.input.preprocess()
    teachers: dict[str, Callable[[], Opened]] = {}
    cost: dict[str, float | None] = {"params": None, "macs": None, "ms": None}
    for camera in targets:
        exported, path = ready_made(config, camera), run.folder / f"teachers/{camera}.safetensors"
        teachers[camera] = _exported(exported) if exported else _stored(path, preprocess, run)
    own = [run.folder / f"teachers/{camera}.safetensors" for camera in targets if not ready_made(config, camera)]
    if own:
        crop = next(iter(tests.values())).query.paths[:4]
        cost |= measure_cost(load_embedder(own[-1], run=run), preprocess, crop)
    else:
        embed, size = next(iter(teachers.values()))()
        cost["ms"] = milliseconds(embed, size)
    each = [score_tests(tests, by_one(opened())) for opened in teachers.values()]
    return [
        {"method": "teachers, each on its camera", **score_tests(tests, by_camera(teachers, tests)), **cost},
        {"method": "mean of teachers", **mean_of(each), **_times(cost, len(each))},  # all of them see every picture
    ]


def _stored(path: Path, preprocess: Preprocess, run: Run) -> Callable[[], Opened]:
    return lambda: (as_embed(load_embedder(path, run=run)), preprocess)


def _exported(folder: Path) -> Callable[[], Opened]:
    def opened() -> Opened:
        embed, manifest = load_exported(folder)
        return embed, manifest.preprocess

    return opened


def _with_batchnorm_of(model: Embedder, target: UnlabelledSet, preprocess: Preprocess) -> Callable[[], Opened]:
    """``model`` with the statistics of one camera's crops (AdaBN, Li et al. 2016): labels are not needed for it."""

    def opened() -> Opened:
        own = copy.deepcopy(model)
        recompute_batchnorm(own, load_pictures(target.paths, preprocess))
        return as_embed(own), preprocess

    return opened


def by_one(opened: Opened) -> Callable[[RetrievalSplit], Features]:
    """Embed all pictures by one network."""
    return lambda split: embed_split(*opened, split)


def by_camera(
    models: Mapping[str, Callable[[], Opened]], tests: Mapping[str, RetrievalSplit]
) -> Callable[[RetrievalSplit], Features]:
    """Embed each camera's pictures by the network of its name, or of its data set's; one is in memory at a time."""

    def embed(split: RetrievalSplit) -> Features:
        title = next(name for name, test in tests.items() if test is split)
        query, gallery = (_rows(side, models, name_cameras(split), title) for side in (split.query, split.gallery))
        return Features(query, split.query.pids, split.query.camids, gallery, split.gallery.pids, split.gallery.camids)

    return embed


def _rows(
    side: IdentitySet, models: Mapping[str, Callable[[], Opened]], names: tuple[str, ...], title: str
) -> FloatArray:
    rows: dict[int, FloatArray] = {}
    for camid in np.unique(side.camids):
        keys = (f"{title}-{names[camid]}", names[camid], title)
        opened = next((models[key] for key in keys if key in models), None)
        if opened is None:  # a camera that failed, or that the site lacks: its pictures stay zero and find nobody
            continue
        mine = np.flatnonzero(side.camids == camid)
        embed, preprocess = opened()
        rows |= dict(zip(mine.tolist(), embed_paths(embed, preprocess, [side.paths[row] for row in mine]), strict=True))
    if not rows:
        raise DataError(f"{title}: no camera of the test pictures has a network of its own, got {', '.join(models)}")
    nothing = np.zeros_like(next(iter(rows.values())))
    return np.stack([rows.get(number, nothing) for number in range(len(side))])


def score_tests(tests: Mapping[str, RetrievalSplit], embed: Callable[[RetrievalSplit], Features]) -> dict[str, Any]:
    """The numbers of one table row: of the one test, or the mean over data sets, each scored inside itself."""
    each = {title: describe(evaluate_features(embed(split)), split) for title, split in tests.items()}
    if len(each) == 1:
        return next(iter(each.values()))
    together = {key: mean_of([row[key] for row in each.values()]) for key in ("mAP", "mINP", "rank1", "cmc")}
    return {
        **together,
        "camera_to_camera": mean_of([row["camera_to_camera"] for row in each.values()]),
        "num_valid_queries": sum(row["num_valid_queries"] for row in each.values()),
        "per_camera": {title: {"mAP": row["mAP"], "rank1": row["rank1"]} for title, row in each.items()},
        "per_camera_pair": {},
    }


def describe(scores: RetrievalScores, split: RetrievalSplit) -> dict[str, Any]:
    """The numbers of one table row, as fractions; cameras are those of the queries.

    ``camera_to_camera`` is the mean over pairs of cameras: queries of one, answers of the other alone.
    """
    cameras = name_cameras(split)

    def name(camid: int | None) -> str:
        return "all" if camid is None else cameras[camid]

    across = [row for row in scores.per_camera_pair if row.query_camid != row.gallery_camid]
    return {
        "mAP": scores.mAP,
        "mINP": scores.mINP,
        "rank1": float(scores.cmc[0]),
        "cmc": [float(value) for value in scores.cmc[:20]],
        "camera_to_camera": {
            "mAP": float(np.mean([row.mAP for row in across])),
            "rank1": float(np.mean([row.rank1 for row in across])),
        },
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
