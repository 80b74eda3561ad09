"""Clustering teachers: groups found without tracklets, exact memory, epochs without clusters survive, exact resume."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from builders import PREPROCESS, same_weights, source_set, target_set

from reid_mtda.data.batches import load_pictures
from reid_mtda.data.pseudo_labels import NOISE
from reid_mtda.errors import DataError, ModelError, TrainingError
from reid_mtda.losses.cluster_memory import moved_memory
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train import cluster_contrast as module
from reid_mtda.train.cluster_contrast import (
    ClusterContrastSettings,
    adapt_cluster_contrast,
    cluster_weights,
    pseudo_labels,
)
from reid_mtda.train.common import (
    embed_pictures,
)
from reid_mtda.train.resume import Kept, Resumable
from reid_mtda.train.source import SourceSettings, train_source
from reid_mtda.types import UnlabelledSet

SMALL = {
    "epochs": 3, "steps_per_epoch": 3, "identities_per_batch": 3, "pictures_per_identity": 2, "augmentation": ("flip",),
    "k1": 8, "checkpoint_seconds": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """(network trained on the source, source, a dark orange camera of 5 people, 8 crops each, a tracklet a person)."""
    folder = tmp_path_factory.mktemp("cluster")
    source, target = source_set(folder), target_set(folder, "tunnel", (0.8, 0.4, 0.2), pictures=8)
    model = build_embedder(EmbedderSpec(arch="resnet10_w4", num_classes=6), seed=0)
    settings = SourceSettings(steps=25, learning_rate=5e-3, identities_per_batch=4, pictures_per_identity=2)
    return train_source(model, source, PREPROCESS, settings, Run(folder, 0)), source, target


def untracked(target, **more):
    return dataclasses.replace(target, tracklets=None, **more)


def adapt(start, folder, target=None, progress=lambda *_: None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    model, source, whole = start
    chosen = ClusterContrastSettings(**{**SMALL, **settings})
    return adapt_cluster_contrast(
        model, source, whole if target is None else target, PREPROCESS, chosen, Run(folder, 0), progress
    )


def records(folder, part):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["part"] == part]


def separation(model, target):
    """Mean cosine within people (a tracklet each) less that between them."""
    rows = embed_pictures(model, load_pictures(target.paths, PREPROCESS)).embedding.numpy()
    similar, same = rows @ rows.T, target.tracklets[:, None] == target.tracklets[None, :]
    return similar[same].mean() - similar[~same].mean()


def with_labels(monkeypatch, *by_epoch):
    """Let clustering find these, epoch after epoch, the last for ever."""
    calls = []

    def found(embeddings, target, settings):
        calls.append(embeddings)
        return np.array(by_epoch[min(len(calls), len(by_epoch)) - 1], np.int64)

    monkeypatch.setattr(module, "pseudo_labels", found)
    return calls


PEOPLE = np.arange(40) // 8


def test_people_are_told_apart_better_without_tracklets(start, tmp_path):
    blind = untracked(start[2])
    adapted = adapt(start, tmp_path, blind, epochs=4, steps_per_epoch=8, learning_rate=2e-3)
    assert separation(adapted, start[2]) > separation(start[0], start[2]) + 0.1


def test_it_is_the_clusters_that_teach(start, tmp_path, monkeypatch):
    """The mutant that ignores what was found, and has the camera's statistics alone, stays behind."""
    settings = {"epochs": 4, "steps_per_epoch": 8, "learning_rate": 2e-3, "source_weight": 0}
    taught = separation(adapt(start, tmp_path / "a", **settings), start[2])
    with_labels(monkeypatch, np.full(40, NOISE))
    assert taught > separation(adapt(start, tmp_path / "b", **settings), start[2]) + 0.1


def test_the_clusters_of_dbscan_are_the_ones_learnt(start, tmp_path, monkeypatch):
    """Batches and slots hold exactly what clustering said, noise is in none."""
    given = np.where(np.arange(40) % 5 == 0, NOISE, np.arange(40) % 3)
    monkeypatch.setattr(module, "density_clusters", lambda dist, *, eps, min_samples: given.copy())
    taught, slots = [], []

    def watched(*, embeddings, labels, memory, **more):
        taught.extend(labels.tolist())
        slots.append(len(memory))
        return module_loss(embeddings=embeddings, labels=labels, memory=memory, **more)

    module_loss = module.memory_loss
    monkeypatch.setattr(module, "memory_loss", watched)
    adapt(start, tmp_path, untracked(start[2]), epochs=1)
    assert set(taught) == {0, 1, 2} and set(slots) == {3}
    found = records(tmp_path, "clusters")
    assert [(record["epoch"], record["clusters"], record["clustered"]) for record in found] == [(1, 3, 0.8)]


def test_every_epoch_looks_again_in_eval_mode_at_every_crop(start, tmp_path, monkeypatch):
    calls = with_labels(monkeypatch, PEOPLE)
    adapt(start, tmp_path)
    assert [rows.shape[0] for rows in calls] == [40] * 3
    assert not np.array_equal(calls[0], calls[1])
    assert [record["step"] for record in records(tmp_path, "cluster")] == list(range(9))
    assert {"identity", "triplet", "memory"} <= records(tmp_path, "cluster")[0].keys()


def test_the_cameras_statistics_are_set_before_each_look_and_at_the_end(start, tmp_path, monkeypatch):
    order = []
    recompute, embed = module.recompute_batchnorm, module.embed_pictures

    def recomputed(model, pictures, **more):
        order.append(("statistics", len(pictures)))
        recompute(model, pictures, **more)

    def embedded(model, pictures):
        order.append(("look", len(pictures)))
        return embed(model, pictures)

    monkeypatch.setattr(module, "recompute_batchnorm", recomputed)
    monkeypatch.setattr(module, "embed_pictures", embedded)
    adapt(start, tmp_path, epochs=2)
    assert order == [("statistics", 40), ("look", 40)] * 2 + [("statistics", 40)]


def test_every_setting_reaches_its_place(start, monkeypatch):
    seen = {}
    monkeypatch.setattr(module, "jaccard_dist", lambda rows, **more: seen.update(more))
    monkeypatch.setattr(module, "density_clusters", lambda dist, **more: seen.update(more) or PEOPLE.copy())
    pseudo_labels(np.eye(40, dtype=np.float32), start[2], ClusterContrastSettings(k1=7, k2=2, eps=0.3, min_samples=9))
    assert seen == {"k1": 7, "k2": 2, "eps": 0.3, "min_samples": 9}


def test_memory_moves_by_every_batch_and_has_no_gradient(start, tmp_path, monkeypatch):
    seen, moved = [], []

    def watched(*, memory, **more):
        seen.append(memory)
        moved.append(moved_memory(memory=memory, **more))
        return moved[-1]

    monkeypatch.setattr(module, "moved_memory", watched)
    adapt(start, tmp_path, epochs=1, steps_per_epoch=4, momentum=0.3)
    assert len(moved) == 4 and all(torch.equal(a, b) for a, b in zip(moved, seen[1:], strict=False))
    assert not any(memory.requires_grad for memory in seen + moved)
    assert all(not torch.equal(a, b) for a, b in zip(seen, moved, strict=True))


def test_parts_follow_their_weights(start, tmp_path):
    for weight in (0.5, 1.0):
        adapt(start, tmp_path / str(weight), epochs=1, steps_per_epoch=1, source_weight=weight)
    half, whole = (records(tmp_path / str(weight), "cluster")[0] for weight in (0.5, 1.0))
    assert whole["identity"] == pytest.approx(2 * half["identity"]) and whole["memory"] == half["memory"]
    assert whole["triplet"] == pytest.approx(2 * half["triplet"])
    adapt(start, tmp_path / "none", epochs=1, steps_per_epoch=1, source_weight=0)
    assert records(tmp_path / "none", "cluster")[0].keys() & {"identity", "triplet", "memory"} == {"memory"}


# --- epochs without clusters


@pytest.mark.parametrize("labels", [np.full(40, NOISE), np.zeros(40)], ids=["all noise", "one cluster"])
@pytest.mark.parametrize("source_weight", [1.0, 0.0])
def test_an_epoch_without_two_clusters_survives_aloud(start, tmp_path, monkeypatch, caplog, labels, source_weight):
    """The first epoch finds nothing, the second does, with nothing left over from the first."""
    with_labels(monkeypatch, labels, PEOPLE)
    with caplog.at_level(logging.WARNING):
        adapt(start, tmp_path, epochs=2, source_weight=source_weight)
    [warning] = caplog.messages
    assert warning.startswith(f"tunnel, epoch 1: got {int(labels.max()) + 1} clusters among 40 crops, expected 2 or")
    assert "this epoch learns from the source alone" in warning and "eps (0.5)" in warning
    taught = {record["step"]: "memory" in record for record in records(tmp_path, "cluster")}
    first = {step: False for step in range(3)} if source_weight else {}
    assert taught == first | {step: True for step in range(3, 6)}


def test_real_noise_and_one_real_cluster_survive_and_tracklets_help(start):
    """Not by a stand-in: an eps that leaves every crop alone, and one that melts all into one."""
    model, _, target = start
    rows = embed_pictures(model, load_pictures(target.paths, PREPROCESS)).embedding.numpy()
    lonely, melted = (
        ClusterContrastSettings(k1=8, eps=0.001, min_samples=30),
        ClusterContrastSettings(k1=40, eps=0.999, min_samples=2),
    )
    assert set(pseudo_labels(rows, untracked(target), lonely)) == {NOISE}
    assert np.array_equal(pseudo_labels(rows, target, lonely), PEOPLE)
    one = np.ones_like(rows) / np.sqrt(rows.shape[1], dtype=np.float32)
    bare = melted.model_copy(update={"camera_normalise": False})
    assert set(pseudo_labels(one, untracked(target), bare)) == {0}
    assert np.array_equal(pseudo_labels(one, target, bare), PEOPLE)


def test_a_single_tracklet_or_none_goes_on_and_one_crop_is_refused(start, tmp_path):
    target = start[2]
    for n, tracklets in enumerate((np.full(40, 4), np.full(40, -1))):
        adapt(start, tmp_path / str(n), dataclasses.replace(target, tracklets=tracklets), epochs=1)
    for count in (0, 1):
        few = UnlabelledSet(target.paths[:count], "tunnel")
        with pytest.raises(DataError, match=rf"tunnel: got {count} crops, expected 2 or more; harvest more footage"):
            adapt(start, tmp_path / "few", few)
    adapt(start, tmp_path / "two", UnlabelledSet(target.paths[:2], "tunnel"), epochs=1)


def test_a_network_without_classes_learns_without_the_source_alone(start, tmp_path):
    bare = (build_embedder(EmbedderSpec(arch="resnet10_w4"), seed=0), *start[1:])
    with pytest.raises(ModelError, match=r"clusters on tunnel: the network has no logits .* set source_weight to 0"):
        adapt(bare, tmp_path)
    adapt(bare, tmp_path, epochs=1, source_weight=0)
    assert records(tmp_path, "cluster")


def test_embeddings_that_are_not_numbers_stop_with_the_epoch(start, tmp_path):
    broken = build_embedder(EmbedderSpec(arch="resnet10_w4", num_classes=6), seed=0)
    torch.nn.init.constant_(broken.neck.weight, float("nan"))
    with pytest.raises(TrainingError, match=r"clusters on tunnel, epoch 1: an embedding is not finite"):
        adapt((broken, *start[1:]), tmp_path)


# --- several cameras


def test_clusters_of_one_camera_weigh_less_or_are_dropped(start):
    target = start[2]
    cameras = np.where(PEOPLE < 2, 0, np.arange(40) % 2)  # people 0 and 1 in one camera, the others in both
    both = untracked(target, cameras=cameras)
    people = np.eye(5, 8, dtype=np.float32)[PEOPLE]
    keep = ClusterContrastSettings(k1=8, camera_normalise=False, single_camera_weight=0.25)
    labels = pseudo_labels(people, both, keep)
    assert np.array_equal(labels, PEOPLE)
    assert cluster_weights(torch.from_numpy(labels), both, keep).tolist() == [0.25, 0.25, 1, 1, 1]
    assert cluster_weights(torch.from_numpy(labels), untracked(target), keep).tolist() == [1] * 5
    drop = keep.model_copy(update={"single_camera_weight": 0.0})
    assert np.array_equal(pseudo_labels(people, both, drop), np.where(PEOPLE < 2, NOISE, PEOPLE - 2))
    assert np.array_equal(pseudo_labels(people, untracked(target), drop), PEOPLE)


def test_the_weight_of_one_camera_reaches_the_loss(start, tmp_path, monkeypatch):
    with_labels(monkeypatch, PEOPLE)
    apart = dataclasses.replace(start[2], cameras=PEOPLE % 2)  # every person in one of two cameras
    for weight in (0.5, 1.0):
        adapt(start, tmp_path / str(weight), apart, epochs=1, steps_per_epoch=1, single_camera_weight=weight)
    half, whole = (records(tmp_path / str(weight), "cluster")[0]["memory"] for weight in (0.5, 1.0))
    assert whole == pytest.approx(2 * half)


def test_cameras_are_normalised_before_clusters_are_sought(start, monkeypatch):
    given = []
    monkeypatch.setattr(module, "jaccard_dist", lambda rows, **more: given.append(rows) or jaccard(rows, **more))
    jaccard = module.normalise_cameras.__globals__["jaccard_dist"]
    rows = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    both = untracked(start[2], cameras=np.arange(40) % 2)
    pseudo_labels(rows, both, ClusterContrastSettings())
    pseudo_labels(rows, both, ClusterContrastSettings(camera_normalise=False))
    assert all(np.allclose(given[0][camera::2].mean(0), 0, atol=0.1) for camera in range(2))
    assert given[1] is rows


# --- resume


class Stop(Exception):
    pass


def stopped(done, stop):
    if done == stop:
        raise Stop


def check_resume(start, folder, stops):
    target = untracked(start[2])
    whole = adapt(start, folder / "whole", target)
    for stop in stops:
        with pytest.raises(Stop):
            adapt(start, folder / f"cut{stop}", target, lambda part, done, total, stop=stop: stopped(done, stop))
        assert same_weights(whole, adapt(start, folder / f"cut{stop}", target)), f"stopped after step {stop}"


def test_resumed_is_uninterrupted_within_an_epoch_and_between_epochs(start, tmp_path):
    """Epochs end after 3, 6 and 9 steps, states are saved after 2, 4, 6 and 8."""
    check_resume(start, tmp_path, stops=(1, 2, 3, 5, 6, 8, 9))


@pytest.mark.parametrize("lost", ["memory", "clusters"])
def test_a_state_that_forgets_the_epochs_clusters_is_caught(lost, start, tmp_path, monkeypatch):
    set_state = Kept.set_extra_state

    def forgetting(self, state):
        kind = "clusters" if state.dtype == torch.int64 else "memory"
        changed = state.roll(1, 0) if lost == kind else state
        set_state(self, changed)

    monkeypatch.setattr(Kept, "set_extra_state", forgetting)
    with pytest.raises(AssertionError, match="stopped after step 5"):
        check_resume(start, tmp_path, stops=(5,))


def test_kept_tensors_of_any_size_come_back(tmp_path):
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    for tensor in (torch.zeros(0, 4), torch.arange(6, dtype=torch.int64), torch.randn(3, 4)):
        Resumable(Run(tmp_path, 0), {"kept": Kept(tensor)}, {"all": optimiser}, seconds=0).save(1)
        fresh = Kept(torch.zeros(2, 2))
        assert Resumable(Run(tmp_path, 0), {"kept": fresh}, {"all": optimiser}).start() == 1
        assert fresh.tensor.dtype == tensor.dtype and torch.equal(fresh.tensor, tensor)
