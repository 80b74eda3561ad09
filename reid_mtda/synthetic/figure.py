"""The picture of a look, walking in any direction.

A body is a small skeleton in body heights (forward, left, up; the ground is up = 0), turned by the view angle and
projected. One set of joints gives front, back and side views, and what hides what follows from depth.
"""

from __future__ import annotations

import cv2
import numpy as np

from reid_mtda.synthetic.canvas import SUPERSAMPLE, Canvas
from reid_mtda.synthetic.head import draw_head, draw_long_hair
from reid_mtda.synthetic.limbs import draw_arm, draw_leg, stride_legs
from reid_mtda.synthetic.people import Person
from reid_mtda.synthetic.trunk import draw_backpack, draw_front, draw_shoulder_bag, draw_torso
from reid_mtda.types import ImageArray


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
    canvas = Canvas(height_px, view_angle, elevation)
    legs = stride_legs(person, gait_phase)
    lift = 0.035 - min(min(leg[2][2], leg[1][2]) for leg in legs)
    facing = canvas.cos
    sides = sorted((0, 1), key=lambda side: canvas.depth(0, (0.1, -0.1)[side]) + 1e-3 * side)
    far, near = sides
    side_on = abs(canvas.sin) > 0.35

    for side in sides:
        draw_leg(canvas, person, legs[side], lift, dim=side == far)
    if person.bag == "backpack" and facing > -0.25:
        draw_backpack(canvas, person, lift)
    if person.hair in ("long", "ponytail") and facing > 0:
        draw_long_hair(canvas, person, lift)
    if side_on:
        draw_arm(canvas, person, gait_phase, far, lift, dim=True)
    if person.bag == "shoulder" and (person.bag_side > 0) == (far == 0):
        draw_shoulder_bag(canvas, person, lift)
    draw_torso(canvas, person, gait_phase, lift)
    draw_front(canvas, person, lift)
    draw_head(canvas, person, lift)
    if person.hair in ("long", "ponytail") and facing <= 0:
        draw_long_hair(canvas, person, lift)
    if person.bag == "backpack" and facing <= -0.25:
        draw_backpack(canvas, person, lift)
    if person.bag == "shoulder" and (person.bag_side > 0) == (near == 0):
        draw_shoulder_bag(canvas, person, lift)
    if not side_on:
        draw_arm(canvas, person, gait_phase, far, lift, dim=False)
    draw_arm(canvas, person, gait_phase, near, lift, dim=False)
    return _finish(canvas, person)


def _finish(canvas: Canvas, person: Person) -> tuple[ImageArray, ImageArray]:
    rows, columns = (side // SUPERSAMPLE for side in canvas.pixels.shape[:2])
    small = cv2.resize(canvas.pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    alpha = np.ascontiguousarray(small[..., 3])
    # Roundness: darker towards the outline; folds: a coarse tile of the person's own.
    reach = max(3, 2 * (rows // 28) + 1)
    shade = cv2.boxFilter(alpha, cv2.CV_32F, (reach, reach)) * (0.42 / 255) + 0.6
    folds = np.random.default_rng(person.pid).normal(1, 0.055, (14, 6)).astype(np.float32)
    shade *= cv2.resize(folds, (columns, rows), interpolation=cv2.INTER_CUBIC)
    rgb = cv2.multiply(small[..., :3], cv2.merge((shade, shade, shade)), dtype=cv2.CV_8U)
    return np.minimum(rgb, alpha[..., None]), alpha
