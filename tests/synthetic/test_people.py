"""Looks and figures: drawn from a seed, told apart, seen from all sides."""

import dataclasses
import math

import numpy as np
import pytest

from reid_mtda.synthetic.canvas import FOOT_MARGIN
from reid_mtda.synthetic.figure import draw_person
from reid_mtda.synthetic.people import draw_look


def test_a_look_follows_from_seed_and_pid() -> None:
    assert draw_look(7, 3) == draw_look(7, 3)
    assert draw_look(7, 3) != draw_look(8, 3)
    assert draw_look(7, 3) != draw_look(7, 4)


def test_looks_vary_and_hold_look_alikes() -> None:
    looks = [draw_look(7, pid) for pid in range(1, 201)]
    colours = np.array([(*look.upper_colour, *look.lower_colour) for look in looks], float)
    apart = np.linalg.norm(colours[:, None] - colours, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (apart.min(axis=1) < 40).mean() > 0.2  # near look-alikes
    assert np.median(apart[np.isfinite(apart)]) > 120  # on the whole, people differ
    for key in ("hair", "hat", "upper", "pattern", "lower", "bag"):
        assert len({getattr(look, key) for look in looks}) >= 3, key


@pytest.mark.parametrize("height_px", [24.0, 70.0, 200.0])
@pytest.mark.parametrize("elevation", [0.1, 0.5])
@pytest.mark.parametrize("view", np.linspace(-math.pi, math.pi, 9))
def test_figure_stands_on_its_feet_inside_the_picture(height_px: float, view: float, elevation: float) -> None:
    for pid in range(1, 25):
        rgb, alpha = draw_person(draw_look(7, pid), height_px, view, pid * 0.7, elevation=elevation)
        assert rgb.dtype == alpha.dtype == np.uint8 and rgb.shape[:2] == alpha.shape
        assert (rgb <= alpha[..., None]).all()  # premultiplied
        rows, columns = np.nonzero(alpha > 127)
        assert 0.75 * height_px < rows.max() + 1 - rows.min() < 1.12 * height_px
        soles = alpha.shape[0] - FOOT_MARGIN * height_px
        assert -0.05 * height_px - 1 < rows.max() + 1 - soles <= FOOT_MARGIN * height_px + 0.5
        assert columns.min() > 0 and columns.max() < alpha.shape[1] - 1  # nothing is cut off
        assert rows.min() > 0 or height_px < 30
        assert abs(columns.mean() - alpha.shape[1] / 2) < 0.12 * height_px


def picture(look: object, view: float, phase: float = 1.0) -> np.ndarray:
    return draw_person(look, 200, view, phase)[0].astype(int)  # type: ignore[arg-type]


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels whose hue is that of ``colour``, whatever the shading."""
    unit = image / np.maximum(np.linalg.norm(image, axis=2, keepdims=True), 1)
    wanted = np.array(colour) / np.linalg.norm(colour)
    return int(((unit @ wanted > 0.995) & (image.max(axis=2) > 60)).sum())


def test_sides_differ() -> None:
    look = dataclasses.replace(
        draw_look(7, 1), upper="tshirt", upper_colour=(230, 230, 230), pattern="logo", pattern_colour=(0, 220, 0),
        bag="backpack", bag_colour=(220, 0, 220), skin=(230, 150, 60), hair="short", hair_colour=(0, 0, 200),
        hat="none",
    )  # fmt: skip
    front, side, back = (picture(look, view) for view in (0.0, math.pi / 2, math.pi))
    assert count(front, (0, 220, 0)) > 100 > count(back, (0, 220, 0)) == 0
    assert count(back, (220, 0, 220)) > 3 * count(front, (220, 0, 220)) > 0
    assert count(back, (0, 0, 200)) > 1.5 * count(front, (0, 0, 200))  # hair behind, face before
    assert count(side, (220, 0, 220)) > 100
    left, right = picture(look, -math.pi / 2), side
    packs = [np.nonzero(np.abs(image - np.array((220, 0, 220))).sum(axis=2) < 160)[1].mean() for image in (left, right)]
    assert packs[0] > packs[1]  # behind is where they come from


def test_legs_walk() -> None:
    look = dataclasses.replace(draw_look(7, 1), lower="trousers", upper="tshirt")
    widths = []
    for phase in (0.0, math.pi / 2, math.pi, 3 * math.pi / 2):
        _, alpha = draw_person(look, 200, math.pi / 2, phase)
        columns = np.nonzero(alpha[-60:].max(axis=0) > 127)[0]
        widths.append(columns.max() - columns.min())
    assert min(widths[1], widths[3]) > 1.4 * max(widths[0], widths[2])  # wide at mid-step, closed when passing
    assert np.array_equal(picture(look, 1.0, 0.5), picture(look, 1.0, 0.5))


@pytest.mark.parametrize("key", ["hair", "hat", "upper", "pattern", "lower", "bag"])
def test_every_option_is_seen(key: str) -> None:
    options = sorted({getattr(draw_look(7, pid), key) for pid in range(1, 200)})
    base = dataclasses.replace(
        draw_look(7, 1), hat="none", bag="none", hair="short", upper="hoodie", lower="trousers", pattern="plain"
    )
    drawn = [
        np.concatenate([picture(dataclasses.replace(base, **{key: option}), view).ravel() for view in (0.3, 2.8)])
        if key != "upper" or option != "coat"
        else None
        for option in options
    ]
    pictures = [image.tobytes() for image in drawn if image is not None]
    assert len(set(pictures)) == len(pictures)
