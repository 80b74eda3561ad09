"""Distillation: what each teacher teaches, on whose crops, in which share; the averaged student."""

import json

import numpy as np
import pytest
import torch
from builders import PREPROCESS, same_weights, source_set, target_set

from reid_mtda.data.batches import load_pictures
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train import distil as module
from reid_mtda.train.common import embed_pictures
from reid_mtda.train.distil import (
    DistilSettings,
    Lesson,
    _Crops,
    _numbered,
    distil,
    give_lesson,
    progressive_beta,
    update_average,
)
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
        camera: give_lesson(build_embedder(SPEC, seed=10 + n), target, PREPROCESS)
        for n, (camera, target) in enumerate(targets.items())
    }


def run_distil(folder, sets, lessons=None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    source, targets = sets
    return distil(
        build_embedder(SPEC, seed=2), lessons or lessons_of(targets), targets, source, PREPROCESS,
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
    assert [record["beta"] for record in found] == [progressive_beta(0.3, 0.9, step / 6) for step in range(6)]


def test_beta_is_geometric():
    assert [progressive_beta(0.1, 0.9, p) for p in (0, 0.5, 1)] == pytest.approx([0.1, 0.3, 0.9])


def test_each_teacher_teaches_its_own_cameras_crops(sets, tmp_path, monkeypatch):
    """Lessons that tell camera and row: what reaches the loss must belong to the pictures in the batch."""
    targets = sets[1]
    crops = {camera: len(target) for camera, target in targets.items()}
    lessons = {
        camera: Lesson(
            embedding=torch.nn.functional.normalize(torch.randn(n, 16), dim=1),
            logits=torch.stack([torch.full((n,), float(number)), torch.arange(n).float(), *torch.zeros(4, n)], dim=1),
        )
        for number, (camera, n) in enumerate(crops.items())
    }
    pictures = {camera: load_pictures(target.paths, PREPROCESS) for camera, target in targets.items()}
    units, heard = [], []
    load, kl = module.load_pictures, module.kl_loss

    def watched_load(paths, preprocess):
        loaded = load(paths, preprocess)
        if len(paths) == sum(crops.values()):
            units.append(loaded.resized)
        return loaded

    def watched_kl(*, student, teacher, temperature):
        heard.append(teacher[:, :2].long().tolist())
        return kl(student=student, teacher=teacher, temperature=temperature)

    monkeypatch.setattr(module, "load_pictures", watched_load)
    monkeypatch.setattr(module, "kl_loss", watched_kl)
    monkeypatch.setattr(module, "similarity_rows_loss", lambda **roles: roles["student"].sum() * 0)
    run_distil(tmp_path, sets, lessons=lessons)
    names = list(crops)
    for rows in heard:
        assert len({camera for camera, _ in rows}) == 1, "a teacher spoke of another camera's crops"
    for number, row in (pair for rows in heard for pair in rows):
        offset = sum(crops[name] for name in names[:number])
        assert np.array_equal(units[0][offset + row], pictures[names[number]].resized[row])


def test_a_ready_made_teacher_without_logits_teaches_by_similarity(sets, tmp_path):
    lessons = {camera: Lesson(lesson.embedding, None) for camera, lesson in lessons_of(sets[1]).items()}
    run_distil(tmp_path, sets, lessons=lessons)
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
    lesson = give_lesson(student, targets["gate"], PREPROCESS)
    again = embed_pictures(student, load_pictures(targets["gate"].paths, PREPROCESS))
    loss = module.kl_loss(student=again.logits, teacher=lesson.logits, temperature=4.0)
    rows = module.similarity_rows_loss(student=again.embedding, teacher=lesson.embedding, temperature=0.2)
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
    assert not same_weights(averaged, run_distil(tmp_path / "none", sets, ema=0.0)) and not averaged.training


def crops_of(targets, **settings):
    lessons = {camera: Lesson(torch.eye(len(target)), None) for camera, target in targets.items()}
    return _Crops.of(targets, lessons, DistilSettings(**settings))


def plain_targets(**tracklets):
    return {
        camera: UnlabelledSet(tuple(map(str, range(len(own)))), camera, np.array(own, np.int64))
        for camera, own in tracklets.items()
    }


def test_without_cross_camera_every_tracklet_is_its_own_identity():
    targets = plain_targets(gate=[3, 3, -1, 90], empty=[], plaza=[3, 7, 7, -1, -1], tunnel=[0])
    crops = crops_of(targets, cross_camera=False)
    assert crops.cameras.tolist() == [0] * 4 + [4] * 5 + [9]
    found = crops.identities.tolist()
    groups = [[0, 1], [3], [4], [5, 6], [9]]
    assert [found[i] for i in (2, 7, 8)] == [-1] * 3
    assert len({tuple(sorted({found[i] for i in group})) for group in groups}) == len(groups)
    assert all(len({found[i] for i in group}) == 1 and found[group[0]] >= 0 for group in groups)
    assert {camera: first for camera, (first, _) in crops.lessons.items()} == {
        "gate": 0, "empty": 4, "plaza": 4, "tunnel": 9,
    }  # fmt: skip


def test_numbered_tracklets_stay_below_the_count_of_crops():
    found = _numbered({"a": np.array([-1, 100, 7, 7, -1, 3])})["a"]
    assert found.tolist() == [-1, 2, 1, 1, -1, 0]
    assert _numbered({"a": np.zeros(0, np.int64)})["a"].tolist() == []
