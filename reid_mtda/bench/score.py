"""Scores of every network a run holds, on labelled pictures that training never saw."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.bench.cost import measure_cost, milliseconds
from reid_mtda.bench.embedded import (
    EmbedPaths,
    EmbedSide,
    by_camera,
    by_one,
    embed_test,
    opened_late,
    remembering,
    torch_model,
)
from reid_mtda.config import AdaptConfig, Variant
from reid_mtda.data.batches import load_pictures
from reid_mtda.data.datasets import load_dataset
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluation.bootstrap import people_to_json
from reid_mtda.evaluation.evaluate import evaluate_features, name_cameras
from reid_mtda.files import write_json
from reid_mtda.model import Model, load_model
from reid_mtda.models.checkpoint import load_embedder
from reid_mtda.models.device import placed
from reid_mtda.models.embedder import Embedder
from reid_mtda.runs import Run
from reid_mtda.scores import RetrievalScores
from reid_mtda.synthetic.crops import draw_crops
from reid_mtda.train.common import recompute_batchnorm
from reid_mtda.types import Preprocess, RetrievalSplit, UnlabelledSet
from reid_mtda.workflow.teacher_cache import ready_made

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
    OWN_BATCHNORM.format("oracle (target labels)"),
)


def load_test(config: AdaptConfig, run: Run, seed: int) -> RetrievalSplit:
    """The labelled test pictures: the drawn street's unseen people, or a data set's query and gallery.

    Args:
        config: settings of the whole run.
        run: gives folder, seed and device.
        seed: of what is drawn.
    """
    if config.test is None:
        raise ConfigError("test: missing, expected a section that names labelled test data")
    if config.test.name == "street":
        folder = run.folder / "test"
        if not (folder / "query").is_dir():
            draw_crops(folder, seed=seed, part="test", people=config.test.people)
        return load_dataset("market1501", folder, where="test", half="test")[1]
    return load_dataset(config.test.name, config.test.root, where="test", half="test")[1]


def score_run(
    run: Run, config: AdaptConfig, tests: Mapping[str, RetrievalSplit], targets: Mapping[str, UnlabelledSet]
) -> list[dict[str, Any]]:
    """Score every network of the run, rows as ``bench.report`` takes them; kept in ``scores.json``.

    Rows: source only, the baselines that were trained, the teachers (each camera's pictures by its own teacher), their
    mean (each teacher alone on all pictures, scores averaged), the student, and the variants. Source only, blending,
    the merge, the student, the oracle and variants over proxies stand there a second time with BatchNorm statistics of
    each camera's unlabelled ``targets``. Every row has its numbers a second time, ``centred``: each camera's mean
    embedding, of its unlabelled crops, subtracted.

    Args:
        run: gives folder, seed and device.
        config: settings of the whole run.
        tests: the tests by name.
        targets: unlabelled crops by camera.
    """
    path = run.folder / "scores.json"
    if path.exists():
        return _kept_scores(path)
    preprocess, models = config.input.preprocess(), run.folder / "models"
    crop = next(iter(tests.values())).query.paths[:4]
    cost = measure_cost(load_embedder(models / "student.safetensors", run=run), preprocess, crop)
    own_statistics = {f"{OURS}, {name}" for name, v in config.variants.items() if _has_statistics(config, v)}
    rows = []
    for name, file in students(run, config).items():
        model = placed(load_embedder(file, run=run), run.compute)
        rows.append(
            {"method": name, **score_tests(tests, by_one(torch_model(model, preprocess).embed), targets), **cost}
        )
        if OWN_BATCHNORM.format(name) in ORDER or name in own_statistics:
            own = {camera: _with_batchnorm_of(model, target, preprocess) for camera, target in targets.items()}
            rows.append({"method": OWN_BATCHNORM.format(name), **score_tests(tests, by_camera(own), targets), **cost})
    small = {path.stem: _stored(path, preprocess, run) for path in sorted((run.folder / "per_camera").glob("*"))}
    if small:
        rows.append({"method": "one small model per camera", **score_tests(tests, by_camera(small), targets), **cost})
    rows += _score_teachers(run, config, tests, targets)
    rows.sort(key=lambda row: ORDER.index(row["method"]) if row["method"] in ORDER else len(ORDER))
    for row in rows:
        row["ours"] = row["method"] == OURS
    write_json(path, rows)
    return rows


def _has_statistics(config: AdaptConfig, variant: Variant) -> bool:
    """Whether a variant stands in the table with each camera's statistics, too.

    Of these it has its own sets, or it learnt of the targets alone and is to be compared at equal statistics.
    """
    proxies = (variant.distillation or config.distillation) == "camera_proxies"
    return proxies or variant.distil.get("batchnorm") == "per_domain"


def score_elsewhere(folder: Path, config: AdaptConfig, split: RetrievalSplit) -> list[dict[str, Any]]:
    """Score a finished run's networks on pictures of other cameras: how the adaptation carries to unseen ones.

    Networks of one camera each have none of theirs there; of the teachers the mean of their scores is told.

    Args:
        folder: the run folder.
        config: settings of the whole run.
        split: query and gallery of the test.
    """
    run, preprocess, tests = Run(Path(folder), config.seed), config.input.preprocess(), {"elsewhere": split}
    rows = []
    for name, file in students(run, config).items():
        model = load_embedder(file, run=run)
        cost = measure_cost(model, preprocess, split.query.paths[:4])
        rows.append({"method": name, **score_tests(tests, by_one(torch_model(model, preprocess).embed)), **cost})
    seen = config.teacher_preprocess()
    each = []
    for path in sorted((run.folder / "teachers").glob("*.safetensors")):
        teacher = load_embedder(path, run=run)
        cost = measure_cost(teacher, seen, split.query.paths[:4])
        each.append({**score_tests(tests, by_one(torch_model(teacher, seen).embed)), **cost})
    if each:
        shared = {key: each[0][key] for key in ("params", "macs", "ms")}
        rows.append({"method": "mean of teachers", **mean_of(each), **_times(shared, len(each))})
    return [{**row, "ours": row["method"] == OURS} for row in rows]


def _times(cost: Mapping[str, float | None], networks: int) -> dict[str, float | None]:
    return {key: None if value is None else networks * value for key, value in cost.items()}


def students(run: Run, config: AdaptConfig) -> dict[str, Path]:
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
    preprocess = config.teacher_preprocess()
    teachers: dict[str, EmbedPaths] = {}
    networks: dict[Path, EmbedPaths] = {}  # cameras of one ready-made teacher share it
    cost: dict[str, float | None] = {"params": None, "macs": None, "ms": None}
    for camera in targets:
        exported, path = ready_made(config, camera), run.folder / f"teachers/{camera}.safetensors"
        if (place := exported or path) not in networks:
            opened = opened_late(partial(load_model, exported)) if exported else _stored(path, preprocess, run)
            networks[place] = remembering(opened)
        teachers[camera] = networks[place]
    own = [run.folder / f"teachers/{camera}.safetensors" for camera in targets if not ready_made(config, camera)]
    if own:
        crop = next(iter(tests.values())).query.paths[:4]
        cost |= measure_cost(load_embedder(own[-1], run=run), preprocess, crop)
    else:
        cost["ms"] = milliseconds(load_model(next(iter(networks))))
    rows = [{"method": "teachers, each on its camera", **score_tests(tests, by_camera(teachers), targets), **cost}]
    if config.mean_of_teachers:  # all of them see every picture
        scores = {embed: score_tests(tests, by_one(embed), targets) for embed in networks.values()}
        each = [scores[embed] for embed in teachers.values()]
        rows.append({"method": "mean of teachers", **mean_of(each), **_times(cost, len(networks))})
    return rows


def _stored(path: Path, preprocess: Preprocess, run: Run) -> EmbedPaths:
    return opened_late(lambda: torch_model(placed(load_embedder(path, run=run), run.compute), preprocess))


def _with_batchnorm_of(model: Embedder, target: UnlabelledSet, preprocess: Preprocess) -> EmbedPaths:
    """``model`` with the statistics of one camera's crops (AdaBN, Li et al. 2016): labels are not needed for it."""

    def opened() -> Model:
        own = copy.deepcopy(model)
        recompute_batchnorm(own, load_pictures(target.paths, preprocess))
        return torch_model(own, preprocess)

    return opened_late(opened)


def score_tests(
    tests: Mapping[str, RetrievalSplit], embed: EmbedSide, targets: Mapping[str, UnlabelledSet] | None = None
) -> dict[str, Any]:
    """The numbers of one table row: of the one test, or the mean over data sets, each scored inside itself.

    With unlabelled ``targets`` of the same cameras, ``centred`` holds the numbers of camera-centred embeddings.

    Args:
        tests: the tests by name.
        embed: embeds the pictures of one side.
        targets: unlabelled crops by camera.
    """
    plain: list[dict[str, Any]] = []
    centred: list[dict[str, Any]] = []
    for title, split in tests.items():
        for found, features in zip((plain, centred), embed_test(split, title, embed, targets or {}), strict=True):
            if features is not None:
                found.append(describe(evaluate_features(features), split))
    row = _over_sets(tests, plain)
    return row | ({"centred": _over_sets(tests, centred)} if len(centred) == len(plain) else {})


def _over_sets(tests: Mapping[str, RetrievalSplit], each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if len(each) == 1:
        return each[0]
    together = {key: mean_of([row[key] for row in each]) for key in ("mAP", "mINP", "rank1", "cmc")}
    return {
        **together,
        "camera_to_camera": mean_of([row["camera_to_camera"] for row in each]),
        "num_valid_queries": sum(row["num_valid_queries"] for row in each),
        "people": [people for row in each for people in row["people"]],
        "per_camera": {
            title: {"mAP": row["mAP"], "rank1": row["rank1"]} for title, row in zip(tests, each, strict=True)
        },
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
        "people": [people_to_json(scores.per_person)] if scores.per_person else [],
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
