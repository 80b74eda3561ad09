"""Precision and recall of pseudo-identities across cameras: counted as by hand, at the overlap that was asked for."""

from itertools import combinations

import numpy as np
import pytest
import torch

from reid_mtda.bench.pseudo_identities import clusters, pairing, pairs_between, score_pairs, taken, thin_out
from reid_mtda.train.camera_proxies import CameraProxySettings
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs
from reid_mtda.types import UnlabelledSet

PIDS = {name: np.repeat(np.arange(60), 3) for name in ("gate", "yard", "hall")}


def test_pairs_are_those_of_one_label_and_two_cameras():
    draw = np.random.default_rng(0)
    labels, cameras = draw.integers(-1, 6, 80), draw.integers(0, 3, 80)
    by_hand = [
        (a, b) for a, b in combinations(range(80), 2) if labels[a] == labels[b] >= 0 and cameras[a] != cameras[b]
    ]
    assert pairs_between(labels, cameras) == len(by_hand) > 0
    assert pairs_between(np.full(80, -1), cameras) == 0
    truth = draw.integers(0, 3, 80)
    both = np.where(labels >= 0, pairing(labels, truth), -1)
    assert pairs_between(both, cameras) == sum(truth[a] == truth[b] for a, b in by_hand)


@pytest.mark.parametrize("overlap", [1.0, 0.5, 0.2])
def test_as_many_people_pass_several_cameras_as_are_asked_for(overlap):
    kept = thin_out(PIDS, overlap, seed=3)
    seen = {pid: sum((PIDS[name][rows] == pid).any() for name, rows in kept.items()) for pid in range(60)}
    assert sum(count == 3 for count in seen.values()) == 60 * overlap
    assert set(seen.values()) <= {1, 3}
    for name, rows in kept.items():  # a camera keeps all crops of a person or none
        assert (np.bincount(PIDS[name][rows], minlength=60) % 3 == 0).all()


def people(noise):
    draw = np.random.default_rng(0)
    looks = draw.standard_normal((60, 32))
    targets, outputs = {}, {}
    for name, own in PIDS.items():
        rows = looks[own] + noise * draw.standard_normal((len(own), 32)) + draw.standard_normal(32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        targets[name] = UnlabelledSet(tuple(f"{name}{n}.jpg" for n in range(len(own))), name, None)
        outputs[name] = TeacherOutputs(torch.from_numpy(rows.astype(np.float32)), None)
    return targets, outputs


def test_people_easy_to_tell_are_found_and_where_few_pass_two_cameras_more_claims_are_wrong():
    seek = clusters(CameraProxySettings(min_samples=2))

    def score(noise, overlap):
        kept = thin_out(PIDS, overlap, seed=0)
        known = np.concatenate([PIDS[name][rows] for name, rows in kept.items()])
        pool = TargetPool.of(*taken(*people(noise), kept))
        return score_pairs(seek(pool, np.full(len(known), "")), known, pool.camera)

    precision, recall = score(0.3, 1.0)
    assert precision > 0.95 and recall > 0.95
    assert score(1.3, 0.2)[0] < score(1.3, 1.0)[0] - 0.02


def test_a_camera_of_which_nothing_stays_falls_away():
    targets, outputs = people(0.3)
    kept = {"gate": np.arange(6), "yard": np.array([], np.intp), "hall": np.array([4])}
    sets, said = taken(targets, outputs, kept)
    assert list(sets) == list(said) == ["gate", "hall"]
    assert sets["hall"].paths == (targets["hall"].paths[4],)
    torch.testing.assert_close(said["hall"].embedding, outputs["hall"].embedding[4:5])
