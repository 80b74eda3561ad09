"""Supervised training learns, records every step and follows its schedule."""

import json

import numpy as np
import pytest
import torch
from builders import PREPROCESS, source_set

from reid_mtda.data.batches import load_pictures
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.schema import parse
from reid_mtda.train.common import cosine_decay, embed_pictures
from reid_mtda.train.source import SourceSettings, train_source

SMALL = {"identities_per_batch": 4, "pictures_per_identity": 2}


@pytest.fixture
def coats(tmp_path):
    return source_set(tmp_path)


def model(num_classes=6):
    return build_embedder(EmbedderSpec(arch="resnet10_w4", num_classes=num_classes), seed=0)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def separation(net, coats):
    """Mean cosine within identities less that between them."""
    rows = embed_pictures(net, load_pictures(coats.paths, PREPROCESS)).embedding.numpy()
    similar, same = rows @ rows.T, coats.labels[:, None] == coats.labels[None, :]
    return similar[same & ~np.eye(len(rows), dtype=bool)].mean() - similar[~same].mean()


def test_it_learns_the_coats(coats, tmp_path):
    settings = SourceSettings(steps=30, learning_rate=5e-3, **SMALL)
    trained = train_source(model(), coats, PREPROCESS, settings, Run(tmp_path, 0))
    assert separation(trained, coats) > separation(model().eval(), coats) + 0.3 and not trained.training
    losses = [record["identity"] for record in records(tmp_path)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05


def test_the_average_of_weights_is_the_result_where_it_is_asked_for(coats, tmp_path):
    """After one step the decay is 1 / 10: nine tenths of the new weights and one of those it started from."""
    start = model()
    last, averaged = (
        train_source(model(), coats, PREPROCESS, SourceSettings(steps=1, ema=ema, **SMALL), Run(tmp_path, 0))
        for ema in (0, 0.9)
    )
    new, old = dict(last.named_parameters()), dict(start.named_parameters())
    for name, value in averaged.named_parameters():
        torch.testing.assert_close(value, 0.1 * old[name] + 0.9 * new[name])
    assert not averaged.training and not any(value.requires_grad for value in averaged.parameters())


def test_every_step_is_recorded_shown_and_given_its_rate(coats, tmp_path, monkeypatch):
    seen, rates = [], []
    module = __import__("reid_mtda.train.source", fromlist=["x"])
    monkeypatch.setattr(module, "set_learning_rate", lambda optimiser, rate: rates.append(rate))
    settings = SourceSettings(steps=6, learning_rate=0.01, **SMALL)
    train_source(model(), coats, PREPROCESS, settings, Run(tmp_path, 0), lambda *shown: seen.append(shown))
    assert seen == [("source coats", step, 6) for step in range(1, 7)]
    assert [record["step"] for record in records(tmp_path)] == list(range(6))
    assert rates == [cosine_decay(0.01, step / 6) for step in range(6)]


def test_one_identity_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"coats: got 1 identities or tracklets"):
        train_source(model(1), source_set(tmp_path, people=1), PREPROCESS, SourceSettings(steps=1), Run(tmp_path, 0))


def test_unknown_augmentations_are_refused(coats, tmp_path):
    settings = SourceSettings(steps=1, augmentation=("erase",), **SMALL)
    with pytest.raises(ConfigError, match=r"augmentation: got 'erase'"):
        train_source(model(), coats, PREPROCESS, settings, Run(tmp_path, 0))


@pytest.mark.parametrize("key", ["step", "learningrate", "margins"])
def test_settings_refuse_what_they_do_not_know(key):
    with pytest.raises(ConfigError, match=rf"unknown key '{key}'; did you mean"):
        parse(SourceSettings, {key: 1}, where="x")


def test_weights_stay_in_float32(coats, tmp_path):
    settings = SourceSettings(steps=2, **SMALL)
    trained = train_source(model(), coats, PREPROCESS, settings, Run(tmp_path, 0))
    assert {weight.dtype for weight in trained.parameters()} == {torch.float32}
