"""How right pseudo-identities across cameras are when all, half or a fifth of the people pass more than one camera.

Scores alone: labels of a finished run's targets say who is who, and nothing of it returns to training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid_mtda.bench.results import load_json, markdown_table
from reid_mtda.config import AdaptConfig
from reid_mtda.errors import ConfigError
from reid_mtda.runs import Run
from reid_mtda.schema import parse
from reid_mtda.train.camera_proxies import CameraProxySettings, Sites, site_embeddings, site_people
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs
from reid_mtda.types import IntArray, UnlabelledSet
from reid_mtda.workflow.targets import load_benchmark, with_tracklets
from reid_mtda.workflow.teacher_cache import collect_teacher_outputs

Rows = npt.NDArray[np.intp]

OVERLAPS = (1.0, 0.5, 0.2)
"""Shares of the people whose crops of all cameras stay; of the others one camera's do."""


NEGATIVE_QUANTILE = 0.995
"""The threshold that is measured beside none."""

Seek = Callable[[TargetPool, Sites], IntArray]
"""Crops and their sites -> pseudo-identities (N,), negative: nobody."""


def score_overlaps(
    folder: Path, overlaps: Sequence[float] = OVERLAPS, *, differing: Mapping[str, Mapping[str, object]] | None = None
) -> str:
    """Markdown of the pseudo-identities that a run's teachers give, by the loop over camera-aware proxies.

    Args:
        folder: a run of `bench.experiment` whose targets are single cameras, its teachers trained.
        overlaps: shares in (0, 1].
        differing: further ways to seek them: the row's name, and the settings of ``camera_proxies`` that differ.

    Raises:
        DataError: a run that is not there.
        ConfigError: an overlap out of range, targets that are whole sets, or an unknown setting.
    """
    if not all(0 < overlap <= 1 for overlap in overlaps):
        raise ConfigError(f"overlap: got {', '.join(map(str, overlaps))}, expected shares above 0 and up to 1")
    remedy = "run the benchmark again"
    card = load_json(Path(folder) / "run.json", lambda card: isinstance(card, dict) and "config" in card, remedy=remedy)
    settings = {key: value for key, value in card["config"].items() if key in AdaptConfig.model_fields}
    config = parse(AdaptConfig, settings, where=f"{folder}/run.json")
    if any(target.by == "set" for target in config.targets):
        raise ConfigError(f"{folder}: its targets are whole sets, expected cameras; run it with --targets-by camera")
    run = Run(Path(folder), config.seed)
    benchmark = load_benchmark(config.targets, run)
    named = {name: own.tracklets for name, own in with_tracklets(benchmark, config.targets, "identity").items()}
    pids = {name: known for name, known in named.items() if known is not None}
    outputs = collect_teacher_outputs(run, benchmark.unlabelled, config)
    ways: dict[str, Seek] = {"clusters, as trained": clusters(config.camera_proxies)}
    for name, values in (differing or {}).items():
        own = {**config.camera_proxies.model_dump(), **values}
        ways[f"clusters, {name}"] = clusters(parse(CameraProxySettings, own, where=f"differing.{name}"))
    ways["mutual neighbours, as distil joins tracklets"] = mutual_neighbours(0.0)
    ways[f"the same, negative_quantile {NEGATIVE_QUANTILE}"] = mutual_neighbours(NEGATIVE_QUANTILE)
    lines = []
    for overlap in overlaps:
        kept = thin_out(pids, overlap, seed=config.seed)
        sets, said = taken(benchmark.unlabelled, outputs, kept)
        own_pids = np.concatenate([pids[name][rows] for name, rows in kept.items()])
        pool = TargetPool.of(sets, said)
        sites = np.repeat([target.site for target in sets.values()], [len(target) for target in sets.values()])
        for name, seek in ways.items():
            found = score_pairs(seek(pool, sites), own_pids, pool.camera)
            people = str(len(np.unique(own_pids)))
            shares = [f"{100 * value:.1f}" for value in found]
            lines.append([name, f"{100 * overlap:.0f} %", str(len(own_pids)), people, *shares])
    heads = ["pseudo-identities", "people of several cameras", "crops", "people", "precision", "recall"]
    return "\n".join(markdown_table(heads, lines))


def thin_out(pids: Mapping[str, IntArray], overlap: float, *, seed: int) -> dict[str, Rows]:
    """Which crops of each camera stay when a share ``overlap`` of the people pass all cameras that they passed.

    Of every other person one camera's crops stay, drawn by ``seed``. ``pids`` are true identities int64 (N_i,) by
    camera; the same person is of the same number in all.

    Args:
        pids: true identities (N_i,) by camera; a person is of one number in all.
        overlap: share of the people, 0..1.
        seed: of what is drawn.
    """
    draw = np.random.default_rng(seed)
    everyone = np.unique(np.concatenate(list(pids.values())))
    order = draw.permutation(len(everyone))
    single = {int(pid) for pid in everyone[order[round(overlap * len(everyone)) :]]}
    stays: dict[int, str] = {}
    for pid in sorted(single):
        cameras = [camera for camera, own in pids.items() if (own == pid).any()]
        stays[pid] = cameras[int(draw.integers(len(cameras)))]
    return {
        camera: np.flatnonzero([stays.get(int(pid), camera) == camera for pid in own]) for camera, own in pids.items()
    }


def taken(
    targets: Mapping[str, UnlabelledSet], outputs: Mapping[str, TeacherOutputs], rows: Mapping[str, Rows]
) -> tuple[dict[str, UnlabelledSet], dict[str, TeacherOutputs]]:
    """The crops numbered ``rows`` of each camera, and what its teacher says of them; cameras without any fall away.

    Args:
        targets: unlabelled crops by camera.
        outputs: what each camera's teacher says of its crops.
        rows: numbers of each camera's crops.
    """
    sets, said = {}, {}
    for camera, mine in rows.items():
        if not len(mine):
            continue
        target = targets[camera]
        sets[camera] = replace(
            target,
            paths=tuple(target.paths[row] for row in mine),
            tracklets=None if target.tracklets is None else target.tracklets[mine],
            cameras=None if target.cameras is None else target.cameras[mine],
            spans=None if target.spans is None else target.spans[mine],
        )
        own, _ = outputs[camera].parted()
        said[camera] = TeacherOutputs(own.embedding[mine], None, own.teacher_id)
    return sets, said


def clusters(settings: CameraProxySettings) -> Seek:
    """Seek people as the loop over camera-aware proxies does."""
    return lambda pool, sites: site_people(site_embeddings(pool, sites), pool, sites, settings)


def mutual_neighbours(negative_quantile: float) -> Seek:
    """Seek people as ``train.distil`` does: tracklets that are each other's nearest, above a threshold or without."""
    return lambda pool, sites: pool.pseudo_identities(
        pool.embeddings(), cross_camera=True, negative_quantile=negative_quantile
    )


def score_pairs(found: IntArray, pids: IntArray, cameras: IntArray) -> tuple[float, float]:
    """Precision and recall of pairs of crops of two cameras: how many called one person are, how many are found.

    Where no pair is claimed the precision, and where none is true the recall, is nan.

    Args:
        found: pseudo-identities (N,), negative: nobody.
        pids: true identities (N,).
        cameras: (N,).
    """
    claimed, true = pairs_between(found, cameras), pairs_between(pids, cameras)
    right = pairs_between(np.where(found >= 0, pairing(found, pids), -1), cameras)
    return right / claimed if claimed else float("nan"), right / true if true else float("nan")


def pairing(first: IntArray, second: IntArray) -> IntArray:
    """A number (N,) for each pair of labels."""
    return np.asarray(np.unique(np.stack([first, second]), axis=1, return_inverse=True)[1], np.int64).reshape(-1)


def pairs_between(labels: IntArray, cameras: IntArray) -> int:
    """How many pairs of crops have one label and two cameras; a negative label is nobody's."""
    known = labels >= 0
    labels, cameras = labels[known], cameras[known]
    if not len(labels):
        return 0
    everywhere = np.bincount(labels)
    here = np.unique(np.stack([labels, cameras]), axis=1, return_counts=True)[1]
    return int((everywhere.astype(np.int64) ** 2).sum() - (here.astype(np.int64) ** 2).sum()) // 2
