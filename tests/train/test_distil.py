"""Distillation: what each teacher teaches, on whose crops, in which share; the averaged student."""

import json

import numpy as np
import pytest
import torch
from builders import PREPROCESS, same_weights, source_set, target_set

from reid_mtda.data.batches import Pictures, load_pictures
from reid_mtda.data.samplers import PKSampler
from reid_mtda.errors import DataError, TrainingError
from reid_mtda.models.embedder import EmbedderSpec, build_embedder, joined_outputs
from reid_mtda.runs import Run
from reid_mtda.train import distil as module
from reid_mtda.train import distil_losses as losses
from reid_mtda.train.common import embed_pictures, geometric_ramp, update_average
from reid_mtda.train.distil import distil
from reid_mtda.train.distil_batches import SourceBatches, TargetBatches, joining_steps
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.objectives.objective import AskedObjective
from reid_mtda.train.prototypes import Prototypes
from reid_mtda.train.pruning import kept_rows, pruned
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs, compute_teacher_outputs
from reid_mtda.types import UnlabelledSet

SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=6)
SMALL = {
    "steps": 3, "source_identities": 3, "source_pictures": 2, "target_identities": 6, "target_pictures": 3,
    "augmentation": ("flip",),
}  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distil")
    tints = {"gate": (0.7, 0.9, 1.1), "plaza": (1.2, 1.0, 0.7)}
    return source_set(folder), {camera: target_set(folder, camera, tint) for camera, tint in tints.items()}


def lessons_of(targets):
    return {
        camera: compute_teacher_outputs(build_embedder(SPEC, seed=10 + n), target, PREPROCESS)
        for n, (camera, target) in enumerate(targets.items())
    }


def run_distil(folder, sets, teacher_outputs=None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    source, targets = sets
    return distil(
        build_embedder(SPEC, seed=2), teacher_outputs or lessons_of(targets), targets, source, PREPROCESS,
        DistilSettings(**{**SMALL, **settings}), Run(folder, 0),
    )  # fmt: skip


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_camera_is_heard_and_beta_grows(sets, tmp_path):
    run_distil(tmp_path, sets, steps=6)
    found = records(tmp_path)
    assert {"gate/logits", "gate/rows", "plaza/logits", "plaza/rows", "source/identity", "target/triplet"} <= {
        key for record in found for key in record
    }
    assert [record["beta"] for record in found] == [geometric_ramp(0.3, 0.9, step / 6) for step in range(6)]


def test_each_teacher_teaches_its_own_cameras_crops(sets, tmp_path, monkeypatch):
    """Teacher outputs that tell camera and row: what reaches the loss must belong to the pictures in the batch."""
    targets = sets[1]
    crops = {camera: len(target) for camera, target in targets.items()}
    teacher_outputs = {
        camera: TeacherOutputs(
            embedding=torch.nn.functional.normalize(torch.randn(n, 16), dim=1),
            logits=torch.stack([torch.full((n,), float(number)), torch.arange(n).float(), *torch.zeros(4, n)], dim=1),
        )
        for number, (camera, n) in enumerate(crops.items())
    }
    pictures = {camera: load_pictures(target.paths, PREPROCESS) for camera, target in targets.items()}
    units, seen = [], []
    load, kl = module.load_pictures, losses.soft_target_loss

    def watched_load(paths, preprocess):
        loaded = load(paths, preprocess)
        if len(paths) == sum(crops.values()):
            units.append(loaded.resized)
        return loaded

    def watched_kl(*, student, teacher, temperature):
        seen.append(teacher[:, :2].long().tolist())
        return kl(student=student, teacher=teacher, temperature=temperature)

    monkeypatch.setattr(module, "load_pictures", watched_load)
    monkeypatch.setattr(losses, "soft_target_loss", watched_kl)
    monkeypatch.setattr(losses, "similarity_rows_loss", lambda **roles: roles["student"].sum() * 0)
    run_distil(tmp_path, sets, teacher_outputs=teacher_outputs)
    names = list(crops)
    for rows in seen:
        assert len({camera for camera, _ in rows}) == 1, "a teacher spoke of another camera's crops"
    for number, row in (pair for rows in seen for pair in rows):
        offset = sum(crops[name] for name in names[:number])
        assert np.array_equal(units[0][offset + row], pictures[names[number]].resized[row])


def test_a_ready_made_teacher_without_logits_teaches_by_similarity(sets, tmp_path):
    teacher_outputs = {
        camera: TeacherOutputs(teacher_output.embedding, None) for camera, teacher_output in lessons_of(sets[1]).items()
    }
    run_distil(tmp_path, sets, teacher_outputs=teacher_outputs)
    keys = {key for record in records(tmp_path) for key in record}
    assert {"gate/rows", "plaza/rows"} <= keys and not {"gate/logits", "plaza/logits"} & keys


@pytest.mark.parametrize("weight", ["logits_weight", "rows_weight", "identity_weight"])
def test_a_part_of_weight_zero_is_zero(sets, tmp_path, weight):
    run_distil(tmp_path, sets, **{weight: 0.0})
    part = {"logits_weight": "/logits", "rows_weight": "/rows", "identity_weight": "target/triplet"}[weight]
    found = [value for record in records(tmp_path) for key, value in record.items() if key.endswith(part)]
    assert found and not any(found)


def test_a_student_that_agrees_has_nothing_to_learn_from_its_teacher(sets, tmp_path):
    targets = sets[1]
    student = build_embedder(SPEC, seed=2).eval()
    teacher_output = compute_teacher_outputs(student, targets["gate"], PREPROCESS)
    again = embed_pictures(student, load_pictures(targets["gate"].paths, PREPROCESS))
    loss = losses.soft_target_loss(student=again.logits, teacher=teacher_output.logits, temperature=4.0)
    rows = losses.similarity_rows_loss(student=again.embedding, teacher=teacher_output.embedding, temperature=0.2)
    assert float(loss) == pytest.approx(0, abs=1e-6) and float(rows) == pytest.approx(0, abs=1e-6)


def test_the_average_moves_weights_and_buffers_and_is_the_result(sets, tmp_path):
    a, b = (build_embedder(SPEC, seed=seed) for seed in (0, 1))
    b.train()(torch.randn(4, 3, 32, 16))
    wanted = {name: value.clone() for name, value in a.state_dict().items()}
    update_average(a, b, 0.75)
    for name, value in a.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * wanted[name] + 0.25 * b.state_dict()[name])
    update_average(a, b, 0.0)
    assert same_weights(a, b)
    averaged = run_distil(tmp_path / "ema", sets)
    assert not same_weights(averaged, run_distil(tmp_path / "fast", sets, ema=0.01)) and not averaged.training


def test_source_weight_zero_is_a_run_without_a_source(sets, tmp_path):
    """KD-ReID distils on target data alone: no source picture may move weights or statistics."""
    without = run_distil(tmp_path / "none", (None, sets[1]))
    assert same_weights(without, run_distil(tmp_path / "zero", sets, source_weight=0.0))
    assert not same_weights(without, run_distil(tmp_path / "some", sets, source_weight=1e-6))
    found = records(tmp_path / "zero")
    assert not any(key.startswith("source/") for record in found for key in record)
    assert [record["beta"] for record in found] == [1.0] * 3


def test_a_student_without_classifier_still_hears_the_source(sets, tmp_path):
    bare = SPEC.model_copy(update={"num_classes": None})
    distil(
        build_embedder(bare, seed=2), lessons_of(sets[1]), sets[1], sets[0], PREPROCESS, DistilSettings(**SMALL),
        Run(tmp_path, 0),
    )  # fmt: skip
    keys = {key for record in records(tmp_path) for key in record}
    assert "source/triplet" in keys and not {"source/identity", "gate/logits"} & keys


def test_a_ready_made_teacher_of_two_cameras_teaches_across_them_beside_an_adapted_one(sets, tmp_path):
    """Different sizes of embeddings; one space for the two, one for the third."""
    targets = {"gate": sets[1]["gate"], "hall": sets[1]["gate"], "plaza": sets[1]["plaza"]}
    teacher_outputs = lessons_of(targets)
    for name in ("gate", "hall"):
        rows = torch.nn.functional.normalize(torch.randn(len(targets[name]), 5), dim=1)
        teacher_outputs[name] = TeacherOutputs(rows, None, teacher_id="model")
    run_distil(tmp_path, (sets[0], targets), teacher_outputs, identity_weight=0.0)
    keys = {key for record in records(tmp_path) for key in record}
    assert {"model/rows", "plaza/rows", "plaza/logits"} <= keys
    assert not {"model/logits", "gate/rows", "hall/rows", "gate/logits"} & keys


def test_the_order_of_lessons_does_not_matter(sets, tmp_path):
    teacher_outputs = lessons_of(sets[1])
    turned = dict(reversed(teacher_outputs.items()))
    first, second = (run_distil(tmp_path / str(n), sets, given) for n, given in enumerate((teacher_outputs, turned)))
    assert list(turned) != list(teacher_outputs) and same_weights(first, second)


def test_a_lesson_of_other_crops_is_refused(sets, tmp_path):
    teacher_outputs = lessons_of(sets[1])
    teacher_outputs["gate"] = TeacherOutputs(teacher_outputs["gate"].embedding[1:], teacher_outputs["gate"].logits[1:])
    with pytest.raises(
        DataError, match=r"got a teacher output for 19 crops, expected 20, those of gate; compute it again"
    ):
        run_distil(tmp_path, sets, teacher_outputs)


def test_each_domain_is_passed_alone_or_all_together(sets):
    model = build_embedder(SPEC, seed=0).train()
    domains = [torch.rand(4, 3, 32, 16), 3 * torch.rand(6, 3, 32, 16)]
    together, apart = (
        joined_outputs(module.pass_domains(model, torch.cat(domains), [4, 6], kind))
        for kind in ("shared", "per_domain")
    )
    assert together.embedding.shape == apart.embedding.shape == (10, model.embedding_dim)
    torch.testing.assert_close(apart.embedding[:4], model(domains[0]).embedding)
    torch.testing.assert_close(apart.logits[4:], model(domains[1]).logits)
    assert not torch.allclose(together.embedding, apart.embedding, atol=1e-3)


def test_statistics_of_a_domain_come_from_its_crops_alone(sets, tmp_path, monkeypatch):
    """A camera with few crops in a batch sits the step out; nobody else's statistics are lent to it."""
    passed = []
    forward = module.pass_domains

    def watched(model, pictures, sizes, batchnorm):
        passed.append(sizes)
        return forward(model, pictures, sizes, batchnorm)

    monkeypatch.setattr(module, "pass_domains", watched)
    apart = {"batchnorm": "per_domain", "cross_camera": False}
    run_distil(tmp_path / "three", sets, **apart, steps=12, target_identities=3, target_pictures=3)
    assert {tuple(sizes) for sizes in passed} <= {(6, 3, 6), (6, 6, 3), (6, 6), (6, 9)}
    assert all(size >= 4 for sizes in passed for size in sizes)
    assert (6, 6) in {tuple(sizes) for sizes in passed}, "no batch of the test had a camera with too few crops"
    passed.clear()
    run_distil(tmp_path / "none", sets, **apart, target_identities=2, target_pictures=2)
    assert {len(sizes) for sizes in passed} == {2}, "crops too few for any camera go together"


def test_crops_of_nobody_are_never_in_a_batch(sets, tmp_path, monkeypatch):
    targets = sets[1]
    gate = targets["gate"]
    nobody = np.where(np.arange(len(gate)) < 8, -1, gate.tracklets)
    seen = []
    pick = PKSampler.batch
    monkeypatch.setattr(PKSampler, "batch", lambda self, step: seen.append(pick(self, step)) or seen[-1])
    run_distil(tmp_path, (None, {**targets, "gate": UnlabelledSet(gate.paths, "gate", nobody)}), steps=8)
    rows = set(np.concatenate(seen).tolist())
    assert not rows & set(range(8)) and rows & set(range(8, 20))


def test_a_camera_without_people_is_told(sets, tmp_path, caplog):
    source, targets = sets
    lonely = {**targets, "hall": UnlabelledSet(targets["gate"].paths[:3], "hall", np.full(3, -1))}
    run_distil(tmp_path, (source, lonely))
    assert "hall: none of its crops belongs to a person found; its teacher is left out" in caplog.text
    assert "gate" not in caplog.text


def test_strangers_are_sought_within_a_camera_of_a_set_alone(sets, tmp_path, monkeypatch):
    gate = sets[1]["gate"]
    cameras = np.arange(len(gate)) % 2
    whole = UnlabelledSet(gate.paths, "set", gate.tracklets * 2 + cameras, cameras)
    batches, told = [], []
    pick, triplet = PKSampler.batch, losses.triplet_loss
    monkeypatch.setattr(PKSampler, "batch", lambda self, step: batches.append(pick(self, step)) or batches[-1])
    monkeypatch.setattr(losses, "triplet_loss", lambda **roles: told.append(roles["negative_mask"]) or triplet(**roles))
    run_distil(tmp_path, (None, {"set": whole}))
    wanted = [(cameras[rows][:, None] == cameras[rows]).tolist() for rows in batches]
    assert [negatives.tolist() for negatives in told] == wanted and len(told) == 3


def lessons_with_recombined(targets, count=7):
    return {
        camera: compute_teacher_outputs(build_embedder(SPEC, seed=10 + n), target, PREPROCESS, part_mixed=count, seed=n)
        for n, (camera, target) in enumerate(targets.items())
    }


def test_a_lesson_of_recombined_crops_says_of_each_what_its_teacher_says(sets):
    target = sets[1]["gate"]
    teacher = build_embedder(SPEC, seed=10)
    own, extra = compute_teacher_outputs(teacher, target, PREPROCESS, part_mixed=5, seed=1).parted()
    plain = compute_teacher_outputs(teacher, target, PREPROCESS)
    torch.testing.assert_close(own.embedding, plain.embedding)
    torch.testing.assert_close(own.logits, plain.logits)
    again = embed_pictures(teacher, Pictures(extra.part_mixed, PREPROCESS))
    assert len(extra.part_mixed) == len(extra.embedding) == 5
    torch.testing.assert_close(extra.embedding, again.embedding)


@pytest.mark.parametrize("batchnorm", ["shared", "per_domain"])
def test_recombined_crops_reach_the_student_with_their_own_lesson(sets, tmp_path, monkeypatch, batchnorm):
    """Teachers that agree with the student on everything but part-mixed crops: their rows are all there is to learn."""
    seen = []

    def watched(*, student, teacher, temperature):
        seen.append((len(student), teacher.shape[1]))
        return student.sum() * 0

    monkeypatch.setattr(losses, "similarity_rows_loss", watched)
    teacher_outputs = lessons_with_recombined(sets[1])
    settings = {"part_mixed": 7, "part_mixed_pictures": 6, "batchnorm": batchnorm}
    run_distil(tmp_path / "with", sets, teacher_outputs=teacher_outputs, **settings)
    with_extra = sum(count for count, _ in seen)
    seen.clear()
    plain = {camera: teacher_output.parted()[0] for camera, teacher_output in teacher_outputs.items()}
    run_distil(tmp_path / "without", sets, teacher_outputs=plain, **settings)
    assert with_extra == sum(count for count, _ in seen) + 3 * 2 * 3  # steps, cameras, part-mixed a camera


def test_recombined_crops_make_no_people(sets):
    with_extra, plain = (
        TargetPool.of(sets[1], teacher_outputs)
        for teacher_outputs in (lessons_with_recombined(sets[1]), lessons_of(sets[1]))
    )
    assert len(with_extra.paths) == len(plain.paths) == len(with_extra.target)
    people = [t.pseudo_identities(t.embeddings(), cross_camera=True) for t in (with_extra, plain)]
    assert np.array_equal(*people)


def batches_of(monkeypatch):
    """The crops of every target batch, as ``Pictures.unit`` is asked for them."""
    seen, pick = [], PKSampler.batch
    monkeypatch.setattr(PKSampler, "batch", lambda self, step: seen.append(pick(self, step)) or seen[-1])
    return seen


def test_the_camera_nearest_to_the_source_joins_first(sets, tmp_path, monkeypatch):
    """One camera's crops are the source's own pictures: it begins, the tinted one comes after half of the steps."""
    source, targets = sets
    near = UnlabelledSet(source.paths, "near", source.labels)
    given = {"plaza": targets["plaza"], "near": near}
    far, seen = len(targets["plaza"]), []
    draw = TargetBatches._forwarded
    monkeypatch.setattr(TargetBatches, "_forwarded", lambda self, rows: seen.append(rows) or draw(self, rows))
    run_distil(tmp_path / "easy", (source, given), steps=8, easy_first=0.5)
    assert [bool((rows < far).any()) for rows in seen] == [False] * 4 + [True] * 4
    assert all((rows >= far).any() for rows in seen)
    recorded = [{key for key in record if key.startswith("plaza")} for record in records(tmp_path / "easy")]
    assert not any(recorded[:4]) and all(recorded[4:])


def test_an_order_by_the_source_wants_a_source(sets, tmp_path):
    with pytest.raises(DataError, match="easy_first orders cameras by their distance to the source"):
        run_distil(tmp_path, (None, sets[1]), easy_first=0.5)


def test_simultaneous_tracklets_alone_are_strangers(sets, tmp_path, monkeypatch):
    """Person n is in view from n to n + 1: neighbours in time overlap, the others, the untimed too, do not."""
    targets = {}
    for name, target in sets[1].items():
        first = target.tracklets.astype(float) - target.tracklets.min()
        spans = np.stack([first, first + 1.0], axis=1)
        spans[first == 4] = np.nan
        targets[name] = UnlabelledSet(target.paths, name, target.tracklets, spans=spans)
    told, triplet, seen = [], losses.triplet_loss, batches_of(monkeypatch)
    monkeypatch.setattr(losses, "triplet_loss", lambda **roles: told.append(roles["negative_mask"]) or triplet(**roles))
    run_distil(tmp_path, (None, targets), negatives="simultaneous")
    person = np.concatenate([target.tracklets - target.tracklets.min() for target in targets.values()])
    camera = np.repeat([0, 1], [len(target) for target in targets.values()])
    for rows, negatives in zip(seen, told, strict=True):
        for a, row in enumerate(rows):
            for b, other in enumerate(rows):
                near = abs(person[row] - person[other]) <= 1 and 4 not in (person[row], person[other])
                assert bool(negatives[a, b]) == (near and camera[row] == camera[other])


def test_a_teachers_people_are_a_class_space_for_a_student_of_another_size(sets):
    """Soft targets over the people of its own cameras alone, each crop nearest to its own person; so the student."""
    targets = sets[1]
    rng = np.random.default_rng(0)
    people = {name: target.tracklets - target.tracklets.min() for name, target in targets.items()}
    teacher_outputs = {
        name: TeacherOutputs(
            torch.eye(8)[people[name]] if name == "gate" else torch.eye(5)[people[name]], None, teacher_id=name
        )
        for name in targets
    }
    pool = TargetPool.of(targets, teacher_outputs)
    identities = np.concatenate([people["gate"], people["plaza"] + 5])
    identities[:3] = -1
    embeddings = np.linalg.qr(rng.normal(size=(16, 16)))[0][np.maximum(identities, 0)].astype(np.float32)
    prototypes = Prototypes.of(pool, identities, embeddings)
    assert prototypes.memory.tensor.shape == (10, 16) and prototypes.seen.sum() == 10
    own = np.arange(3, 10)
    student, teacher = prototypes.logits(
        "gate", torch.from_numpy(embeddings[own]), torch.eye(8)[people["gate"][own]], 1
    )
    assert student.shape == teacher.shape == (7, 5)
    assert teacher.argmax(1).tolist() == student.argmax(1).tolist() == people["gate"][own].tolist()
    within = prototypes.memory_loss(torch.from_numpy(embeddings[own]), own, temperature=1.0, cameras=pool.camera[own])
    everywhere = prototypes.memory_loss(torch.from_numpy(embeddings[own]), own, temperature=1.0)
    assert float(within) == pytest.approx(np.log(np.e + 4) - 1, rel=1e-5)
    assert float(everywhere) == pytest.approx(np.log(np.e + 9) - 1, rel=1e-5)


def test_centroids_follow_the_student_and_only_people_in_the_batch_move(sets):
    targets = sets[1]
    teacher_outputs = lessons_of(targets)
    pool = TargetPool.of(targets, teacher_outputs)
    identities = np.repeat(np.arange(len(pool.target) // 4), 4)
    prototypes = Prototypes.of(pool, identities, np.eye(16, dtype=np.float32)[identities])
    before = prototypes.memory.tensor
    prototypes.follow(torch.eye(16)[[15, 15]], np.array([0, 1]), momentum=0.0)
    assert torch.equal(prototypes.memory.tensor[1:], before[1:])
    assert torch.equal(prototypes.memory.tensor[0], torch.eye(16)[15])


@pytest.fixture
def watched(monkeypatch):
    """What the loop asks of its prototypes, call by call, and which calls of ``soft_target_loss`` are about them."""
    calls = {"logits": [], "memory_loss": [], "follow": [], "kl": [], "of": []}
    for name in ("logits", "memory_loss", "follow"):
        method = getattr(Prototypes, name)

        def watch(self, *given, method=method, name=name, **named):
            answer = method(self, *given, **named)
            calls[name].append((self, given, named, answer))
            return answer

        monkeypatch.setattr(Prototypes, name, watch)
    of, kl = Prototypes.of, losses.soft_target_loss
    monkeypatch.setattr(Prototypes, "of", lambda *given: calls["of"].append(given) or of(*given))

    def watched_kl(**roles):
        loss = kl(**roles)
        if calls["logits"] and roles["student"] is calls["logits"][-1][3][0]:
            calls["kl"].append((roles, float(loss.detach())))
        return loss

    monkeypatch.setattr(losses, "soft_target_loss", watched_kl)
    return calls


def check_prototypes(folder, sets, watched, **settings):
    """The recorded parts are what equations say of the embeddings that reached them."""
    settings = {"steps": 4, "prototype_weight": 0.7, "memory_weight": 0.4, "temperature": 3.0, **settings}
    settings |= {"memory_temperature": 0.2, "memory_momentum": 0.25}
    run_distil(folder, sets, **settings)
    found = records(folder)
    spaces = list(sets[1])
    assert len(watched["logits"]) == len(watched["kl"]) == 4 * len(spaces) and len(watched["follow"]) == 4
    for number, ((held, (space, student, teacher, temperature), _, answer), (roles, loss)) in enumerate(
        zip(watched["logits"], watched["kl"], strict=True)
    ):
        slots, centroids = held.taught[space]
        assert temperature == 0.2 and roles["temperature"] == 3.0 and roles["teacher"] is answer[1]
        assert student.requires_grad and not teacher.requires_grad
        torch.testing.assert_close(answer[1], teacher @ centroids.T / 0.2)
        log_student, log_teacher = (torch.log_softmax(logits / 3, 1) for logits in answer)
        wanted = 9 * (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean()
        assert loss == pytest.approx(float(wanted.detach()), rel=1e-4) and len(slots) == len(centroids)
        record = found[number // len(spaces)]
        assert record[f"{space}/prototypes"] == pytest.approx(record["beta"] / len(spaces) * 0.7 * loss, rel=1e-4)
    pool = watched["of"][0][0]
    for record, (held, (embeddings, rows), named, loss), (_, followed, momentum, _) in zip(
        found, watched["memory_loss"], watched["follow"], strict=True
    ):
        assert named["temperature"] == 0.2 and momentum == {"momentum": 0.25}
        assert np.array_equal(named["cameras"], pool.camera[rows]) and followed[1] is rows
        assert followed[0] is embeddings and embeddings.requires_grad
        assert (held.people[torch.from_numpy(rows)] >= 0).all()
        assert record["target/memory"] == pytest.approx(record["beta"] * 0.4 * float(loss.detach()), rel=1e-4)


def test_prototypes_teach_what_their_equations_say(sets, tmp_path, watched):
    check_prototypes(tmp_path, sets, watched)
    assert len(watched["of"]) == 1


def scale_to_nothing(monkeypatch):
    kl = losses.soft_target_loss
    monkeypatch.setattr(losses, "soft_target_loss", lambda **roles: 0.0 * kl(**roles))


def swap_roles(monkeypatch):
    logits = Prototypes.logits
    monkeypatch.setattr(Prototypes, "logits", lambda self, *given: logits(self, *given)[::-1])


def tell_apart_everywhere(monkeypatch):
    loss = Prototypes.memory_loss
    monkeypatch.setattr(Prototypes, "memory_loss", lambda self, *given, cameras, **named: loss(self, *given, **named))


def follow_the_other_way(monkeypatch):
    follow = Prototypes.follow
    monkeypatch.setattr(
        Prototypes, "follow", lambda self, *given, momentum: follow(self, *given, momentum=1 - momentum)
    )


@pytest.mark.parametrize("mutant", [scale_to_nothing, swap_roles, tell_apart_everywhere, follow_the_other_way])
def test_prototypes_that_teach_something_else_are_caught(mutant, sets, tmp_path, monkeypatch, request):
    watched = request.getfixturevalue("watched")
    mutant(monkeypatch)
    with pytest.raises((AssertionError, KeyError, TypeError)):
        check_prototypes(tmp_path, sets, watched)


def test_parts_of_weight_zero_are_not_computed(sets, tmp_path, watched):
    run_distil(tmp_path, sets)
    assert not any(watched.values())


def test_simultaneous_strangers_want_times(sets, tmp_path):
    with pytest.raises(DataError, match="needs to know when tracklets were in view, and no crop says so"):
        run_distil(tmp_path, sets, negatives="simultaneous")


def test_more_cameras_join_where_one_shows_nobody_else(sets, tmp_path):
    """The nearest camera shows one person: alone it could teach nothing, so the next one joins at once."""
    source, targets = sets
    alone = UnlabelledSet(source.paths, "alone", np.zeros(len(source), np.int64))
    run_distil(tmp_path, (source, {"alone": alone, "plaza": targets["plaza"]}), steps=4, easy_first=0.5)
    assert all("plaza/rows" in record for record in records(tmp_path))


def test_the_cameras_that_joined_share_the_targets_weight(sets, tmp_path, monkeypatch):
    source, targets = sets
    given = {"plaza": targets["plaza"], "near": UnlabelledSet(source.paths, "near", source.labels)}
    monkeypatch.setattr(losses, "similarity_rows_loss", lambda **roles: roles["student"].sum() * 0 + 1)
    run_distil(tmp_path, (source, given), steps=4, easy_first=0.5)
    found = records(tmp_path)
    shares = [[record.get(f"{name}/rows", 0) / record["beta"] for name in ("near", "plaza")] for record in found]
    assert shares == [pytest.approx([1, 0])] * 2 + [pytest.approx([0.5, 0.5])] * 2


def test_a_camera_of_few_crops_is_not_far_for_that(sets, tmp_path):
    """Both cameras show the source's pictures, one a few of them: neither is farther than the other by much."""
    source = sets[0]
    student = build_embedder(SPEC, seed=2)
    few = UnlabelledSet(source.paths[::4], "few", source.labels[::4])  # one picture of each person
    given = {"few": few, "many": UnlabelledSet(source.paths, "many", source.labels)}
    pool = TargetPool.of(
        given, {name: compute_teacher_outputs(student, target, PREPROCESS) for name, target in given.items()}
    )
    people = SourceBatches.of(source, PREPROCESS, p=3, k=2, run=Run(tmp_path, 0))
    pictures, firsts = load_pictures(pool.paths, PREPROCESS), []
    for seed in range(20):
        steps = joining_steps(student, people, pictures, pool, last=10, rng=np.random.default_rng(seed))
        assert sorted(steps) == [0, 10]
        firsts.append(int(steps.argmin()))
    assert 3 <= sum(firsts) <= 17, "the number of crops decides"


def test_statistics_of_one_crop_are_the_networks_own(sets, tmp_path):
    one = UnlabelledSet(sets[1]["plaza"].paths[:1], "one", np.zeros(1, np.int64))
    targets = {"gate": sets[1]["gate"], "one": one}
    run_distil(tmp_path, (sets[0], targets), batchnorm="per_domain", memory_weight=1.0)


def test_an_objective_of_ones_own_joins_each_teachers_parts(sets, tmp_path):
    def nearness(*, student, teacher):
        return (student.embedding.mean() - teacher.embedding.mean()).square()

    folder = tmp_path / "own"
    folder.mkdir()
    distil(
        build_embedder(SPEC, seed=2), lessons_of(sets[1]), sets[1], sets[0], PREPROCESS, DistilSettings(**SMALL),
        Run(folder, 0), objectives={"nearness": AskedObjective.of(nearness, 0.5)},
    )  # fmt: skip
    assert all({"gate/nearness", "plaza/nearness"} <= record.keys() for record in records(folder))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda *, student, teacher: student.embedding.sum(1),
            r"objective 'mine': got a tensor \(\d+,\), expected one",
        ),
        (lambda *, student, teacher: 3.0, "objective 'mine': got float, expected a tensor of one number"),
        (lambda *, student, teacher: student.embedding.sum() * float("nan"), "step 0: loss part 'gate/mine' is nan"),
    ],
)
def test_an_objective_that_gives_no_number_is_refused_by_name(sets, tmp_path, loss, message):
    with pytest.raises(TrainingError, match=message):
        distil(
            build_embedder(SPEC, seed=2), lessons_of(sets[1]), sets[1], sets[0], PREPROCESS, DistilSettings(**SMALL),
            Run(tmp_path, 0), objectives={"mine": AskedObjective.of(loss)},
        )  # fmt: skip


def test_a_share_of_the_crops_is_kept_with_what_is_said_of_them_and_a_smaller_one_lies_in_it(sets, tmp_path):
    outputs, run = lessons_of(sets[1]), Run(tmp_path, 0)
    kept = {share: pruned(sets[1], outputs, share=share, run=run) for share in (0.25, 0.5, 1.0)}
    whole = sets[1]["gate"]
    for share, (crops, said) in kept.items():
        assert len(crops["gate"]) == len(said["gate"].embedding) == round(share * len(whole))
        places = [whole.paths.index(path) for path in crops["gate"].paths]
        assert torch.equal(said["gate"].embedding, outputs["gate"].embedding[places])
        assert np.array_equal(crops["gate"].tracklets, whole.tracklets[places])
    assert set(kept[0.25][0]["gate"].paths) < set(kept[0.5][0]["gate"].paths)
    assert kept[1.0][1]["gate"] is outputs["gate"], "all is what it was"
    assert len(kept_rows(3, 0.01, np.random.default_rng(0))) == 2


def test_a_student_of_half_the_crops_sees_no_other(sets, tmp_path, monkeypatch):
    seen = []
    plain = module.load_pictures
    monkeypatch.setattr(module, "load_pictures", lambda paths, size: seen.append(len(paths)) or plain(paths, size))
    run_distil(tmp_path, sets, keep_share=0.5)
    assert seen[0] == sum(len(target) for target in sets[1].values()) // 2
