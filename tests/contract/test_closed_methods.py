"""Rules that every closed-set method must keep, each with a mutant that breaks it and must be caught.

The public code's quirks serve as mutants where they are the very fault a rule is about.
"""

import copy
import dataclasses
import itertools
import json
import typing

import numpy as np
import pytest
import torch
from closed_sets import PREPROCESS, bars, network, same_state

from reid_mtda.bench.closed.published import QUIRKS, as_published, check_quirks
from reid_mtda.data.closed_domain import ClosedDomain, LabelledPictures
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.errors import ConfigError, DataError, TrainingError
from reid_mtda.losses.adversarial import reversal_delta
from reid_mtda.losses.mmd import mmd_loss
from reid_mtda.models.classifier import ClassifierOutput, ClassifierSpec, build_classifier
from reid_mtda.models.discriminator import Discriminator
from reid_mtda.runs import Run
from reid_mtda.train import alignment as alignment_module
from reid_mtda.train import offline_kd as offline_module
from reid_mtda.train import progressive, resume
from reid_mtda.train.alignment import AlignmentSettings, align_classifier
from reid_mtda.train.common import geometric_ramp, inverse_decay, optimise, pass_domains
from reid_mtda.train.network_state import make_network_state
from reid_mtda.train.objectives.closed_sets import TeachersOfSets
from reid_mtda.train.objectives.known_objectives import OBJECTIVES, find_objectives
from reid_mtda.train.offline_kd import OfflineKDSettings, distil_offline
from reid_mtda.train.progressive import distil_progressively, teacher_parts
from reid_mtda.train.progressive_settings import ProgressiveSettings

BUDGET = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 6}
SMALL = {**BUDGET, "discriminator_width": 8}
SOURCE = bars("source")
TARGETS = {"dark": bars("dark", paper=60, seed=1), "light": bars("light", paper=220, ink=20, seed=2)}


def unlabelled(targets):
    return {name: domain.target for name, domain in targets.items()}


def run_alignment(run, targets=TARGETS, progress=lambda *_: None, **settings):
    model = align_classifier(
        network(), SOURCE.source, targets["dark"].target, PREPROCESS, AlignmentSettings(**{**SMALL, **settings}), run,
        progress,
    )  # fmt: skip
    return [model]


def run_progressive(run, targets=TARGETS, progress=lambda *_: None, quirks=(), **settings):
    teachers = {name: network(seed=1) for name in targets}
    with as_published(quirks):
        student, taught = distil_progressively(
            network(), teachers, SOURCE.source, unlabelled(targets), PREPROCESS,
            ProgressiveSettings(**{**SMALL, **settings}), run, progress,
        )  # fmt: skip
    return [student, *taught.values()]


def run_staged(run, targets=TARGETS, progress=lambda *_: None, **settings):
    def drawn(*shape):
        return {name: torch.randn(len(d.target), *shape, generator=fixed()) for name, d in targets.items()}

    def fixed():
        return torch.Generator().manual_seed(0)

    objectives = find_objectives(settings.get("objectives", {}))
    return [
        distil_offline(
            network(), TeachersOfSets(drawn(3), drawn(8), drawn(len(targets), 3)), SOURCE.source, unlabelled(targets),
            PREPROCESS, OfflineKDSettings(**{**BUDGET, **settings}), run, progress,
            objectives=objectives,
        )
    ]  # fmt: skip


CLOSED_OBJECTIVES = [
    name for name, (_, kind) in OBJECTIVES.items() if kind.needs <= {"logits", "feature", "everyone", "people"}
]
"""Those that classifiers can be asked; the others need maps, halves or a student that has learnt something."""

METHODS = {
    **{name: (run_alignment, {"alignment": name}) for name in ("none", "mmd", "dann", "cdan", "mcc")},
    "progressive mmd": (run_progressive, {"alignment": "mmd", "feature_weight": 1.0}),
    "progressive dann": (run_progressive, {}),
    "progressive cdan": (run_progressive, {"alignment": "cdan"}),
    "progressive mcc": (run_progressive, {"alignment": "mcc"}),
    "progressive as published": (run_progressive, {"quirks": tuple(QUIRKS)}),
    "staged": (run_staged, {"confusion_weight": 0.5}),
    "staged with objectives": (run_staged, {"objectives": dict.fromkeys(CLOSED_OBJECTIVES, 0.5)}),
}


def new_run(folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder, seed)


def check_one_seed_is_one_result(name, folder):
    method, settings = METHODS[name]
    first, again = (method(new_run(folder / str(i)), **settings) for i in range(2))
    other = method(new_run(folder / "other", seed=1), **settings)
    assert all(same_state(a, b) for a, b in zip(first, again, strict=True)), "one seed gave two results"
    assert not same_state(first[0], other[0]), "two seeds gave one result"


every_method = pytest.mark.parametrize("name", METHODS)


@every_method
def test_one_seed_gives_one_set_of_weights_and_another_seed_another(name, tmp_path):
    check_one_seed_is_one_result(name, tmp_path)


@every_method
@pytest.mark.parametrize(("seeds", "said"), [("drawn", "one seed gave two"), ("fixed", "two seeds gave one")])
def test_a_method_that_does_not_draw_by_its_seed_is_caught(name, seeds, said, tmp_path, monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr(Run, "child_seed", lambda self, part: next(numbers) if seeds == "drawn" else 0)
    with pytest.raises(AssertionError, match=said):
        check_one_seed_is_one_result(name, tmp_path)


def check_resumed_is_uninterrupted(name, folder):
    method, settings = METHODS[name]
    whole = method(new_run(folder / "whole"), **settings, checkpoint_seconds=2)

    class Stop(Exception):
        pass

    def stop(part, done, total):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        method(new_run(folder / "cut"), **settings, checkpoint_seconds=2, progress=stop)
    resumed = method(new_run(folder / "cut"), **settings, checkpoint_seconds=2)
    assert all(same_state(a, b) for a, b in zip(whole, resumed, strict=True)), "a resumed run goes elsewhere"


@every_method
def test_resumed_is_uninterrupted(name, tmp_path, steps_as_seconds):
    check_resumed_is_uninterrupted(name, tmp_path)


def forget_momentum(monkeypatch):
    start = resume.Resumable.start

    def without(self):
        fresh = {name: copy.deepcopy(optimiser.state_dict()) for name, optimiser in self.optimisers.items()}
        step = start(self)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(fresh[name])
        return step

    monkeypatch.setattr(resume.Resumable, "start", without)


def forget_the_step(monkeypatch):
    start = resume.Resumable.start
    monkeypatch.setattr(resume.Resumable, "start", lambda self: start(self) * 0)


@every_method
@pytest.mark.parametrize("mutant", [forget_momentum, forget_the_step])
def test_a_state_that_forgets_is_caught(name, mutant, tmp_path, monkeypatch, steps_as_seconds):
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="a resumed run goes elsewhere"):
        check_resumed_is_uninterrupted(name, tmp_path)


def relabelled(domain):
    """The same pictures with every label turned into another class."""
    labels = (domain.source.labels + 1) % 3
    return ClosedDomain(
        source=LabelledPictures(domain.source.pictures, labels, 3, domain.name),
        target=domain.target,
        test=dataclasses.replace(domain.test, labels=labels),
    )


def check_target_labels_do_not_matter(method, folder, settings):
    other = {name: relabelled(domain) for name, domain in TARGETS.items()}
    first, second = method(new_run(folder / "a"), **settings), method(new_run(folder / "b"), targets=other, **settings)
    assert all(same_state(a, b) for a, b in zip(first, second, strict=True)), "target labels reached training"


@pytest.mark.parametrize("name", METHODS)
def test_target_labels_change_nothing(name, tmp_path):
    method, settings = METHODS[name]
    check_target_labels_do_not_matter(method, tmp_path, settings)


def test_a_method_that_reads_target_labels_is_caught(tmp_path):
    def leaking(run, targets=TARGETS):
        settings = AlignmentSettings(**SMALL, alignment="none")
        return [align_classifier(network(), targets["dark"].source, None, PREPROCESS, settings, run)]

    with pytest.raises(AssertionError, match="target labels reached training"):
        check_target_labels_do_not_matter(leaking, tmp_path, {})


@pytest.mark.parametrize("function", [align_classifier, distil_progressively, distil_offline])
def test_targets_arrive_in_a_type_without_labels(function):
    hints = typing.get_type_hints(function)
    found = str(hints.get("target", hints.get("targets")))
    assert "UnlabelledPictures" in found and "LabelledPictures" not in found.replace("UnlabelledPictures", "")


def student_step(folder, quirks=(), **settings):
    """One teacher step, then one student step; returns the teacher and its state from before the student step."""
    settings = ProgressiveSettings(**{**SMALL, **settings})
    run = new_run(folder)
    student_state, teacher_state = (
        make_network_state(network(s), 0.05, settings, run, name) for s, name in enumerate(("student", "teacher"))
    )
    pictures, labels = torch.randn(12, 3, 28, 28), torch.from_numpy(SOURCE.source.labels[:6])
    outputs = pass_domains(teacher_state.network.train(), pictures, [6, len(pictures) - 6], settings.batchnorm)
    optimise(
        teacher_state.optimiser,
        teacher_parts(teacher_state, outputs, labels, settings, 0.3, 0.5),
        where="teacher",
        step=0,
    )
    before = {name: value.clone() for name, value in teacher_state.network.state_dict().items()}
    teacher_state.optimiser.zero_grad(set_to_none=True)
    with as_published(quirks):
        teacher_output = progressive.teacher_targets(teacher_state.network, pictures, 6, settings)
        parts = progressive.student_parts(student_state, teacher_output, pictures, labels, settings, 0.3, 0.5)
    optimise(student_state.optimiser, parts, where="s", step=0)
    return teacher_state.network, before


def check_no_teacher_gradient(folder, **settings):
    teacher, _ = student_step(folder, **settings)
    assert all(parameter.grad is None for parameter in teacher.parameters()), "the teacher has a gradient"


def check_teacher_stands_still(folder, **settings):
    teacher, before = student_step(folder, **settings)
    after = teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "the teacher moved"


@pytest.mark.parametrize("alignment", ["mmd", "dann"])
@pytest.mark.parametrize("sets", ["shared", "per_domain"])
def test_a_student_step_leaves_the_teacher_without_gradient_weights_and_buffers_unchanged(alignment, sets, tmp_path):
    check_no_teacher_gradient(tmp_path, alignment=alignment, batchnorm=sets)
    check_teacher_stands_still(tmp_path, alignment=alignment, batchnorm=sets)


def test_the_attached_teacher_is_caught(tmp_path):
    with pytest.raises(AssertionError, match="the teacher has a gradient"):
        check_no_teacher_gradient(tmp_path, quirks=["teacher_attached"])


def test_the_teacher_in_train_mode_is_caught(tmp_path):
    with pytest.raises(AssertionError, match="the teacher moved"):
        check_teacher_stands_still(tmp_path, quirks=["teacher_bn_train"])


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_every_epoch_aligns_and_distils(folder, **settings):
    run_progressive(new_run(folder), epochs=3, **settings)
    found = records(folder)
    assert {(r["epoch"], r["target"]) for r in found} == {(e, t) for e in (1, 2, 3) for t in TARGETS}
    for record in found:
        assert record["alignment"] > 0, "no alignment in an epoch"
        assert record["target logits"] > 0 and record["source logits"] > 0, "no distillation in an epoch"


@pytest.mark.parametrize("alignment", ["mmd", "dann", "cdan", "mcc"])
def test_every_epoch_aligns_and_distils(alignment, tmp_path):
    check_every_epoch_aligns_and_distils(tmp_path, alignment=alignment)


@pytest.mark.parametrize("alignment", ["mmd", "dann", "cdan", "mcc"])
def test_an_epoch_without_alignment_is_caught(alignment, tmp_path):
    with pytest.raises(AssertionError, match="no alignment in an epoch"):
        check_every_epoch_aligns_and_distils(tmp_path, alignment=alignment, gamma=0.0)


def test_an_epoch_without_distillation_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(progressive, "soft_target_loss", lambda **given: 0.0 * given["student"].sum())
    with pytest.raises(AssertionError, match="no distillation in an epoch"):
        check_every_epoch_aligns_and_distils(tmp_path)


def check_rates(tmp_path, epochs=4):
    """What the optimisers were given: one learning rate an epoch, the inverse decay of that epoch."""
    run_progressive(new_run(tmp_path), epochs=epochs)
    for name, initial in (("teacher_rate", 1e-3), ("student_rate", 1e-2)):
        wanted = [inverse_decay(initial, e / epochs) for e in range(epochs)]
        for target in TARGETS:
            assert [r[name] for r in records(tmp_path) if r["target"] == target] == pytest.approx(wanted)


def test_the_schedule_steps_once_an_epoch(tmp_path):
    check_rates(tmp_path)


def test_a_schedule_that_is_computed_and_not_applied_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(progressive, "set_learning_rate", lambda optimiser, rate: None)
    with pytest.raises(AssertionError):
        check_rates(tmp_path)


def test_a_schedule_that_steps_with_every_target_is_caught(tmp_path, monkeypatch):
    """The mis-indented loop: with two targets the schedule runs twice as fast."""
    monkeypatch.setattr(progressive, "inverse_decay", lambda initial, p: inverse_decay(initial, len(TARGETS) * p))
    with pytest.raises(AssertionError):
        check_rates(tmp_path)


def check_beta(folder):
    run_progressive(new_run(folder), epochs=3, steps_per_epoch=4)
    wanted = [0.1, 0.1 * 5 ** (1 / 3), 0.1 * 5 ** (2 / 3)]
    assert [r["beta"] for r in records(folder)[:: len(TARGETS)]] == pytest.approx(wanted)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda start, end, progress: start,
        lambda start, end, progress: geometric_ramp(start, end, progress + 1 / 3),
        lambda start, end, progress: start + (end - start) * progress,
    ],
    ids=["constant", "an epoch ahead", "linear"],
)
def test_another_growth_of_beta_is_caught(mutant, tmp_path, monkeypatch):
    monkeypatch.setattr(progressive, "geometric_ramp", mutant)
    with pytest.raises(AssertionError):
        check_beta(tmp_path)


def check_reversal(delta):
    """2 / (1 + exp(-10 p)) - 1 at both ends and in the middle."""
    assert [delta(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.98661430, 0.99990920])


def test_the_reversed_gradient_grows_as_in_dann():
    check_reversal(reversal_delta)
    for wrong in (lambda p: p, lambda p: 1.0, lambda p: 2 / (1 + np.exp(-p)) - 1, lambda p: reversal_delta(1 - p)):
        with pytest.raises(AssertionError):
            check_reversal(wrong)


def test_beta_grows_from_its_start_towards_its_end_and_is_constant_within_an_epoch(tmp_path):
    check_beta(tmp_path)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_small_sets_do_not_run_out(size, tmp_path):
    tiny = {name: domain.limited(size) for name, domain in TARGETS.items()}
    for number, (method, settings) in enumerate(METHODS.values()):
        method(new_run(tmp_path / str(number)), targets=tiny, **settings)


def test_batches_that_end_with_the_epoch_are_caught(tmp_path, monkeypatch):
    """The exhausted iterator: a set of one batch, asked for a second."""
    batch = ShuffleSampler.batch

    def ending(self, step):
        if step >= self.steps_per_epoch:
            raise StopIteration
        return batch(self, step)

    monkeypatch.setattr(ShuffleSampler, "batch", ending)
    tiny = {name: domain.limited(3) for name, domain in TARGETS.items()}
    for number, (method, settings) in enumerate(METHODS.values()):
        if settings != {"alignment": "none"}:  # which asks for no target
            with pytest.raises(StopIteration):
                method(new_run(tmp_path / str(number)), targets=tiny, **settings)


@pytest.mark.parametrize(
    ("run", "module", "loss"),
    [(run_progressive, progressive, "soft_target_loss"), (run_staged, offline_module, "soft_target_loss")],
)
def test_a_lesson_that_is_not_finite_stops_the_run_with_step_and_part(run, module, loss, tmp_path, monkeypatch):
    """The fifth teacher output breaks, which is in the second or third step."""
    sound, count = getattr(module, loss), itertools.count()
    monkeypatch.setattr(module, loss, lambda **roles: sound(**roles) * (float("nan") if next(count) == 4 else 1.0))
    with pytest.raises(TrainingError, match=r"step [12]: loss part '.*logits' is nan, expected a finite number"):
        run(new_run(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_part(tmp_path, monkeypatch):
    monkeypatch.setitem(alignment_module.ALIGNMENTS, "mcc", lambda **roles: roles["target_logits"].sum() * float("nan"))
    with pytest.raises(TrainingError, match=r"mcc on dark, step 0: loss part 'alignment' is nan"):
        run_alignment(new_run(tmp_path), alignment="mcc")


def test_lessons_and_teachers_must_fit_the_targets(tmp_path):
    with pytest.raises(DataError, match=r"progressive: got teachers of \[\] for \['dark', 'light'\]"):
        distil_progressively(
            network(), {}, SOURCE.source, unlabelled(TARGETS), PREPROCESS, ProgressiveSettings(**SMALL),
            new_run(tmp_path),
        )  # fmt: skip
    with pytest.raises(DataError, match=r"offline distillation: got teacher outputs of \['dark'\]"):
        distil_offline(
            network(), TeachersOfSets({"dark": torch.zeros(2, 3)}), SOURCE.source, unlabelled(TARGETS), PREPROCESS,
            OfflineKDSettings(**BUDGET), new_run(tmp_path),
        )  # fmt: skip


@pytest.mark.parametrize("quirk", [q for q in QUIRKS if q != "mmd_restart_each_epoch"])
def test_each_quirk_changes_the_student(quirk, tmp_path):
    plain = run_progressive(new_run(tmp_path / "plain"))
    quirky = run_progressive(new_run(tmp_path / "quirk"), quirks=[quirk])
    if quirk == "teacher_attached":  # its gradient dies before the teacher's next step; the cost remains
        assert same_state(plain[0], quirky[0])
    elif (
        quirk == "teacher_bn_train"
    ):  # the same statistics teach; that it remembers them is the drift, its dropout aside
        assert same_state(plain[0], quirky[0])
        assert not same_state(plain[1], quirky[1])
        mixed = run_progressive(new_run(tmp_path / "mixed"), teacher_statistics="mixture")
        assert not same_state(mixed[0], quirky[0])
    else:
        assert not same_state(plain[0], quirky[0])


def least_loss(quirks, steps=60):
    """What a discriminator's loss comes down to on two domains that nothing is easier than to tell apart."""
    far = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        discriminator = Discriminator(8, hidden=16).train()
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=0.02)
    outputs = {name: ClassifierOutput(far[:, :3], far + shift) for name, shift in (("source", 5.0), ("target", -5.0))}
    losses = []
    with as_published(quirks):
        for _ in range(steps):
            loss = progressive.domain_confusion_loss(**progressive.judged(discriminator, outputs, 1.0))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return min(losses)


def test_an_adversary_that_sees_each_domain_alone_cannot_tell_them_apart():
    """Its BatchNorm centres both alike: the mean logits are equal, and by Jensen's inequality 2 ln 2 is the least."""
    assert least_loss([]) < 0.05
    assert least_loss(["discriminator_bn_per_domain"]) > 2 * np.log(2) - 1e-4


def teaches(settings, folder):
    """What a teacher says that was trained on two far domains, and its state before and after."""
    model = network(seed=4)
    pictures = torch.cat([torch.randn(12, 3, 28, 28), 4 + 3 * torch.randn(12, 3, 28, 28)])
    with torch.no_grad():
        for _ in range(40):
            pass_domains(model.train(), pictures, [12, 12], "per_domain")
    before = copy.deepcopy(model)
    said = progressive.teacher_targets(model, pictures, 12, ProgressiveSettings(**settings))
    assert same_state(model, before) and not model.training
    with torch.no_grad():
        return said, pass_domains(copy.deepcopy(model).train(), pictures, [12, 12], "per_domain")


def test_a_teacher_teaches_with_the_statistics_it_learnt_with(tmp_path):
    said, trained = teaches({}, tmp_path)
    for ours, wanted in zip(said, trained, strict=True):
        torch.testing.assert_close(ours.logits, wanted.logits)
    mixed, trained = teaches({"teacher_statistics": "mixture"}, tmp_path)
    assert (mixed[1].logits - trained[1].logits).abs().max() > 0.1


def test_the_discriminators_rate_is_the_heads_unless_it_has_its_own(tmp_path):
    for own, wanted in ((None, 10.0), (1.0, 1.0)):
        settings = ProgressiveSettings(**SMALL, head_rate=10.0, discriminator_rate=own)
        state = make_network_state(network(), 0.05, settings, new_run(tmp_path), "student")
        groups = {id(p): group.get("factor", 1.0) for group in state.optimiser.param_groups for p in group["params"]}
        assert {groups[id(p)] for p in state.discriminator.parameters()} == {wanted}
        assert {groups[id(p)] for p in state.network.head.parameters()} == {10.0}
        assert {groups[id(p)] for p in state.network.backbone.parameters()} == {1.0}


def test_a_joint_forward_gives_what_each_domain_alone_gives():
    """Without BatchNorm, whose statistics are those of the batch, the two are one computation."""
    model = build_classifier(ClassifierSpec(arch="squeezenet1_1", num_classes=3), seed=0).train()
    model.head.eval()  # the one BatchNorm that it has
    pictures = torch.randn(5, 3, 48, 48)
    joint, apart = (pass_domains(model, pictures, [2, 3], sets) for sets in ("shared", "per_domain"))
    for a, b in zip(joint, apart, strict=True):
        torch.testing.assert_close(a.logits, b.logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(a.feature, b.feature, atol=1e-5, rtol=1e-4)


def test_mmd_restarting_each_epoch_changes_the_teachers(tmp_path):
    plain = run_progressive(new_run(tmp_path / "plain"), alignment="mmd")
    quirky = run_progressive(new_run(tmp_path / "quirk"), alignment="mmd", quirks=["mmd_restart_each_epoch"])
    assert not same_state(plain[1], quirky[1])


def test_alignment_provably_helps_on_two_gaussians():
    """Class means differ along both axes; the target is shifted along the second by more than they differ.

    The source alone weighs both axes and so calls every target point one class. Any direction that aligns the two
    marginals has no part in the shifted axis, and the first axis alone separates both domains.
    """
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 2, 200))
    signs = 2.0 * labels[:, None] - 1
    source = signs * torch.tensor([1.0, 2.0]) + 0.2 * torch.from_numpy(rng.normal(size=(200, 2)))
    target = (
        signs * torch.tensor([1.0, 2.0]) + torch.tensor([0.0, 8.0]) + 0.2 * torch.from_numpy(rng.normal(size=(200, 2)))
    )

    def target_accuracy(weight_of_alignment):
        direction = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        descent = torch.optim.Adam([direction], lr=0.05)
        with torch.no_grad():
            direction.copy_(torch.tensor([0.5, 0.5]))
        for _ in range(150):
            descent.zero_grad()
            f_s, f_t = source @ direction, target @ direction
            loss = torch.nn.functional.binary_cross_entropy_with_logits(f_s, labels.double())
            (loss + weight_of_alignment * mmd_loss(source=f_s[:80], target=f_t[:80])).backward()
            descent.step()
        return float(((target @ direction.detach() > 0) == labels.bool()).double().mean())

    assert target_accuracy(0.0) < 0.6
    assert target_accuracy(2.0) > 0.95


def test_quirks_end_with_their_block_and_unknown_ones_are_refused():
    before = {
        name: getattr(progressive, name)
        for name in ("soft_target_loss", "teacher_targets", "student_confusion", "judged")
    }
    with pytest.raises(ZeroDivisionError), as_published(QUIRKS):
        assert all(getattr(progressive, name) is not function for name, function in before.items())
        raise ZeroDivisionError
    assert all(getattr(progressive, name) is function for name, function in before.items())
    with pytest.raises(ConfigError, match=r"quirks: got 'revrse_kl', expected some of reverse_kl, teacher_attached"):
        check_quirks(["revrse_kl"])
