"""Rules that every distillation objective must keep, each with a mutant that breaks it and must be caught.

A new entry of ``OBJECTIVES`` is tested by being listed.
"""

import copy
import dataclasses
import itertools

import pytest
import torch
from builders import PREPROCESS, same_weights, source_set, target_set

from reid_mtda.errors import ConfigError, TrainingError
from reid_mtda.models.embedder import EmbedderOutput, EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train import resume
from reid_mtda.train.distil import distil
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.objectives.applied import AppliedObjectives
from reid_mtda.train.objectives.known_objectives import OBJECTIVES, find_objectives
from reid_mtda.train.objectives.objective import AllCrops, AskedObjective, Context, Objective, Sizes, needs_of
from reid_mtda.train.teacher_outputs import compute_teacher_outputs

N, B, C = 24, 12, 5
SIZES = Sizes(student=6, teacher=6, classes=C, teachers=3, student_maps=6, teacher_maps=6)
WIDER = dataclasses.replace(SIZES, teacher=9, teacher_maps=9)
every = pytest.mark.parametrize("name", OBJECTIVES)


def said(rows, width, *, seed, maps_width=None):
    draw = torch.Generator().manual_seed(seed)
    feature = torch.randn(rows, width, generator=draw)
    return EmbedderOutput(
        torch.nn.functional.normalize(feature, dim=1), torch.randn(rows, C, generator=draw) * 2, feature,
        torch.rand(rows, maps_width or width, 4, 2, generator=draw),
    )  # fmt: skip


def scene(sizes=SIZES, *, seed=0):
    """(all crops, student, teacher, context) of one batch."""
    teacher_all = said(N, sizes.teacher, seed=seed + 1)
    crops = AllCrops(
        embedding=teacher_all.embedding, logits=teacher_all.logits, feature=teacher_all.feature,
        cameras=torch.arange(N) % 2, people=torch.arange(N) // 2 % 4,
        source_logits=teacher_all.logits, source_labels=torch.arange(N) % C,
    )  # fmt: skip
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:B]
    draw = torch.Generator().manual_seed(seed + 7)
    context = Context(
        progress=0.25, rows=rows, people=crops.people[rows], cameras=crops.cameras[rows], teacher=1,
        start=said(B, sizes.student, seed=seed + 3), halves=torch.randn(B, 2, sizes.teacher, generator=draw),
        everyone=torch.randn(B, 3, C, generator=draw), labels=crops.source_labels[rows],
    )  # fmt: skip
    return crops, said(B, sizes.student, seed=seed + 5), teacher_all.at(rows), context


def built(name, sizes=SIZES, crops=None, **settings):
    torch.manual_seed(0)
    objective = find_objectives({name: settings})[name].build(sizes)
    objective.prepare(crops or scene(sizes)[0])
    return objective


def called(objective, student, teacher, context, seed=0):
    torch.manual_seed(seed)
    return objective(student=student, teacher=teacher, context=context)


def with_gradients(output):
    return output.each(lambda part: part.detach().clone().requires_grad_(True))


def gradients(output):
    return [part.grad for part in (output.embedding, output.logits, output.feature, output.maps) if part is not None]


# --- the rules, each as a check that a mutant has to fail


def check_finite_with_gradient(objective, sizes=SIZES):
    _, student, teacher, context = scene(sizes)
    student = with_gradients(student)
    loss = called(objective, student, teacher, context)
    assert loss.ndim == 0 and torch.isfinite(loss)
    loss.backward()
    found = [g for g in gradients(student) if g is not None]
    assert any(g.abs().sum() > 0 for g in found), "the student learns nothing"
    assert all(torch.isfinite(g).all() for g in found)


def check_no_gradient_to_the_teacher(objective):
    """Through the door that the loops use, with a teacher that would take gradients."""
    _, student, teacher, context = scene()
    asked = {"it": AskedObjective(lambda sizes: objective, over=objective.over)}
    applied = AppliedObjectives(asked, torch.nn.ModuleList([objective]))
    teacher = with_gradients(teacher)
    torch.manual_seed(0)
    parts = applied.parts(
        objective.over, student=with_gradients(student), teacher=teacher, context=context, share=1.0, prefix="gate"
    )
    parts["gate/it"].backward()
    assert all(g is None for g in gradients(teacher))


def check_order_of_the_batch_does_not_count(objective):
    _, student, teacher, context = scene()
    order = torch.randperm(B, generator=torch.Generator().manual_seed(4))
    state = copy.deepcopy(objective.state_dict())
    one = called(objective, student, teacher, context)
    objective.load_state_dict(state)
    fields = ("rows", "people", "cameras", "halves", "everyone", "labels")
    turned = {field: getattr(context, field)[order] for field in fields}
    moved = dataclasses.replace(context, start=context.start.at(order), **turned)
    other = called(objective, student.at(order), teacher.at(order), moved)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@every
def test_it_is_finite_and_the_student_learns_of_it(name):
    check_finite_with_gradient(built(name))


@every
def test_no_gradient_reaches_the_teacher(name):
    check_no_gradient_to_the_teacher(built(name))


@every
def test_the_order_of_the_batch_does_not_count(name):
    check_order_of_the_batch_does_not_count(built(name))


@every
def test_a_teacher_of_another_width_is_taken(name):
    check_finite_with_gradient(built(name, WIDER), WIDER)


LEAST = ("affinity", "dual_head", "cosine_head", "subclasses", "routed", "trilateral_ratio")
"""No zero at equality of outputs: affinity looks at the student alone, the others have labels or a head."""


@every
def test_it_is_zero_where_student_and_teacher_agree_or_can_be_brought_low(name):
    """Where equality of outputs is not the minimum, an objective's own parameters and the student bring it down."""
    crops, student, teacher, context = scene()
    if name == "transport":  # the plan is blurred: near zero, and far below what another student has
        assert called(built(name), teacher, teacher, context) < 0.1 * called(built(name), student, teacher, context)
        return
    if name == "norm_direction":  # its zero: as long as the teacher's, along the class mean
        centre = torch.nn.functional.normalize(built(name).centres[context.rows], dim=1)
        student = dataclasses.replace(teacher, feature=centre * 2 * teacher.feature.norm(dim=1, keepdim=True))
        assert called(built(name), student, teacher, context) < 1e-6
        return
    if name == "neighbour_graph":  # its zero: neighbours of one mind
        crops = dataclasses.replace(crops, logits=crops.logits[:1].expand(N, C).clone())
        same = dataclasses.replace(teacher, logits=crops.logits[:B])
        assert called(built(name, crops=crops), same, same, context).abs() < 1e-6
        return
    if name == "blocks":
        upper_and_lower = context.halves.transpose(1, 2)[..., None].repeat_interleave(2, dim=2)
        student = dataclasses.replace(teacher, maps=upper_and_lower.expand(B, 6, 4, 2))
        assert called(built(name), student, teacher, context).abs() < 1e-6
        return
    if name not in LEAST:
        same = dataclasses.replace(context, start=teacher)
        assert called(built(name), teacher, teacher, same).abs() < 1e-6
        return
    objective, student = built(name), with_gradients(teacher)
    first = float(called(objective, student, teacher, context).detach())
    parts = [student.embedding, student.logits, student.feature, student.maps]
    optimiser = torch.optim.Adam([*objective.parameters(), *parts], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss = called(objective, student, teacher, context)
        loss.backward()
        optimiser.step()
    assert loss < 0.75 * first


@every
def test_it_is_built_on_another_device(name):
    """The meta device holds shapes alone: whatever is made on the CPU in passing would be refused there."""
    objective = built(name).to("meta")
    if name in ("norm_direction", "trilateral_ratio"):
        return  # which crops are somebody's is asked of the data
    _, student, teacher, context = scene()
    on = {
        field: getattr(context, field).to("meta")
        for field in ("rows", "people", "cameras", "halves", "everyone", "labels")
    }
    moved = dataclasses.replace(context, start=context.start.to("meta"), **on)
    try:
        loss = objective(student=student.to("meta"), teacher=teacher.to("meta"), context=moved)
    except RuntimeError as error:
        assert "meta" in str(error) and ("data" in str(error) or "item" in str(error)), error
    else:
        assert loss.device.type == "meta"


@every
def test_unknown_settings_are_refused_by_name(name):
    with pytest.raises(ConfigError, match=rf"distil\.objectives\.{name}: unknown key 'wieght'"):
        find_objectives({name: {"wieght": 2.0}})


@every
def test_what_it_needs_and_nobody_gives_is_refused_by_name(name, tmp_path):
    asked = find_objectives({name: 1.0})
    for need in asked[name].needs:
        with pytest.raises(TrainingError, match=rf"objective '{name}': needs {need}, got embeddings"):
            AppliedObjectives.of(asked, SIZES, asked[name].needs - {need}, scene()[0], Run(tmp_path, 0))


# --- in the loop: a stopped run goes on to the last bit; the export knows nothing of them


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objectives")
    tints = {"gate": (0.7, 0.9, 1.1), "plaza": (1.2, 1.0, 0.7)}
    return source_set(folder), {camera: target_set(folder, camera, tint) for camera, tint in tints.items()}


SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=6)


@pytest.fixture(scope="module")
def outputs(sets):
    wants = ("feature", "maps", "halves")
    found = {}
    for number, (camera, target) in enumerate(sets[1].items()):
        own = compute_teacher_outputs(build_embedder(SPEC, seed=10 + number), target, PREPROCESS, wants=wants)
        found[camera] = dataclasses.replace(own, everyone=torch.stack([own.logits, own.logits.flip(1)], dim=1))
    return found


def run_distil(folder, sets, outputs, objectives, progress=lambda *_: None):
    folder.mkdir(parents=True, exist_ok=True)
    settings = DistilSettings(
        steps=4, source_identities=3, source_pictures=2, target_identities=6, target_pictures=3, checkpoint_seconds=0,
        augmentation=("flip",),
    )  # fmt: skip
    student = build_embedder(SPEC, seed=2)
    return distil(
        student,
        outputs,
        sets[1],
        sets[0],
        PREPROCESS,
        settings,
        Run(folder, 0),
        progress,
        objectives=objectives,
        source_logits=torch.randn(len(sets[0]), 6, generator=torch.Generator().manual_seed(0)),
    )


def stopped_and_resumed(folder, sets, outputs, objectives):
    def stop(part, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_distil(folder, sets, outputs, objectives(), stop)
    return run_distil(folder, sets, outputs, objectives())


def check_resumes_exactly(folder, sets, outputs, objectives):
    whole = run_distil(folder / "whole", sets, outputs, objectives())
    assert same_weights(whole, stopped_and_resumed(folder / "stopped", sets, outputs, objectives))
    return whole


def test_all_together_resume_exactly_and_leave_no_weight_in_the_student(sets, outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "now", itertools.count().__next__)
    everything = dict.fromkeys(OBJECTIVES, 0.3)
    assert needs_of(find_objectives(everything)) >= {
        "logits",
        "feature",
        "maps",
        "halves",
        "everyone",
        "start",
        "source",
    }
    student = check_resumes_exactly(tmp_path, sets, outputs, lambda: find_objectives(everything))
    assert student.state_dict().keys() == build_embedder(SPEC, seed=2).state_dict().keys()
    recorded = (tmp_path / "whole/metrics.jsonl").read_text(encoding="utf-8")
    prefix = {"teacher": "gate", "all": "target", "source": "source"}
    assert all(f'"{prefix[kind.over]}/{name}"' in recorded for name, (_, kind) in OBJECTIVES.items())


# --- mutants: each of these must be caught by the rule above that it breaks


class Mutant(Objective):
    """Squared distance of logits, broken in one way."""

    def forward(self, *, student, teacher, context):
        return self.compare(student.logits, teacher.logits, context)


class LearnsNothing(Mutant):
    def compare(self, student, teacher, context):
        return (student.detach() - teacher).square().mean() + 0.0 * student.sum()


class CountsTheOrder(Mutant):
    def compare(self, student, teacher, context):
        return ((student - teacher).square().mean(1) * torch.arange(len(student))).mean()


class ForgetsItsState(Mutant):
    """A moving mean that no state holds."""

    def __init__(self):
        super().__init__()
        self.mean = 1.0

    def compare(self, student, teacher, context):
        self.mean = 0.5 * self.mean + float(student.detach().square().mean())
        return (student - teacher).square().mean() * self.mean


def test_mutant_a_student_that_learns_nothing_is_caught():
    with pytest.raises(AssertionError, match="learns nothing"):
        check_finite_with_gradient(LearnsNothing())


def test_mutant_one_that_counts_the_order_is_caught():
    with pytest.raises(AssertionError):
        check_order_of_the_batch_does_not_count(CountsTheOrder())


def test_mutant_a_teacher_that_is_not_detached_is_caught(monkeypatch):
    monkeypatch.setattr("reid_mtda.train.objectives.applied.detached", lambda output: output)
    attached = type("Attached", (Mutant,), {"compare": lambda self, s, t, c: (s - t).square().mean()})()
    with pytest.raises(AssertionError):
        check_no_gradient_to_the_teacher(attached)


def test_mutant_a_state_that_is_not_saved_is_caught(sets, outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "now", itertools.count().__next__)
    asked = {"mutant": AskedObjective(lambda sizes: ForgetsItsState())}
    with pytest.raises(AssertionError):
        check_resumes_exactly(tmp_path, sets, outputs, lambda: asked)
