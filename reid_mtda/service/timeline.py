"""An answer on a time line: one lane per camera, one mark per hit, in numbers that a template can draw as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from reid_mtda.service.searches import Search
from reid_mtda.service.site_time import SiteTime

WIDTH, LANE, TOP, LEFT = 900, 34, 26, 110
_TICKS = 6
_STEPS_S = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 604800, 2592000)


@dataclass(frozen=True)
class Mark:
    """One hit: ``x .. x + width`` on the lane's ``y``."""

    x: float
    width: float
    y: float
    sighting_id: int
    is_match: bool
    label: str


@dataclass(frozen=True)
class Timeline:
    """The drawing: size, lanes (y, camera), ticks (x, text), marks, and the path that joins matches."""

    width: int
    height: int
    lanes: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]
    path: str


def draw_timeline(search: Search, times: SiteTime) -> Timeline | None:
    """The time line of an answer, by the site's clock; None without hits."""
    if not search.hits:
        return None
    rows = [judged.hit.sighting for judged in search.hits]
    start, end = min(row.start_s for row in rows), max(row.end_s for row in rows)
    span = max(end - start, 1.0)
    cameras = sorted({row.camera for row in rows})
    inner = WIDTH - LEFT - 20

    def x_of(time_s: float) -> float:
        return round(LEFT + 8 + (time_s - start) / span * inner * 0.97, 1)

    def y_of(camera: str) -> float:
        return TOP + LANE * cameras.index(camera) + LANE / 2

    marks = tuple(
        Mark(
            x=x_of(judged.hit.sighting.start_s),
            width=max(6.0, x_of(judged.hit.sighting.end_s) - x_of(judged.hit.sighting.start_s)),
            y=y_of(judged.hit.sighting.camera),
            sighting_id=judged.hit.sighting_id,
            is_match=judged.is_match,
            label=f"{judged.hit.sighting.camera} at {times.clock(judged.hit.sighting.start_s)}, "
            f"score {judged.hit.score:.2f}",
        )
        # Matches last: they are drawn on top.
        for judged in sorted(search.hits, key=lambda judged: judged.is_match)
    )
    joined = " ".join(
        f"{x_of(judged.hit.sighting.start_s) + 3:.1f},{y_of(judged.hit.sighting.camera):.1f}" for judged in search.path
    )
    step = next((step for step in _STEPS_S if span / step <= _TICKS), _STEPS_S[-1])
    ahead = int((times.at(start).utcoffset() or timedelta()).total_seconds())  # a day begins at the site's midnight
    first = (int(start + ahead) // step + 1) * step - ahead
    moments = range(first, int(end) + 1, step) if first <= end else range(int(start), int(start) + 1)
    return Timeline(
        width=WIDTH,
        height=TOP + LANE * len(cameras) + 8,
        lanes=tuple((y_of(camera), camera) for camera in cameras),
        ticks=tuple(
            (x_of(moment), times.at(moment).strftime(_tick_format(step))) for moment in list(moments)[: 2 * _TICKS]
        ),
        marks=marks,
        path=joined if len(search.path) > 1 else "",
    )


def _tick_format(step: int) -> str:
    return "%d %b" if step >= 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
