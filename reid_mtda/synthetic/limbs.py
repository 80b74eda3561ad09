"""Legs and arms in mid-step."""

from __future__ import annotations

import math

from reid_mtda.synthetic.canvas import Canvas, Joint, shaded
from reid_mtda.synthetic.people import Person


def stride_legs(person: Person, phase: float) -> list[tuple[Joint, Joint, Joint]]:
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


def draw_leg(canvas: Canvas, person: Person, leg: tuple[Joint, Joint, Joint], lift: float, *, dim: bool) -> None:
    """Draw one of ``stride_legs``, raised by ``lift``; the far one is dim.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        leg: hip, knee and foot.
        lift: how high the camera sees it from.
        dim: drawn darker, for it is behind.
    """
    light = 0.78 if dim else 1.0
    hip, knee, ankle = (canvas.at(forward, left, up + lift) for forward, left, up in leg)
    cloth, skin = shaded(person.lower_colour, light), shaded(person.skin, light)
    toe = canvas.at(leg[2][0] + 0.085, leg[2][1] * 1.25, leg[2][2] + lift - 0.022)
    heel = canvas.at(leg[2][0] - 0.005, leg[2][1], leg[2][2] + lift - 0.014)
    thick = 0.5 + 0.5 * person.build
    bare = person.lower != "trousers"
    canvas.limb(knee, ankle, 0.036 * thick, (0.022 if bare else 0.029) * thick, skin if bare else cloth)
    canvas.limb(heel, toe, 0.026, 0.02, shaded(person.shoe_colour, light))
    if person.lower == "shorts":
        canvas.limb(hip, knee, 0.066 * thick, 0.05 * thick, cloth)
    else:
        canvas.limb(hip, knee, 0.062 * thick, 0.039 * thick, skin if person.lower == "skirt" else cloth)


def shoulder_up(person: Person) -> float:
    """Height of the shoulders in body heights."""
    return 0.81 + 0.02 * (person.legs - 1)


def draw_arm(canvas: Canvas, person: Person, phase: float, side: int, lift: float, *, dim: bool) -> None:
    """Draw the left (0) or right (1) arm with its sleeve.

    Args:
        canvas: what it is drawn on.
        person: who is drawn.
        phase: of the step, radians.
        side: -1 left, 1 right.
        lift: how high the camera sees it from.
        dim: drawn darker, for it is behind.
    """
    light = 0.8 if dim else 0.94
    sign = 1 if side == 0 else -1
    swing = -person.arm_swing * math.sin(phase + (0 if side == 0 else math.pi))
    bend = swing + 0.25 + 0.3 * max(0.0, swing)
    up = shoulder_up(person) + lift - 0.026
    left = sign * 0.102 * person.shoulders * (0.7 + 0.3 * person.build)
    out = sign * (0.008 + 0.022 * person.build)
    shoulder = (person.lean, left, up)
    elbow = (shoulder[0] + 0.165 * math.sin(swing), left + out, up - 0.165 * math.cos(swing))
    wrist = (elbow[0] + 0.15 * math.sin(bend), left + out * 1.1, elbow[2] - 0.15 * math.cos(bend))
    a, b, c = canvas.at(*shoulder), canvas.at(*elbow), canvas.at(*wrist)
    cloth, skin = shaded(person.upper_colour, light), shaded(person.skin, light)
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
                canvas.ellipse((x, y), (width, 0.009 * canvas.unit), shaded(person.pattern_colour, light))
    hand = (c[0] + 0.2 * (c[0] - b[0]), c[1] + 0.2 * (c[1] - b[1]))
    canvas.ellipse(hand, (0.021 * canvas.unit, 0.026 * canvas.unit), skin)
