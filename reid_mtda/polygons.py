"""Polygons over a camera's picture, in shares of its width and height: what masks and zones are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

Point = tuple[float, float]
MOST_POINTS = 64
_LEAST_AREA = 1e-4  # of the picture; less than this is a slip of the hand


def _tuples(value: Any) -> Any:
    """JSON knows lists only; strict settings hold tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def check_polygon(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return ``points`` when they are the corners of one plain area of the picture.

    >>> check_polygon([(0, 0), (1, 0), (1, 1)])
    ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))

    Raises:
        ValueError: too few or too many corners, one outside of the picture, sides that cross or touch, or no area.
    """
    corners = tuple((float(x), float(y)) for x, y in points)
    if not 3 <= len(corners) <= MOST_POINTS:
        raise ValueError(f"got {len(corners)} corners, expected 3 to {MOST_POINTS}; add or remove some")
    for number, (x, y) in enumerate(corners, 1):
        if not (0 <= x <= 1 and 0 <= y <= 1):  # NaN is not, either
            raise ValueError(
                f"corner {number} lies outside of the picture, got [{x:g}, {y:g}], expected shares of its width and "
                "height from 0 to 1; move it in"
            )
    count = len(corners)
    for number in range(count):
        if corners[number] == corners[(number + 1) % count]:
            raise ValueError(f"corners {number + 1} and {(number + 1) % count + 1} are the same; remove one")
    for one in range(count):
        for other in range(one + 1, count):
            if _meet(corners, one, other):
                raise ValueError(
                    f"its sides cross: that from corner {one + 1} to {(one + 1) % count + 1} meets that from "
                    f"{other + 1} to {(other + 1) % count + 1}; put the corners in their order around the area"
                )
    if abs(_twice_area(corners)) / 2 < _LEAST_AREA:
        raise ValueError("it has hardly any area; draw it larger")
    return corners


def _twice_area(corners: Sequence[Point]) -> float:
    pairs = zip(corners, (*corners[1:], corners[0]), strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)


def _meet(corners: Sequence[Point], one: int, other: int) -> bool:
    """Whether two sides share more than the corner that neighbours have in common."""
    count = len(corners)
    a, b = corners[one], corners[(one + 1) % count]
    c, d = corners[other], corners[(other + 1) % count]
    if other == one + 1 or (one, other) == (0, count - 1):  # neighbours: they may not run back over each other
        shared, back, on = (b, a, d) if other == one + 1 else (a, b, c)
        return _turn(back, shared, on) == 0 and not _between(shared, back, on)
    turns = (_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b))
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    return any(
        turn == 0 and _between(point, start, end)
        for turn, point, start, end in zip(turns, (c, d, a, b), (a, a, c, c), (b, b, d, d), strict=True)
    )


def _turn(a: Point, b: Point, c: Point) -> float:
    cross = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return 0.0 if abs(cross) < 1e-12 else cross


def _between(point: Point, start: Point, end: Point) -> bool:
    """Whether ``point``, which lies on the line through both, lies from ``start`` to ``end``."""
    return all(min(s, e) - 1e-12 <= p <= max(s, e) + 1e-12 for p, s, e in zip(point, start, end, strict=True))


Polygon = Annotated[tuple[Point, ...], BeforeValidator(_tuples), AfterValidator(check_polygon)]
"""Corners [x, y] in their order around one area, shares of the picture's width and height, from its upper left."""
Polygons = Annotated[tuple[Polygon, ...], BeforeValidator(_tuples)]
