"""The embedding queue: right rows to right askers, batches filled, nobody starved, failures told."""

import threading
import time

import numpy as np
import pytest

from reid_mtda.errors import ModelError
from reid_mtda.live.batcher import Batcher, BatcherSettings
from reid_mtda.model import Model
from reid_mtda.types import ModelManifest, Preprocess

MANIFEST = ModelManifest("m" * 12, "mean", 3, Preprocess(8, 8, (0, 0, 0), (1, 1, 1)), "nothing")


def mean_colour(crops: np.ndarray) -> np.ndarray:
    rows = crops.mean(axis=(2, 3))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def crop(red: int, green: int = 10, blue: int = 10) -> np.ndarray:
    return np.full((20, 10, 3), (red, green, blue), np.uint8)


class Recorder:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        self.sizes.append(len(crops))
        return mean_colour(crops)


def worked(batcher: Batcher) -> None:
    batcher.close()
    batcher.run()


def test_everyone_gets_the_rows_of_their_own_crops() -> None:
    batcher = Batcher(Model(MANIFEST, mean_colour), BatcherSettings(max_batch=4))
    asked = [([crop(n), crop(n + 1)], batcher.submit([crop(n), crop(n + 1)], key=f"camera{n % 3}")) for n in range(20)]
    worked(batcher)
    for crops, future in asked:
        expected = mean_colour(np.stack(crops).transpose(0, 3, 1, 2) / np.float32(255))
        np.testing.assert_allclose(future.result(0), expected, atol=1e-5)


def test_crops_of_many_cameras_share_a_batch() -> None:
    recorder = Recorder()
    batcher = Batcher(Model(MANIFEST, recorder), BatcherSettings(max_batch=8))
    for n in range(16):
        batcher.submit([crop(n)], key=f"camera{n}")
    worked(batcher)
    assert recorder.sizes == [8, 8]


def test_a_busy_camera_does_not_starve_a_quiet_one() -> None:
    order = []
    batcher = Batcher(Model(MANIFEST, mean_colour), BatcherSettings(max_batch=2, max_waiting=1000))
    for n in range(50):
        batcher.submit([crop(n)], key="busy").add_done_callback(lambda _: order.append("busy"))
    batcher.submit([crop(99)], key="quiet").add_done_callback(lambda _: order.append("quiet"))
    worked(batcher)
    assert order.index("quiet") <= 1


def test_too_many_waiting_are_refused_for_that_camera_alone() -> None:
    batcher = Batcher(Model(MANIFEST, mean_colour), BatcherSettings(max_waiting=4))
    assert batcher.submit([crop(0)] * 4, key="busy") is not None
    assert batcher.submit([crop(0)], key="busy") is None
    assert batcher.submit([crop(0)], key="quiet") is not None
    assert batcher.depth == 5


def test_a_lone_crop_waits_no_longer_than_the_limit() -> None:
    batcher = Batcher(Model(MANIFEST, mean_colour), BatcherSettings(max_wait_s=0.05))
    thread = threading.Thread(target=batcher.run)
    thread.start()
    began = time.monotonic()
    batcher.submit([crop(1)], key="gate").result(5)
    assert time.monotonic() - began < 1
    batcher.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_failing_model_fails_the_asker_and_the_queue_goes_on() -> None:
    calls = []

    def embed(crops: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no memory")
        return mean_colour(crops)

    batcher = Batcher(Model(MANIFEST, embed), BatcherSettings(max_batch=1))
    first, second = batcher.submit([crop(1)], key="a"), batcher.submit([crop(2)], key="b")
    worked(batcher)
    with pytest.raises(ModelError, match="RuntimeError"):
        first.result(0)
    assert second.result(0).shape == (1, 3)


def test_a_closed_queue_says_so() -> None:
    batcher = Batcher(Model(MANIFEST, mean_colour))
    batcher.close()
    with pytest.raises(ModelError, match="stopping"):
        batcher.submit([crop(1)], key="gate")
