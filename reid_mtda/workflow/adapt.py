"""The main job: footage of a site to crops, a teacher per camera, one student, an exported model."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reid_mtda.camera_means import LearntFrom, write_cameras
from reid_mtda.config import AdaptConfig
from reid_mtda.data.batches import decode_once
from reid_mtda.data.crop_table import read_crop_table
from reid_mtda.data.datasets import load_dataset
from reid_mtda.data.footage import HarvestReport
from reid_mtda.data.pseudo_labels import count_people
from reid_mtda.data.reid import load_folder
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.export import export_student
from reid_mtda.live.learnt import learnt_from
from reid_mtda.model import load_model
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import HOST, Compute, Run, open_run, stage
from reid_mtda.site import Site, resolve
from reid_mtda.types import LabelledSet, ModelManifest, UnlabelledSet
from reid_mtda.vision.camera_detector import with_named_detectors
from reid_mtda.vision.fingerprint import footage_fingerprint
from reid_mtda.vision.preprocess import read_image
from reid_mtda.workflow.footage import harvest_site
from reid_mtda.workflow.people import find_too_few
from reid_mtda.workflow.stored_crops import drop_stored_crops, import_stored_crops
from reid_mtda.workflow.targets import load_targets
from reid_mtda.workflow.teacher_cache import OUTPUTS
from reid_mtda.workflow.training import STUDENT_SOURCE, TEACHER_SOURCE, adapt_teachers, distil_student, pretrain

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapted:
    """What ``adapt_cameras`` leaves: the run, the exported model folder, its manifest, cameras that failed.

    ``too_few`` has a line for each camera that showed too few people to adapt to; with one of them nobody may call the
    student better than the model before it.
    """

    run: Run
    model_folder: Path
    manifest: ModelManifest
    harvests: dict[str, HarvestReport]
    failures: dict[str, str]
    too_few: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Adaptable:
    """Where targets come from: a name for the model's card, reports of harvests, cameras that gave nothing."""

    name: str
    harvests: dict[str, HarvestReport]
    failures: dict[str, str]
    folder: Path | None = None
    footage: Mapping[str, str | None] = field(default_factory=dict)

    def learnt(self, cameras: Iterable[str]) -> dict[str, LearntFrom]:
        """What is learnt from each of ``cameras``: times of its tracklets in ``folder``, and its footage."""
        learnt = {}
        for camera in cameras:
            times: dict[str, tuple[float, float]] = {}
            for row in read_crop_table(self.folder / camera) if self.folder is not None else ():
                time_s = float(row["time_s"])
                start, end = times.get(row["tracklet"], (time_s, time_s))
                times[row["tracklet"]] = min(start, time_s), max(end, time_s)
            learnt[camera] = learnt_from(times, self.footage.get(camera))
        return learnt


def adapt_cameras(
    site: Site,
    config: AdaptConfig,
    out: Path,
    progress: Progress = silent,
    *,
    crops: Path | None = None,
    compute: Compute = HOST,
) -> Adapted:
    """Adapt one student to every camera of ``site``.

    Each step leaves its result under ``out``; a job that was stopped goes on at the first missing one, and inside a
    training loop at its last saved state. A camera that fails is reported; the others go on.

    With ``crops``, the folder in which a running service keeps them, nothing is filmed: the crops of the cameras that
    are opted in are copied, and the copies go when this returns or fails. A job that goes on takes them anew, as they
    are then: what it had finished stands, but a teacher or student that was under way begins again, for its state may
    number crops that are others now.

    Args:
        site: the cameras, with their footage.
        config: everything that decides the result.
        out: run folder.
        progress: called as the work goes on.
        crops: the folder of kept crops, in place of footage.
        compute: where torch computes, as ``models.device.choose_compute`` gives it.

    Raises:
        ConfigError: ``out`` holds a run with other settings.
        DataError: no camera gave crops to learn from.
    """
    if config.targets:
        titles = ", ".join(target.title for target in config.targets)
        raise ConfigError(
            f"targets: got data sets ({titles}) and the site {site.name}, expected one of them; take targets out of "
            "the preset, or name no site"
        )
    if crops is None:
        site = with_named_detectors(site)
    kept = {} if crops is None else {"crops": str(crops)}
    run = open_run(
        out, seed=config.seed, config={"site": _described(site), **kept, **config.model_dump()}, compute=compute
    )
    try:
        return _adapt(site, config, run, progress, crops)
    finally:
        if crops is not None:
            drop_stored_crops(run.folder / "crops")
            shutil.rmtree(run.folder / OUTPUTS, ignore_errors=True)  # part-mixed crops among them show clothes
            for step in ("teachers_*", "student_training"):
                for state in run.folder.glob(f"{step}/checkpoints/resume.pt"):
                    state.unlink(missing_ok=True)


def adapt_crops(
    config: AdaptConfig,
    out: Path,
    progress: Progress = silent,
    *,
    crops: Path | Mapping[str, UnlabelledSet] | None = None,
    compute: Compute = HOST,
) -> Adapted:
    """Adapt one student to crops that lie on disk: no site, no footage. Otherwise as `adapt_cameras`.

    Args:
        config: the settings; its ``targets`` are data sets or archives, whose training halves are learnt from without
            labels.
        out: run folder.
        progress: called as the work goes on.
        crops: in place of ``config.targets``, one folder of pictures for each camera, with or without ``crops.csv``;
            or such sets by camera.
        compute: where torch computes, as ``models.device.choose_compute`` gives it.

    Raises:
        ConfigError: neither or both are given; tracklets that stand for identities; ``out`` holds another run.
        DataError: nothing to learn from.
    """
    if (crops is None) == (not config.targets):
        got = "neither" if crops is None else "both"
        raise ConfigError(f"targets: got {got} of a folder of crops and data sets, expected one of them")
    for target in config.targets:
        if target.tracklets in ("camera", "identity"):
            raise ConfigError(
                f"targets: {target.title}: got tracklets: {target.tracklets}, which are true identities, expected none "
                "or given; a benchmark may measure with them"
            )
    sets = load_folder(crops) if isinstance(crops, Path) else crops
    place = str(crops) if isinstance(crops, Path) else ", ".join(sets or ())
    # A job that goes on must find the crops that its teachers have numbered.
    kept = {} if sets is None else {"crops": place, "pictures": _fingerprint(sets)}
    run = open_run(out, seed=config.seed, config={**kept, **config.model_dump()}, compute=compute)
    with stage(run, "source data"):
        source = load_source(config, run)
    with stage(run, "targets"):
        sets = load_targets(config.targets, run) if sets is None else sets
        targets = {camera: target for camera, target in sets.items() if len(target) >= 2}
        failures = {
            camera: f"camera {camera}: got {len(target)} crops, expected 2 or more; add pictures"
            for camera, target in sets.items()
            if camera not in targets
        }
        if not targets:
            why = "; ".join(failures.values()) or "there is none; give crops of one camera or more"
            raise DataError(f"{place or 'targets'}: no camera gave crops to learn from: {why}")
    if crops is None:
        name = "+".join(target.title for target in config.targets)
    else:
        name = crops.name if isinstance(crops, Path) else "crops"
    return _learn(run, config, source, targets, Adaptable(name, {}, failures), progress)


def _fingerprint(sets: Mapping[str, UnlabelledSet]) -> str:
    """A hash of which pictures there are, by camera, name and size, and of their tracklets."""
    found = hashlib.sha256()
    for camera, target in sets.items():
        found.update(camera.encode())
        for path in target.paths:
            found.update(f"{path.name} {path.stat().st_size}\n".encode())
        found.update(b"" if target.tracklets is None else target.tracklets.tobytes())
    return found.hexdigest()[:16]


def _adapt(site: Site, config: AdaptConfig, run: Run, progress: Progress, crops: Path | None) -> Adapted:
    with stage(run, "source data"):
        source = load_source(config, run)
    with stage(run, "harvest"):
        if crops is None:
            harvests, failures = harvest_site(site, run.folder / "crops", config.harvest.max_crops, progress)
        else:
            harvests, failures = import_stored_crops(site, crops, run.folder / "crops")
        targets = usable_targets(run.folder / "crops", harvests, failures)
    prints = {name: footage_fingerprint(resolve(site, site.cameras[name].url)) for name in harvests if crops is None}
    found = Adaptable(site.name, harvests, failures, run.folder / "crops", prints)
    return _learn(run, config, source, targets, found, progress)


def _learn(
    run: Run,
    config: AdaptConfig,
    source: LabelledSet | None,
    targets: dict[str, UnlabelledSet],
    found: Adaptable,
    progress: Progress,
) -> Adapted:
    failures = found.failures
    with stage(run, "source training"):
        teacher_source = pretrain(run, TEACHER_SOURCE, config.teacher, config.teacher_source, source, config, progress)
        student_source = pretrain(run, STUDENT_SOURCE, config.student, config.student_source, source, config, progress)
    with stage(run, "people"):  # before anything is learnt from them: afterwards they are whom the network knows
        too_few = find_too_few(run, student_source, targets, config)
    with stage(run, "teachers"):
        failures |= adapt_teachers(run, teacher_source, source, targets, config, progress)
    with stage(run, "student"):
        student = distil_student(run, student_source, source, targets, config, progress)
    with stage(run, "export"):
        model_folder = run.folder / "student"
        manifest = export_student(
            student,
            model_folder,
            arch=config.student.arch,
            preprocess=config.input.preprocess(),
            trained_on=f"{config.source.name} -> {found.name} ({', '.join(targets)})",
            check_crops=[read_image(path) for target in targets.values() for path in target.paths[:8]],
        )
        # What live embeddings are compared with, so by the model that will give them: the exported one.
        model = load_model(model_folder)
        embeddings = {camera: model.embed(target.paths) for camera, target in targets.items()}
        people = {camera: count_people(rows, targets[camera].tracklets) for camera, rows in embeddings.items()}
        write_cameras(model_folder, manifest, embeddings, people, found.learnt(targets))
    return Adapted(
        run=run,
        model_folder=model_folder,
        manifest=manifest,
        harvests=found.harvests,
        failures=failures,
        too_few=too_few,
    )


def load_source(config: AdaptConfig, run: Run) -> LabelledSet | None:
    """Find the labelled source: the drawn lab (drawn once into the run folder), a data set by name, or None.

    Its pictures are decoded when they are first asked for, and once for all networks that learn from it.
    """
    if config.source.name == "none":
        return None
    if config.source.name == "lab":
        from reid_mtda.synthetic.crops import draw_lab

        folder = run.folder / "source"
        if not (folder / "bounding_box_train").is_dir():
            draw_lab(folder, seed=run.child_seed("lab"), identities=config.source.identities)
        train, _ = load_dataset("market1501", folder, where="source", half="train")
        return decode_once(replace(train, domain="lab"), config.input.preprocess())
    train, _ = load_dataset(config.source.name, config.source.root, where="source", half="train")
    return decode_once(train, config.input.preprocess())


def usable_targets(
    crops: Path, harvests: Mapping[str, HarvestReport], failures: dict[str, str]
) -> dict[str, UnlabelledSet]:
    """The cameras whose crops can be learnt from; the others are added to ``failures`` with the reason.

    Args:
        crops: folder of harvested crops, one folder for each camera.
        harvests: reports by camera.
        failures: message by camera; more are added.
    """
    sets = load_folder(crops) if harvests else {}
    targets = {}
    for camera, report in harvests.items():
        if report.tracklets < 2:
            failures[camera] = f"camera {camera}: got {report.tracklets} tracklets, expected 2 or more; film longer"
        else:
            targets[camera] = sets[camera]
    if not targets:
        raise DataError(f"{crops}: no camera gave people to learn from: {'; '.join(failures.values())}")
    return targets


def adapted_targets(adapted: Adapted) -> dict[str, UnlabelledSet]:
    """The harvested crops of the cameras that did not fail: their teachers were adapted or stood ready."""
    crops = load_folder(adapted.run.folder / "crops")
    return {camera: target for camera, target in crops.items() if camera not in adapted.failures}


def _described(site: Site) -> dict[str, object]:
    return {name: camera.for_footage() for name, camera in site.cameras.items()}
