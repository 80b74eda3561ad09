"""Who walks where and when: the timetable of the drawn street."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reid_mtda.synthetic.camera import WIDTH_PX, CameraModel
from reid_mtda.synthetic.people import Person

SPACING_S = 2.75
"""A new person enters this often, so that two to four are in view."""
LONGEST_S = 10.0
"""No walk through a picture, waiting included, takes longer."""


@dataclass(frozen=True)
class Walker:
    """A person at one instant: where, seen from which side, in which part of the step."""

    pid: int
    x_m: float
    z_m: float
    view_angle: float
    gait_phase: float


@dataclass(frozen=True)
class Walk:
    """A straight walk through the picture from ``start`` to ``end`` (x, z in metres)."""

    pid: int
    begin_s: float
    start: tuple[float, float]
    end: tuple[float, float]
    speed_m_s: float
    step_m: float
    phase: float

    @property
    def length_m(self) -> float:
        """Metres from start to end."""
        return math.dist(self.start, self.end)

    @property
    def end_s(self) -> float:
        """When the person leaves."""
        return self.begin_s + self.length_m / self.speed_m_s

    def at(self, time_s: float) -> Walker:
        """Where and how the person is at ``time_s``."""
        gone = (time_s - self.begin_s) * self.speed_m_s
        ahead_x = (self.end[0] - self.start[0]) / self.length_m
        ahead_z = (self.end[1] - self.start[1]) / self.length_m
        x, z = self.start[0] + ahead_x * gone, self.start[1] + ahead_z * gone
        # Seen from the camera at (0, 0): how far the heading points to the right of, and towards, the viewer.
        view = math.atan2(ahead_x * z - ahead_z * x, -ahead_x * x - ahead_z * z)
        return Walker(self.pid, x, z, view, self.phase + 2 * math.pi * gone / self.step_m)


def timetable(seed: int, model: CameraModel, looks: dict[int, Person]) -> Callable[[float], list[Walk]]:
    """The function time -> walks under way. In every round each person passes each camera once.

    All cameras share one order of people, each a quarter of a round later than the one before: a person walks past
    gate, market, tunnel and plaza in turn and is never in two places at once.

    Args:
        seed: of what is drawn.
        model: how the camera sees the street.
        looks: people by number.
    """
    pids = list(looks)
    round_s = len(pids) * SPACING_S
    order = np.random.default_rng((seed, pids[0], 0x0DE5)).permutation(pids)
    shift = (model.camid - 1) * len(pids) // 4

    @functools.lru_cache(maxsize=8)
    def walks_of(number: int) -> list[Walk]:
        slots = ((slot + shift) % len(pids) for slot in range(len(pids)))
        return [
            _plan(seed, model, looks[int(pid)], number, number * round_s + slot * SPACING_S)
            for pid, slot in zip(order, slots, strict=True)
        ]

    def under_way(time_s: float) -> list[Walk]:
        now = int(time_s // round_s)
        back = math.ceil(LONGEST_S / round_s)
        near = [walk for number in range(max(0, now - back), now + 1) for walk in walks_of(number)]
        return [walk for walk in near if walk.begin_s <= time_s < walk.end_s]

    return under_way


def _plan(seed: int, model: CameraModel, look: Person, number: int, earliest_s: float) -> Walk:
    rng = np.random.default_rng((seed, sum(model.name.encode()), look.pid, number, 0x3A1))

    def edge(side: int, z_m: float) -> tuple[float, float]:
        return side * (WIDTH_PX / 2 / model.focal_px * z_m + 0.45), z_m

    side = int(rng.choice((-1, 1)))
    if rng.random() < model.side_walk:
        start = edge(-side, float(rng.uniform(model.near_m, model.far_m)))
        drift = float(rng.normal(0, 1.2))
        end = edge(side, float(np.clip(start[1] + drift, model.near_m, model.far_m)))
    else:
        door = (model.entrance[0] + float(rng.uniform(-0.7, 0.7)), model.entrance[1])
        start, end = door, edge(side, float(rng.uniform(model.near_m, model.near_m + 1.2)))
        if rng.random() < 0.5:
            start, end = end, door
    length = math.dist(start, end)
    return Walk(
        pid=look.pid,
        begin_s=earliest_s + float(rng.uniform(0, 0.9 * SPACING_S)),
        start=start,
        end=end,
        speed_m_s=max(look.speed_m_s, length / (LONGEST_S - SPACING_S)),
        step_m=1.9 * look.height_m * math.sin(look.stride),
        phase=float(rng.uniform(0, 2 * math.pi)),
    )
