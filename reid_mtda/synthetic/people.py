"""The looks of drawn people: body, hair, clothes and bags, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Colour = tuple[int, int, int]

# Clothing colours with how often people wear them above and below the waist.
_CLOTH: dict[Colour, tuple[float, float]] = {
    (30, 30, 34): (2.5, 3.5),
    (62, 64, 70): (1.5, 2.0),
    (128, 130, 134): (1.5, 1.2),
    (192, 194, 196): (1.0, 0.5),
    (238, 236, 230): (2.0, 0.6),
    (28, 38, 76): (1.8, 2.2),
    (38, 80, 170): (1.2, 0.6),
    (124, 172, 216): (1.0, 0.3),
    (60, 86, 128): (1.0, 2.6),
    (120, 148, 182): (0.6, 1.6),
    (24, 118, 122): (0.8, 0.3),
    (40, 112, 64): (1.0, 0.3),
    (94, 98, 54): (0.9, 0.9),
    (150, 190, 72): (0.5, 0.1),
    (170, 150, 106): (0.8, 1.5),
    (210, 192, 160): (0.9, 1.0),
    (98, 66, 44): (0.8, 0.8),
    (162, 116, 74): (0.7, 0.5),
    (172, 78, 42): (0.7, 0.2),
    (228, 124, 42): (0.7, 0.15),
    (232, 198, 64): (0.8, 0.15),
    (190, 38, 44): (1.4, 0.4),
    (110, 28, 46): (0.9, 0.4),
    (228, 142, 166): (0.8, 0.3),
    (182, 48, 122): (0.5, 0.15),
    (98, 56, 134): (0.6, 0.2),
    (172, 152, 206): (0.6, 0.2),
}
_SKIN: tuple[Colour, ...] = (
    (244, 208, 182),
    (226, 182, 150),
    (202, 150, 114),
    (160, 110, 78),
    (114, 76, 54),
    (80, 54, 42),
)
_HAIR: tuple[Colour, ...] = (
    (24, 20, 20),
    (52, 36, 28),
    (92, 60, 38),
    (142, 98, 54),
    (206, 170, 104),
    (152, 150, 150),
    (134, 62, 34),
)
_SHOES: tuple[Colour, ...] = (
    (28, 26, 28),
    (72, 50, 38),
    (232, 230, 226),
    (120, 122, 126),
    (174, 44, 44),
    (40, 62, 120),
)


@dataclass(frozen=True)
class Person:
    """One look. Lengths are shares of the body height unless named otherwise; colours are RGB."""

    pid: int
    height_m: float
    build: float
    shoulders: float
    legs: float
    head: float
    skin: Colour
    hair: str
    hair_colour: Colour
    hat: str
    hat_colour: Colour
    upper: str
    upper_colour: Colour
    pattern: str
    pattern_colour: Colour
    pattern_step: float
    lower: str
    lower_colour: Colour
    shoe_colour: Colour
    bag: str
    bag_colour: Colour
    bag_side: int
    stride: float
    arm_swing: float
    speed_m_s: float
    lean: float


def draw_look(seed: int, pid: int) -> Person:
    """The look of identity ``pid`` in the world ``seed``; the same two numbers always give the same look."""
    rng = np.random.default_rng((seed, pid, 0x9E09))
    uppers = np.array([above for above, _ in _CLOTH.values()])
    lowers = np.array([below for _, below in _CLOTH.values()])
    upper = _pick(rng, {"tshirt": 3, "longsleeve": 3, "hoodie": 2, "coat": 2.2})
    pattern = _pick(rng, {"plain": 5, "rows": 1.6, "columns": 0.8, "checks": 1, "logo": 1.6, "band": 1.2})
    if upper == "coat":
        pattern = "plain"
    lower = _pick(rng, {"trousers": 6, "shorts": 1.4, "skirt": 1.8} if upper != "coat" else {"trousers": 5, "skirt": 1})
    upper_colour = _cloth(rng, uppers)
    skin = int(rng.integers(len(_SKIN)))
    return Person(
        pid=pid,
        height_m=float(rng.uniform(1.55, 1.92)),
        build=float(np.clip(rng.normal(1.0, 0.14), 0.78, 1.4)),
        shoulders=float(rng.uniform(0.9, 1.12)),
        legs=float(rng.uniform(0.955, 1.04)),
        head=float(rng.uniform(0.94, 1.08)),
        skin=_jitter(rng, _SKIN[skin], 6),
        hair=_pick(rng, {"short": 4, "bald": 0.7, "bob": 1.6, "long": 2, "ponytail": 1.2, "bun": 0.8}),
        hair_colour=_jitter(rng, _HAIR[rng.integers(len(_HAIR) if skin < 3 else 3)], 8),
        hat=_pick(rng, {"none": 7, "cap": 1.2, "beanie": 1, "brim": 0.6}),
        hat_colour=_cloth(rng, uppers),
        upper=upper,
        upper_colour=upper_colour,
        pattern=pattern,
        pattern_colour=_contrasting(rng, upper_colour, uppers),
        pattern_step=float(rng.uniform(0.032, 0.06)),
        lower=lower,
        lower_colour=_cloth(rng, lowers),
        shoe_colour=_jitter(rng, _SHOES[rng.integers(len(_SHOES))], 8),
        bag=_pick(rng, {"none": 5, "backpack": 2.4, "shoulder": 2}),
        bag_colour=_cloth(rng, uppers),
        bag_side=int(rng.choice((-1, 1))),
        stride=float(rng.uniform(0.34, 0.52)),
        arm_swing=float(rng.uniform(0.2, 0.55)),
        speed_m_s=float(rng.uniform(1.1, 1.5)),
        lean=float(rng.uniform(-0.01, 0.03)),
    )


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    share = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(share), p=share / share.sum()))]


def _jitter(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, spread, 3) + rng.normal(0, spread), 8, 248).astype(int)
    return int(red), int(green), int(blue)


def _cloth(rng: np.random.Generator, weights: Any) -> Colour:
    return _jitter(rng, list(_CLOTH)[int(rng.choice(len(weights), p=weights / weights.sum()))], 7)


def _contrasting(rng: np.random.Generator, colour: Colour, weights: Any) -> Colour:
    """A cloth colour that can be told from ``colour``."""
    while True:
        other = _cloth(rng, weights)
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 150:
            return other
