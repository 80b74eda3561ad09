"""What every camera's teacher says of its crops: computed once, kept in the run folder, read again after a restart."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from reid_mtda.config import AdaptConfig
from reid_mtda.data.batches import load_pictures
from reid_mtda.data.part_mix import mix_parts
from reid_mtda.errors import ModelError
from reid_mtda.model import load_model
from reid_mtda.model_folder import read_manifest
from reid_mtda.models.checkpoint import load_embedder, load_tensors, save_tensors
from reid_mtda.models.device import placed
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.train.teacher_outputs import TeacherOutputs, compute_teacher_outputs
from reid_mtda.types import UnlabelledSet

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
    """
    found = {}
    for camera, target in targets.items():
        key = _key(run, camera, target, config, folder)
        path = run.folder / OUTPUTS / folder / f"{camera}-{key[:12]}.safetensors"  # variants may want others
        kept = _read(path, key)
        if kept is None:
            kept = _compute(run, camera, target, config, progress, folder)
            _write(path, kept, key)
        found[camera] = kept
    return found


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
        return compute_teacher_outputs(teacher, target, seen, part_mixed=count, seed=seed, progress=show)
    model = load_model(exported)
    outputs = TeacherOutputs(torch.from_numpy(model.embed(target.paths, progress=show)), None, model.model_id)
    if not count:  # the crops need not be read at the student's size here
        return outputs
    extra = mix_parts(load_pictures(target.paths, preprocess).resized, count, seed)
    rows = torch.from_numpy(model.embed(list(extra), progress=show))
    return replace(outputs, embedding=torch.cat([outputs.embedding, rows]), part_mixed=extra)


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
    digest.update(json.dumps([sizes, mixing], sort_keys=True).encode())
    return digest.hexdigest()


def _write(path: Path, outputs: TeacherOutputs, key: str) -> None:
    tensors = {"embedding": outputs.embedding, "part_mixed": torch.from_numpy(outputs.part_mixed)}
    if outputs.logits is not None:
        tensors["logits"] = outputs.logits
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
    return TeacherOutputs(tensors["embedding"], tensors.get("logits"), card["teacher_id"], mixed)
