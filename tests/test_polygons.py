"""Areas of a camera's picture: one plain area inside of it, or words that say which corner is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_mtda.polygons import check_polygon

SQUARE = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)]


@pytest.mark.parametrize(
    "corners",
    [
        SQUARE,
        SQUARE[::-1],  # either way round
        [(0, 0), (1, 0), (1, 1), (0, 1)],  # the whole picture
        [(0, 0), (1, 0), (1, 1), (0.5, 0.5), (0, 1)],  # a corner that points inwards
        [(0, 0), (0.5, 0), (1, 0), (1, 1)],  # a corner on a straight side
    ],
)
def test_one_area_is_taken(corners):
    assert check_polygon(corners) == tuple((float(x), float(y)) for x, y in corners)


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        (SQUARE[:2], "got 2 corners, expected 3 to 64"),
        ([(0.5, 0.5)] * 65, "got 65 corners, expected 3 to 64"),
        ([(0, 0), (1, 0), (1, 1.001)], r"corner 3 lies outside of the picture, got \[1, 1.001\]"),
        ([(-0.01, 0), (1, 0), (1, 1)], "corner 1 lies outside"),
        ([(0, 0), (1, 0), (math.nan, 1)], "corner 3 lies outside"),
        ([(0, 0), (1, 0), (1, 0), (1, 1)], "corners 2 and 3 are the same; remove one"),
        ([(0, 0), (1, 0), (1, 1), (0, 0)], "corners 4 and 1 are the same"),
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "sides cross: that from corner 1 to 2 meets that from 3 to 4"),
        ([(0, 0), (1, 0), (0.5, 0)], "its sides cross"),  # runs back over itself
        ([(0, 0), (0.5, 0.5), (1, 0), (1, 1), (0.5, 0.5), (0, 1)], "its sides cross"),  # two areas that touch
        ([(0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1)], "its sides cross"),  # a corner on another side
        ([(0, 0), (0.01, 0), (0.01, 0.01)], "it has hardly any area"),
    ],
)
def test_what_is_no_area_is_refused_in_words(corners, message):
    with pytest.raises(ValueError, match=message):
        check_polygon(corners)


@given(st.lists(st.floats(0.05, 0.45), min_size=3, max_size=12))
def test_a_star_around_its_middle_never_crosses_itself(radii):
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    corners = [(0.5 + r * math.cos(a), 0.5 + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]
    assert len(check_polygon(corners)) == len(radii)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=7, unique=True))
def test_crossings_are_those_that_a_second_opinion_finds(places):
    """By sampling both sides of every pair densely: no point of one may lie on the other."""
    corners = [(x / 6, y / 6) for x, y in places]

    def crosses():
        sides = [(np.array(corners[i]), np.array(corners[(i + 1) % len(corners)])) for i in range(len(corners))]
        for i, (a, b) in enumerate(sides):
            for j, (c, d) in enumerate(sides[:i]):
                matrix = np.stack([b - a, c - d], axis=1)
                if abs(np.linalg.det(matrix)) > 1e-9:
                    s, t = np.linalg.solve(matrix, c - a)
                    if -1e-9 <= s <= 1 + 1e-9 and -1e-9 <= t <= 1 + 1e-9:
                        meeting = a + s * (b - a)
                        ends = any(np.allclose(meeting, p) for p in (a, b)) and any(
                            np.allclose(meeting, p) for p in (c, d)
                        )
                        neighbours = i - j in (1, len(corners) - 1)
                        if not (neighbours and ends):
                            return True
                else:
                    for p in (a, b):
                        on = abs(np.cross(np.append(d - c, 0), np.append(p - c, 0))[2]) < 1e-9
                        share = np.dot(p - c, d - c) / np.dot(d - c, d - c)
                        if on and 1e-9 < share < 1 - 1e-9:
                            return True
                    for p in (c, d):
                        on = abs(np.cross(np.append(b - a, 0), np.append(p - a, 0))[2]) < 1e-9
                        share = np.dot(p - a, b - a) / np.dot(b - a, b - a)
                        if on and 1e-9 < share < 1 - 1e-9:
                            return True
        return False

    try:
        check_polygon(corners)
        refused = False
    except ValueError as error:
        refused = "cross" in str(error)
    assert refused == crosses()
