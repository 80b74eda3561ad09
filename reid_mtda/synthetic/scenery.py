"""What stands still in the drawn world: ground, walls, stalls and trees, and things people walk behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from reid_mtda.synthetic.camera import HEIGHT_PX, WIDTH_PX, CameraModel
from reid_mtda.types import ImageArray

Colour = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Prop:
    """A thing standing ``z_m`` away: ``image`` uint8 (h, w, 3) and ``mask`` uint8 (h, w) with corner (``x``, ``y``)."""

    z_m: float
    x: int
    y: int
    image: ImageArray
    mask: ImageArray


def paint_backdrop(model: CameraModel, seed: int) -> ImageArray:
    """The empty scene of ``model``, uint8 (360, 640, 3)."""
    rng = np.random.default_rng((seed, sum(model.name.encode()), 0x5CE))
    picture = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    _SCENES[model.scene](picture, model, rng)
    grain = rng.normal(0, 5, (HEIGHT_PX, WIDTH_PX)) + cv2.resize(rng.normal(0, 7, (18, 32)), (WIDTH_PX, HEIGHT_PX))
    return np.asarray(np.clip(picture + grain[..., None], 0, 255), np.uint8)


def make_props(model: CameraModel, seed: int) -> tuple[Prop, ...]:
    """The things people pass behind or before in the scene of ``model``, farthest first."""
    rng = np.random.default_rng((seed, sum(model.name.encode()), 0x9709))
    props = []
    for kind, x_m, z_m in _PROPS[model.scene]:
        picture = np.zeros((HEIGHT_PX, WIDTH_PX, 4), np.uint8)
        _PAINTERS[kind](picture, model, x_m, z_m, rng)
        x, y, wide, high = cv2.boundingRect(picture[..., 3])
        if wide and high:
            part = picture[y : y + high, x : x + wide]
            mask = np.where(part[..., 3] > 127, 255, 0).astype(np.uint8)
            props.append(Prop(z_m, x, y, np.ascontiguousarray(part[..., :3]), mask))
    return tuple(sorted(props, key=lambda prop: -prop.z_m))


def _box(picture: ImageArray, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    value = colour if picture.shape[2] == 3 else (*colour, 255)
    cv2.rectangle(picture, (round(x0), round(y0)), (round(x1), round(y1)), value, cv2.FILLED)


def _shape(picture: ImageArray, points: Sequence[tuple[float, float]], colour: Colour) -> None:
    value = colour if picture.shape[2] == 3 else (*colour, 255)
    cv2.fillPoly(picture, [np.rint(np.array(points)).astype(np.int32)], value, cv2.LINE_AA)


def _near(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, spread), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _pave(
    picture: ImageArray, model: CameraModel, back_m: float, tile_m: float, colours: tuple[Colour, Colour],
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Paint the ground from ``back_m`` to the camera as tiles; return the row where it meets the wall."""
    rows = np.arange(HEIGHT_PX)[:, None]
    drop = np.maximum(rows - model.horizon_px, 1e-3)
    z = model.focal_px * model.height_m / drop
    x = (np.arange(WIDTH_PX)[None, :] - WIDTH_PX / 2) * z / model.focal_px
    cells_z, cells_x = np.floor(z / tile_m).astype(int), np.floor(x / tile_m).astype(int)
    table = rng.normal(0, 5, (64, 64))
    shade = table[cells_z % 64, cells_x % 64]
    line = ((z / tile_m) % 1 < 0.05 + z * 0.004) | ((x / tile_m) % 1 < 0.05 + z * 0.004)
    base = np.where(line[..., None], np.array(colours[1]), np.array(colours[0]) + shade[..., None])
    meets = model.horizon_px + model.height_m * model.focal_px / back_m
    ground = np.arange(HEIGHT_PX) >= meets
    picture[ground] = np.clip(base[ground], 0, 255)
    return meets


def _bricks(picture: ImageArray, bottom: float, size: tuple[int, int], colour: Colour, mortar: Colour,
            rng: np.random.Generator) -> None:  # fmt: skip
    wide, high = size
    picture[: round(bottom)] = mortar
    for row, y in enumerate(range(0, round(bottom), high)):
        for x in range(-(row % 2) * wide // 2, WIDTH_PX, wide):
            _box(picture, x, y, x + wide - 2, min(y + high - 2, bottom - 1), _near(rng, colour, 7))


def _paint_gate(picture: ImageArray, model: CameraModel, rng: np.random.Generator) -> None:
    meets = _pave(picture, model, 12.0, 0.8, ((138, 128, 118), (112, 104, 98)), rng)
    _bricks(picture, meets, (26, 10), (142, 92, 76), (168, 156, 144), rng)
    _box(picture, 205, 0, 435, meets, (156, 150, 140))
    _box(picture, 228, 0, 412, meets, (96, 112, 128))
    _box(picture, 228, meets - 30, 412, meets, (120, 126, 112))
    for x in range(232, 412, 18):
        _box(picture, x, 0, x + 2, meets, (44, 46, 48))
    for x in (60, 520):
        _box(picture, x, 0, x + 58, meets * 0.62, (206, 200, 186))
        _box(picture, x + 5, 0, x + 53, meets * 0.58, (76, 92, 110))


def _paint_market(picture: ImageArray, model: CameraModel, rng: np.random.Generator) -> None:
    meets = _pave(picture, model, 11.5, 0.6, ((164, 160, 152), (138, 134, 128)), rng)
    picture[: round(meets)] = (176, 168, 154)
    awnings: tuple[Colour, ...] = ((190, 60, 54), (58, 120, 82), (206, 166, 66), (66, 98, 158))
    for stall, x in enumerate(range(-20, WIDTH_PX, 170)):
        colour = awnings[stall % len(awnings)]
        _box(picture, x + 8, 40, x + 152, meets, (112, 92, 74))
        for strip in range(8):
            shade = colour if strip % 2 else (232, 228, 220)
            _shape(picture, [(x + strip * 20, 66), (x + 20 + strip * 20, 66), (x + 16 + strip * 18, 22),
                             (x + strip * 18, 22)], shade)  # fmt: skip
        _box(picture, x + 6, meets - 42, x + 154, meets - 4, (134, 104, 72))
        for _ in range(34):
            spot = (int(rng.integers(x + 10, x + 150)), int(rng.uniform(meets - 52, meets - 36)))
            fruit = tuple(int(v) for v in rng.integers(70, 230, 3))
            cv2.circle(picture, spot, int(rng.integers(4, 8)), fruit, cv2.FILLED, cv2.LINE_AA)


def _paint_tunnel(picture: ImageArray, model: CameraModel, rng: np.random.Generator) -> None:
    meets = _pave(picture, model, 16.0, 1.0, ((126, 126, 124), (106, 106, 106)), rng)
    picture[: round(meets)] = (96, 96, 98)
    wall = (164, 164, 158)
    for side in (0, 1):

        def across(x: float, side: int = side) -> float:
            return x if side == 0 else WIDTH_PX - 1 - x

        _shape(picture, [(across(0), 0), (across(215), 60), (across(215), meets), (across(0), 272)], wall)
        for step in range(1, 8):
            x = 215 * step / 8
            _shape(picture, [(across(x), 60 * step / 8), (across(x + 1), 60 * step / 8),
                             (across(x + 1), 272 - (272 - meets) * step / 8),
                             (across(x), 272 - (272 - meets) * step / 8)], (132, 132, 128))  # fmt: skip
        stripe = [(across(0), 190), (across(215), 106), (across(215), 114), (across(0), 212)]
        _shape(picture, stripe, (70, 96, 120))
    _box(picture, 215, 58, 424, meets, (62, 64, 68))
    _box(picture, 262, 70, 378, meets, (150, 158, 160))
    _shape(picture, [(0, 0), (WIDTH_PX, 0), (424, 60), (215, 60)], (112, 112, 112))
    for near, far in ((18, 34), (44, 54)):
        _shape(picture, [(280 - near, near), (360 + near, near), (340, far), (300, far)], (246, 244, 226))


def _paint_plaza(picture: ImageArray, model: CameraModel, rng: np.random.Generator) -> None:
    meets = _pave(picture, model, 19.0, 1.4, ((174, 168, 156), (142, 136, 128)), rng)
    picture[: round(max(meets, 0))] = (160, 156, 150)
    top = round(max(meets, 0))
    for x in range(10, WIDTH_PX, 84):
        _box(picture, x, 0, x + 56, top - 14, (92, 108, 122))
        _box(picture, x + 27, 0, x + 29, top - 14, (190, 186, 178))
    centre = (430, round(top + 60))
    cv2.ellipse(picture, centre, (118, 34), 0, 0, 360, (120, 118, 112), cv2.FILLED, cv2.LINE_AA)
    cv2.ellipse(picture, centre, (106, 28), 0, 0, 360, (96, 134, 148), cv2.FILLED, cv2.LINE_AA)
    for _ in range(70):
        spot = (int(rng.integers(20, 150)), int(rng.integers(top - 6, top + 42)))
        cv2.circle(picture, spot, int(rng.integers(6, 13)), _near(rng, (78, 108, 58), 14), cv2.FILLED, cv2.LINE_AA)


def _paint_lab(picture: ImageArray, model: CameraModel, rng: np.random.Generator) -> None:
    tint = int(rng.integers(-14, 14))
    meets = _pave(picture, model, 11.0, 1.0, ((150 + tint, 150, 148 - tint), (134, 134, 132)), rng)
    picture[: round(meets)] = (196 + tint // 2, 196, 190 - tint // 2)
    _box(picture, 0, meets - 8, WIDTH_PX, meets, (120, 116, 110))
    for x in rng.integers(0, WIDTH_PX - 80, 3):
        if rng.random() < 0.5:
            _box(picture, x, meets - 150, x + 66, meets - 8, _near(rng, (142, 110, 80), 20))
        else:
            _box(picture, x, meets - 120, x + 78, meets - 62, _near(rng, (110, 130, 150), 30))


_SCENES: dict[str, Callable[[ImageArray, CameraModel, np.random.Generator], None]] = {
    "gate": _paint_gate,
    "market": _paint_market,
    "tunnel": _paint_tunnel,
    "plaza": _paint_plaza,
    "lab": _paint_lab,
}


def _paint_post(picture: ImageArray, model: CameraModel, x_m: float, z_m: float, rng: np.random.Generator) -> None:
    x, y, scale = model.ground(x_m, z_m)
    _box(picture, x - 0.09 * scale, y - 4 * scale, x + 0.09 * scale, y, (92, 96, 100))
    _box(picture, x - 0.09 * scale, y - 4 * scale, x - 0.03 * scale, y, (124, 128, 132))
    _box(picture, x - 0.14 * scale, y - 0.25 * scale, x + 0.14 * scale, y, (78, 80, 84))


def _paint_bench(picture: ImageArray, model: CameraModel, x_m: float, z_m: float, rng: np.random.Generator) -> None:
    x, y, scale = model.ground(x_m, z_m)
    for plank in (0.42, 0.58, 0.74):
        _box(picture, x - 0.85 * scale, y - (plank + 0.11) * scale, x + 0.85 * scale, y - plank * scale, (128, 90, 58))
    for leg in (-0.75, 0.69):
        _box(picture, x + leg * scale, y - 0.85 * scale, x + (leg + 0.06) * scale, y, (58, 58, 60))


def _paint_crates(picture: ImageArray, model: CameraModel, x_m: float, z_m: float, rng: np.random.Generator) -> None:
    x, y, scale = model.ground(x_m, z_m)
    for left, bottom in ((-0.6, 0.0), (0.02, 0.0), (-0.3, 0.38)):
        wide, high = 0.58 * scale, 0.37 * scale
        x0, y1 = x + left * scale, y - bottom * scale
        _box(picture, x0, y1 - high, x0 + wide, y1, _near(rng, (150, 116, 74), 12))
        for plank in (0.3, 0.65):
            _box(picture, x0, y1 - high * plank - 1, x0 + wide, y1 - high * plank, (104, 78, 50))


def _paint_car(picture: ImageArray, model: CameraModel, x_m: float, z_m: float, rng: np.random.Generator) -> None:
    x, y, scale = model.ground(x_m, z_m)

    def spot(across: float, up: float) -> tuple[float, float]:
        return x + across * scale, y - up * scale

    paint = (122, 132, 142)
    _shape(picture, [spot(-2.0, 0.2), spot(-2.0, 0.72), spot(-1.3, 0.85), spot(1.4, 0.85), spot(2.0, 0.66),
                     spot(2.0, 0.2)], paint)  # fmt: skip
    _shape(picture, [spot(-1.2, 0.84), spot(-0.8, 1.34), spot(0.7, 1.34), spot(1.25, 0.84)], paint)
    _shape(picture, [spot(-1.0, 0.86), spot(-0.7, 1.26), spot(0.62, 1.26), spot(1.0, 0.86)], (56, 66, 76))
    for wheel in (-1.25, 1.2):
        centre = tuple(round(v) for v in spot(wheel, 0.3))
        cv2.circle(picture, centre, round(0.31 * scale), (34, 34, 36, 255), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(picture, centre, round(0.16 * scale), (150, 150, 152, 255), cv2.FILLED, cv2.LINE_AA)


_PAINTERS: dict[str, Callable[[ImageArray, CameraModel, float, float, np.random.Generator], None]] = {
    "post": _paint_post,
    "bench": _paint_bench,
    "crates": _paint_crates,
    "car": _paint_car,
}

_PROPS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "gate": (("post", -1.9, 6.2), ("post", 2.4, 8.0), ("bench", 3.2, 6.0)),
    "market": (("crates", -2.6, 6.2), ("crates", 2.2, 7.4), ("post", 0.4, 6.6)),
    "tunnel": (("post", 1.3, 6.0), ("post", -1.6, 7.4)),
    "plaza": (("bench", -3.2, 10.5), ("bench", 2.6, 12.0), ("post", 1.0, 9.2), ("car", -3.4, 16.0)),
    "lab": (("bench", 2.8, 7.2),),
}
