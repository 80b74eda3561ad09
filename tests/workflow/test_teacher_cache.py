"""What teachers say is kept over a restart, for the same teacher, crops and settings alone; a source is read once."""

import dataclasses

import numpy as np
import pytest
import torch
from builders import PREPROCESS, source_set, target_set

from reid_mtda.config import AdaptConfig
from reid_mtda.data import batches
from reid_mtda.data.batches import decode_once
from reid_mtda.errors import TrainingError
from reid_mtda.models.checkpoint import save_embedder
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train import find_objectives
from reid_mtda.train.distil import distil
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.dmmd import DmmdSettings, adapt_dmmd
from reid_mtda.train.objectives.known_objectives import OBJECTIVES
from reid_mtda.train.source import SourceSettings, train_source
from reid_mtda.train.teacher_outputs import TeacherOutputs
from reid_mtda.types import UnlabelledSet
from reid_mtda.workflow import teacher_cache as module
from reid_mtda.workflow.teacher_cache import collect_teacher_outputs
from reid_mtda.workflow.training import distil_student

SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=6)
CONFIG = AdaptConfig(input={"height": 32, "width": 16}, distil={"part_mixed": 3})


@pytest.fixture
def place(tmp_path):
    """A run with two teachers, and their cameras' crops."""
    run = Run(tmp_path / "run", 0)
    targets = {camera: target_set(tmp_path / "crops", camera) for camera in ("gate", "plaza")}
    for number, camera in enumerate(targets):
        save_embedder(run.folder / f"teachers/{camera}.safetensors", build_embedder(SPEC, seed=number), run=run)
    return run, targets


def same(a, b):
    assert a.keys() == b.keys()
    for camera, one in a.items():
        assert torch.equal(one.embedding, b[camera].embedding) and torch.equal(one.logits, b[camera].logits)
        assert np.array_equal(one.part_mixed, b[camera].part_mixed) and one.teacher_id == b[camera].teacher_id
    return True


def test_a_teacher_looks_once_also_over_a_restart(place, monkeypatch):
    run, targets = place
    told = []
    first = collect_teacher_outputs(run, targets, CONFIG, lambda *given: told.append(given))
    assert told == [("teacher gate looks", 23, 23), ("teacher plaza looks", 23, 23)]
    monkeypatch.setattr(module, "compute_teacher_outputs", None)
    assert same(first, collect_teacher_outputs(run, targets, CONFIG))


def another_crop(run, targets):
    targets["gate"].paths[2].write_bytes(targets["gate"].paths[7].read_bytes())
    return CONFIG


def another_teacher(run, targets):
    save_embedder(run.folder / "teachers/gate.safetensors", build_embedder(SPEC, seed=9), run=run)
    return CONFIG


def another_size(run, targets):
    return CONFIG.model_copy(update={"teacher_input": CONFIG.input.model_copy(update={"height": 48})})


def more_part_mixed(run, targets):
    return CONFIG.model_copy(update={"distil": CONFIG.distil.model_copy(update={"part_mixed": 4})})


def a_damaged_file(run, targets):
    (kept,) = (run.folder / "teacher_outputs/teachers").glob("gate-*.safetensors")
    kept.write_bytes(b"damaged")
    return CONFIG


@pytest.mark.parametrize("change", [another_crop, another_teacher, another_size, more_part_mixed, a_damaged_file])
def test_outputs_of_something_else_are_not_taken(place, change, monkeypatch):
    run, targets = place
    collect_teacher_outputs(run, targets, CONFIG)
    config = change(run, targets)
    looked, compute = [], module.compute_teacher_outputs
    monkeypatch.setattr(
        module,
        "compute_teacher_outputs",
        lambda *given, **more: looked.append(given[1].domain) or compute(*given, **more),
    )
    found = collect_teacher_outputs(run, targets, config)
    assert looked == (["gate", "plaza"] if config is not CONFIG else ["gate"])
    assert same(found, collect_teacher_outputs(dataclasses.replace(run, folder=run.folder), targets, config))


def test_the_source_is_decoded_once_for_all_that_learn_from_it(tmp_path, monkeypatch):
    labelled, target = source_set(tmp_path), target_set(tmp_path, "gate")
    source, reads, read = decode_once(labelled, PREPROCESS), [], batches.read_image
    monkeypatch.setattr(batches, "read_image", lambda path: reads.append(path) or read(path))
    assert not reads and len(source) == len(labelled)
    small = {"steps": 1, "identities_per_batch": 3, "pictures_per_identity": 2}
    runs = [Run(tmp_path / str(number), 0) for number in range(3)]
    for run in runs:
        run.folder.mkdir()
    start = train_source(build_embedder(SPEC, seed=0), source, PREPROCESS, SourceSettings(**small), runs[0])
    for run in runs[1:]:
        adapt_dmmd(start, source, target, PREPROCESS, DmmdSettings(**small), run)
    assert sorted(path for path in reads if path in labelled.paths) == sorted(labelled.paths)
    other = dataclasses.replace(PREPROCESS, height=48)
    assert batches.pictures_of(source, other).resized.shape[1] == 48


WANTING = {"blocks": 1.0, "channels": 1.0, "norm_direction": 1.0, "routed": 1.0}


def test_what_objectives_ask_for_is_kept_too_and_maps_as_half_numbers(place, monkeypatch):
    run, targets = place
    config = CONFIG.model_copy(update={"distil": CONFIG.distil.model_copy(update={"objectives": WANTING})})
    plain = collect_teacher_outputs(run, targets, CONFIG)
    found = collect_teacher_outputs(run, targets, config)
    assert same(plain, found)
    gate = found["gate"]
    assert plain["gate"].tensors().keys() == {"embedding", "logits"}
    assert gate.maps.dtype == torch.float16 and gate.maps.shape[1:] == (16, 4, 2) and gate.feature.shape == (23, 16)
    assert gate.halves.shape == (23, 2, 16) and not torch.allclose(gate.halves[:, 0], gate.halves[:, 1])
    assert gate.everyone.shape == (23, 2, 6) and torch.allclose(gate.everyone[:, 0], gate.logits, atol=1e-5)
    monkeypatch.setattr(module, "compute_teacher_outputs", None)
    again = collect_teacher_outputs(run, targets, config)["gate"]
    assert all(torch.equal(part, gate.tensors()[name]) for name, part in again.tensors().items())


def test_maps_that_take_more_than_was_allowed_are_refused_before_a_crop_passes(tmp_path, monkeypatch):
    run = Run(tmp_path / "run", 0)
    targets = {"gate": target_set(tmp_path / "crops", "gate")}
    save_embedder(run.folder / "teachers/gate.safetensors", build_embedder(SPEC, seed=0), run=run)
    monkeypatch.setattr(module, "compute_teacher_outputs", None)
    many = UnlabelledSet(targets["gate"].paths * 300, "gate")
    config = AdaptConfig(input={"height": 32, "width": 16}, distil={"objectives": {"channels": 1.0}, "outputs_mb": 1})
    with pytest.raises(
        TrainingError, match=r"maps of 1 cameras take 2 MB, expected at most 1: raise distil\.outputs_mb"
    ):
        collect_teacher_outputs(run, {"gate": many}, config)


def test_a_job_distils_with_every_objective_that_adapted_teachers_can_be_asked(place, tmp_path):
    """From settings by name over outputs on disk to a student without any weight of theirs."""
    run, targets = place
    small = {"steps": 2, "source_identities": 3, "source_pictures": 2, "target_identities": 4, "target_pictures": 3}
    config = AdaptConfig(
        input={"height": 32, "width": 16},
        distil={**small, "objectives": dict.fromkeys(OBJECTIVES, 0.2), "part_mixed": 3},
    )
    start = build_embedder(SPEC, seed=3)
    student = distil_student(run, start, source_set(tmp_path), targets, config)
    assert student.state_dict().keys() == start.state_dict().keys()
    recorded = (run.folder / "student_training/metrics.jsonl").read_text(encoding="utf-8")
    assert all(f'/{name}"' in recorded for name in OBJECTIVES)


def test_a_ready_made_teacher_is_asked_for_no_more_than_it_tells(place, tmp_path):
    """Halves it tells; of logits it has none, and the objective that wants them is named."""
    targets = place[1]
    said = {
        camera: TeacherOutputs(torch.nn.functional.normalize(torch.rand(20, 5), dim=1), None, "one")
        for camera in targets
    }
    with pytest.raises(
        TrainingError, match="objective 'balanced': needs logits, got embeddings, people, start; take it"
    ):
        distil(
            build_embedder(SPEC, seed=3), said, targets, source_set(tmp_path), PREPROCESS,
            DistilSettings(steps=1, target_identities=4, target_pictures=3), Run(tmp_path, 0),
            objectives=find_objectives({"balanced": 1.0}),
        )  # fmt: skip
