"""The steps of an adaptation that learn: networks on the source, a teacher for each camera, one student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reid_mtda.config import AdaptConfig, Network
from reid_mtda.errors import DataError, ReidError
from reid_mtda.models.checkpoint import load_embedder, save_embedder
from reid_mtda.models.embedder import Embedder, build_embedder
from reid_mtda.models.foreign_weights import load_zoo_weights
from reid_mtda.progress import Progress, named, silent
from reid_mtda.runs import Run
from reid_mtda.train import find_method, find_objectives
from reid_mtda.train.camera_proxies import distil_camera_proxies
from reid_mtda.train.distil import distil
from reid_mtda.train.kd_reid import distil_kd_reid
from reid_mtda.train.objectives.objective import needs_of
from reid_mtda.train.source import SourceSettings, train_source
from reid_mtda.types import LabelledSet, UnlabelledSet
from reid_mtda.workflow.teacher_cache import collect_teacher_outputs, ready_made, teachers_of_source

TEACHER_SOURCE = "models/teacher_source.safetensors"


STUDENT_SOURCE = "models/student_source.safetensors"


STUDENT = "models/student.safetensors"


def pretrain(
    run: Run,
    name: str,
    network: Network,
    settings: SourceSettings,
    source: LabelledSet | None,
    config: AdaptConfig,
    progress: Progress = silent,
) -> Embedder:
    """Train ``network`` on the labelled source, or load it when ``run`` holds it already.

    Without a source its weights are what the source left: there is nothing to train.

    Args:
        run: gives folder, seed and device.
        name: how it is called.
        network: what it is built of.
        settings: weights and steps.
        source: labelled crops; None: there are none.
        config: settings of the whole run.
        progress: called as the work goes on.
    """
    path = run.folder / name
    if path.exists():
        return load_embedder(path, run=run)
    size = (config.teacher_input if name == TEACHER_SOURCE else None) or config.input
    step = run.child(path.stem)
    model = build_embedder(
        network.spec(source.num_classes if source is not None else None), seed=step.child_seed("weights")
    )
    if network.weights:
        load_zoo_weights(model, Path(network.weights))
    if source is not None:
        model = train_source(model, source, size.preprocess(), settings, step, named(progress, path.stem))
    save_embedder(path, model, run=run, input=(size.height, size.width))
    return model


def adapt_teachers(
    run: Run,
    teacher_source: Embedder,
    source: LabelledSet | None,
    targets: dict[str, UnlabelledSet],
    config: AdaptConfig,
    progress: Progress = silent,
    *,
    folder: str = "teachers",
) -> dict[str, str]:
    """Adapt and store the teacher of every camera that has no ready-made one; nothing of them stays in memory.

    Returns the message of each camera that failed; it is taken out of ``targets``.

    Args:
        run: gives folder, seed and device.
        teacher_source: the teachers' network as the source left it.
        source: labelled crops; None: there are none.
        targets: unlabelled crops by camera.
        config: settings of the whole run.
        progress: called as the work goes on.
        folder: where the adapted teachers stand in the run.

    Raises:
        DataError: no camera is left.
    """
    failures = {}
    for camera, target in list(targets.items()):
        path = run.folder / folder / f"{camera}.safetensors"
        if path.exists() or ready_made(config, camera):
            continue
        try:
            model = find_method(config.adapt.method)[1](
                teacher_source,
                source,
                target,
                config.teacher_preprocess(),
                config.adapt.parsed(),
                run.child(f"{folder}_{camera}", drawn_as=f"teachers_{camera}"),
                named(progress, f"teacher {camera}"),
            )
        except ReidError as error:
            failures[camera] = str(error)
            del targets[camera]
        else:
            size = config.teacher_input or config.input
            save_embedder(path, model, run=run, input=(size.height, size.width))
    if not targets:
        raise DataError(f"{run.folder}: no camera could be adapted: {'; '.join(failures.values())}")
    return failures


def distil_student(
    run: Run,
    student_source: Embedder,
    source: LabelledSet | None,
    targets: Mapping[str, UnlabelledSet],
    config: AdaptConfig,
    progress: Progress = silent,
    *,
    name: str = STUDENT,
    teachers: str = "teachers",
) -> Embedder:
    """Distil the teachers stored under ``teachers`` into the student that starts from ``student_source``.

    Args:
        run: gives folder, seed and device.
        student_source: the student's network as the source left it.
        source: labelled crops; None: there are none.
        targets: unlabelled crops by camera.
        config: settings of the whole run.
        progress: called as the work goes on.
        name: how it is called.
        teachers: where the teachers stand in the run.
    """
    path = run.folder / name
    if path.exists():
        return load_embedder(path, run=run)
    outputs = collect_teacher_outputs(run, targets, config, progress, folder=teachers)
    step, told = run.child(f"{path.stem}_training", drawn_as="student_training"), named(progress, path.stem)
    seen = config.input.preprocess()
    if config.distillation == "camera_proxies":
        student = distil_camera_proxies(student_source, outputs, targets, seen, config.camera_proxies, step, told)
    elif config.distillation == "kd_reid":
        student = distil_kd_reid(student_source, outputs, targets, seen, config.kd_reid, step, told)
    else:
        own = find_objectives(config.distil.objectives)
        said = teachers_of_source(run, targets, source, config, teachers) if "source" in needs_of(own) else None
        student = distil(
            student_source,
            outputs,
            targets,
            source,
            seen,
            config.distil,
            step,
            told,
            objectives=own,
            source_logits=said,
        )
    save_embedder(path, student, run=run, input=(config.input.height, config.input.width))
    return student
