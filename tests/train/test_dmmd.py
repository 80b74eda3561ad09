"""D-MMD on tracklets: each part of the loss does its work, and the end statistics are the camera's own."""

import copy
import json

import numpy as np
import pytest
import torch
from builders import PREPROCESS, source_set, target_set

from reid_mtda.data.batches import load_pictures
from reid_mtda.losses.mmd import dissimilarity_mmd_loss
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.train import dmmd as module
from reid_mtda.train.common import embed_pictures, frozen
from reid_mtda.train.dmmd import DmmdSettings, adapt_dmmd
from reid_mtda.train.source import SourceSettings, train_source

SMALL = {"identities_per_batch": 4, "pictures_per_identity": 2, "augmentation": ("flip",)}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """(network trained on the source, source, a dark orange camera)."""
    folder = tmp_path_factory.mktemp("dmmd")
    source, target = source_set(folder), target_set(folder, "tunnel", (0.8, 0.4, 0.2))
    model = build_embedder(EmbedderSpec(arch="resnet10_w4", num_classes=6), seed=0)
    settings = SourceSettings(steps=25, learning_rate=5e-3, identities_per_batch=4, pictures_per_identity=2)
    return train_source(model, source, PREPROCESS, settings, Run(folder, 0)), source, target


def adapt(start, folder, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    return adapt_dmmd(*start, PREPROCESS, DmmdSettings(**{**SMALL, "steps": 10, **settings}), Run(folder, 0))


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def rows_of(model, some):
    return embed_pictures(model, load_pictures(some.paths, PREPROCESS)).embedding


def domain_gap(model, start):
    """D-MMD between all of the source and all of the camera."""
    _, source, target = start
    return float(
        dissimilarity_mmd_loss(
            source_embeddings=rows_of(model, source),
            source_labels=torch.from_numpy(source.labels),
            target_embeddings=rows_of(model, target),
            target_tracklets=torch.from_numpy(target.tracklets),
        )
    )


def separation(model, target):
    """Mean cosine within tracklets less that between them."""
    similar = rows_of(model, target).numpy()
    similar, same = similar @ similar.T, target.tracklets[:, None] == target.tracklets[None, :]
    return similar[same].mean() - similar[~same].mean()


def test_alignment_brings_the_camera_to_the_source(start, tmp_path):
    without, with_ = (
        domain_gap(adapt(start, tmp_path / str(weight), steps=25, learning_rate=2e-3, alignment_weight=weight), start)
        for weight in (0.0, 2.0)
    )
    assert with_ < 0.9 * without


def test_tracklets_of_the_camera_are_told_apart_better(start, tmp_path):
    adapted = adapt(start, tmp_path, steps=25, learning_rate=2e-3, tracklet_weight=1.0)
    assert separation(adapted, start[2]) > separation(start[0], start[2]) + 0.1


def test_every_part_is_recorded(start, tmp_path):
    adapt(start, tmp_path, steps=3)
    assert [record["step"] for record in records(tmp_path)] == [0, 1, 2]
    assert {"identity", "triplet", "alignment", "tracklet"} <= records(tmp_path)[0].keys()


@pytest.mark.parametrize(("weight", "part"), [("alignment_weight", "alignment"), ("tracklet_weight", "tracklet")])
def test_a_part_of_weight_zero_is_zero_and_weights_scale(start, tmp_path, weight, part):
    for value in (0.0, 0.5, 1.0):
        adapt(start, tmp_path / str(value), steps=1, **{weight: value})
    none, half, whole = (records(tmp_path / str(value))[0][part] for value in (0.0, 0.5, 1.0))
    assert none == 0 and whole > 0 and whole == pytest.approx(2 * half, rel=1e-5)


def test_domains_pass_batchnorm_apart_and_the_cameras_statistics_are_the_last(start, tmp_path, monkeypatch):
    sizes, last = [], []
    recompute = module.recompute_batchnorm

    def watched(model, pictures, **more):
        last.append(pictures.resized.copy())
        recompute(model, pictures, **more)

    monkeypatch.setattr(module, "recompute_batchnorm", watched)
    hook = start[0].register_forward_hook(lambda model, crops, _: sizes.append((model.training, len(crops[0]))))
    adapt(start, tmp_path, steps=2)
    hook.remove()
    assert sizes[:4] == [(True, 8)] * 4  # source and camera apart, step by step; copies keep hooks
    assert len(last) == 1 and np.array_equal(last[0], load_pictures(start[2].paths, PREPROCESS).resized)


def test_source_classes_are_learnt_from_the_source_alone(start, tmp_path, monkeypatch):
    """Labels and logits of the identity loss come from the source's rows, tracklets never reach it."""
    seen = []
    identity_loss = module.identity_loss

    def watched(*, logits, labels, smoothing):
        seen.append(set(labels.tolist()))
        return identity_loss(logits=logits, labels=labels, smoothing=smoothing)

    monkeypatch.setattr(module, "identity_loss", watched)
    adapt(start, tmp_path, steps=4)
    assert len(seen) == 4 and all(labels <= set(range(6)) for labels in seen)


def test_weights_of_the_frozen_start_still_learn(start, tmp_path):
    frozen_start = (frozen(copy.deepcopy(start[0])), *start[1:])
    adapted = adapt(frozen_start, tmp_path, steps=2)
    moved = [not torch.equal(a, b) for a, b in zip(start[0].parameters(), adapted.parameters(), strict=True)]
    assert np.mean(moved) > 0.9
