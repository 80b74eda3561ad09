"""The rows of a closed-set table: each kind is one function from a trial to the networks that are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from reid_mtda.bench.closed.published import as_published
from reid_mtda.bench.closed.settings import Row, row_settings, teacher_settings
from reid_mtda.bench.closed.trial import Ensemble, Trial
from reid_mtda.data.batches import Pictures
from reid_mtda.data.closed_domain import blended, joined
from reid_mtda.models.classifier import Classifier, load_classifier, save_classifier
from reid_mtda.models.device import placed
from reid_mtda.models.merge import merge_networks, twin_network
from reid_mtda.runs import Run
from reid_mtda.train import find_objectives
from reid_mtda.train.alignment import align_classifier
from reid_mtda.train.common import EpochCallback
from reid_mtda.train.objectives.closed_sets import TeachersOfSets
from reid_mtda.train.objectives.objective import needs_of
from reid_mtda.train.offline_kd import classify_pictures, distil_offline, pass_pictures
from reid_mtda.train.progressive import distil_progressively


def _for_all(trial: Trial, model: Classifier) -> dict[str, Ensemble]:
    return {target: [model] for target in trial.targets}


def with_own_batchnorm(trial: Trial, models: dict[str, Ensemble]) -> dict[str, Ensemble]:
    """The same weights with the BatchNorm statistics of each target."""
    return {target: [trial.with_batchnorm_of(model, target) for model in models[target]] for target in trial.targets}


def _source_only(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    settings = row_settings(trial.config, row)
    model = align_classifier(trial.student(row), trial.source.source, None, trial.preprocess, settings, run)
    return _for_all(trial, model)


def _oracle(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """Supervised on source and all targets: the upper bound, which needs target labels."""
    settings = row_settings(trial.config, row)
    everything = joined([trial.source.source, *(domain.source for domain in trial.targets.values())])
    settings = settings.model_copy(update={"batch_size": settings.batch_size * (1 + len(trial.targets))})
    model = align_classifier(trial.student(row), everything, None, trial.preprocess, settings, run)
    return _for_all(trial, model)


def _blending(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """All targets as one, as many target pictures a step as the other rows see in all."""
    settings = row_settings(trial.config, row)
    settings = settings.model_copy(update={"target_batch_size": settings.batch_size * len(trial.targets)})
    union = blended([domain.target for domain in trial.targets.values()])

    def train(run: Run) -> Classifier:
        return trial.chosen(
            set(trial.targets),
            lambda watch: align_classifier(
                trial.student(row), trial.source.source, union, trial.preprocess, settings, run, trial.progress, watch
            ),
        )

    student = row.student or trial.config.student
    model, seconds, is_new = trial.kept("blending", f"{settings.model_dump_json()}{student.model_dump_json()}", train)
    trial.reused_seconds += seconds * (not is_new)
    return _for_all(trial, model)


def _per_target(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """One adapted small network a target."""
    net = row.student or trial.config.student
    return {t: [trial.teacher(t, row_settings(trial.config, row), net)] for t in trial.targets}


def _merged(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """The adapted students' weights and BatchNorm buffers averaged; they start from one initialisation."""
    return _for_all(trial, merge_networks([models[0] for models in _per_target(trial, row, run).values()]))


def _twin_merged(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """The merge, and of each target's own network the weights that differ most from it."""
    own = _per_target(trial, row, run)
    shared = merge_networks([models[0] for models in own.values()])
    return {target: [twin_network(shared, models[0], keep=row.keep)] for target, models in own.items()}


def _teachers(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    settings = teacher_settings(trial.config, row)
    return {
        target: [trial.teacher(target, settings, row.teacher_net or trial.config.teacher)] for target in trial.targets
    }


def _mean_of_teachers(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    everyone = [models[0] for models in _teachers(trial, row, run).values()]
    return dict.fromkeys(trial.targets, everyone)


def _progressive(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """KD-MTDA: one student, all targets."""
    return _for_all(trial, _progress_on(trial, row, list(trial.targets)))


def _progressive_single(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """KD-STDA: a student for each target."""
    return {target: [_progress_on(trial, row, [target])] for target in trial.targets}


def _progressive_teachers(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """KD-MTDA's teachers, each on its own target: what its student had to learn from."""
    _progress_on(trial, row, list(trial.targets))
    place = trial.kept_run(_progress_name(trial.targets), _progress_key(trial, row)).folder
    return {target: [load_classifier(place / f"teacher-{target}.safetensors")] for target in trial.targets}


def _progress_name(targets: Iterable[str]) -> str:
    return f"progressive/{'+'.join(targets)}"


def _progress_key(trial: Trial, row: Row) -> str:
    settings, student = row_settings(trial.config, row), row.student or trial.config.student
    teacher = row.teacher_net or trial.config.teacher
    key = f"{settings.model_dump_json()}{student.model_dump_json()}{teacher.model_dump_json()}"
    return key + "".join(sorted(row.quirks))


def _progress_on(trial: Trial, row: Row, targets: list[str]) -> Classifier:
    settings = row_settings(trial.config, row)

    @as_published(row.quirks)
    def train(run: Run) -> Classifier:
        taught: dict[str, Classifier] = {}

        def learn(watch: EpochCallback) -> Classifier:
            student, teachers = distil_progressively(
                trial.student(row),
                {
                    target: trial.build(row.teacher_net or trial.config.teacher, f"teacher {target}")
                    for target in targets
                },
                trial.source.source,
                {target: trial.targets[target].target for target in targets},
                trial.preprocess,
                settings,
                run,
                trial.progress,
                watch,
            )
            taught.update(teachers)
            return student

        student = trial.chosen(set(targets), learn)
        for target, teacher in taught.items():
            save_classifier(run.folder / f"teacher-{target}.safetensors", teacher)
        return student

    model, seconds, is_new = trial.kept(_progress_name(targets), _progress_key(trial, row), train)
    trial.reused_seconds += seconds * (not is_new)
    return model


def _staged(trial: Trial, row: Row, run: Run) -> dict[str, Ensemble]:
    """Our student: finished teachers, one at a time in memory, each picture passed once."""
    settings, staged = teacher_settings(trial.config, row), row_settings(trial.config, row)
    objectives = find_objectives(staged.objectives, f"rows.{row.kind}.settings.objectives")
    needs, net = needs_of(objectives), row.teacher_net or trial.config.teacher
    teacher_outputs, features, everyone, of_source = {}, {}, {}, []
    for name, domain in trial.targets.items():
        pictures = Pictures(domain.target.pictures, trial.preprocess)
        teacher = placed(trial.teacher(name, settings, net), run.compute)
        said = pass_pictures(teacher, pictures)
        teacher_outputs[name] = said.logits
        if "feature" in needs or any(asked.over == "all" for asked in objectives.values()):
            features[name] = said.feature
        if "source" in needs:
            of_source.append(classify_pictures(teacher, Pictures(trial.source.source.pictures, trial.preprocess)))
        if "everyone" in needs:
            others = [placed(trial.teacher(n, settings, net), run.compute) for n in trial.targets]
            everyone[name] = torch.stack([classify_pictures(other, pictures) for other in others], dim=1)
    own = staged.batchnorm == "per_domain"
    source_logits = torch.stack(of_source).mean(0) if of_source else None
    student = trial.chosen(
        set(trial.targets),
        lambda watch: distil_offline(
            trial.student(row),
            TeachersOfSets(teacher_outputs, features, everyone, source_logits),
            trial.source.source,
            {name: domain.target for name, domain in trial.targets.items()},
            trial.preprocess,
            staged,
            run,
            trial.progress,
            watch,
            objectives=objectives,
        ),
        own_statistics=own,
    )
    return with_own_batchnorm(trial, _for_all(trial, student)) if own else _for_all(trial, student)


KINDS: dict[str, Callable[[Trial, Row, Run], dict[str, Ensemble]]] = {
    "source_only": _source_only,
    "blending": _blending,
    "per_target": _per_target,
    "merged": _merged,
    "twin_merged": _twin_merged,
    "teachers": _teachers,
    "mean_of_teachers": _mean_of_teachers,
    "progressive": _progressive,
    "progressive_single": _progressive_single,
    "progressive_teachers": _progressive_teachers,
    "staged": _staged,
    "oracle": _oracle,
}
"""Kinds of rows by name: (trial, row, run) -> for each target the networks to score."""

WITHOUT_TARGETS = ("source_only", "oracle")
"""Kinds that always give their last weights: without an unlabelled target there is nothing to choose by."""
