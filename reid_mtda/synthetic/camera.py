"""Cameras of the drawn world: where each one stands and what it does to colours, light, sharpness and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from reid_mtda.types import DoubleArray, FloatArray, ImageArray

HEIGHT_PX, WIDTH_PX = 360, 640

Light = tuple[float, float, float]
Matrix = tuple[Light, Light, Light]

_HEADROOM = 0.6  # of the 8-bit range before the tone curve: bright cameras clip in the curve's shoulder, not before it


@dataclass(frozen=True, kw_only=True)
class CameraModel:
    """One camera. Pictures are (360, 640); lengths on the ground are metres, ``x`` to the right, ``z`` away from it.

    Optics: ``focal_px``; ``height_m`` above the ground; ``horizon_px`` row of the horizon; ``near_m`` and ``far_m``
    bound where people walk; ``side_walk`` is the share who cross from side to side, the others come from or go to
    ``entrance`` (x, z).

    Response, in this order: ``saturation`` (1 leaves colour alone), ``matrix`` mixes RGB, ``gain`` scales, the light
    multiplies (``light_across``: its colour at equal steps from left to right, ``light_down``: from top to bottom,
    ``drift``: how far its colour wanders in time), then ``gamma``, ``contrast`` about mid-grey and ``lift`` (grey
    levels). ``scale`` is the sensor's size as a share of the picture's; ``blur_px`` and ``noise`` are standard
    deviations in pixels and grey levels; ``jpeg`` is the quality 1..100; ``flicker`` the standard deviation of gain.
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
    saturation: float = 1.0
    matrix: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    gain: float = 1.0
    light_across: tuple[Light, ...] = ((1.0, 1.0, 1.0),)
    light_down: tuple[Light, ...] = ((1.0, 1.0, 1.0),)
    drift: float = 0.0
    gamma: float = 1.0
    contrast: float = 1.0
    lift: float = 0.0
    scale: float = 1.0
    blur_px: float = 0.0
    noise: float = 2.0
    jpeg: int = 85
    flicker: float = 0.01

    def ground(self, x_m: float, z_m: float) -> tuple[float, float, float]:
        """Column and row of a ground point, and pixels per metre there."""
        scale = self.focal_px / z_m
        return WIDTH_PX / 2 + x_m * scale, self.horizon_px + self.height_m * scale, scale


GATE = CameraModel(  # a gateway at dusk: a warm lamp on the left, blue evening light on the right, dim
    name="gate",
    camid=1,
    scene="gate",
    focal_px=470,
    height_m=2.7,
    horizon_px=38,
    near_m=4.6,
    far_m=10.0,
    side_walk=0.3,
    entrance=(0.0, 11.8),
    matrix=((0.9, 0.32, 0.0), (0.0, 0.78, 0.2), (0.05, 0.22, 0.58)),
    gain=0.85,
    light_across=((1.2, 0.98, 0.68), (1.0, 0.88, 0.75), (0.78, 0.8, 0.9)),
    gamma=1.2,
    noise=4.0,
    jpeg=60,
    blur_px=0.5,
)
MARKET = CameraModel(  # a market in glaring light: over-exposed, vivid, tinted by the awnings' cloth
    name="market",
    camid=2,
    scene="market",
    focal_px=520,
    height_m=3.0,
    horizon_px=20,
    near_m=5.0,
    far_m=9.5,
    side_walk=0.9,
    entrance=(1.4, 11.0),
    saturation=1.3,
    matrix=((0.62, 0.0, 0.3), (0.3, 0.7, 0.0), (0.0, 0.45, 0.8)),
    gain=1.45,
    light_across=((1.12, 0.9, 0.9), (0.9, 1.04, 0.95), (1.05, 1.04, 0.85), (0.9, 0.97, 1.1), (1.12, 0.9, 0.9)),
    gamma=0.75,
    noise=3.0,
    jpeg=75,
)
TUNNEL = CameraModel(  # a tunnel under sodium lamps: hardly any colour but orange, dark, noisy
    name="tunnel",
    camid=3,
    scene="tunnel",
    focal_px=440,
    height_m=2.4,
    horizon_px=60,
    near_m=4.4,
    far_m=9.0,
    side_walk=0.0,
    entrance=(0.0, 14.0),
    saturation=1.1,
    matrix=((0.75, 0.4, 0.05), (0.24, 0.44, 0.14), (0.04, 0.12, 0.3)),
    gain=0.85,
    light_down=((1.0, 1.0, 1.0), (1.1, 1.1, 1.1), (0.6, 0.6, 0.66), (1.05, 1.05, 1.0), (0.65, 0.65, 0.7)),
    gamma=0.9,
    noise=6.0,
    jpeg=55,
    blur_px=0.4,
    flicker=0.03,
)
PLAZA = CameraModel(  # an old camera high above a plaza: few pixels, soft, pale, its colours turned
    name="plaza",
    camid=4,
    scene="plaza",
    focal_px=640,
    height_m=5.6,
    horizon_px=-90,
    near_m=8.4,
    far_m=14.0,
    side_walk=0.6,
    entrance=(-1.5, 18.0),
    saturation=0.85,
    matrix=((0.58, 0.45, 0.0), (0.0, 0.66, 0.38), (0.38, 0.0, 0.62)),
    light_across=((1.0, 1.0, 1.0), (0.8, 0.84, 0.9)),
    drift=0.1,
    contrast=0.72,
    lift=16.0,
    scale=0.6,
    blur_px=0.6,
    noise=3.0,
    jpeg=50,
)
TARGET: tuple[CameraModel, ...] = (GATE, MARKET, TUNNEL, PLAZA)

_PLAIN = CameraModel(
    name="lab1",
    camid=1,
    scene="lab",
    focal_px=480,
    height_m=2.6,
    horizon_px=45,
    near_m=4.6,
    far_m=9.0,
    side_walk=0.5,
    entrance=(1.0, 10.8),
)
LAB: tuple[CameraModel, ...] = (
    _PLAIN,
    replace(
        _PLAIN,
        name="lab2",
        camid=2,
        focal_px=500,
        height_m=2.8,
        horizon_px=30,
        side_walk=0.8,
        matrix=((1.04, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.94)),
        gain=0.92,
        light_across=((1.1, 1.1, 1.1), (0.92, 0.92, 0.92)),
        noise=3.0,
    ),
    replace(
        _PLAIN,
        name="lab3",
        camid=3,
        focal_px=470,
        height_m=2.5,
        horizon_px=50,
        side_walk=0.3,
        matrix=((0.95, 0.0, 0.0), (0.0, 1.0, 0.02), (0.0, 0.03, 1.06)),
        gain=1.08,
        blur_px=0.4,
    ),
    replace(
        _PLAIN,
        name="lab4",
        camid=4,
        focal_px=540,
        height_m=3.2,
        horizon_px=10,
        near_m=5.4,
        far_m=10.0,
        saturation=0.9,
        contrast=0.92,
        lift=8.0,
        noise=3.0,
        scale=0.8,
        jpeg=75,
    ),
)


def camera_model(name: str) -> CameraModel:
    """The camera called ``name``; KeyError when there is none."""
    return {model.name: model for model in (*TARGET, *LAB)}[name]


def response(model: CameraModel, seed: int) -> Callable[[ImageArray, int, float], ImageArray]:
    """Make the function (scene uint8 (360, 640, 3), frame index, time in s) -> what ``model`` delivers, same shape.

    What does not change from frame to frame (light field, tone curve, noise tile) is prepared once.
    """
    rng = np.random.default_rng((seed, *model.name.encode()))
    mixing = _mixing(model)
    light = _light_field(model)
    tones = _tone_curve(model)
    grain = np.rint(rng.normal(0, model.noise, (HEIGHT_PX + 64, WIDTH_PX + 64, 3))).astype(np.int16)
    wander_s, wander_from = rng.uniform(40, 90, 3), rng.uniform(0, 2 * np.pi, 3)
    sensor = (round(WIDTH_PX * model.scale), round(HEIGHT_PX * model.scale))
    quality = [cv2.IMWRITE_JPEG_QUALITY, model.jpeg]

    def take(scene: ImageArray, index: int, time_s: float) -> ImageArray:
        chance = np.random.default_rng((seed, model.camid, index))
        y, x = chance.integers(0, 64, 2)
        gain = 1 + model.flicker * chance.normal() + model.drift * np.sin(2 * np.pi * time_s / wander_s + wander_from)
        picture = cv2.transform(scene, mixing * gain[:, None])
        picture = cv2.multiply(picture, light, dtype=cv2.CV_8U)
        picture = cv2.LUT(picture, tones)
        if model.scale != 1:
            picture = cv2.resize(picture, sensor, interpolation=cv2.INTER_AREA)
            picture = cv2.resize(picture, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
        if model.blur_px:
            picture = cv2.GaussianBlur(picture, (0, 0), model.blur_px)
        picture = cv2.add(picture, grain[y : y + HEIGHT_PX, x : x + WIDTH_PX], dtype=cv2.CV_8U)
        _, packed = cv2.imencode(".jpg", picture, quality)
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)

    return take


def _mixing(model: CameraModel) -> DoubleArray:
    luma = np.tile(np.array([0.3, 0.59, 0.11]), (3, 1))
    saturate = model.saturation * np.eye(3) + (1 - model.saturation) * luma
    return np.asarray(np.array(model.matrix) @ saturate * model.gain * _HEADROOM, np.float64)


def _tone_curve(model: CameraModel) -> ImageArray:
    level = np.arange(256) / 255 / _HEADROOM
    level = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.35), level)  # film-like shoulder
    level = 0.5 + (level**model.gamma - 0.5) * model.contrast + model.lift / 255
    return np.asarray(np.clip(np.rint(level * 255), 0, 255), np.uint8)


def _light_field(model: CameraModel) -> FloatArray:
    across = cv2.resize(np.array([model.light_across], np.float32), (WIDTH_PX, 1), interpolation=cv2.INTER_LINEAR)
    down = cv2.resize(np.array([model.light_down], np.float32), (HEIGHT_PX, 1), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(across * down.transpose(1, 0, 2), np.float32)
