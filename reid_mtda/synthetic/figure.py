"""The picture of a look, walking in any direction.

A body is a small skeleton in body heights (forward, left, up; the ground is up = 0), turned by the view angle and
projected. One set of joints gives front, back and side views, and what hides what follows from depth.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from reid_mtda.synthetic.people import Colour, Person
from reid_mtda.types import ImageArray

Point = tuple[float, float]
Joint = tuple[float, float, float]

FOOT_MARGIN = 0.16
"""Rows below the point people stand on, as a share of ``height_px``: room for a foot stretched towards the camera."""

_SUPERSAMPLE = 2
_SHIFT = 4  # fractional bits of the coordinates handed to OpenCV


class _Canvas:
    """A premultiplied RGBA surface that is drawn on in body coordinates (forward, left, up)."""

    def __init__(self, height_px: float, view_angle: float, elevation: float) -> None:
        self.unit = height_px * _SUPERSAMPLE
        self.sin, self.cos = math.sin(view_angle), math.cos(view_angle)
        self.tilt, self.squash = math.sin(elevation), math.cos(elevation)
        rows = 2 * round(height_px * (1.04 * self.squash + FOOT_MARGIN) * _SUPERSAMPLE / 2)
        columns = 4 * round(height_px * 0.2 * _SUPERSAMPLE)
        self.pixels = np.zeros((rows, columns, 4), np.uint8)
        self.centre = columns / 2
        self.ground = rows - height_px * FOOT_MARGIN * _SUPERSAMPLE

    def depth(self, forward: float, left: float) -> float:
        """How far towards the camera a point lies."""
        return forward * self.cos - left * self.sin

    def at(self, forward: float, left: float, up: float) -> Point:
        """Pixel position of a body point."""
        x = forward * self.sin + left * self.cos
        y = up * self.squash - self.depth(forward, left) * self.tilt
        return self.centre + x * self.unit, self.ground - y * self.unit

    def half_width(self, wide: float, deep: float) -> float:
        """Half of the seen width, in pixels, of an upright ellipse of half axes ``wide`` (left) and ``deep``."""
        return math.hypot(wide * self.cos, deep * self.sin) * self.unit

    def polygon(self, points: list[Point], colour: Colour, surface: Any = None) -> None:
        """Fill an outline."""
        corners = np.rint(np.array(points) * (1 << _SHIFT)).astype(np.int32)
        target, value = (self.pixels, (*colour, 255)) if surface is None else (surface, (255,))
        cv2.fillPoly(target, [corners], value, cv2.LINE_AA, _SHIFT)

    def ellipse(self, centre: Point, half_axes: Point, colour: Colour) -> None:
        """Fill an upright ellipse; ``half_axes`` in pixels."""
        fixed = [round(value * (1 << _SHIFT)) for value in (*centre, *half_axes)]
        cv2.ellipse(self.pixels, fixed[:2], fixed[2:], 0, 0, 360, (*colour, 255), cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def limb(self, start: Point, end: Point, radius_start: float, radius_end: float, colour: Colour) -> None:
        """A rounded, tapering limb; radii in body heights."""
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


def draw_person(
    person: Person, height_px: float, view_angle: float, gait_phase: float, *, elevation: float = 0.2
) -> tuple[ImageArray, ImageArray]:
    """Draw ``person`` in mid-step.

    Args:
        person: the look.
        height_px: pixels that one body height would have when seen level.
        view_angle: radians; 0 faces the camera, pi/2 walks to the right of the picture, pi shows the back.
        gait_phase: radians; 2 pi is one double step.
        elevation: radians by which the camera looks down on the person.

    Returns:
        ``rgb`` uint8 (h, w, 3), already multiplied by alpha, and ``alpha`` uint8 (h, w). The person stands on column
        w / 2, ``FOOT_MARGIN * height_px`` rows above the bottom.
    """
    canvas = _Canvas(height_px, view_angle, elevation)
    legs = _legs(person, gait_phase)
    lift = 0.035 - min(min(leg[2][2], leg[1][2]) for leg in legs)
    facing = canvas.cos
    sides = sorted((0, 1), key=lambda side: canvas.depth(0, (0.1, -0.1)[side]) + 1e-3 * side)
    far, near = sides
    side_on = abs(canvas.sin) > 0.35

    for side in sides:
        _draw_leg(canvas, person, legs[side], lift, dim=side == far)
    if person.bag == "backpack" and facing > -0.25:
        _draw_backpack(canvas, person, lift)
    if person.hair in ("long", "ponytail") and facing > 0:
        _draw_long_hair(canvas, person, lift)
    if side_on:
        _draw_arm(canvas, person, gait_phase, far, lift, dim=True)
    if person.bag == "shoulder" and (person.bag_side > 0) == (far == 0):
        _draw_shoulder_bag(canvas, person, lift)
    _draw_torso(canvas, person, gait_phase, lift)
    _draw_front(canvas, person, lift)
    _draw_head(canvas, person, lift)
    if person.hair in ("long", "ponytail") and facing <= 0:
        _draw_long_hair(canvas, person, lift)
    if person.bag == "backpack" and facing <= -0.25:
        _draw_backpack(canvas, person, lift)
    if person.bag == "shoulder" and (person.bag_side > 0) == (near == 0):
        _draw_shoulder_bag(canvas, person, lift)
    if not side_on:
        _draw_arm(canvas, person, gait_phase, far, lift, dim=False)
    _draw_arm(canvas, person, gait_phase, near, lift, dim=False)
    return _finish(canvas, person)


def _finish(canvas: _Canvas, person: Person) -> tuple[ImageArray, ImageArray]:
    rows, columns = (side // _SUPERSAMPLE for side in canvas.pixels.shape[:2])
    small = cv2.resize(canvas.pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    alpha = np.ascontiguousarray(small[..., 3])
    # Roundness: darker towards the outline; folds: a coarse tile of the person's own.
    reach = max(3, 2 * (rows // 28) + 1)
    shade = cv2.boxFilter(alpha, cv2.CV_32F, (reach, reach)) * (0.42 / 255) + 0.6
    folds = np.random.default_rng(person.pid).normal(1, 0.055, (14, 6)).astype(np.float32)
    shade *= cv2.resize(folds, (columns, rows), interpolation=cv2.INTER_CUBIC)
    rgb = cv2.multiply(small[..., :3], cv2.merge((shade, shade, shade)), dtype=cv2.CV_8U)
    return np.minimum(rgb, alpha[..., None]), alpha


def _dim(colour: Colour, factor: float) -> Colour:
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)


def _legs(person: Person, phase: float) -> list[tuple[Joint, Joint, Joint]]:
    """Hip, knee and ankle of the left and the right leg, before the body is set on the ground."""
    thigh, shin = 0.245 * person.legs, 0.235 * person.legs
    legs = []
    for side, turn in ((1, phase), (-1, phase + math.pi)):
        swing = person.stride * math.sin(turn)
        flex = 0.08 + 0.8 * max(0.0, math.cos(turn)) * person.stride / 0.45
        left = side * 0.045 * person.build
        hip = (0.0, left, 0.52 * person.legs)
        knee = (thigh * math.sin(swing), left, hip[2] - thigh * math.cos(swing))
        lower = swing - flex
        legs.append((hip, knee, (knee[0] + shin * math.sin(lower), left * 0.9, knee[2] - shin * math.cos(lower))))
    return legs


def _draw_leg(canvas: _Canvas, person: Person, leg: tuple[Joint, Joint, Joint], lift: float, *, dim: bool) -> None:
    light = 0.78 if dim else 1.0
    hip, knee, ankle = (canvas.at(forward, left, up + lift) for forward, left, up in leg)
    cloth, skin = _dim(person.lower_colour, light), _dim(person.skin, light)
    toe = canvas.at(leg[2][0] + 0.085, leg[2][1] * 1.25, leg[2][2] + lift - 0.022)
    heel = canvas.at(leg[2][0] - 0.005, leg[2][1], leg[2][2] + lift - 0.014)
    thick = 0.5 + 0.5 * person.build
    bare = person.lower != "trousers"
    canvas.limb(knee, ankle, 0.036 * thick, (0.022 if bare else 0.029) * thick, skin if bare else cloth)
    canvas.limb(heel, toe, 0.026, 0.02, _dim(person.shoe_colour, light))
    if person.lower == "shorts":
        canvas.limb(hip, knee, 0.066 * thick, 0.05 * thick, cloth)
    else:
        canvas.limb(hip, knee, 0.062 * thick, 0.039 * thick, skin if person.lower == "skirt" else cloth)


def _shoulder_up(person: Person) -> float:
    return 0.81 + 0.02 * (person.legs - 1)


def _draw_arm(canvas: _Canvas, person: Person, phase: float, side: int, lift: float, *, dim: bool) -> None:
    light = 0.8 if dim else 0.94
    sign = 1 if side == 0 else -1
    swing = -person.arm_swing * math.sin(phase + (0 if side == 0 else math.pi))
    bend = swing + 0.25 + 0.3 * max(0.0, swing)
    up = _shoulder_up(person) + lift - 0.026
    left = sign * 0.102 * person.shoulders * (0.7 + 0.3 * person.build)
    out = sign * (0.008 + 0.022 * person.build)
    shoulder = (person.lean, left, up)
    elbow = (shoulder[0] + 0.165 * math.sin(swing), left + out, up - 0.165 * math.cos(swing))
    wrist = (elbow[0] + 0.15 * math.sin(bend), left + out * 1.1, elbow[2] - 0.15 * math.cos(bend))
    a, b, c = canvas.at(*shoulder), canvas.at(*elbow), canvas.at(*wrist)
    cloth, skin = _dim(person.upper_colour, light), _dim(person.skin, light)
    thick = (0.55 + 0.45 * person.build) * (1.15 if person.upper in ("coat", "hoodie") else 1.0)
    if person.upper == "tshirt":
        canvas.limb(a, b, 0.028 * thick, 0.024 * thick, skin)
        canvas.limb(b, c, 0.025 * thick, 0.019 * thick, skin)
        sleeve = (a[0] + 0.6 * (b[0] - a[0]), a[1] + 0.6 * (b[1] - a[1]))
        canvas.limb(a, sleeve, 0.036 * thick, 0.036 * thick, cloth)
    else:
        canvas.limb(b, c, 0.032 * thick, 0.026 * thick, cloth)
        canvas.limb(a, b, 0.037 * thick, 0.032 * thick, cloth)
        if person.pattern in ("rows", "checks"):
            for share in (0.25, 0.6, 0.95):
                x, y = a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
                width = 0.031 * thick * canvas.unit
                canvas.ellipse((x, y), (width, 0.009 * canvas.unit), _dim(person.pattern_colour, light))
    hand = (c[0] + 0.2 * (c[0] - b[0]), c[1] + 0.2 * (c[1] - b[1]))
    canvas.ellipse(hand, (0.021 * canvas.unit, 0.026 * canvas.unit), skin)


def _levels(person: Person) -> list[tuple[float, float, float]]:
    """Up, half width and half depth of the trunk, from the neck down."""
    build, wide = person.build, person.shoulders * (0.7 + 0.3 * person.build)
    loose = 1.1 if person.upper in ("coat", "hoodie") else 1.0
    up = _shoulder_up(person)
    levels = [
        (up + 0.045, 0.036, 0.036),
        (up + 0.018, 0.085 * wide, 0.045),
        (up - 0.012, 0.122 * wide, 0.062 * build),
        (up - 0.09, 0.112 * wide * loose, 0.078 * build * loose),
        (up - 0.2, 0.09 * build * loose, 0.07 * build * loose),
        (0.53 * person.legs, 0.1 * build * loose, 0.08 * build * loose),
    ]
    if person.upper == "coat":
        levels += [(0.42, 0.112 * build, 0.092 * build), (0.33, 0.122 * build, 0.105 * build)]
    else:
        levels.append((0.485 * person.legs, 0.1 * build * loose, 0.082 * build * loose))
    return levels


def _outline(canvas: _Canvas, levels: list[tuple[float, float, float]], lean: float, lift: float) -> list[Point]:
    left_side, right_side = [], []
    for up, wide, deep in levels:
        forward = lean * max(0.0, (up - 0.5) / 0.3)
        x, y = canvas.at(forward, 0.0, up + lift)
        half = canvas.half_width(wide, deep)
        left_side.append((x - half, y))
        right_side.append((x + half, y))
    return left_side + right_side[::-1]


def _draw_torso(canvas: _Canvas, person: Person, phase: float, lift: float) -> None:
    build = person.build
    if person.lower == "skirt" and person.upper != "coat":
        sway = 0.012 * math.sin(2 * phase)
        skirt = [
            (0.6, 0.09 * build, 0.07 * build),
            (0.5, 0.112 * build, 0.095 * build),
            (0.33, 0.15 + sway, 0.14 + sway),
        ]
        canvas.polygon(_outline(canvas, skirt, person.lean, lift), person.lower_colour)
    else:
        hips = [
            (0.58, 0.09 * build, 0.07 * build),
            (0.5, 0.1 * build, 0.082 * build),
            (0.46, 0.09 * build, 0.07 * build),
        ]
        canvas.polygon(_outline(canvas, hips, person.lean, lift), person.lower_colour)
    outline = _outline(canvas, _levels(person), person.lean, lift)
    canvas.polygon(outline, person.upper_colour)
    if person.pattern in ("rows", "columns", "checks", "band"):
        _draw_pattern(canvas, person, outline, lift)
    neck, chin = canvas.at(person.lean, 0, 0.83 + lift), canvas.at(person.lean + 0.005, 0, 0.875 + lift)
    canvas.limb(neck, chin, 0.03, 0.03, _dim(person.skin, 0.85))


def _draw_pattern(canvas: _Canvas, person: Person, outline: list[Point], lift: float) -> None:
    """Lay stripes over the trunk, inside its outline only."""
    corners = np.array(outline)
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    x1, y1 = np.ceil(corners.max(axis=0)).astype(int) + 1
    view = canvas.pixels[y0:y1, x0:x1]
    mask = np.zeros(view.shape[:2], np.uint8)
    canvas.polygon([(x - x0, y - y0) for x, y in outline], person.upper_colour, mask)
    step = person.pattern_step * canvas.unit
    rows = (np.arange(view.shape[0]) % step < step * 0.45)[:, None]
    middle = canvas.at(person.lean, 0, 0.6)[0] - x0
    half = canvas.half_width(0.12, 0.08)
    around = np.arcsin(np.clip((np.arange(view.shape[1]) - middle) / half, -1, 1)) * half
    columns = (around % step < step * 0.4)[None, :]
    if person.pattern == "band":
        top, bottom = (canvas.at(0, 0, up + lift)[1] - y0 for up in (0.76, 0.66))
        rows = ((np.arange(view.shape[0]) > top) & (np.arange(view.shape[0]) < bottom))[:, None]
    chosen = {"rows": rows, "band": rows, "columns": columns, "checks": rows ^ columns}[person.pattern]
    view[(mask > 127) & chosen] = (*person.pattern_colour, 255)


def _draw_front(canvas: _Canvas, person: Person, lift: float) -> None:
    """What only the front shows: logo, open coat, zip, straps."""
    if canvas.cos < 0.12:
        return

    def panel(left: float, right: float, top: float, bottom: float, colour: Colour) -> None:
        deep = 0.072 * person.build
        spots = ((right, top), (left, top), (left, bottom), (right, bottom))
        canvas.polygon([canvas.at(person.lean + deep, across, up + lift) for across, up in spots], colour)

    if person.upper == "coat":
        panel(-0.028, 0.028, 0.82, 0.56, person.pattern_colour)
        panel(-0.006, 0.006, 0.56, 0.34, _dim(person.upper_colour, 0.55))
    elif person.upper == "hoodie":
        panel(-0.05, 0.05, 0.6, 0.53, _dim(person.upper_colour, 0.78))
        panel(-0.004, 0.004, 0.83, 0.55, _dim(person.upper_colour, 0.6))
    if person.pattern == "logo":
        panel(-0.05, 0.05, 0.76, 0.68, person.pattern_colour)
    if person.bag == "backpack":
        for side in (-1, 1):
            panel(side * 0.075 - 0.011, side * 0.075 + 0.011, 0.82, 0.66, person.bag_colour)


def _draw_backpack(canvas: _Canvas, person: Person, lift: float) -> None:
    behind = -0.06 - 0.075 * person.build
    x, y = canvas.at(person.lean + behind, 0, 0.705 + lift)
    half = canvas.half_width(0.098, 0.062)
    high = 0.128 * canvas.unit
    corner = 0.3
    outline = [
        (x - half, y - high * (1 - corner)),
        (x - half * (1 - corner), y - high),
        (x + half * (1 - corner), y - high),
        (x + half, y - high * (1 - corner)),
        (x + half, y + high),
        (x - half, y + high),
    ]
    canvas.polygon(outline, person.bag_colour)
    if canvas.cos < 0.25:
        dark = _dim(person.bag_colour, 0.7)
        canvas.polygon(
            [
                (x - 0.7 * half, y + 0.1 * high),
                (x + 0.7 * half, y + 0.1 * high),
                (x + 0.7 * half, y + 0.8 * high),
                (x - 0.7 * half, y + 0.8 * high),
            ],
            dark,
        )


def _draw_shoulder_bag(canvas: _Canvas, person: Person, lift: float) -> None:
    side = person.bag_side * (0.125 + 0.03 * person.build)
    x, y = canvas.at(-0.01, side, 0.5 + lift)
    half, high = canvas.half_width(0.04, 0.085), 0.062 * canvas.unit
    strap = canvas.at(0.0, side * 0.55, 0.83 + lift)
    canvas.limb(strap, (x, y - high), 0.008, 0.008, _dim(person.bag_colour, 0.7))
    canvas.polygon(
        [(x - half, y - high), (x + half, y - high), (x + 1.1 * half, y + high), (x - 1.1 * half, y + high)],
        person.bag_colour,
    )
    canvas.polygon(
        [(x - half, y - high), (x + half, y - high), (x + half, y - 0.3 * high), (x - half, y - 0.3 * high)],
        _dim(person.bag_colour, 0.75),
    )


def _head_centre(canvas: _Canvas, person: Person, lift: float) -> tuple[Point, float]:
    radius = 0.064 * person.head
    return canvas.at(person.lean + 0.012, 0, 0.985 - radius + lift), radius * canvas.unit


def _draw_long_hair(canvas: _Canvas, person: Person, lift: float) -> None:
    (x, y), radius = _head_centre(canvas, person, lift)
    back = -canvas.sin * radius * 0.45
    if person.hair == "long":
        half = radius * (0.62 + 0.33 * abs(canvas.cos))
        canvas.polygon(
            [
                (x + back - half, y),
                (x + back + half, y),
                (x + back + 0.9 * half, y + 2.5 * radius),
                (x + back - 0.9 * half, y + 2.5 * radius),
            ],
            person.hair_colour,
        )
    else:
        tail = -canvas.sin * radius * 1.15
        start, end = (x + tail * 0.8, y - 0.2 * radius), (x + tail * 1.15, y + 2.0 * radius)
        canvas.limb(start, end, 0.022, 0.012, person.hair_colour)


def _draw_head(canvas: _Canvas, person: Person, lift: float) -> None:
    (x, y), radius = _head_centre(canvas, person, lift)
    turn, facing = canvas.sin, canvas.cos
    hair = person.skin if person.hair == "bald" else person.hair_colour
    if person.upper == "hoodie":
        centre = (x - turn * radius * 0.7, y + radius * 1.15)
        canvas.ellipse(centre, (radius * 1.15, radius * 0.55), _dim(person.upper_colour, 0.85))
    if person.hair == "bun":
        canvas.ellipse((x - turn * radius * 0.9, y - radius * 0.8), (radius * 0.5, radius * 0.45), hair)
    canvas.ellipse((x, y), (radius * 0.86, radius * 1.1), hair)
    if person.hair == "bob":
        canvas.ellipse((x - turn * radius * 0.15, y + radius * 0.25), (radius * 1.05, radius * 1.0), hair)
    if facing > -0.45:
        # The face is a patch on a ball: it slides forward and narrows as the head turns away.
        narrow = 0.74 * (0.45 + 0.55 * max(0.0, facing + 0.45) / 1.45)
        face = (x + turn * radius * 0.42, y + radius * 0.24)
        canvas.ellipse(face, (radius * narrow, radius * 0.84), person.skin)
        for eye in (-0.3, 0.3):
            across = turn * 0.72 + facing * eye
            if facing > -0.1 and abs(across) < 0.8:
                spot = (x + across * radius, y + radius * 0.08)
                canvas.ellipse(spot, (radius * 0.1, radius * 0.09), (40, 30, 30))
    elif person.hair == "short":
        canvas.ellipse((x, y + radius * 0.85), (radius * 0.55, radius * 0.3), _dim(person.skin, 0.9))
    _draw_hat(canvas, person, (x, y), radius)


def _draw_hat(canvas: _Canvas, person: Person, head: Point, radius: float) -> None:
    if person.hat == "none":
        return
    x, y = head
    colour, dark = person.hat_colour, _dim(person.hat_colour, 0.7)
    dome = [
        (x + radius * 0.98 * math.cos(angle), y - radius * 0.28 - radius * 0.95 * math.sin(angle))
        for angle in np.linspace(0, math.pi, 13)
    ]
    canvas.polygon(dome, colour)
    if person.hat == "beanie":
        canvas.limb((x - radius * 0.8, y - radius * 0.3), (x + radius * 0.8, y - radius * 0.3), 0.013, 0.013, dark)
    elif person.hat == "cap" and canvas.cos > -0.5:
        brim = (x + canvas.sin * radius * 1.0, y - radius * 0.22 + max(0.0, canvas.cos) * radius * 0.1)
        canvas.ellipse(brim, (radius * (0.5 + 0.35 * abs(canvas.cos)), radius * 0.2), dark)
    elif person.hat == "brim":
        canvas.ellipse((x, y - radius * 0.3), (radius * 1.6, radius * 0.26), dark)
