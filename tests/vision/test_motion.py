from collections.abc import Iterator

import numpy as np
import pytest

from reid_mtda.synthetic.street import street_frames
from reid_mtda.types import ImageArray
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.motion import people_boxes


def walk(frames: int, seed: int = 0) -> Iterator[tuple[ImageArray, tuple[int, int, int, int] | None]]:
    """A textured, noisy scene that an upright box crosses from frame 15 on, with its truth."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(80, 160, (120, 200, 3))
    for index in range(frames):
        picture = scene + rng.normal(0, 2, scene.shape)
        box = None
        if index >= 15:
            x = 6 * (index - 15)
            box = (x, 30, x + 24, 90)
            picture[30:90, x : x + 24] = (200, 30, 30)
        yield np.clip(picture, 0, 255).astype(np.uint8), box


def test_somebody_who_crosses_is_found_where_they_are() -> None:
    find = load_detector("motion", min_height_px=40)
    for picture, truth in walk(42):
        found = find(picture)
        if truth is None:
            assert len(found) == 0
        else:
            np.testing.assert_allclose(found.xyxy, [truth], atol=4)
            np.testing.assert_array_equal(found.score, [1.0])


def test_those_too_low_are_ignored() -> None:
    find = load_detector("motion", min_height_px=80)
    assert all(len(find(picture)) == 0 for picture, _ in walk(40))


def test_two_detectors_do_not_share_what_they_saw() -> None:
    first, second = load_detector("motion", min_height_px=40), load_detector("motion", min_height_px=40)
    pictures = list(walk(40))
    found = [first(picture).xyxy for picture, _ in pictures]
    for picture, _ in pictures:
        second(picture[:, ::-1].copy())
    again = load_detector("motion", min_height_px=40)
    for (picture, _), expected in zip(pictures, found, strict=True):
        np.testing.assert_array_equal(again(picture).xyxy, expected)


def test_a_change_of_light_or_resolution_is_nobody() -> None:
    find = load_detector("motion", min_height_px=20)
    rng = np.random.default_rng(0)
    dark = rng.integers(20, 60, (90, 160, 3), dtype=np.uint8)
    for _ in range(15):
        find(dark)
    assert len(find(dark + np.uint8(150))) == 0
    larger = np.repeat(np.repeat(dark, 2, axis=0), 2, axis=1)
    assert sum(len(find(larger)) for _ in range(15)) == 0


@pytest.mark.parametrize("gap", [4, 60])
def test_a_body_in_two_parts_is_one_person(gap: int) -> None:
    mask = np.zeros((200, 100), np.uint8)
    mask[10:50, 40:70] = 255
    mask[50 + gap : 90 + gap, 42:68] = 255
    boxes = people_boxes(mask, 36)
    if gap == 4:
        np.testing.assert_allclose(boxes, [[40, 10, 70, 94]], atol=1)
    else:  # 60 px of nothing is no belt; each part alone is no wider than tall enough
        assert len(people_boxes(mask, 60)) == 0


def test_an_empty_mask_has_no_boxes() -> None:
    assert people_boxes(np.zeros((50, 50), np.uint8), 10).shape == (0, 4)


def test_noise_all_over_is_quick() -> None:
    mask = np.where(np.random.default_rng(0).random((270, 480)) < 0.2, 255, 0).astype(np.uint8)
    assert people_boxes(mask, 16).shape[1] == 4


@pytest.mark.parametrize("camera", ["gate", "plaza"])
def test_people_of_the_drawn_street_are_found(camera: str) -> None:
    find = load_detector("motion", min_height_px=40)
    hits = found = there = 0
    for frame in street_frames(camera, seed=7, duration_s=24.0, fps=5.0):
        people = find(frame.image).xyxy
        if frame.index < 250:  # it learns the place first
            continue
        clear = frame.xyxy[frame.visible > 0.5]
        sides = np.minimum(people[:, None, 2:], clear[None, :, 2:]) - np.maximum(
            people[:, None, :2], clear[None, :, :2]
        )
        both = np.prod(np.clip(sides, 0, None), axis=2)
        area = np.prod(people[:, 2:] - people[:, :2], axis=1)[:, None] + np.prod(clear[:, 2:] - clear[:, :2], axis=1)
        hits += int(((both / (area - both)).max(axis=1, initial=0) >= 0.5).sum())
        found, there = found + len(people), there + len(clear)
    assert hits > 0.8 * found
    assert hits > 0.7 * there


def test_small_people_of_a_large_frame_are_not_shrunk_away() -> None:
    find = load_detector("motion", min_height_px=24)
    rng = np.random.default_rng(0)
    scene = rng.integers(80, 160, (270, 480, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    for index in range(20):
        picture = scene.copy()
        if index >= 15:
            picture[500:532, 900 + 20 * index : 912 + 20 * index] = (220, 20, 20)
            np.testing.assert_allclose(find(picture).xyxy, [[900 + 20 * index, 500, 912 + 20 * index, 532]], atol=4)
        else:
            assert len(find(picture)) == 0
