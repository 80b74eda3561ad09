"""What every camera's teacher says of its crops: computed once, kept in the run folder, read again after a restart."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid_mtda.config import AdaptConfig
from reid_mtda.data.batches import Pictures, load_pictures, pictures_of
from reid_mtda.data.part_mix import mix_parts
from reid_mtda.errors import ModelError, TrainingError
from reid_mtda.model import Model, load_model
from reid_mtda.model_folder import read_manifest
from reid_mtda.models.checkpoint import load_embedder, load_tensors, save_tensors
from reid_mtda.models.device import placed
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.train import find_objectives
from reid_mtda.train.common import embed_pictures, frozen
from reid_mtda.train.crop_halves import cut_halves
from reid_mtda.train.objectives.objective import needs_of
from reid_mtda.train.teacher_outputs import TENSORS, TeacherOutputs, compute_teacher_outputs
from reid_mtda.types import LabelledSet, Preprocess, UnlabelledSet

log = logging.getLogger(__name__)

OUTPUTS = "teacher_outputs"
"""Folder of a run in which they are kept."""
_KIND = "teacher outputs"


def ready_made(config: AdaptConfig, camera: str) -> Path | None:
    """The exported model's folder that stands in for the teacher of ``camera``, if there is one."""
    folder = config.ready_made.get(camera, config.ready_made.get("*"))
    return Path(folder) if folder else None


def collect_teacher_outputs(
    run: Run,
    targets: Mapping[str, UnlabelledSet],
    config: AdaptConfig,
    progress: Progress = silent,
    *,
    folder: str = "teachers",
) -> dict[str, TeacherOutputs]:
    """Let every camera's teacher, adapted or ready-made, see its crops once; one teacher is in memory at a time.

    Args:
        run: outputs are kept below its folder; what a stopped job computed is read, where it is of this teacher, of
            these crops and of these settings.
        targets: the cameras' crops, by name.
        config: which teachers are ready-made, sizes of crops, part-mixed crops.
        progress: told (teacher of which camera, crops done, crops in all).
        folder: where the run keeps the adapted teachers.

    Raises:
        ModelError: a teacher that is missing or damaged.
        TrainingError: maps that would take more than ``distil.outputs_mb``, or that a ready-made teacher does not give.
    """
    wants = _wants(config)
    if "maps" in wants:
        _check_budget(run, targets, config, folder)
    found = {}
    for camera, target in targets.items():
        key = _key(run, camera, target, config, folder)
        path = run.folder / OUTPUTS / folder / f"{camera}-{key[:12]}.safetensors"  # variants may want others
        kept = _read(path, key)
        if kept is None:
            kept = _compute(run, camera, target, config, progress, folder)
            if "everyone" in wants:
                kept = replace(kept, everyone=_ask_everyone(run, targets, kept, target, config, folder))
            _write(path, kept, key)
        found[camera] = kept
    return found


def _wants(config: AdaptConfig) -> frozenset[str]:
    """What objectives read of teachers beside embeddings and logits."""
    if config.distillation != "distil":
        return frozenset()
    return frozenset(needs_of(find_objectives(config.distil.objectives))) & {"feature", "maps", "halves", "everyone"}


def _check_budget(run: Run, targets: Mapping[str, UnlabelledSet], config: AdaptConfig, folder: str) -> None:
    """Refuse maps that are larger than what was allowed before a crop passes a teacher.

    Raises:
        TrainingError: with both sizes.
    """
    total = 0
    for camera, target in targets.items():
        if ready_made(config, camera):
            continue
        teacher = load_embedder(run.folder / folder / f"{camera}.safetensors", run=run)
        one = embed_pictures(teacher, load_pictures(target.paths[:1], config.teacher_preprocess()), wants_maps=True)
        if one.maps is not None:
            total += one.maps[0].numel() * one.maps.element_size() * (len(target) + config.distil.part_mixed)
    if total > config.distil.outputs_mb * 1e6:
        raise TrainingError(
            f"{run.folder}: teachers' maps of {len(targets)} cameras take {total / 1e6:.0f} MB, expected at most "
            f"{config.distil.outputs_mb}: raise distil.outputs_mb, take fewer crops, or objectives without maps"
        )


def _ask_everyone(
    run: Run,
    targets: Mapping[str, UnlabelledSet],
    own: TeacherOutputs,
    target: UnlabelledSet,
    config: AdaptConfig,
    folder: str,
) -> torch.Tensor:
    """Logits (N, n, C) of every camera's adapted teacher for the crops of one.

    Raises:
        TrainingError: a ready-made teacher, which has no logits.
    """
    seen = config.teacher_preprocess()
    pictures = load_pictures(target.paths, seen).resized
    everything = Pictures(np.concatenate([pictures, own.part_mixed]) if len(own.part_mixed) else pictures, seen)
    return torch.stack([_logits_of(run, camera, everything, config, folder) for camera in targets], dim=1)


def _compute(
    run: Run, camera: str, target: UnlabelledSet, config: AdaptConfig, progress: Progress, folder: str
) -> TeacherOutputs:
    exported, seed = ready_made(config, camera), run.child_seed(f"part-mixed {camera}")
    preprocess, count = config.input.preprocess(), config.distil.part_mixed

    def show(part: str, done: int, total: int) -> None:
        progress(f"teacher {camera} looks", done, total)

    if not exported:
        teacher = placed(load_embedder(run.folder / folder / f"{camera}.safetensors", run=run), run.compute)
        seen = config.teacher_preprocess()
        wants = _wants(config)
        return compute_teacher_outputs(teacher, target, seen, part_mixed=count, seed=seed, progress=show, wants=wants)
    model = load_model(exported)
    outputs = TeacherOutputs(torch.from_numpy(model.embed(target.paths, progress=show)), None, model.model_id)
    if "halves" in _wants(config):
        outputs = replace(outputs, halves=_halves(model, target, preprocess, count, seed))
    if not count:  # the crops need not be read at the student's size here
        return outputs
    extra = mix_parts(load_pictures(target.paths, preprocess).resized, count, seed)
    rows = torch.from_numpy(model.embed(list(extra), progress=show))
    return replace(outputs, embedding=torch.cat([outputs.embedding, rows]), part_mixed=extra)


def teachers_of_source(
    run: Run, targets: Mapping[str, UnlabelledSet], source: LabelledSet | None, config: AdaptConfig, folder: str
) -> torch.Tensor:
    """Mean logits (N, C) of all cameras' adapted teachers for the crops of the labelled source.

    Args:
        run: gives folder, seed and device.
        targets: unlabelled crops by camera.
        source: labelled crops; None: there are none.
        config: settings of the whole run.
        folder: where the adapted teachers stand in the run.

    Raises:
        TrainingError: no source, or a ready-made teacher, which has no logits.
    """
    if source is None:
        raise TrainingError(f"{run.folder}: an objective reads the labelled source, and there is none; take it out")
    pictures = pictures_of(source, config.teacher_preprocess())
    return torch.stack([_logits_of(run, camera, pictures, config, folder) for camera in targets]).mean(0)


def _logits_of(run: Run, camera: str, pictures: Pictures, config: AdaptConfig, folder: str) -> torch.Tensor:
    if not ready_made(config, camera):
        teacher = placed(load_embedder(run.folder / folder / f"{camera}.safetensors", run=run), run.compute)
        logits = embed_pictures(frozen(teacher), pictures).logits
        if logits is not None:
            return logits
    raise TrainingError(f"{run.folder}: the teacher of {camera} has no logits; take the objective out")


def _halves(model: Model, target: UnlabelledSet, preprocess: Preprocess, count: int, seed: int) -> torch.Tensor:
    """What a ready-made teacher says of the halves of crops and of part-mixed ones, (N + M, 2, D)."""
    pictures = load_pictures(target.paths, preprocess).resized
    everything = np.concatenate([pictures, mix_parts(pictures, count, seed)]) if count else pictures
    said = [torch.from_numpy(model.embed(list(half))) for half in cut_halves(everything)]
    return torch.stack(said, dim=1)


def _key(run: Run, camera: str, target: UnlabelledSet, config: AdaptConfig, folder: str) -> str:
    """A hash of all that decides a teacher's outputs: its weights, the crops' bytes, sizes, precision, part-mixing."""
    exported = ready_made(config, camera)
    digest = hashlib.sha256()
    if exported:
        digest.update(read_manifest(exported).model_id.encode())
    else:
        digest.update((run.folder / folder / f"{camera}.safetensors").read_bytes())
    for path in target.paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    sizes = [asdict(config.input.preprocess()), asdict(config.teacher_preprocess())]
    mixing = [config.distil.part_mixed, run.child_seed(f"part-mixed {camera}"), run.compute.precision]
    mixing += sorted(_wants(config))
    digest.update(json.dumps([sizes, mixing], sort_keys=True).encode())
    return digest.hexdigest()


def _write(path: Path, outputs: TeacherOutputs, key: str) -> None:
    tensors = {**outputs.tensors(), "part_mixed": torch.from_numpy(outputs.part_mixed)}
    save_tensors(path, tensors, kind=_KIND, card={"key": key, "teacher_id": outputs.teacher_id})


def _read(path: Path, key: str) -> TeacherOutputs | None:
    """What is kept at ``path``, where it is whole and of ``key``."""
    if not path.exists():
        return None
    try:
        tensors, card = load_tensors(path, kind=_KIND)
    except ModelError as error:
        log.warning("%s; its teacher looks again", error)
        return None
    if card.get("key") != key:
        return None
    mixed = np.ascontiguousarray(tensors["part_mixed"].numpy())
    said: dict[str, Any] = {name: tensors.get(name) for name in TENSORS}
    return TeacherOutputs(teacher_id=card["teacher_id"], part_mixed=mixed, **said)
