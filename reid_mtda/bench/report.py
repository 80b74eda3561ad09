"""A run's numbers as ``report.json`` and as ``report.html``: one file, no network, light and dark, down to a phone."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reid_mtda.bench.charts import curve_chart, heat_table, time_bars
from reid_mtda.evaluation.rank_plots import draw_contact_sheet as draw_contact_sheet
from reid_mtda.evaluation.rank_plots import draw_retrieval as draw_retrieval
from reid_mtda.files import atomic_write, write_json

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f27; --faint: #5d6675; --line: #dde1e8;
  --panel: #f5f6f9; --ours: #1d5fd1; --tint: 29, 95, 209; --s0: #1d5fd1; --s1: #b4540a; --s2: #15803d; --s3: #9333a8;
  --s4: #64748b; --s5: #b91c3c; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e9ef; --faint: #9aa4b4; --line: #2f3641;
  --panel: #1c2027; --ours: #7db0ff; --tint: 96, 158, 255; --s0: #7db0ff; --s1: #f0a35a; --s2: #5fcf8b; --s3: #d38be6;
  --s4: #9aa8bb; --s5: #ff8298; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .4rem 0; max-width: 44rem; }
.faint, figcaption { color: var(--faint); font-size: .875rem; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.figures div { flex: 1 1 8rem; background: var(--panel); border-radius: .6rem; padding: .8rem 1rem; }
.figures b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.figures span { color: var(--faint); font-size: .85rem; }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .45rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; font-size: .82rem; color: var(--faint); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
tbody th { color: var(--ink); font-weight: 400; font-size: 1rem; }
.ours th, .ours td { font-weight: 650; color: var(--ours); }
.best { font-weight: 650; }
.spread { color: var(--faint); font-size: .85em; font-weight: 400; }
th:first-child, td:first-child { padding-left: 0; }
.heat { border-collapse: separate; border-spacing: 3px; }
.heat th, .heat td { text-align: center; border: 0; border-radius: .3rem; }
.heat tbody th { text-align: left; }
.bars { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr max-content; gap: .35rem .8rem;
  align-items: center; margin: .75rem 0; font-size: .92rem; }
.bars i { display: block; height: .8rem; border-radius: .2rem; background: var(--s4); min-width: 2px; }
.bars .ours { color: var(--ours); font-weight: 650; }
.bars i.ours { background: var(--ours); }
.track { position: relative; }
.whisker { position: absolute; top: .4rem; height: 2px; background: var(--ink); opacity: .75; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: .75rem 0; }
figure img { display: block; width: 100%; min-width: 48rem; border-radius: .4rem; background: #fff; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; margin: .4rem 0; }
.legend svg { display: inline-block; width: 1.8rem; vertical-align: middle; margin-right: .4rem; }
code, pre { font: .9rem ui-monospace, "Cascadia Mono", Menlo, monospace; }
pre { background: var(--panel); border-radius: .6rem; padding: .8rem 1rem; overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .92rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { .wide { overflow: visible; } }
"""

_COLUMNS = (
    ("mAP", "mAP %", lambda v: f"{100 * v:.1f}"),
    ("rank1", "rank-1 %", lambda v: f"{100 * v:.1f}"),
    ("mINP", "mINP %", lambda v: f"{100 * v:.1f}"),
    ("params", "weights", lambda v: _short(v)),
    ("macs", "MACs", lambda v: _short(v)),
    ("ms", "ms a crop", lambda v: f"{v:.2g}" if v < 10 else f"{v:.0f}"),
)


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.json`` and ``report.html`` into ``folder`` and return the page's path.

    Args:
        folder: where both go; each is written whole or not at all.
        report: JSON values; every key may be missing. A number is a fraction, a count, or
            ``{"mean": m, "spread": s}`` over seeds; one that is not finite becomes null.

            - ``title``, ``summary``: text. ``figures``: ``{label: text}``, the few numbers to see first.
            - ``results``: rows ``{"method", "ours": bool, "mAP", "rank1", "mINP", "per_camera": {camera: {"mAP",
              "rank1"}}, "per_camera_pair": {"gate -> yard": {"mAP", "rank1"}}, "cmc": [...], "params", "macs", "ms"}``.
              ``cmc`` of all rows makes the curves; the pair table is that of ``ours``, else of the last row with one.
            - ``cameras``: rows of any equal keys, shown as a table. ``stages``: rows ``{"name", "seconds",
              "peak_mb"}``. ``setup``: ``{label: value}``. ``next``: commands to type next.
            - ``pictures``: rows ``{"file", "caption"}``; a file relative to ``folder`` is embedded in the page.

    Raises:
        StorageError: the disk refused; what stood there before is untouched.
    """
    plain: dict[str, Any] = _plain(report)
    write_json(Path(folder) / "report.json", plain)
    page = Path(folder) / "report.html"
    with atomic_write(page) as temporary:
        temporary.write_text(_page(plain, Path(folder)), encoding="utf-8")
    return page


def _plain(value: Any) -> Any:
    """``value`` in the types of JSON, which knows no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _page(report: Mapping[str, Any], folder: Path) -> str:
    title = escape(report.get("title") or "Report")
    rows = report.get("results") or []
    parts = [
        f"<header><h1>{title}</h1>",
        f"<p>{escape(report['summary'])}</p>" if report.get("summary") else "",
        _figures(report.get("figures") or {}),
        "</header>",
        _section("Methods", _results(rows), "Bars show mAP; ± is one standard deviation where several seeds ran."),
        _section("Per camera", _per_camera(rows), "mAP in % of queries from each camera, answered by all cameras."),
        _section("From camera to camera", *_pairs(rows)),
        _section("Rank curve", _curves(rows), "How often the right person is among the first k answers (CMC)."),
        _section("Answers", _pictures(report.get("pictures") or [], folder)),
        _section("Cameras", _plain_table(report.get("cameras") or [])),
        _section("Time and memory", time_bars(report.get("stages") or [])),
        _section("Setup", _setup(report.get("setup") or {})),
        _section("Next", _commands(report.get("next") or [])),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _section(title: str, body: str, note: str = "") -> str:
    if not body:
        return ""
    return f"<section><h2>{title}</h2>" + (f'<p class="faint">{note}</p>' if note else "") + f"{body}</section>"


def _mean(value: Any) -> float | None:
    found = value.get("mean") if isinstance(value, Mapping) else value
    return float(found) if isinstance(found, int | float) else None


def _cell(value: Any, show: Callable[[float], str]) -> str:
    """A number as text, with its spread."""
    mean = _mean(value)
    if mean is None:
        return "–"
    spread = value.get("spread") if isinstance(value, Mapping) else None
    return show(mean) + (f' <span class="spread">± {show(spread)}</span>' if spread else "")


def _short(value: float) -> str:
    """1234567 -> 1.23 M.

    >>> _short(1234567), _short(950), _short(81_500_000_000)
    ('1.23 M', '950', '81.5 G')
    """
    for power, unit in ((9, " G"), (6, " M"), (3, " k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g}{unit}"
    return f"{value:.0f}"


def _figures(figures: Mapping[str, Any]) -> str:
    tiles = [f"<div><b>{escape(str(text))}</b><span>{escape(label)}</span></div>" for label, text in figures.items()]
    return f'<div class="figures">{"".join(tiles)}</div>' if tiles else ""


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str], bool]]) -> str:
    """A table of (first cell, other cells, ours); cells are HTML."""
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(
        f'<tr{" class=ours" if ours else ""}><th scope="row">{first}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
        for first, cells, ours in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _results(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = [column for column in _COLUMNS if any(_mean(row.get(column[0])) is not None for row in rows)]
    bars = []
    for row in rows:
        mean, ours = _mean(row.get("mAP")), " ours" if row.get("ours") else ""
        if mean is None:
            continue
        spread = _mean(row["mAP"].get("spread")) if isinstance(row["mAP"], Mapping) else None
        whisker = ""
        if spread:
            left, right = max(0.0, mean - spread), min(1.0, mean + spread)
            whisker = f'<span class="whisker" style="left:{100 * left:.2f}%;width:{100 * (right - left):.2f}%"></span>'
        bars.append(
            f'<span class="{ours.strip()}">{escape(str(row.get("method")))}</span>'
            f'<span class="track"><i class="{ours.strip()}" style="width:{100 * mean:.2f}%"></i>{whisker}</span>'
            f'<span class="number{ours}">{100 * mean:.1f}</span>'
        )
    table = _table(
        ["method", *(title for _, title, _ in columns)],
        [
            (
                escape(str(row.get("method"))),
                [_cell(row.get(key), show) for key, _, show in columns],
                bool(row.get("ours")),
            )
            for row in rows
        ],
    )
    return f'<div class="bars" role="img" aria-label="mAP of each method">{"".join(bars)}</div>{table}'


def _per_camera(rows: Sequence[Mapping[str, Any]]) -> str:
    cameras = list(dict.fromkeys(camera for row in rows for camera in row.get("per_camera") or {}))
    if not cameras:
        return ""
    body = []
    for row in rows:
        tables = row.get("per_camera") or {}
        cells = [_cell((tables.get(camera) or {}).get("mAP"), lambda v: f"{100 * v:.1f}") for camera in cameras]
        body.append((escape(str(row.get("method"))), cells, bool(row.get("ours"))))
    return _table(["method", *map(escape, cameras)], body)


def _pairs(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    with_pairs = [row for row in rows if row.get("per_camera_pair")]
    if not with_pairs:
        return "", ""
    row = next((row for row in with_pairs if row.get("ours")), with_pairs[-1])
    values = {tuple(pair.split(" -> ", 1)): _mean(cell.get("mAP")) for pair, cell in row["per_camera_pair"].items()}
    return heat_table(
        values
    ), f"mAP in % of {escape(str(row.get('method')))}: query camera down, answering camera across."


def _curves(rows: Sequence[Mapping[str, Any]]) -> str:
    curves = {str(row.get("method")): [_mean(value) for value in row["cmc"]] for row in rows if row.get("cmc")}
    return curve_chart(curves, [str(row.get("method")) for row in rows if row.get("ours")]) if curves else ""


def _pictures(pictures: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Pictures as data within the page; one whose file is gone is left out."""
    figures = []
    for picture in pictures:
        path = folder / str(picture.get("file"))
        if path.is_file():
            packed = io.BytesIO()
            Image.open(path).convert("RGB").save(packed, "JPEG", quality=88, optimize=True)
            data = base64.b64encode(packed.getvalue()).decode()
            caption = escape(str(picture.get("caption") or path.name))
            figures.append(
                f'<figure><div class="wide"><img alt="{caption}" src="data:image/jpeg;base64,{data}"></div>'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    return "".join(figures)


def _plain_table(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key, value in row.items() if value not in (None, "", [])))
    if not keys:
        return ""
    body = [
        (escape(str(row.get(keys[0], ""))), [escape(_text(row.get(key))) for key in keys[1:]], False) for row in rows
    ]
    return _table([escape(key.replace("_", " ")) for key in keys], body)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _setup(setup: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(_text(value))}</dd>" for label, value in setup.items())
    return f"<dl>{rows}</dl>" if rows else ""


def _commands(commands: Sequence[str]) -> str:
    return "<pre>" + "\n".join(map(escape, commands)) + "</pre>" if commands else ""
