"""Training sees what serving sees; batches are a pure function of (seed, step)."""

import cv2
import numpy as np
import pytest

from reid_mtda.data import batches
from reid_mtda.data.batches import load_pictures
from reid_mtda.data.samplers import pk_sampler
from reid_mtda.errors import DataError, ImageError
from reid_mtda.types import Preprocess
from reid_mtda.vision.preprocess import to_model_input

SIZES = ((64, 32), (200, 90), (20, 12), (100, 20), (33, 17))
"""As wanted, larger, smaller, narrower, odd."""


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]
    paths = [tmp_path / f"{number}.png" for number in range(len(crops))]
    for path, crop in zip(paths, crops, strict=True):
        cv2.imwrite(str(path), crop[..., ::-1])
    return paths, crops


def check_training_sees_what_serving_sees(paths, crops, preprocess):
    loaded = load_pictures(paths, preprocess)
    trained = loaded.normalised(loaded.unit(np.arange(len(crops)))).numpy()
    served = to_model_input(crops, preprocess)
    assert trained.dtype == served.dtype and np.array_equal(trained, served), "training sees other pictures"


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("size", [(64, 32), (256, 128), (48, 24)])
def test_training_sees_what_serving_sees(pictures, size, channels):
    check_training_sees_what_serving_sees(*pictures, Preprocess(*size, channels=channels))


def test_another_way_of_resizing_is_caught(pictures, monkeypatch):
    plain = lambda crop, height, width: cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)  # noqa: E731
    monkeypatch.setattr(batches, "resize_crop", plain)
    with pytest.raises(AssertionError, match="training sees other pictures"):
        check_training_sees_what_serving_sees(*pictures, Preprocess(64, 32))


def test_no_pictures_and_broken_pictures_are_refused(tmp_path, pictures):
    with pytest.raises(DataError, match="pictures: got none"):
        load_pictures([], Preprocess())
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        load_pictures([*pictures[0], tmp_path / "broken.jpg"], Preprocess())


LABELS = np.array([5, 5, 5, 5, 9, 9, 2, 2, 2, -1, -1, 7, 7, 7, 0, 4, 4, 4])


def sampler(p=2, k=3, labels=LABELS, seed=0, **more):
    return pk_sampler(labels, p=p, k=k, seed=seed, where="gate", **more)


def test_a_batch_is_a_pure_function_of_seed_and_step():
    one, two = sampler(), sampler()
    forward = [one.batch(step).tolist() for step in range(40)]
    backward = [two.batch(step).tolist() for step in reversed(range(40))][::-1]
    assert forward == backward
    assert forward != [sampler(seed=1).batch(step).tolist() for step in range(40)]


def test_a_batch_is_p_groups_of_k_pictures():
    for step in range(50):
        rows = sampler().batch(step)
        assert rows.shape == (6,) and rows.dtype == np.int64
        owners = LABELS[rows].reshape(2, 3)
        assert (owners == owners[:, :1]).all() and len(set(owners[:, 0])) == 2 and (owners >= 0).all()


@pytest.mark.parametrize(("p", "epoch"), [(2, 3), (3, 2), (6, 1), (4, 1), (5, 1)])
def test_no_group_comes_twice_in_an_epoch_and_every_group_comes(p, epoch):
    some = sampler(p=p)
    assert some.steps_per_epoch == epoch and len(some.groups) == 6
    came = set()
    for number in range(12):
        steps = range(number * epoch, (number + 1) * epoch)
        seen = np.concatenate([LABELS[some.batch(step)][::3] for step in steps]).tolist()
        assert len(seen) == len(set(seen)) == p * epoch
        came |= set(seen)
    assert came == {0, 2, 4, 5, 7, 9}


def test_pictures_repeat_only_where_there_are_too_few():
    for step in range(30):
        rows = sampler(p=6, k=3).batch(step)
        for label in (0, 2, 4, 5, 7, 9):
            mine = rows[LABELS[rows] == label]
            assert len(mine) == 3
            if (label == LABELS).sum() >= 3:
                assert len(set(mine.tolist())) == 3


def test_it_never_runs_out():
    assert sampler().batch(10**9).shape == (6,)


def test_fewer_groups_than_p_are_all_in_every_batch():
    rows = sampler(p=64).batch(3)
    assert set(LABELS[rows].tolist()) == {0, 2, 4, 5, 7, 9} and len(rows) == 18


def test_small_groups_are_left_out():
    assert {int(LABELS[group[0]]) for group in sampler(min_size=3).groups} == {2, 4, 5, 7}


@pytest.mark.parametrize("labels", [[], [-1, -1], [3, 3, 3], [3, 3, 4]])
def test_fewer_than_two_groups_are_refused(labels):
    count = {0: 0, 2: 0, 3: 1}[len(labels)] if labels != [3, 3, 4] else 1
    with pytest.raises(DataError, match=rf"gate: got {count} identities or tracklets with at least 2 pictures"):
        sampler(labels=np.array(labels, np.int64), min_size=2)
