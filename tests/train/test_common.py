"""What the loops share: frozen teachers, seeded steps, exact resume, a stop at the first bad number, schedules."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from reid_mtda.data.batches import Pictures
from reid_mtda.errors import ModelError, TrainingError
from reid_mtda.models.classifier import ClassifierSpec, build_classifier
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train import resume
from reid_mtda.train.common import (
    cosine_decay,
    embed_pictures,
    frozen,
    geometric_ramp,
    inverse_decay,
    optimise,
    rate_groups,
    recompute_batchnorm,
    seeded_step,
    set_learning_rate,
    telling_what_fits,
)
from reid_mtda.train.resume import Resumable
from reid_mtda.types import Preprocess


def embedder():
    return build_embedder(EmbedderSpec(arch="resnet10_w4", num_classes=3), seed=0)


def pictures(count=12):
    rng = np.random.default_rng(0)
    return Pictures(rng.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8), Preprocess(16, 16))


def states_agree(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_frozen_teacher_has_no_gradient_and_its_buffers_stand_still():
    teacher = frozen(embedder())
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    output = teacher(torch.randn(4, 3, 16, 16))
    assert not output.embedding.requires_grad
    assert states_agree(before, teacher.state_dict())


def test_a_network_that_is_not_frozen_drifts():
    """The mutant of the test above: in train mode one forward moves BatchNorm's buffers."""
    teacher = embedder().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher(torch.randn(4, 3, 16, 16))
    assert not states_agree(before, teacher.state_dict())


def test_a_seeded_step_repeats_itself_and_leaves_the_generator_alone(tmp_path):
    run = Run(tmp_path, seed=1)
    state = torch.random.get_rng_state()
    with seeded_step(run, 5):
        first = torch.rand(3)
    with seeded_step(run, 5):
        again = torch.rand(3)
    with seeded_step(run, 6):
        other = torch.rand(3)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_loss_stops_with_the_step_and_the_part_and_changes_nothing(bad):
    weight = nn.Parameter(torch.ones(2))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    parts = {"classes": weight.sum(), "alignment": weight.sum() * bad}
    with pytest.raises(TrainingError, match=r"teacher of gate, step 17: loss part 'alignment' is (nan|inf)"):
        optimise(optimiser, parts, where="teacher of gate", step=17)
    assert torch.equal(weight.detach(), torch.ones(2))


def test_a_loss_part_that_is_no_number_is_refused_by_name():
    weight = nn.Parameter(torch.ones(2))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    with pytest.raises(
        TrainingError, match=r"student, step 3: loss part 'mine' has the shape \(2,\), expected one num"
    ):
        optimise(optimiser, {"ours": weight.sum(), "mine": weight * 2}, where="student", step=3)
    assert torch.equal(weight.detach(), torch.ones(2))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried ..."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_says_which_batch_to_try(tmp_path, error):
    class Settings:
        identities_per_batch = 16

    @telling_what_fits("identities_per_batch")
    def loop(settings, run):
        raise error

    with pytest.raises(
        TrainingError, match=r"cpu has too little memory for a step of .*_batch 16; try identities_per_batch=8"
    ):
        loop(Settings(), run=Run(tmp_path, 0))


def test_another_error_is_not_taken_for_too_little_memory(tmp_path):
    @telling_what_fits("identities_per_batch")
    def loop(settings, run):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        loop(None, Run(tmp_path, 0))


def test_optimise_steps_on_the_sum_and_tells_the_parts():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    numbers = optimise(optimiser, {"a": weight[0] * 3, "b": weight[1] * 5}, where="x", step=0)
    assert numbers == {"a": 3.0, "b": 10.0}
    torch.testing.assert_close(weight.detach(), torch.tensor([1 - 0.3, 2 - 0.5]))


@pytest.mark.parametrize("kind", [torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)])
def test_resumed_is_uninterrupted(tmp_path, kind, steps_as_seconds):
    def train(run, stop=None):
        network = nn.Linear(3, 2)
        with torch.no_grad():
            network.weight.fill_(0.1), network.bias.fill_(0.0)
        optimiser = kind(network.parameters(), lr=0.05)
        state = Resumable(run, {"network": network}, {"network": optimiser}, seconds=2)
        for step in range(state.start(), 7):
            if step == stop:
                return None
            with seeded_step(run, step):
                loss = network(torch.randn(4, 3)).square().mean()
            optimise(optimiser, {"loss": loss}, where="x", step=step)
            run.record("x", step=step)
            state.save(step + 1)
        return network.state_dict()

    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = train(Run(tmp_path / "a", seed=0))
    assert train(Run(tmp_path / "b", seed=0), stop=5) is None
    assert states_agree(whole, train(Run(tmp_path / "b", seed=0)))
    lines = (tmp_path / "b/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(7)), "steps done again stand twice"


def test_a_state_of_another_network_is_refused(tmp_path):
    run = Run(tmp_path, seed=0)
    first = nn.Linear(3, 2)
    state_of(run, first).save(1)
    with pytest.raises(TrainingError, match=r"another network 'network'"):
        state_of(run, nn.Linear(4, 2)).start()
    with pytest.raises(TrainingError, match=r"another network 'other' \('other'\); remove"):
        Resumable(run, {"other": first}, {}).start()


def state_of(run, network):
    """Saved at every step."""
    return Resumable(run, {"network": network}, {"network": torch.optim.Adam(network.parameters())}, seconds=0)


def test_a_state_is_saved_every_so_many_seconds_whatever_a_step_takes(tmp_path, monkeypatch):
    seconds = iter([100.0, 159.0, 161.0, 163.0, 222.9, 224.0, 224.5])  # begin; 1; 2: saved; 3; 4: saved
    monkeypatch.setattr(resume, "now", lambda: next(seconds))
    state = Resumable(Run(tmp_path, seed=0), {"n": nn.Linear(3, 2)}, {}, seconds=60)
    kept = []
    for step in range(1, 5):
        state.save(step)
        kept.append(torch.load(state.path)["step"] if state.path.exists() else None)
    assert kept == [None, 2, 2, 4]


def test_optimisers_that_share_a_parameter_are_refused(tmp_path):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    own, other = torch.optim.SGD(a.parameters(), lr=0.1), torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
    Resumable(Run(tmp_path, 0), {}, {"a": own, "b": torch.optim.SGD(b.parameters(), lr=0.1)})
    with pytest.raises(ValueError, match="optimisers share a parameter"):
        Resumable(Run(tmp_path, 0), {}, {"a": own, "b": other})


def test_a_damaged_state_is_to_be_deleted(tmp_path):
    state = state_of(Run(tmp_path, seed=0), nn.Linear(3, 2))
    state.save(1)
    whole = state.path.read_bytes()
    for damaged in (b"", b"damaged", whole[: len(whole) // 2], whole[:200] + b"xxxx" + whole[204:]):
        state.path.write_bytes(damaged)
        with pytest.raises(
            ModelError, match=r"resume\.pt: (not a readable|got a file of) .*; delete it and run the same"
        ):
            state.start()


def test_a_foreign_state_is_refused_and_runs_no_code(tmp_path):
    state = state_of(Run(tmp_path, seed=0), nn.Linear(3, 2))
    state.path.parent.mkdir()
    torch.save({"model": {}, "epoch": 3}, state.path)
    with pytest.raises(
        ModelError, match=r"resume\.pt: got a file of another program, expected a resumable state; dele"
    ):
        state.start()
    torch.save({"kind": Run(tmp_path, 0)}, state.path)  # an object, whose reading would run code
    with pytest.raises(ModelError, match=r"resume\.pt: not a readable state"):
        state.start()


def test_a_state_of_reid_mtda_0_1_is_refused(tmp_path):
    state = state_of(Run(tmp_path, seed=0), nn.Linear(3, 2))
    state.path.parent.mkdir()
    state.path.with_name("resume.safetensors").write_bytes(b"x")
    with pytest.raises(
        ModelError, match=r"resume\.safetensors: is a state of reid-mtda 0\.1, .* not go on with; delete"
    ):
        state.start()


def test_finish_removes_the_state(tmp_path):
    state = state_of(Run(tmp_path, seed=0), nn.Linear(3, 2))
    state.save(1)
    assert state.path.exists()
    state.finish()
    assert state.start() == 0


def test_embedding_a_set_does_not_depend_on_the_batch_nor_on_the_mode():
    model = embedder().train()
    whole, parts = embed_pictures(model, pictures(), batch=12), embed_pictures(model, pictures(), batch=5)
    torch.testing.assert_close(whole.embedding, parts.embedding)
    torch.testing.assert_close(whole.embedding.norm(dim=1), torch.ones(12))
    assert whole.logits.shape == (12, 3) and model.training


def test_recomputed_batchnorm_holds_the_sets_own_statistics():
    model = embedder()
    some = pictures(16)
    recompute_batchnorm(model, some, batch=16)
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    seen = {}
    first.register_forward_hook(lambda m, inputs, output: seen.update(x=inputs[0]))
    with torch.no_grad():
        model.eval()(some.normalised(some.unit(np.arange(16))))
    torch.testing.assert_close(first.running_mean, seen["x"].mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(first.running_var, seen["x"].var((0, 2, 3)), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.5, 6**-0.75), (1.0, 11**-0.75)])
def test_inverse_decay_at_the_ends_and_in_the_middle(progress, share):
    assert inverse_decay(0.01, progress) == pytest.approx(0.01 * share)


def test_a_geometric_ramp_grows_by_equal_factors():
    assert [geometric_ramp(0.1, 0.9, p) for p in (0, 0.5, 1)] == pytest.approx([0.1, 0.3, 0.9])


def test_cosine_decay_warms_up_peaks_and_ends_at_zero():
    rates = [cosine_decay(1.0, p) for p in np.linspace(0, 1, 201)]
    assert rates[0] < 0.05 and max(rates) == pytest.approx(1.0) and rates[-1] == pytest.approx(0.0, abs=1e-9)
    peak = int(np.argmax(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_every_group_gets_the_rate():
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    set_learning_rate(optimiser, 0.03)
    assert [group["lr"] for group in optimiser.param_groups] == [0.03, 0.03]


def test_statistics_do_not_depend_on_dropout():
    """Dropout draws from the global generator: the same seed would give other statistics."""
    model, rows = build_classifier(ClassifierSpec(dropout=0.5), seed=0), np.random.default_rng(0)
    pictures = Pictures(rows.integers(0, 256, (9, 28, 28, 3), np.uint8), Preprocess(28, 28))
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        recompute_batchnorm(model, pictures)
        found.append({name: value.clone() for name, value in model.named_buffers()})
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_head_and_new_parts_learn_faster_and_nothing_is_left_out():
    network, new = build_classifier(ClassifierSpec(), seed=0), nn.Linear(2, 2)
    groups = rate_groups(network, new, head_rate=10.0)
    optimiser = torch.optim.SGD(groups, lr=0.1)
    set_learning_rate(optimiser, 0.03)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.03, 0.3, 0.3])
    here = [{id(p) for p in group["params"]} for group in optimiser.param_groups]
    assert here[0] == {id(p) for p in network.backbone.parameters()}
    assert set().union(*here) == {id(p) for module in (network, new) for p in module.parameters()}
