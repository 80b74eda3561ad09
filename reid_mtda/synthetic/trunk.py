"""The trunk, what is worn on it, and bags."""

from __future__ import annotations

import math

import numpy as np

from reid_mtda.synthetic.canvas import Canvas, Point, shaded
from reid_mtda.synthetic.limbs import shoulder_up
from reid_mtda.synthetic.people import Colour, Person


def _levels(person: Person) -> list[tuple[float, float, float]]:
    """Up, half width and half depth of the trunk, from the neck down."""
    build, wide = person.build, person.shoulders * (0.7 + 0.3 * person.build)
    loose = 1.1 if person.upper in ("coat", "hoodie") else 1.0
    up = shoulder_up(person)
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


def _outline(canvas: Canvas, levels: list[tuple[float, float, float]], lean: float, lift: float) -> list[Point]:
    left_side, right_side = [], []
    for up, wide, deep in levels:
        forward = lean * max(0.0, (up - 0.5) / 0.3)
        x, y = canvas.at(forward, 0.0, up + lift)
        half = canvas.half_width(wide, deep)
        left_side.append((x - half, y))
        right_side.append((x + half, y))
    return left_side + right_side[::-1]


def draw_torso(canvas: Canvas, person: Person, phase: float, lift: float) -> None:
    """Draw hips or skirt, upper clothes with their pattern, and the neck.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        phase: of the step, radians.
        lift: how high the camera sees it from.
    """
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
    canvas.limb(neck, chin, 0.03, 0.03, shaded(person.skin, 0.85))


def _draw_pattern(canvas: Canvas, person: Person, outline: list[Point], lift: float) -> None:
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


def draw_front(canvas: Canvas, person: Person, lift: float) -> None:
    """What only the front shows: logo, open coat, zip, straps.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        lift: how high the camera sees it from.
    """
    if canvas.cos < 0.12:
        return

    def panel(left: float, right: float, top: float, bottom: float, colour: Colour) -> None:
        deep = 0.072 * person.build
        spots = ((right, top), (left, top), (left, bottom), (right, bottom))
        canvas.polygon([canvas.at(person.lean + deep, across, up + lift) for across, up in spots], colour)

    if person.upper == "coat":
        panel(-0.028, 0.028, 0.82, 0.56, person.pattern_colour)
        panel(-0.006, 0.006, 0.56, 0.34, shaded(person.upper_colour, 0.55))
    elif person.upper == "hoodie":
        panel(-0.05, 0.05, 0.6, 0.53, shaded(person.upper_colour, 0.78))
        panel(-0.004, 0.004, 0.83, 0.55, shaded(person.upper_colour, 0.6))
    if person.pattern == "logo":
        panel(-0.05, 0.05, 0.76, 0.68, person.pattern_colour)
    if person.bag == "backpack":
        for side in (-1, 1):
            panel(side * 0.075 - 0.011, side * 0.075 + 0.011, 0.82, 0.66, person.bag_colour)


def draw_backpack(canvas: Canvas, person: Person, lift: float) -> None:
    """Draw a backpack; seen from behind, with its pocket.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        lift: how high the camera sees it from.
    """
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
        dark = shaded(person.bag_colour, 0.7)
        canvas.polygon(
            [
                (x - 0.7 * half, y + 0.1 * high),
                (x + 0.7 * half, y + 0.1 * high),
                (x + 0.7 * half, y + 0.8 * high),
                (x - 0.7 * half, y + 0.8 * high),
            ],
            dark,
        )


def draw_shoulder_bag(canvas: Canvas, person: Person, lift: float) -> None:
    """Draw a bag at the hip, with its strap.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        lift: how high the camera sees it from.
    """
    side = person.bag_side * (0.125 + 0.03 * person.build)
    x, y = canvas.at(-0.01, side, 0.5 + lift)
    half, high = canvas.half_width(0.04, 0.085), 0.062 * canvas.unit
    strap = canvas.at(0.0, side * 0.55, 0.83 + lift)
    canvas.limb(strap, (x, y - high), 0.008, 0.008, shaded(person.bag_colour, 0.7))
    canvas.polygon(
        [(x - half, y - high), (x + half, y - high), (x + 1.1 * half, y + high), (x - 1.1 * half, y + high)],
        person.bag_colour,
    )
    canvas.polygon(
        [(x - half, y - high), (x + half, y - high), (x + half, y - 0.3 * high), (x - half, y - 0.3 * high)],
        shaded(person.bag_colour, 0.75),
    )
