"""Distillation over camera-aware proxies: who is found, which slot stands for whom, what is learnt and when."""

import json

import numpy as np
import pytest
import torch
from builders import PREPROCESS, target_set
from torch.nn import functional

from reid_mtda.errors import DataError
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train.camera_proxies import (
    CameraProxies,
    CameraProxySettings,
    distil_camera_proxies,
    site_embeddings,
    site_people,
)
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs, compute_teacher_outputs
from reid_mtda.types import Preprocess, UnlabelledSet

SPEC = EmbedderSpec(arch="resnet10_w4")
SETTINGS = CameraProxySettings(min_samples=3)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def site(people=80, crops=6, bias=1.2, tracklets=True):
    """Teachers' outputs of two cameras that saw the same people; a camera's bias outweighs a person."""
    rng = np.random.default_rng(0)
    person, biases = rng.standard_normal((people, 32)), bias * rng.standard_normal((2, 32))
    pids = np.repeat(np.arange(people), crops)
    targets, outputs = {}, {}
    for number, name in enumerate(("gate", "yard")):
        rows = unit(person[pids] + biases[number] + 0.4 * rng.standard_normal((len(pids), 32)))
        numbers = np.repeat(np.arange(2 * people), crops // 2) if tracklets else None
        targets[name] = UnlabelledSet(tuple(f"{name}{n}.jpg" for n in range(len(pids))), name, numbers)
        outputs[name] = TeacherOutputs(torch.from_numpy(rows), None)
    return targets, outputs, np.tile(pids, 2)


@pytest.mark.parametrize("tracklets", [True, False])
def test_people_are_found_across_cameras_once_these_are_centred(tracklets):
    targets, outputs, pids = site(tracklets=tracklets)
    pool = TargetPool.of(targets, outputs)
    here = np.full(len(pids), "")
    taught = site_embeddings(pool, here)
    np.testing.assert_allclose(np.linalg.norm(taught, axis=1), 1, atol=1e-5)
    found = site_people(taught, pool, here, SETTINGS)
    same, true = found[:, None] == found[None], pids[:, None] == pids[None]
    across = (pool.camera[:, None] != pool.camera[None]) & (found >= 0)[:, None]
    assert (same & true & across).sum() / (same & across).sum() > 0.9
    assert (same & true & across).sum() / (true & across).sum() > 0.8
    raw = np.concatenate([output.embedding.numpy() for output in outputs.values()])
    blind = site_people(raw, pool, here, SETTINGS)
    assert ((blind[:, None] == blind[None]) & true & across).sum() < 0.1 * (same & true & across).sum()


def test_a_tracklets_crops_are_one_person():
    targets, outputs, pids = site()
    pool, here = TargetPool.of(targets, outputs), np.full(len(pids), "")
    found = site_people(site_embeddings(pool, here), pool, here, SETTINGS)
    for tracklet in np.unique(pool.tracklets):
        assert len(set(found[pool.tracklets == tracklet].tolist())) == 1


def test_nobody_is_sought_at_another_site():
    """The same crops, once as two cameras of one site and once of two; centred site by site."""
    targets, outputs, _ = site()
    pool = TargetPool.of(targets, outputs)
    apart = np.where(pool.camera == 0, "north", "south")
    found = site_people(site_embeddings(pool, apart), pool, apart, SETTINGS)
    assert not set(found[pool.camera == 0].tolist()) & set(found[pool.camera == 1].tolist()) - {-1}
    assert (found >= 0).mean() > 0.9 and len(set(found.tolist())) > 2 * 60


def test_a_slot_is_the_mean_of_a_persons_crops_in_one_camera():
    people, cameras = np.array([0, 0, 1, 0, -1, 1, 1]), np.array([0, 1, 0, 0, 1, 1, 1])
    student = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    proxies = CameraProxies.of(people, cameras, student)
    pairs = list(zip(proxies.person.tolist(), proxies.camera.tolist(), strict=True))
    assert sorted(pairs) == [(0, 0), (0, 1), (1, 0), (1, 1)] and proxies.slot[4] == -1
    for slot, (person, camera) in enumerate(pairs):
        mine = np.flatnonzero((people == person) & (cameras == camera))
        assert (proxies.slot[mine] == slot).all()
        torch.testing.assert_close(proxies.memory.tensor[slot], functional.normalize(student[mine].mean(0), dim=0))


@pytest.fixture(scope="module")
def coats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coats")
    tints = {"gate": (0.7, 0.9, 1.1), "plaza": (1.2, 1.0, 0.7)}
    return {camera: target_set(folder, camera, tint) for camera, tint in tints.items()}


def outputs_of(targets, preprocess=PREPROCESS):
    teacher = build_embedder(SPEC, seed=1)
    return {camera: compute_teacher_outputs(teacher, target, preprocess) for camera, target in targets.items()}


def run_proxies(folder, targets, outputs=None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    small = {"steps": 4, "target_identities": 4, "target_pictures": 3, "eps": 0.5}
    chosen = CameraProxySettings(**{**small, **settings})
    student = build_embedder(SPEC, seed=2)
    distil_camera_proxies(student, outputs or outputs_of(targets), targets, PREPROCESS, chosen, Run(folder, 0))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [record for record in records if record["part"] == "distil"], records


def test_across_cameras_it_learns_from_the_given_share_of_the_steps_on(coats, tmp_path):
    parts, _ = run_proxies(tmp_path, coats)
    assert ["cross-camera" in record for record in parts] == [False, False, True, True]
    assert all("intra-camera" in record for record in parts)
    whole, _ = run_proxies(tmp_path / "b", coats, cross_from=0)
    assert all("cross-camera" in record for record in whole)


def test_with_one_proxy_a_person_cameras_are_pooled(coats, tmp_path):
    """The same pseudo-identities, a slot each; from elsewhere there is nobody to be drawn to."""
    seen = {camera: np.eye(16, dtype=np.float32)[target.tracklets % 16] for camera, target in coats.items()}
    outputs = {camera: TeacherOutputs(torch.from_numpy(rows), None) for camera, rows in seen.items()}
    parts, records = run_proxies(tmp_path / "pooled", coats, outputs, by_camera=False, cross_from=0)
    assert not any("cross-camera" in record for record in parts)
    by_camera = run_proxies(tmp_path / "own", coats, outputs)[1][0]
    assert records[0]["proxies"] == records[0]["people"] == by_camera["people"] < by_camera["proxies"]


def test_weights_weigh(coats, tmp_path):
    """The first step's parts come from one student: twice the weight is twice the part."""
    one, two = (
        run_proxies(tmp_path / str(w), coats, intra_weight=w, cross_weight=w, cross_from=0)[0][0] for w in (1.0, 2.0)
    )
    for part in ("intra-camera", "cross-camera"):
        assert two[part] == pytest.approx(2 * one[part])


def test_teachers_may_have_seen_larger_crops(coats, tmp_path):
    large = Preprocess(height=2 * PREPROCESS.height, width=2 * PREPROCESS.width)
    assert len(run_proxies(tmp_path, coats, outputs_of(coats, large))[0]) == 4


def test_outputs_that_make_no_one_space_are_refused(coats, tmp_path):
    outputs = outputs_of(coats)
    with pytest.raises(DataError, match=r"got teacher outputs of \['gate'\] for cameras \['gate', 'plaza'\]"):
        run_proxies(tmp_path, coats, {"gate": outputs["gate"]})
    outputs["gate"] = TeacherOutputs(torch.ones(len(coats["gate"]), 3), None)
    with pytest.raises(DataError, match=r"embeddings of sizes \{'gate': 3, 'plaza': 16\}, expected one"):
        run_proxies(tmp_path, coats, outputs)
