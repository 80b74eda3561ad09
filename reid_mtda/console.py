"""What the command line says: progress bars and complaints on standard error, answers on standard output."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from reid_mtda.scores import CameraScores, RetrievalScores

console = Console(stderr=True)


_SAY_EVERY_S = 30.0


class Bars:
    """Progress with remaining time, one bar per part of the job, on standard error.

    A log file gets lines instead: one every half minute, and one at the end of a part that took as long.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,  # a log file wants neither bars nor the empty line after them
        )
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._done: dict[str, int] = {}
        self._said_s = time.monotonic()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, part: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``part`` are over."""
        if done < self._done.get(part, 0):  # another part of that name, e.g. a variant's teacher
            self._began.pop(part, None)
            if part in self._tasks:
                self._progress.remove_task(self._tasks.pop(part))
        self._done[part] = done
        if not console.is_terminal:
            self._say(part, done, total)
            return
        if part not in self._tasks:
            self._tasks[part] = self._progress.add_task(part, total=total)
        self._progress.update(self._tasks[part], completed=done, total=max(total, done))

    def _say(self, part: str, done: int, total: int) -> None:
        now = time.monotonic()
        began, first = self._began.setdefault(part, (now, done))  # a job that goes on does not begin at nothing
        took = now - began
        if now - self._said_s < _SAY_EVERY_S and (done < total or took < _SAY_EVERY_S):
            return
        self._said_s = now
        left = f", about {took / (done - first) * (total - done):.0f} s left" if first < done < total else ""
        with contextlib.suppress(OSError):
            print(f"{part}: {done} of {max(done, total)}, {took:.0f} s{left}", file=sys.stderr, flush=True)


def print_hits(found: dict[str, Any]) -> None:
    """An answer as a table, the same whether a gallery on disk or a service gave it."""
    rows = [
        (
            str(hit["rank"]),
            f"{hit['score']:.3f}",
            hit["camera"],
            hit["start"].replace("Z", "+00:00"),
            f"{hit['end_s'] - hit['start_s']:.0f} s",
        )
        for hit in found["hits"]
    ]
    print_table(("rank", "score", "camera", "seen at (UTC)", "for"), rows)
    if not rows:
        console.print(f"nobody found among {found['gallery_size']} sightings")
    elif (matches := found.get("matches")) is not None:
        guessed = "" if found["is_calibrated"] else ", a guess: too few people were seen to calibrate it"
        count = f"{matches} of {len(rows)}" if matches else "no match: none"
        console.print(f"{count} reach the threshold{guessed}", highlight=False)
    if left_out := found.get("left_out", {}).get("message"):
        console.print(left_out, highlight=False)


def print_results(rows: list[dict[str, Any]]) -> None:
    """The rows of a results table, in percent."""
    cameras = list(rows[0]["per_camera"]) if rows else []
    print_table(
        ("method", "mAP %", "rank-1 %", *cameras, "weights", "ms"),
        [
            (
                row["method"],
                f"{100 * row['mAP']:.1f}",
                f"{100 * row['rank1']:.1f}",
                *(f"{100 * row['per_camera'][camera]['mAP']:.1f}" for camera in cameras),
                "?" if row["params"] is None else f"{row['params'] / 1e6:.2f} M",
                f"{row['ms']:.2f}",
            )
            for row in rows
        ],
    )


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A plain table, numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(head):
        table.add_column(title, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table, highlight=False)


PAIRS_SHOWN = 100


def print_camera_scores(scores: RetrievalScores, names: Sequence[str]) -> None:
    """Print the tables per query camera and per pair of cameras, in percent; a camera without a name by its number."""

    def name(camid: int | None) -> str:
        return names[camid] if camid is not None and 0 <= camid < len(names) else f"camera {camid}"

    def numbers(row: CameraScores) -> tuple[str, ...]:
        return str(row.num_valid_queries), f"{100 * row.mAP:.1f}", f"{100 * row.rank1:.1f}"

    head = ("queries", "mAP %", "rank-1 %")
    print_table(("query camera", *head), [(name(row.query_camid), *numbers(row)) for row in scores.per_camera])
    pairs = scores.per_camera_pair
    if len(pairs) > PAIRS_SHOWN:
        console.print(f"{len(pairs)} camera pairs are not shown; --json has them", highlight=False)
    elif pairs:
        rows = [(name(row.query_camid), name(row.gallery_camid), *numbers(row)) for row in pairs]
        print_table(("query camera", "gallery camera", *head), rows)


def print_failures(failures: dict[str, str]) -> None:
    """One line for each camera that failed, and exit code 2; what the others gave is kept."""
    for camera, message in failures.items():
        complain(f"camera {camera} failed: {message.removeprefix(f'camera {camera}: ')}")
    if failures:
        raise typer.Exit(2)


def drop_output() -> None:
    """Drop what standard output refuses to take, or Python would try again at its end and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> None:
    """Say what is wrong and leave with exit code 2."""
    complain(message)
    sys.exit(2)


def complain(message: str) -> None:
    """One line on standard error."""
    with contextlib.suppress(OSError):  # standard error may be full too; the exit code tells
        print(f"reid-mtda: {' '.join(message.split())}", file=sys.stderr)


def print_json(value: Any) -> None:
    """A value as JSON, and nothing else."""
    print(json.dumps(value, indent=2))
