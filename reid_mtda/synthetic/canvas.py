"""The surface a body is drawn on: body coordinates in, a premultiplied picture out."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from reid_mtda.synthetic.people import Colour

Point = tuple[float, float]
Joint = tuple[float, float, float]

FOOT_MARGIN = 0.16
"""Rows below the point people stand on, as a share of ``height_px``: room for a foot stretched towards the camera."""

SUPERSAMPLE = 2
"""Drawn pixels per pixel of the picture, each way."""

_SHIFT = 4  # fractional bits of the coordinates handed to OpenCV


class Canvas:
    """A premultiplied RGBA surface that is drawn on in body coordinates (forward, left, up)."""

    def __init__(self, height_px: float, view_angle: float, elevation: float) -> None:
        self.unit = height_px * SUPERSAMPLE
        self.sin, self.cos = math.sin(view_angle), math.cos(view_angle)
        self.tilt, self.squash = math.sin(elevation), math.cos(elevation)
        rows = 2 * round(height_px * (1.04 * self.squash + FOOT_MARGIN) * SUPERSAMPLE / 2)
        columns = 4 * round(height_px * 0.2 * SUPERSAMPLE)
        self.pixels = np.zeros((rows, columns, 4), np.uint8)
        self.centre = columns / 2
        self.ground = rows - height_px * FOOT_MARGIN * SUPERSAMPLE

    def depth(self, forward: float, left: float) -> float:
        """How far towards the camera a point lies."""
        return forward * self.cos - left * self.sin

    def at(self, forward: float, left: float, up: float) -> Point:
        """Pixel position of a body point.

        Args:
            forward: along the walk, m.
            left: across the walk, m.
            up: height above the ground, m.
        """
        x = forward * self.sin + left * self.cos
        y = up * self.squash - self.depth(forward, left) * self.tilt
        return self.centre + x * self.unit, self.ground - y * self.unit

    def half_width(self, wide: float, deep: float) -> float:
        """Half of the seen width, in pixels, of an upright ellipse of half axes ``wide`` (left) and ``deep``."""
        return math.hypot(wide * self.cos, deep * self.sin) * self.unit

    def polygon(self, points: list[Point], colour: Colour, surface: Any = None) -> None:
        """Fill an outline.

        Args:
            points: corners, px.
            colour: its colour.
            surface: what is drawn on.
        """
        corners = np.rint(np.array(points) * (1 << _SHIFT)).astype(np.int32)
        target, value = (self.pixels, (*colour, 255)) if surface is None else (surface, (255,))
        cv2.fillPoly(target, [corners], value, cv2.LINE_AA, _SHIFT)

    def ellipse(self, centre: Point, half_axes: Point, colour: Colour) -> None:
        """Fill an upright ellipse; ``half_axes`` in pixels.

        Args:
            centre: its middle, px.
            half_axes: of the ellipse, px.
            colour: its colour.
        """
        fixed = [round(value * (1 << _SHIFT)) for value in (*centre, *half_axes)]
        cv2.ellipse(self.pixels, fixed[:2], fixed[2:], 0, 0, 360, (*colour, 255), cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def limb(self, start: Point, end: Point, radius_start: float, radius_end: float, colour: Colour) -> None:
        """A rounded, tapering limb; radii in body heights.

        Args:
            start: where it begins, px.
            end: where it ends, px.
            radius_start: half its width there, px.
            radius_end: half its width there, px.
            colour: its colour.
        """
        first, last = radius_start * self.unit, radius_end * self.unit
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = max(math.hypot(dx, dy), 1e-6)
        nx, ny = -dy / length, dx / length
        self.polygon(
            [
                (start[0] + nx * first, start[1] + ny * first),
                (end[0] + nx * last, end[1] + ny * last),
                (end[0] - nx * last, end[1] - ny * last),
                (start[0] - nx * first, start[1] - ny * first),
            ],
            colour,
        )
        self.ellipse(start, (first, first), colour)
        self.ellipse(end, (last, last), colour)


def shaded(colour: Colour, factor: float) -> Colour:
    """A colour made darker by ``factor``."""
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)
