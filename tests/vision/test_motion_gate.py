"""The gate in front of a detector network: still pictures are spared, nobody who moves or stands is missed."""

import numpy as np
import pytest

from reid_mtda.synthetic.street import street_frames
from reid_mtda.types import Detections
from reid_mtda.vision.motion_gate import motion_gated


class Counting:
    """Finds a white block, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: np.ndarray) -> Detections:
        self.calls += 1
        rows, columns = np.nonzero((image > 240).all(axis=2))
        if not len(rows):
            return Detections.empty()
        box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        return Detections(np.array(box, np.float32), np.ones(1, np.float32))


def picture(x: int | None, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(90, 106, (180, 320, 3), np.uint8)  # a sensor's noise
    if x is not None:
        image[60:120, x : x + 20] = 255
    return image


def test_still_noise_is_spared_but_for_a_look_now_and_then() -> None:
    detect = Counting()
    find = motion_gated(detect, most_skipped=10)
    assert sum(len(find(picture(None, seed))) for seed in range(110)) == 0
    assert detect.calls == 10


def test_whoever_appears_is_found_at_once_and_goes_on_being_found_standing() -> None:
    detect = Counting()
    find = motion_gated(detect)
    for seed in range(5):
        find(picture(None, seed))
    assert all(len(find(picture(100, seed))) == 1 for seed in range(30))
    assert len(find(picture(None, 99))) == 0


def test_another_resolution_is_looked_at() -> None:
    detect = Counting()
    find = motion_gated(detect)
    find(picture(None))
    find(np.zeros((360, 640, 3), np.uint8))
    assert detect.calls == 2


@pytest.mark.parametrize("camera", ["gate", "plaza"])
def test_on_the_street_nobody_well_visible_is_missed(camera: str) -> None:
    """Truth as detector: whoever it would give must come through, but for those who just entered the picture."""
    frames = list(street_frames(camera, duration_s=30, fps=5))
    truth = iter(frames)
    now = [None]

    def detect(image: np.ndarray) -> Detections:
        seen = now[0].xyxy[(now[0].visible > 0.6) & (now[0].xyxy[:, 3] - now[0].xyxy[:, 1] >= 48)]
        return Detections(seen.astype(np.float32), np.ones(len(seen), np.float32))

    find, missed, people = motion_gated(detect), 0, 0
    for frame in truth:
        now[0] = frame
        wanted = len(detect(frame.image))
        people += wanted
        missed += wanted - len(find(frame.image))
    assert people > 50 and missed <= 0.01 * people
