"""Small charts for the report as HTML and SVG; colours are the page's variables, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_SERIES = 6
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 3")
_WIDTH, _HEIGHT = 380, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 10, 30


def curve_chart(curves: Mapping[str, Sequence[float | None]], ours: Sequence[str] = ()) -> str:
    """Lines of fractions over ranks 1, 2, ... with a legend; those of ``ours`` are drawn thicker and on top."""
    length = max(len(curve) for curve in curves.values())
    names = list(curves)
    style = {
        name: f'stroke="var(--s{i % _SERIES})" stroke-dasharray="{_DASHES[i % len(_DASHES)]}" '
        f'stroke-width="{3 if name in ours else 1.8}"'
        for i, name in enumerate(sorted(names, key=lambda name: (name not in ours, names.index(name))))
    }
    lowest = min((value for curve in curves.values() for value in curve if value is not None), default=0.0)
    floor = math.floor(10 * min(lowest, 0.8)) / 10  # lines that differ stay apart
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def spot(rank: int, value: float) -> str:
        return f"{_LEFT + across * rank / max(1, length - 1):.1f},{_TOP + down * (1 - value) / (1 - floor):.1f}"

    parts = []
    step = 5 if floor > 0.7 else 10 if floor > 0.3 else 20
    for percent in range(100, round(100 * floor) - 1, -step):
        y = spot(0, percent / 100).split(",")[1]
        parts.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="var(--line)"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{percent}</text>')
    for rank in sorted({0, *range(4, length, 5 if length <= 25 else 10)}):
        x = spot(rank, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{_HEIGHT - 14}" text-anchor="middle">{rank + 1}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" text-anchor="end">rank k</text>')
    for name in sorted(names, key=lambda name: name in ours):
        spots = [spot(rank, value) for rank, value in enumerate(curves[name]) if value is not None]
        parts.append(f'<polyline fill="none" {style[name]} stroke-linejoin="round" points="{" ".join(spots)}"/>')
    label = "Share of queries in %, by rank: " + ", ".join(names)
    legend = "".join(
        f'<span><svg viewBox="0 0 28 8"><path d="M0 4H28" {style[name]}/></svg>{escape(name)}</span>' for name in names
    )
    chart = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    return f'<div class="legend">{legend}</div>{chart}'


def heat_table(values: Mapping[tuple[str, ...], float | None]) -> str:
    """Fractions by (row, column) as percentages on a tint that grows with them."""
    names = list(dict.fromkeys(name for pair in values for name in pair))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = []
    for row in names:
        cells = []
        for column in names:
            value = values.get((row, column))
            if value is None:
                cells.append('<td class="faint">·</td>')
            else:
                cells.append(
                    f'<td style="background:rgba(var(--tint),{0.05 + 0.45 * value:.3f})">{100 * value:.1f}</td>'
                )
        body.append(f'<tr><th scope="row">{escape(row)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="wide"><table class="heat"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def time_bars(stages: Sequence[Mapping[str, Any]]) -> str:
    """A bar for each stage's seconds, with its peak memory, and the sum."""
    if not stages:
        return ""
    seconds = [float(stage.get("seconds") or 0) for stage in stages]
    longest = max(*seconds, 1e-9)
    rows = []
    for stage, taken in zip(stages, seconds, strict=True):
        memory = f" · {stage['peak_mb']:,.0f} MB" if isinstance(stage.get("peak_mb"), int | float) else ""
        rows.append(
            f"<span>{escape(str(stage.get('name')))}</span>"
            f'<span class="track"><i style="width:{100 * taken / longest:.2f}%"></i></span>'
            f'<span class="number">{duration(taken)}{memory}</span>'
        )
    total = f'<p class="faint">{duration(sum(seconds))} in all; memory is the peak of the process in that stage.</p>'
    return f'<div class="bars">{"".join(rows)}</div>{total}'


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(0.34), duration(42.2), duration(125), duration(4000)
    ('0.3 s', '42 s', '2 min 05 s', '1 h 06 min')
    """
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
