"""Rules that every teacher method and the distillation must keep, each with a mutant that breaks it and must be caught.

A new entry of ``METHODS`` is tested by being listed.
"""

import copy
import dataclasses
import shutil
import typing

import numpy as np
import pytest
import torch
from builders import PREPROCESS, same_weights, source_set, target_set

from reid_mtda.errors import DataError, TrainingError
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train import METHODS, resume
from reid_mtda.train import distil as distil_module
from reid_mtda.train import teacher_outputs as outputs_module
from reid_mtda.train.camera_proxies import CameraProxySettings, distil_camera_proxies
from reid_mtda.train.distil import distil
from reid_mtda.train.distil_losses import people_parts
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.kd_reid import KdReidSettings, distil_kd_reid
from reid_mtda.train.source import SourceSettings, train_source
from reid_mtda.train.teacher_outputs import compute_teacher_outputs
from reid_mtda.types import UnlabelledSet

STEPS = 8
EPOCHS = {"cluster": {"epochs": 4, "steps_per_epoch": STEPS // 4}}
"""Methods that count epochs instead of steps."""
SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=6)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """(source, {camera: target}) of coats."""
    folder = tmp_path_factory.mktemp("coats")
    tints = {"gate": (0.7, 0.9, 1.1), "plaza": (1.2, 1.0, 0.7), "tunnel": (1.1, 0.6, 0.4)}
    return source_set(folder), {camera: target_set(folder, camera, tint) for camera, tint in tints.items()}


def new_run(folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder, seed)


def teacher_loop(name):
    """A method of ``METHODS`` on one camera, as ``loop(run, source, targets, progress)``.

    With an average of weights, which has to be resumed too.
    """
    settings_class, adapt = METHODS[name]

    def loop(run, source, targets, progress=lambda *_: None, **settings):
        small = {"identities_per_batch": 3, "pictures_per_identity": 2, "checkpoint_seconds": 3, "ema": 0.9}
        chosen = settings_class(**{**small, **EPOCHS.get(name, {"steps": STEPS}), **settings})
        start = build_embedder(SPEC, seed=1)
        return adapt(start, source, targets["gate"], PREPROCESS, chosen, run, progress)

    return loop


def source_loop(run, source, targets, progress=lambda *_: None, **settings):
    small = {"steps": STEPS, "identities_per_batch": 3, "pictures_per_identity": 2, "checkpoint_seconds": 3, "ema": 0.9}
    chosen = SourceSettings(**{**small, **settings})
    return train_source(build_embedder(SPEC, seed=1), source, PREPROCESS, chosen, run, progress)


def lessons_of(targets):
    return {
        camera: compute_teacher_outputs(build_embedder(SPEC, seed=10 + number), target, PREPROCESS)
        for number, (camera, target) in enumerate(targets.items())
    }


def distil_loop(run, source, targets, progress=lambda *_: None, **settings):
    small = {
        "steps": STEPS, "source_identities": 3, "target_identities": 4, "source_pictures": 2, "target_pictures": 3,
        "checkpoint_seconds": 3,
    }  # fmt: skip
    chosen = DistilSettings(**{**small, **settings})
    return distil(build_embedder(SPEC, seed=2), lessons_of(targets), targets, source, PREPROCESS, chosen, run, progress)


def distil_without_source(run, source, targets, progress=lambda *_: None, **settings):
    return distil_loop(run, None, targets, progress, **settings)


def distil_per_domain(run, source, targets, progress=lambda *_: None, **settings):
    """With centroids of people, and statistics of each domain's own."""
    apart = {"batchnorm": "per_domain", "memory_weight": 1.0}
    return distil_loop(run, source, targets, progress, **{**apart, **settings})


def distil_by_prototypes(run, source, targets, progress=lambda *_: None, **settings):
    """With every part that is off by default."""
    parts = {"prototype_weight": 1.0, "memory_weight": 1.0, "easy_first": 0.6}
    return distil_loop(run, source, targets, progress, **{**parts, **settings})


def kd_reid_loop(run, source, targets, progress=lambda *_: None, **settings):
    small = {"steps": STEPS, "target_identities": 6, "target_pictures": 3, "checkpoint_seconds": 3}
    chosen = KdReidSettings(**{**small, **settings})
    start = build_embedder(SPEC, seed=2)
    return distil_kd_reid(start, lessons_of(targets), targets, PREPROCESS, chosen, run, progress)


def proxies_loop(run, source, targets, progress=lambda *_: None, **settings):
    """The source is not seen."""
    small = {
        "steps": STEPS, "target_identities": 4, "target_pictures": 3, "checkpoint_seconds": 3,
        "k1": 2, "k2": 1, "eps": 0.3,
    }  # fmt: skip
    chosen = CameraProxySettings(**{**small, **settings})
    start = build_embedder(SPEC, seed=2)
    return distil_camera_proxies(start, lessons_of(targets), targets, PREPROCESS, chosen, run, progress)


TEACHERS = {name: teacher_loop(name) for name in METHODS}
STUDENTS = {
    "distil": distil_loop,
    "distil per domain": distil_per_domain,
    "distil by prototypes": distil_by_prototypes,
    "distil without source": distil_without_source,
    "distil over camera proxies": proxies_loop,
    "KD-ReID": kd_reid_loop,
}
ON_TARGETS = {**TEACHERS, **STUDENTS}
LOOPS = {**ON_TARGETS, "source": source_loop}
every_loop = pytest.mark.parametrize("name", LOOPS)


# --- one seed, one result; a stopped run goes on as if it had not been stopped


@every_loop
def test_one_seed_gives_one_set_of_weights_and_another_seed_another(name, sets, tmp_path):
    first, again = (LOOPS[name](new_run(tmp_path / str(i)), *sets) for i in range(2))
    other = LOOPS[name](new_run(tmp_path / "other", seed=1), *sets)
    assert same_weights(first, again) and not same_weights(first, other)


@every_loop
def test_a_loop_neither_reads_nor_moves_the_global_generators(name, sets, tmp_path):
    results = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - it is this generator that must not matter
        before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
        results.append(LOOPS[name](new_run(tmp_path / str(seed)), *sets))
        assert torch.equal(before[0], torch.random.get_rng_state())
        assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert same_weights(*results)


class Stop(Exception):
    pass


def check_resumed_is_uninterrupted(loop, sets, folder, stops):
    whole = loop(new_run(folder / "whole"), *sets)
    assert not list((folder / "whole").glob("checkpoints/*")), "a finished loop leaves its state behind"
    for stop in stops:
        run = new_run(folder / f"cut{stop}")

        def kill(part, done, total, stop=stop):
            if done == stop:
                raise Stop

        with pytest.raises(Stop):
            loop(run, *sets, progress=kill)
        assert same_weights(whole, loop(run, *sets)), f"stopped after step {stop} it goes on to another result"


@every_loop
def test_resumed_is_uninterrupted(name, sets, tmp_path, steps_as_seconds):
    """Stopped before the first saved state, at one, between two, and after the last step."""
    check_resumed_is_uninterrupted(LOOPS[name], sets, tmp_path, stops=(2, 3, 5, STEPS))


def test_a_loop_stopped_twice_is_uninterrupted(sets, tmp_path, steps_as_seconds):
    check_resumed_is_uninterrupted(distil_loop, sets, tmp_path / "once", stops=())
    run = new_run(tmp_path / "twice")
    for stop in (4, 6):
        with pytest.raises(Stop):
            distil_loop(run, *sets, progress=lambda part, done, total, stop=stop: _raise_at(done, stop))
    assert same_weights(distil_loop(run, *sets), distil_loop(new_run(tmp_path / "again"), *sets))


def _raise_at(done, stop):
    if done == stop:
        raise Stop


def forget_optimiser(monkeypatch):
    start = resume.Resumable.start

    def without(self):
        fresh = {name: copy.deepcopy(optimiser.state_dict()) for name, optimiser in self.optimisers.items()}
        step = start(self)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(fresh[name])
        return step

    monkeypatch.setattr(resume.Resumable, "start", without)


def forget_average(monkeypatch):
    start = resume.Resumable.start

    def without(self):
        kept = {name: network for name, network in self.networks.items() if name != "averaged"}
        return start(dataclasses.replace(self, networks=kept))

    monkeypatch.setattr(resume.Resumable, "start", without)


def draw_without_the_step(monkeypatch):
    monkeypatch.setattr(
        distil_module, "seeded_step", lambda run, step: torch.random.fork_rng(devices=[])
    )  # the global generator's state, which no checkpoint holds


def test_centroids_that_no_state_holds_are_caught(sets, tmp_path, monkeypatch, steps_as_seconds):
    start = resume.Resumable.start

    def without(self):
        kept = {name: network for name, network in self.networks.items() if name != "memory"}
        return start(dataclasses.replace(self, networks=kept))

    monkeypatch.setattr(resume.Resumable, "start", without)
    with pytest.raises(AssertionError, match="goes on to another result"):
        check_resumed_is_uninterrupted(distil_by_prototypes, sets, tmp_path, stops=(5,))


@pytest.mark.parametrize("name", [*METHODS, "source"])
def test_an_average_that_no_state_holds_is_caught(name, sets, tmp_path, monkeypatch, steps_as_seconds):
    forget_average(monkeypatch)
    with pytest.raises(AssertionError, match="goes on to another result"):
        check_resumed_is_uninterrupted(LOOPS[name], sets, tmp_path, stops=(5,))


@pytest.mark.parametrize("mutant", [forget_optimiser, forget_average, draw_without_the_step])
def test_a_state_that_forgets_something_is_caught(mutant, sets, tmp_path, monkeypatch, steps_as_seconds):
    mutant(monkeypatch)
    torch.manual_seed(0)

    def loop(run, *given, **settings):
        torch.rand(1)
        return distil_loop(run, *given, **settings)

    with pytest.raises(AssertionError, match="goes on to another result"):
        check_resumed_is_uninterrupted(loop, sets, tmp_path, stops=(5,))


def test_a_state_of_another_network_is_refused(sets, tmp_path, steps_as_seconds):
    run = new_run(tmp_path)
    with pytest.raises(Stop):
        source_loop(run, *sets, progress=lambda part, done, total: _raise_at(done, 4))
    with pytest.raises(TrainingError, match=r"resume\.pt: another network 'model' .*; remove"):
        train_source(
            build_embedder(SPEC.model_copy(update={"arch": "resnet10_w8"}), seed=1), sets[0], PREPROCESS,
            SourceSettings(steps=STEPS, identities_per_batch=3), run,
        )  # fmt: skip


# --- teachers stand still


def check_a_lesson_leaves_the_teacher_alone(target, give):
    teacher = build_embedder(SPEC, seed=0).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher_output = give(teacher, target, PREPROCESS)
    after = teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "the teacher moved"
    assert not teacher.training and not any(weight.requires_grad for weight in teacher.parameters()), "not frozen"
    assert not teacher_output.embedding.requires_grad and not teacher_output.logits.requires_grad, (
        "the teacher output has a gradient"
    )


def test_a_lesson_leaves_weights_and_buffers_alone(sets):
    check_a_lesson_leaves_the_teacher_alone(sets[1]["gate"], compute_teacher_outputs)


def test_a_teacher_in_train_mode_is_caught(sets, monkeypatch):
    def drifting(model, pictures, **_):
        return model.train()(pictures.normalised(pictures.unit(np.arange(len(pictures)))))

    monkeypatch.setattr(outputs_module, "embed_pictures", drifting)
    with pytest.raises(AssertionError, match="the teacher moved"):
        check_a_lesson_leaves_the_teacher_alone(sets[1]["gate"], compute_teacher_outputs)


def test_a_teacher_that_is_not_frozen_is_caught(sets, monkeypatch):
    monkeypatch.setattr(outputs_module, "frozen", lambda model: model)
    with pytest.raises(AssertionError, match="not frozen"):
        check_a_lesson_leaves_the_teacher_alone(sets[1]["gate"], compute_teacher_outputs)


def check_distillation_leaves_lessons_alone(sets, folder, loop=distil):
    source, targets = sets
    teacher_outputs = lessons_of(targets)
    before = {
        camera: (teacher_output.embedding.clone(), teacher_output.logits.clone())
        for camera, teacher_output in teacher_outputs.items()
    }
    settings = DistilSettings(steps=3, source_identities=3, target_identities=4, target_pictures=3)
    loop(build_embedder(SPEC, seed=2), teacher_outputs, targets, source, PREPROCESS, settings, new_run(folder))
    for camera, (embedding, logits) in before.items():
        assert torch.equal(embedding, teacher_outputs[camera].embedding), "a teacher output changed"
        assert torch.equal(logits, teacher_outputs[camera].logits), "a teacher output changed"


def test_distillation_leaves_lessons_alone(sets, tmp_path):
    check_distillation_leaves_lessons_alone(sets, tmp_path)


def test_a_loop_that_writes_into_a_lesson_is_caught(sets, tmp_path):
    def normalising(student, teacher_outputs, *rest):
        for teacher_output in teacher_outputs.values():
            teacher_output.logits.sub_(teacher_output.logits.mean())
        return distil(student, teacher_outputs, *rest)

    with pytest.raises(AssertionError, match="a teacher output changed"):
        check_distillation_leaves_lessons_alone(sets, tmp_path, loop=normalising)


@pytest.mark.parametrize("name", TEACHERS)
def test_adapting_leaves_the_model_it_starts_from_alone(name, sets, tmp_path):
    """All cameras' teachers start from one network: the first must not change what the second gets."""
    settings_class, adapt = METHODS[name]
    start = build_embedder(SPEC, seed=1)
    before = {key: value.clone() for key, value in start.state_dict().items()}
    settings = settings_class(**EPOCHS.get(name, {"steps": 3}), identities_per_batch=3, pictures_per_identity=2)
    result = adapt(start, sets[0], sets[1]["gate"], PREPROCESS, settings, new_run(tmp_path))
    assert all(torch.equal(value, before[key]) for key, value in start.state_dict().items())
    assert not result.training and not same_weights(start, result)


def test_distilling_leaves_the_student_it_starts_from_alone(sets, tmp_path):
    """Every variant of an ablation starts from one student: the first must not change what the second gets."""
    start = build_embedder(SPEC, seed=2).eval()
    settings = DistilSettings(steps=3, source_identities=3, target_identities=4, target_pictures=3)
    found = distil(start, lessons_of(sets[1]), sets[1], sets[0], PREPROCESS, settings, new_run(tmp_path))
    assert same_weights(start, build_embedder(SPEC, seed=2)) and not start.training
    assert not same_weights(start, found)


@every_loop
def test_the_necks_shift_stays_zero(name, sets, tmp_path):
    """A network that was frozen and thawed again keeps the BNNeck as the paper has it."""
    assert not bool(LOOPS[name](new_run(tmp_path), *sets).neck.bias.any())


# --- no labels of the target


def with_identities(targets, pids, folder):
    """The same pictures under names that tell a person, as a labelled data set's do."""
    renamed = {}
    for camera, target in targets.items():
        (folder / camera).mkdir(parents=True, exist_ok=True)
        order = pids(len(target))
        paths = tuple(folder / camera / f"{pid:04d}_c1s1_{n:06d}_00.png" for n, pid in enumerate(order))
        for old, new in zip(target.paths, paths, strict=True):
            shutil.copy(old, new)
        renamed[camera] = UnlabelledSet(paths, target.domain, target.tracklets)
    return renamed


def check_names_do_not_matter(loop, sets, folder):
    source, targets = sets
    rng = np.random.default_rng(0)
    one = with_identities(targets, lambda n: np.arange(n) // 4, folder / "a")
    two = with_identities(targets, lambda n: rng.permutation(np.arange(n) // 4), folder / "b")
    first, second = (loop(new_run(folder / f"run{n}"), source, given) for n, given in enumerate((one, two)))
    assert same_weights(first, second), "true identities of the target reached training"


@pytest.mark.parametrize("name", ON_TARGETS)
def test_permuting_the_true_identities_changes_nothing(name, sets, tmp_path):
    check_names_do_not_matter(ON_TARGETS[name], sets, tmp_path)


@pytest.mark.parametrize("name", ON_TARGETS)
def test_grouping_by_true_identities_is_caught(name, sets, tmp_path):
    """The public code's leak: target batches grouped by the identity in the file name."""

    def leaking(run, source, targets):
        by_pid = {
            camera: UnlabelledSet(t.paths, t.domain, np.array([int(p.name[:4]) for p in t.paths], np.int64))
            for camera, t in targets.items()
        }
        return ON_TARGETS[name](run, source, by_pid)

    with pytest.raises(AssertionError, match="true identities of the target reached training"):
        check_names_do_not_matter(leaking, sets, tmp_path)


@pytest.mark.parametrize("name", ON_TARGETS)
def test_tracklet_numbers_are_names_alone(name, sets, tmp_path):
    """Grouping matters, numbers do not."""
    source, targets = sets
    moved = {
        camera: UnlabelledSet(target.paths, target.domain, target.tracklets * 10 + 1000)
        for camera, target in targets.items()
    }
    first, second = (ON_TARGETS[name](new_run(tmp_path / str(n)), source, t) for n, t in enumerate((targets, moved)))
    assert same_weights(first, second)


@pytest.mark.parametrize(
    "function",
    [*(adapt for _, adapt in METHODS.values()), distil, distil_camera_proxies, distil_kd_reid, compute_teacher_outputs],
)
def test_targets_arrive_in_a_type_without_labels(function):
    hints = typing.get_type_hints(function)
    found = str(hints.get("target", hints.get("targets")))
    assert "UnlabelledSet" in found and "LabelledSet" not in found.replace("UnlabelledSet", "")
    assert not {"label", "labels", "pid", "pids"} & set(UnlabelledSet.__dataclass_fields__)


# --- bad numbers and unfit sets


@every_loop
def test_a_loss_that_is_not_finite_stops_with_step_and_part(name, sets, tmp_path, monkeypatch):
    calls = []
    module = __import__(LOOPS_MODULES.get(name, f"reid_mtda.train.{name}"), fromlist=["x"])
    losses = ("triplet_loss", "intra_camera_loss", "similarity_matrix_loss")
    part = next(part for part in losses if hasattr(module, part))
    loss_of = getattr(module, part)

    def poisoned(**roles):
        calls.append(1)
        loss = loss_of(**roles)
        return loss * float("nan") if len(calls) > 4 else loss

    monkeypatch.setattr(module, part, poisoned)
    named = r"step [1-4]: loss part '[a-z/0-9]*(triplet|tracklet|intra-camera|matrix)' is nan, expected a fini"
    with pytest.raises(TrainingError, match=named):
        LOOPS[name](new_run(tmp_path), *sets)


LOOPS_MODULES = {name: METHODS[name][1].__module__ for name in METHODS} | dict.fromkeys(
    STUDENTS, people_parts.__module__
)
LOOPS_MODULES |= {"distil over camera proxies": distil_camera_proxies.__module__, "KD-ReID": distil_kd_reid.__module__}


def test_dmmd_refuses_a_target_without_tracklets(sets, tmp_path):
    source, targets = sets
    untracked = {"gate": UnlabelledSet(targets["gate"].paths, "gate")}
    with pytest.raises(DataError, match=r"gate: got crops without tracklets, expected a crops\.csv; harvest them"):
        TEACHERS["dmmd"](new_run(tmp_path), source, untracked)


@pytest.mark.parametrize("name", [name for name in ON_TARGETS if name != "cluster"])
def test_a_target_with_one_tracklet_is_refused(name, sets, tmp_path):
    source, targets = sets
    alone = {"gate": UnlabelledSet(targets["gate"].paths, "gate", np.full(len(targets["gate"]), 4))}
    with pytest.raises(DataError, match=r"gate: got 1 identities or tracklets .*harvest more footage"):
        ON_TARGETS[name](new_run(tmp_path), source, alone)


def test_distillation_wants_a_lesson_for_every_camera(sets, tmp_path):
    source, targets = sets
    teacher_outputs = lessons_of({"gate": targets["gate"]})
    with pytest.raises(DataError, match=r"got teacher outputs of \['gate'\] for cameras \['gate', 'plaza', 'tunnel'\]"):
        distil(
            build_embedder(SPEC, seed=0),
            teacher_outputs,
            targets,
            source,
            PREPROCESS,
            DistilSettings(),
            new_run(tmp_path),
        )
    with pytest.raises(DataError, match=r"got teacher outputs of \[\] for cameras \[\]"):
        distil(build_embedder(SPEC, seed=0), {}, {}, source, PREPROCESS, DistilSettings(), new_run(tmp_path))
