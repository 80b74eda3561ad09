"""Head, hair and hat."""

from __future__ import annotations

import math

import numpy as np

from reid_mtda.synthetic.canvas import Canvas, Point, shaded
from reid_mtda.synthetic.people import Person


def _head_centre(canvas: Canvas, person: Person, lift: float) -> tuple[Point, float]:
    radius = 0.064 * person.head
    return canvas.at(person.lean + 0.012, 0, 0.985 - radius + lift), radius * canvas.unit


def draw_long_hair(canvas: Canvas, person: Person, lift: float) -> None:
    """Draw hair that falls over the back, or a ponytail.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        lift: how high the camera sees it from.
    """
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


def draw_head(canvas: Canvas, person: Person, lift: float) -> None:
    """Draw the head with short hair, face and hat.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        lift: how high the camera sees it from.
    """
    (x, y), radius = _head_centre(canvas, person, lift)
    turn, facing = canvas.sin, canvas.cos
    hair = person.skin if person.hair == "bald" else person.hair_colour
    if person.upper == "hoodie":
        centre = (x - turn * radius * 0.7, y + radius * 1.15)
        canvas.ellipse(centre, (radius * 1.15, radius * 0.55), shaded(person.upper_colour, 0.85))
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
        canvas.ellipse((x, y + radius * 0.85), (radius * 0.55, radius * 0.3), shaded(person.skin, 0.9))
    _draw_hat(canvas, person, (x, y), radius)


def _draw_hat(canvas: Canvas, person: Person, head: Point, radius: float) -> None:
    if person.hat == "none":
        return
    x, y = head
    colour, dark = person.hat_colour, shaded(person.hat_colour, 0.7)
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
