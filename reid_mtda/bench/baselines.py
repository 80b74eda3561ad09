"""What the distilled student is compared with, trained in the same run on the same crops.

Only the oracle sees labels of the targets; its row carries that name wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from reid_mtda.config import AdaptConfig, Tracklets, Variant
from reid_mtda.data.datasets import load_dataset
from reid_mtda.errors import ConfigError
from reid_mtda.models.checkpoint import load_embedder, save_embedder
from reid_mtda.models.embedder import Embedder, build_embedder
from reid_mtda.models.merge import merge_networks
from reid_mtda.presets import config_of_variant
from reid_mtda.progress import Progress, named
from reid_mtda.runs import Run, stage
from reid_mtda.schema import Strict
from reid_mtda.synthetic.crops import draw_crops
from reid_mtda.train import find_method
from reid_mtda.train.source import train_source
from reid_mtda.types import IntArray, LabelledSet, UnlabelledSet
from reid_mtda.workflow.targets import concat_sets
from reid_mtda.workflow.training import STUDENT_SOURCE, TEACHER_SOURCE, adapt_teachers, distil_student


def train_baselines(
    run: Run,
    config: AdaptConfig,
    source: LabelledSet | None,
    targets: Mapping[str, UnlabelledSet],
    labelled: LabelledSet | None,
    progress: Progress,
    retracked: Callable[[Tracklets], Mapping[str, UnlabelledSet]] | None = None,
) -> None:
    """Train every baseline and variant that ``config`` names and the run does not hold yet; each is a stage.

    ``labelled`` are the targets with their labels; the oracle alone gets them. ``retracked`` gives the targets with
    other tracklets, for the variants that ask for it.

    Args:
        run: gives folder, seed and device.
        config: settings of the whole run.
        source: labelled crops; None: there are none.
        targets: unlabelled crops by camera.
        labelled: with labels, for the oracle alone; None: there are none.
        progress: called as the work goes on.
        retracked: gives the targets with other tracklets; None: nobody asks for them.
    """
    student_source = load_embedder(run.folder / STUDENT_SOURCE, run=run)
    if "blending" in config.baselines:
        with stage(run, "blending"):
            train_blending(run, student_source, source, targets, config, progress)
    if "per_camera" in config.baselines or "merged" in config.baselines:
        with stage(run, "one small model per camera"):
            train_per_camera(run, student_source, source, targets, config, progress)
    if "merged" in config.baselines:
        with stage(run, "merge of small models"):
            merge_per_camera(run, targets, config)
    if "oracle" in config.baselines:
        with stage(run, "oracle (target labels)"):
            train_oracle(run, student_source, source, labelled, config, progress)
    for name, variant in config.variants.items():
        seen = targets
        if variant.tracklets:
            if retracked is None:
                raise ConfigError(
                    f"variants.{name}.tracklets: filmed footage has its own; expected a data set as target"
                )
            seen = retracked(variant.tracklets)
        with stage(run, f"distilled student, {name}"):
            train_variant(run, name, variant, student_source, source, seen, config, progress)


def train_variant(
    run: Run,
    name: str,
    variant: Variant,
    student_source: Embedder,
    source: LabelledSet | None,
    targets: Mapping[str, UnlabelledSet],
    config: AdaptConfig,
    progress: Progress,
) -> None:
    """Distil the student once more with what ``variant`` changes, from teachers of its own where it wants others.

    Args:
        run: gives folder, seed and device.
        name: how it is called.
        variant: what it changes.
        student_source: the student's network as the source left it.
        source: labelled crops; None: there are none.
        targets: unlabelled crops by camera.
        config: settings of the whole run.
        progress: called as the work goes on.
    """
    path, teachers = f"variants/{name}.safetensors", "teachers"
    if (run.folder / path).exists():
        return
    config = config_of_variant(config, variant, where=f"variants.{name}")
    if variant.ready_made:
        config = config.model_copy(update={"ready_made": {"*": variant.ready_made}})
    elif variant.adapt:
        config = config.model_copy(update={"ready_made": {}, "adapt": variant.adapt})
        teachers = f"variants/{name}"
        teacher_source = load_embedder(run.folder / TEACHER_SOURCE, run=run)
        adapt_teachers(run, teacher_source, source, dict(targets), config, progress, folder=teachers)
    distil_student(run, student_source, source, targets, config, progress, name=path, teachers=teachers)


def train_blending(
    run: Run,
    student_source: Embedder,
    source: LabelledSet | None,
    targets: Mapping[str, UnlabelledSet],
    config: AdaptConfig,
    progress: Progress,
) -> None:
    """Blending: the student adapts to all cameras as if they were one, without teachers.

    It gets the steps, crops per step, learning rate and average of weights that distillation gets. Triplets among
    tracklets are left out: of two tracklets from different cameras nobody knows whether they are negatives, and with
    them the scores were lower (street, seed 0: 16.8 mAP with, 18.5 without).

    Args:
        run: gives folder, seed and device.
        student_source: the student's network as the source left it.
        source: labelled crops; None: there are none.
        targets: unlabelled crops by camera.
        config: settings of the whole run.
        progress: called as the work goes on.
    """
    path = run.folder / "models/blending.safetensors"
    if path.exists():
        return
    model = find_method(config.adapt.method)[1](
        student_source,
        source,
        blend(targets),
        config.input.preprocess(),
        _blending_settings(config),
        run.child("blending"),
        named(progress, "blending"),
    )
    save_embedder(path, model, run=run, input=(config.input.height, config.input.width))


def _blending_settings(config: AdaptConfig) -> Strict:
    own, student = config.adapt.parsed(), config.student_training()
    epochs = getattr(own, "epochs", 1) or 4  # teachers of statistics alone have none: blending learns all the same
    wanted = {
        "steps": student.steps,
        "epochs": epochs,
        "steps_per_epoch": max(1, student.steps // epochs),
        "learning_rate": student.learning_rate,
        "ema": student.ema,
        "identities_per_batch": student.target_identities,
        "pictures_per_identity": student.target_pictures,
        "tracklet_weight": 0.0,
    }
    return own.model_copy(update={key: value for key, value in wanted.items() if key in type(own).model_fields})


def blend(targets: Mapping[str, UnlabelledSet]) -> UnlabelledSet:
    """All cameras as one target that knows which camera a crop is of; tracklets stay apart."""
    paths: list[Path] = []
    tracklets: list[IntArray] = []
    offset = 0
    for target in targets.values():
        own = target.tracklets if target.tracklets is not None else np.full(len(target), -1)
        paths.extend(target.paths)
        tracklets.append(np.where(own >= 0, own + offset, -1))
        offset += int(own.max(initial=0)) + 1
    joined = np.concatenate(tracklets).astype(np.int64)
    cameras = np.repeat(np.arange(len(targets)), [len(target) for target in targets.values()]).astype(np.int64)
    return UnlabelledSet(tuple(paths), "+".join(targets), joined if (joined >= 0).any() else None, cameras)


def train_per_camera(
    run: Run,
    student_source: Embedder,
    source: LabelledSet | None,
    targets: Mapping[str, UnlabelledSet],
    config: AdaptConfig,
    progress: Progress,
) -> None:
    """One small adapted model per camera: the student's network with the teachers' method.

    Args:
        run: gives folder, seed and device.
        student_source: the student's network as the source left it.
        source: labelled crops; None: there are none.
        targets: unlabelled crops by camera.
        config: settings of the whole run.
        progress: called as the work goes on.
    """
    own = config.model_copy(update={"ready_made": {}, "teacher_input": None})
    adapt_teachers(
        run,
        student_source,
        source,
        dict(targets),
        own,
        lambda part, done, total: progress(part.replace("teacher", "small"), done, total),
        folder="per_camera",
    )


def merge_per_camera(run: Run, targets: Mapping[str, UnlabelledSet], config: AdaptConfig) -> None:
    """The small adapted models' weights and BatchNorm buffers averaged; they start from one set of weights.

    Args:
        run: gives folder, seed and device.
        targets: unlabelled crops by camera.
        config: settings of the whole run.
    """
    path = run.folder / "models/merged.safetensors"
    if not path.exists():
        models = [load_embedder(run.folder / f"per_camera/{camera}.safetensors", run=run) for camera in targets]
        save_embedder(path, merge_networks(models), run=run, input=(config.input.height, config.input.width))


def oracle_labels(run: Run, config: AdaptConfig, seed: int) -> LabelledSet:
    """The street's training people with their identities, cut at the true boxes of the footage others harvest.

    Args:
        run: gives folder, seed and device.
        config: settings of the whole run.
        seed: of what is drawn.
    """
    if config.test is None or config.test.name != "street":
        raise ConfigError("baselines: the oracle needs labelled training pictures of the targets; take it out")
    folder = run.folder / "oracle_labels"
    if not (folder / "bounding_box_train").is_dir():
        draw_crops(folder, seed=seed, part="train", per_camera=config.harvest.max_crops)
    return load_dataset("market1501", folder, where="oracle", half="train")[0]


def train_oracle(
    run: Run,
    student_source: Embedder,
    source: LabelledSet | None,
    labelled: LabelledSet | None,
    config: AdaptConfig,
    progress: Progress,
) -> None:
    """The upper bound: the student's network trained with the true identities of source and targets.

    It trains for the steps that source training and distillation take together, on batches as large as those of
    distillation, and its weights are averaged like the student's; where the student starts from given weights, it
    starts from them too and for distillation's steps.

    Args:
        run: gives folder, seed and device.
        student_source: the student's network as the source left it.
        source: labelled crops; None: there are none.
        labelled: with labels, for the oracle alone; None: there are none.
        config: settings of the whole run.
        progress: called as the work goes on.
    """
    path = run.folder / "models/oracle.safetensors"
    if path.exists():
        return
    if labelled is None:
        raise ConfigError("baselines: the oracle needs labelled training pictures of the targets; take it out")
    everything = labelled if source is None else concat_sets([source, labelled])
    step = run.child("oracle")
    model = build_embedder(config.student.spec(everything.num_classes), seed=step.child_seed("weights"))
    student = config.student_training()
    steps = student.steps
    if config.student.weights:
        state = {k: v for k, v in student_source.state_dict().items() if not k.startswith("classifier.")}
        model.load_state_dict(state, strict=False)
    else:
        steps += config.student_source.steps
    settings = config.student_source.model_copy(
        update={
            "steps": steps,
            "learning_rate": student.learning_rate,
            "ema": student.ema,
            "identities_per_batch": student.target_identities + getattr(student, "source_identities", 0) // 2,
            "pictures_per_identity": student.target_pictures,
        }
    )
    model = train_source(
        model,
        everything,
        config.input.preprocess(),
        settings,
        step,
        named(progress, "oracle"),
    )
    save_embedder(path, model, run=run, input=(config.input.height, config.input.width))
