"""The rows of a closed-set table: each kind is one function from a cell to the networks that are scored."""

from __future__ import annotations

from collections.abc import Callable

from reid_mtda.benchmark.cell import Cell, Ensemble
from reid_mtda.benchmark.settings import Row, row_settings, teacher_settings
from reid_mtda.data.batches import Pictures
from reid_mtda.data.classification import blended, joined
from reid_mtda.models.classifier import Classifier, merged
from reid_mtda.runs import Run
from reid_mtda.train.alignment import align_classifier
from reid_mtda.train.progressive import distil_progressively
from reid_mtda.train.staged import classify_pictures, distil_staged


def _for_all(cell: Cell, model: Classifier) -> dict[str, Ensemble]:
    return {target: [model] for target in cell.targets}


def with_own_batchnorm(cell: Cell, models: dict[str, Ensemble]) -> dict[str, Ensemble]:
    """The same weights with the BatchNorm statistics of each target."""
    return {target: [cell.with_batchnorm_of(model, target) for model in models[target]] for target in cell.targets}


def _source_only(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    settings = row_settings(cell.config, row)
    model = align_classifier(cell.student(row), cell.source.source, None, cell.preprocess, settings, run)
    return _for_all(cell, model)


def _oracle(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    """Supervised on source and all targets: the upper bound, which needs target labels."""
    settings = row_settings(cell.config, row)
    everything = joined([cell.source.source, *(domain.source for domain in cell.targets.values())])
    settings = settings.model_copy(update={"batch_size": settings.batch_size * (1 + len(cell.targets))})
    model = align_classifier(cell.student(row), everything, None, cell.preprocess, settings, run)
    return _for_all(cell, model)


def _blending(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    """All targets as one, as many target pictures a step as the other rows see in all."""
    settings = row_settings(cell.config, row)
    settings = settings.model_copy(update={"target_batch_size": settings.batch_size * len(cell.targets)})
    union = blended([domain.target for domain in cell.targets.values()])

    def train(run: Run) -> Classifier:
        return cell.chosen(
            set(cell.targets),
            lambda watch: align_classifier(
                cell.student(row), cell.source.source, union, cell.preprocess, settings, run, cell.progress, watch
            ),
        )

    student = row.student or cell.config.student
    model, seconds, is_new = cell.kept("blending", f"{settings.model_dump_json()}{student.model_dump_json()}", train)
    cell.reused_seconds += seconds * (not is_new)
    return _for_all(cell, model)


def _per_target(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    """One adapted small network a target."""
    net = row.student or cell.config.student
    return {t: [cell.teacher(t, row_settings(cell.config, row), net)] for t in cell.targets}


def _merged(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    """The adapted students' weights and BatchNorm buffers averaged; they start from one initialisation."""
    return _for_all(cell, merged([models[0] for models in _per_target(cell, row, run).values()]))


def _teachers(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    settings = teacher_settings(cell.config, row)
    return {target: [cell.teacher(target, settings, cell.config.teacher)] for target in cell.targets}


def _mean_of_teachers(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    everyone = [models[0] for models in _teachers(cell, row, run).values()]
    return dict.fromkeys(cell.targets, everyone)


def _progressive(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    """KD-MTDA: one student, all targets."""
    return _for_all(cell, _progress_on(cell, row, list(cell.targets)))


def _progressive_single(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    """KD-STDA: a student for each target."""
    return {target: [_progress_on(cell, row, [target])] for target in cell.targets}


def _progress_on(cell: Cell, row: Row, targets: list[str]) -> Classifier:
    settings, student = row_settings(cell.config, row), row.student or cell.config.student
    key = f"{settings.model_dump_json()}{student.model_dump_json()}{cell.config.teacher.model_dump_json()}"

    def train(run: Run) -> Classifier:
        return cell.chosen(
            set(targets),
            lambda watch: distil_progressively(
                cell.student(row),
                {target: cell.build(cell.config.teacher, f"teacher {target}") for target in targets},
                cell.source.source,
                {target: cell.targets[target].target for target in targets},
                cell.preprocess,
                settings,
                run,
                cell.progress,
                watch,
            )[0],
        )

    model, seconds, is_new = cell.kept(f"progressive/{'+'.join(targets)}", key, train)
    cell.reused_seconds += seconds * (not is_new)
    return model


def _staged(cell: Cell, row: Row, run: Run) -> dict[str, Ensemble]:
    """Our student: finished teachers, one at a time in memory, each picture passed once."""
    settings = teacher_settings(cell.config, row)
    lessons = {}
    for name, domain in cell.targets.items():
        teacher = cell.teacher(name, settings, cell.config.teacher)
        lessons[name] = classify_pictures(teacher, Pictures(domain.target.pictures, cell.preprocess))
    own = row_settings(cell.config, row).batchnorm == "per_domain"
    student = cell.chosen(
        set(cell.targets),
        lambda watch: distil_staged(
            cell.student(row),
            lessons,
            cell.source.source,
            {name: domain.target for name, domain in cell.targets.items()},
            cell.preprocess,
            row_settings(cell.config, row),
            run,
            cell.progress,
            watch,
        ),
        own_statistics=own,
    )
    return with_own_batchnorm(cell, _for_all(cell, student)) if own else _for_all(cell, student)


KINDS: dict[str, Callable[[Cell, Row, Run], dict[str, Ensemble]]] = {
    "source_only": _source_only,
    "blending": _blending,
    "per_target": _per_target,
    "merged": _merged,
    "teachers": _teachers,
    "mean_of_teachers": _mean_of_teachers,
    "progressive": _progressive,
    "progressive_single": _progressive_single,
    "staged": _staged,
    "oracle": _oracle,
}
"""Kinds of rows by name: (cell, row, run) -> for each target the networks to score."""

WITHOUT_TARGETS = ("source_only", "oracle")
"""Kinds that always give their last weights: without an unlabelled target there is nothing to choose by."""
