"""KD-ReID's loop: its loss alone, a batch of each camera."""

import json

import numpy as np
import pytest
import torch
from builders import PREPROCESS, target_set

from reid_mtda.data.batches import load_pictures
from reid_mtda.data.samplers import PKSampler
from reid_mtda.errors import DataError
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train.common import cosine_decay
from reid_mtda.train.kd_reid import KdReidSettings, distil_kd_reid
from reid_mtda.train.teacher_outputs import compute_teacher_outputs

SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=6)
SMALL = {"steps": 3, "target_identities": 6, "target_pictures": 3, "augmentation": ("flip",)}


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kd_reid")
    tints = {"gate": (0.7, 0.9, 1.1), "plaza": (1.2, 1.0, 0.7)}
    return {camera: target_set(folder, camera, tint) for camera, tint in tints.items()}


@pytest.fixture
def batches(monkeypatch):
    """The crops of every batch, as they are drawn."""
    seen, pick = [], PKSampler.batch
    monkeypatch.setattr(PKSampler, "batch", lambda self, step: seen.append(pick(self, step)) or seen[-1])
    return seen


def outputs_of(targets):
    return {
        camera: compute_teacher_outputs(build_embedder(SPEC, seed=10 + n), target, PREPROCESS)
        for n, (camera, target) in enumerate(targets.items())
    }


def run_kd_reid(folder, targets, outputs=None, **settings):
    return distil_kd_reid(
        build_embedder(SPEC, seed=2), outputs_of(targets) if outputs is None else outputs, targets, PREPROCESS,
        KdReidSettings(**{**SMALL, **settings}), Run(folder, 0),
    )  # fmt: skip


def test_a_batch_of_each_camera_holds_as_many_people_of_each(targets, tmp_path, batches):
    run_kd_reid(tmp_path, targets, cross_camera=False)
    gate = len(targets["gate"])
    assert [len(rows) for rows in batches] == [9] * 6
    assert [(rows < gate).all() for rows in batches] == [True, False] * 3
    assert [(rows >= gate).all() for rows in batches] == [False, True] * 3
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line).keys() >= {"gate/matrix", "plaza/matrix"} for line in lines) and len(lines) == 3


def test_the_first_step_is_along_its_own_loss_alone(targets, tmp_path, batches):
    """Against one written down here: ||A_T - A_S||_F of each camera, their mean, plain SGD."""
    outputs = outputs_of(targets)
    settings = {"steps": 1, "learning_rate": 0.01, "weight_decay": 0.0, "augmentation": ()}
    found = run_kd_reid(tmp_path, targets, outputs, **settings)
    rows = np.concatenate(batches)
    pictures = load_pictures([path for target in targets.values() for path in target.paths], PREPROCESS)
    student = build_embedder(SPEC, seed=2).train().to(memory_format=torch.channels_last)
    seen = student(pictures.normalised(pictures.unit(rows))).embedding
    loss, first = 0.0, 0
    for output in outputs.values():
        mine = [n for n, row in enumerate(rows) if first <= row < first + len(output.embedding)]
        own, given = seen[mine], output.embedding[rows[mine] - first]
        loss = loss + torch.linalg.matrix_norm(own @ own.T - given @ given.T) / len(outputs)
        first += len(output.embedding)
    loss.backward()
    rate = cosine_decay(0.01, 0.0)
    for name, weight in student.named_parameters():
        if weight.grad is not None and name != "neck.bias":
            moved = weight.detach() - rate * weight.grad
            torch.testing.assert_close(found.state_dict()[name], moved, rtol=1e-4, atol=1e-6, msg=name)


def test_it_wants_a_teacher_output_for_every_camera(targets, tmp_path):
    with pytest.raises(DataError, match=r"distillation: got teacher outputs of \[\] for cameras \['gate', 'plaza'\]"):
        run_kd_reid(tmp_path, targets, outputs={})
