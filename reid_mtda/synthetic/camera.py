"""Cameras of the drawn world: where each one stands and what it does to colours, light, sharpness and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from reid_mtda.types import ImageArray

HEIGHT_PX, WIDTH_PX = 360, 640

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class CameraModel:
    """One camera. Pictures are (360, 640); lengths on the ground are metres, ``x`` to the right, ``z`` away from it.

    Optics: ``focal_px``; ``height_m`` above the ground; ``horizon_px`` row of the horizon; ``near_m`` and ``far_m``
    bound where people walk; ``side_walk`` is the share who cross from side to side, the others come from or go to
    ``entrance`` (x, z).
    Response, in this order: ``matrix`` mixes RGB, ``gain`` scales, ``light`` = (left, right, top, bottom) multiplies
    at the borders, then ``gamma``, ``contrast`` about mid-grey and ``lift`` (grey levels), ``saturation`` 1 leaves
    colour alone; ``scale`` is the sensor's size as a share of the picture's; ``blur_px`` and ``noise`` are standard
    deviations in pixels and grey levels; ``jpeg`` is the quality 1..100.
    """

    name: str
    camid: int
    scene: str
    focal_px: float
    height_m: float
    horizon_px: float
    near_m: float
    far_m: float
    side_walk: float
    entrance: tuple[float, float]
    matrix: Matrix
    gain: float = 1.0
    light: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    gamma: float = 1.0
    contrast: float = 1.0
    lift: float = 0.0
    saturation: float = 1.0
    scale: float = 1.0
    blur_px: float = 0.0
    noise: float = 2.0
    jpeg: int = 85
    flicker: float = 0.01

    def ground(self, x_m: float, z_m: float) -> tuple[float, float, float]:
        """Column and row of a ground point, and pixels per metre there."""
        scale = self.focal_px / z_m
        return WIDTH_PX / 2 + x_m * scale, self.horizon_px + self.height_m * scale, scale


_EVEN: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

_TARGET = (
    CameraModel(  # a gateway in the evening: warm, dim, lit from the left
        "gate",
        1,
        "gate",
        focal_px=470,
        height_m=2.7,
        horizon_px=38,
        near_m=4.6,
        far_m=10.0,
        side_walk=0.35,
        entrance=(0.0, 11.8),
        matrix=((1.12, 0.06, 0.0), (0.06, 0.86, 0.0), (0.02, 0.06, 0.56)),
        gain=0.72,
        light=(1.25, 0.62, 0.9, 1.0),
        gamma=1.15,
        noise=4.0,
        jpeg=60,
        blur_px=0.5,
    ),
    CameraModel(  # a market in glaring light: over-exposed and bluish
        "market",
        2,
        "market",
        focal_px=520,
        height_m=3.0,
        horizon_px=20,
        near_m=5.0,
        far_m=9.5,
        side_walk=0.9,
        entrance=(1.4, 11.0),
        matrix=((0.8, 0.04, 0.04), (0.02, 0.98, 0.06), (0.02, 0.1, 1.18)),
        gain=1.45,
        light=(0.95, 1.1, 1.1, 0.95),
        gamma=0.85,
        lift=10.0,
        noise=3.0,
        jpeg=75,
    ),
    CameraModel(  # a tunnel under sodium lamps: orange, dark, noisy
        "tunnel",
        3,
        "tunnel",
        focal_px=440,
        height_m=2.4,
        horizon_px=60,
        near_m=4.4,
        far_m=9.0,
        side_walk=0.0,
        entrance=(0.0, 14.0),
        matrix=((0.86, 0.3, 0.06), (0.22, 0.5, 0.1), (0.04, 0.12, 0.3)),
        gain=0.78,
        light=(0.7, 0.85, 1.15, 0.85),
        gamma=0.95,
        noise=9.0,
        jpeg=55,
        blur_px=0.4,
    ),
    CameraModel(  # an old camera high above a plaza: few pixels, soft, washed out
        "plaza",
        4,
        "plaza",
        focal_px=620,
        height_m=4.6,
        horizon_px=-40,
        near_m=7.6,
        far_m=13.0,
        side_walk=0.6,
        entrance=(-1.5, 18.0),
        matrix=((0.92, 0.1, 0.02), (0.06, 0.96, 0.06), (0.04, 0.12, 0.84)),
        gain=1.05,
        saturation=0.62,
        contrast=0.6,
        lift=34.0,
        scale=0.5,
        blur_px=0.9,
        noise=3.0,
        jpeg=50,
        light=(1.0, 0.9, 1.08, 0.95),
    ),
)

_LAB = (
    CameraModel(
        "lab1",
        1,
        "lab",
        focal_px=480,
        height_m=2.6,
        horizon_px=45,
        near_m=4.6,
        far_m=9.0,
        side_walk=0.5,
        entrance=(1.0, 10.8),
        matrix=_EVEN,
    ),
    CameraModel(
        "lab2",
        2,
        "lab",
        focal_px=500,
        height_m=2.8,
        horizon_px=30,
        near_m=4.8,
        far_m=9.5,
        side_walk=0.8,
        entrance=(-1.0, 10.8),
        matrix=((1.04, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.94)),
        gain=0.92,
        noise=3.0,
        light=(1.1, 0.92, 1.0, 1.0),
    ),
    CameraModel(
        "lab3",
        3,
        "lab",
        focal_px=470,
        height_m=2.5,
        horizon_px=50,
        near_m=4.6,
        far_m=9.0,
        side_walk=0.3,
        entrance=(0.0, 10.8),
        matrix=((0.95, 0.0, 0.0), (0.0, 1.0, 0.02), (0.0, 0.03, 1.06)),
        gain=1.08,
        noise=2.0,
        blur_px=0.4,
    ),
    CameraModel(
        "lab4",
        4,
        "lab",
        focal_px=540,
        height_m=3.2,
        horizon_px=10,
        near_m=5.4,
        far_m=10.5,
        side_walk=0.6,
        entrance=(0.5, 10.8),
        matrix=_EVEN,
        gain=1.0,
        saturation=0.9,
        contrast=0.92,
        lift=8.0,
        noise=3.0,
        scale=0.8,
        jpeg=75,
    ),
)

TARGET_CAMERAS: tuple[str, ...] = tuple(model.name for model in _TARGET)
LAB_CAMERAS: tuple[str, ...] = tuple(model.name for model in _LAB)


def camera_model(name: str) -> CameraModel:
    """The camera called ``name``; KeyError when there is none."""
    return {model.name: model for model in (*_TARGET, *_LAB)}[name]


def response(model: CameraModel, seed: int) -> Callable[[ImageArray, int], ImageArray]:
    """Make the function (scene uint8 (360, 640, 3), frame index) -> what ``model`` delivers, uint8 of the same shape.

    What does not change from frame to frame (light field, tone curve, noise tile) is prepared once.
    """
    rng = np.random.default_rng((seed, model.camid, sum(model.name.encode()), 0xCA3))
    matrix = _colour_matrix(model)
    light = _light_field(model)
    tile = np.rint(rng.normal(0, model.noise, (HEIGHT_PX + 64, WIDTH_PX + 64, 3))).astype(np.int16)
    small = (round(WIDTH_PX * model.scale), round(HEIGHT_PX * model.scale))
    quality = [cv2.IMWRITE_JPEG_QUALITY, model.jpeg]

    def take(scene: ImageArray, index: int) -> ImageArray:
        chance = np.random.default_rng((seed, model.camid, index))
        shift_y, shift_x = chance.integers(0, 64, 2)
        gain = 1 + model.flicker * float(chance.normal())
        picture = cv2.transform(scene, matrix * gain)
        picture = cv2.multiply(picture, light, dtype=cv2.CV_8U)
        picture = cv2.LUT(picture, tones)
        if model.scale != 1:
            picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
            picture = cv2.resize(picture, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
        if model.blur_px:
            picture = cv2.GaussianBlur(picture, (0, 0), model.blur_px)
        grain = tile[shift_y : shift_y + HEIGHT_PX, shift_x : shift_x + WIDTH_PX]
        picture = cv2.add(picture, grain, dtype=cv2.CV_8U)
        _, packed = cv2.imencode(".jpg", picture, quality)
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)

    tones = _tone_curve(model)
    return take


def _colour_matrix(model: CameraModel) -> np.ndarray:
    luma = np.tile(np.array([0.3, 0.59, 0.11]), (3, 1))
    saturate = model.saturation * np.eye(3) + (1 - model.saturation) * luma
    # Half of the gain comes before 8-bit rounding, so that bright cameras clip in the tone curve, not here.
    return np.asarray(saturate @ np.array(model.matrix) * model.gain * _HEADROOM, np.float64)


_HEADROOM = 0.6


def _tone_curve(model: CameraModel) -> np.ndarray:
    level = np.arange(256) / 255 / _HEADROOM
    level = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.35), level)  # film-like shoulder
    level = np.power(level, model.gamma)
    level = 0.5 + (level - 0.5) * model.contrast + model.lift / 255
    return np.clip(np.rint(level * 255), 0, 255).astype(np.uint8)


def _light_field(model: CameraModel) -> np.ndarray:
    left, right, top, bottom = model.light
    across = np.linspace(left, right, WIDTH_PX)[None, :]
    down = np.linspace(top, bottom, HEIGHT_PX)[:, None]
    field = (across * down).astype(np.float32)
    return np.ascontiguousarray(np.repeat(field[..., None], 3, axis=2))
