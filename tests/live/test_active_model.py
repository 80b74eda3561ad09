"""Another model answers: what is under way then is embedded by it, and nothing is lost or mixed."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from colour_model import write_colour_model

from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.active_model import ModelServer
from reid_mtda.live.batcher import BatcherSettings
from reid_mtda.live.camera import AddedSighting, CameraWorker
from reid_mtda.model import load_model
from reid_mtda.types import Detections, Frame, Tracklet


def tracklet(number: int) -> Tracklet:
    crop = np.full((48, 24, 3), 10 * number, np.uint8)
    crop[:24] = (200, 30, 30)
    times = np.array([100.0 + number, 101.0 + number])
    return Tracklet("gate", number, (crop, crop), np.zeros((2, 4), np.float32), np.arange(2), times)


def start_thread(work, name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("embedded", [True, False])
def test_what_is_under_way_at_a_switch_goes_to_the_new_gallery(tmp_path: Path, embedded: bool) -> None:
    """Whether its old vector was there already, or still to come."""
    for turn in (0, 1):
        write_colour_model(tmp_path / f"model{turn}", turn=turn)
    model0, model1 = (load_model(tmp_path / f"model{turn}", threads=1) for turn in (0, 1))
    old, new = Gallery.open(tmp_path / "old", model0), Gallery.open(tmp_path / "new", model1)
    model_server = ModelServer(model0, old, BatcherSettings(), start_thread)
    added: list[AddedSighting] = []
    worker = CameraWorker(
        SimpleNamespace(camera="gate"), lambda: None, lambda: model_server.serving, fps=5, on_added=added.append
    )
    worker._send([tracklet(n) for n in range(3)])
    first, before = [future for _, _, future in worker._pending], model_server.serving
    if embedded:
        model_server.start()
        assert [future.result(10).shape for future in first]
    assert model_server.switch(model1, new) is old
    if not embedded:
        model_server.start()
        start_thread(before.batcher.run, "embedder")
    worker._collect(10.0)
    assert (len(old), len(new), worker.counts.tracklets, worker.counts.refused) == (0, 3, 3, 0)
    number, row = next(iter(new.sightings().items()))
    expected = model1.embed(tracklet(row.track_id).crops[0])[0]
    np.testing.assert_allclose(new.vector(number), expected, atol=1e-5)
    # Vectors of two models, which may differ in length, never meet in what is observed.
    assert all(one.drift_monitor is model_server.drift_monitor for one in added) and len(added) == 3
    model_server.stop(0)
    model_server.close()


def test_a_fault_of_one_frame_is_over_after_some_good_ones_and_no_other_is() -> None:
    """Nobody passes, so no sighting says that all is well again."""
    frames = [Frame("gate", n, 100.0 + n / 5, np.zeros((48, 64, 3), np.uint8)) for n in range(60)]
    stop, faults, nobody = threading.Event(), [], replace(Detections.empty(), too_low=2)

    def take(timeout_s: float) -> Frame | None:
        faults.append(worker.fault)
        if len(faults) > len(frames):
            stop.set()
            return None
        return frames[len(faults) - 1]

    def detect(image: np.ndarray) -> Detections:
        if len(faults) in (3, 10):
            raise RuntimeError("a bad frame")
        return nobody

    def collect(patience_s: float) -> None:
        if len(faults) == 45:
            raise RuntimeError("a bad embedding")

    stream = SimpleNamespace(camera="gate", newest=SimpleNamespace(take=take))
    worker = CameraWorker(stream, lambda: detect, lambda: None, fps=5)
    worker._collect = collect
    worker.run(stop)
    assert worker.counts.failed == 3
    assert worker.counts.too_low == 2 * worker.counts.frames > 0
    assert [n for n, fault in enumerate(faults) if fault] == [*range(3, 35), *range(45, 61)]
