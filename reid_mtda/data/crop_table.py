"""``crops.csv``: what is known of the crops of one camera's folder, written by a harvest or by hand."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from reid_mtda.data.tables import read_table
from reid_mtda.errors import DataError
from reid_mtda.files import atomic_write
from reid_mtda.types import DoubleArray, IntArray

COLUMNS = ("file", "tracklet", "frame", "time_s", "x0", "y0", "x1", "y1")
TABLE = "crops.csv"

Row = dict[str, str]
"""One crop in ``crops.csv``, by column."""
_ADVICE = "harvest the footage again, or remove the file to go without tracklets"


def write_crop_table(folder: Path, rows: Iterable[Row]) -> None:
    """Write ``crops.csv`` of one camera's folder, whole or not at all."""
    with atomic_write(folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


def read_crop_table(folder: Path) -> list[Row]:
    """Read the rows of ``crops.csv`` as `write_crop_table` wrote them; none where there is no such file.

    Raises:
        DataError: the file is not such a table, or names a file outside of its folder.
    """
    table = folder / TABLE
    if not table.is_file():
        return []
    try:
        found = read_table(table, advice=f"remove {folder}")
    except DataError as error:
        raise DataError(f"{table}: cannot be read as a table ({error}); remove {folder}") from None
    rows = [row for _, row in found.rows]
    if set(found.columns) != set(COLUMNS) or any("" in row.values() for row in rows):
        raise DataError(f"{table}: got other columns, expected {', '.join(COLUMNS)}; remove {folder}")
    if any(Path(row["file"]).name != row["file"] for row in rows):
        raise DataError(f"{table}: names a file outside of its folder; remove {folder}")
    return rows


def read_tracklets(table: Path, paths: tuple[Path, ...]) -> tuple[IntArray, DoubleArray]:
    """Read which of ``paths`` a tracker followed together, from a table with the columns file and tracklet.

    Args:
        table: ``crops.csv`` or ``tracklets.csv``; file is a picture's path from the table's folder on.
        paths: N pictures below that folder.

    Returns:
        The tracklet of each picture, int64 (N,), -1 where the table does not list it; and from when to when it was in
        view, float64 (N, 2) seconds by a column ``time_s``, NaN where unknown.

    Raises:
        DataError: a damaged table, or one that names a picture that is not there, or one twice.
    """
    wanted = "expected the columns file and tracklet, the name of a picture and a whole number from 0"
    here = [path.relative_to(table.parent).as_posix() for path in paths]
    there, found = frozenset(here), dict[str, int]()
    times: dict[int, list[float]] = {}
    read = read_table(table, advice=_ADVICE)
    if not {"file", "tracklet"} <= set(read.columns):
        raise DataError(
            f"{table}: got the columns {', '.join(filter(None, read.columns)) or 'none'}, {wanted}; {_ADVICE}"
        )
    for number, row in read.rows:
        where = f"{table}, line {number}"
        name, tracklet = row["file"].replace("\\", "/"), row["tracklet"]
        if not re.fullmatch(r"\d{1,18}", tracklet):
            raise DataError(f"{where}: got tracklet {tracklet!r} for {name!r}, {wanted}; {_ADVICE}")
        if name not in there:
            raise DataError(f"{where}: names the picture {name!r}, which is not in {table.parent}; {_ADVICE}")
        if name in found:
            raise DataError(f"{where}: names {name!r} a second time, expected each picture once; {_ADVICE}")
        found[name] = int(tracklet)
        times.setdefault(found[name], []).append(_seconds(row.get("time_s"), where))
    tracklets = [found.get(name, -1) for name in here]
    spans = {tracklet: (min(seen), max(seen)) for tracklet, seen in times.items() if not np.isnan(seen).any()}
    known = np.array([spans.get(number, (np.nan, np.nan)) for number in tracklets], np.float64)
    return np.array(tracklets, np.int64), known.reshape(-1, 2)


def read_boxes(table: Path) -> dict[str, tuple[int, tuple[float, float, float, float]]]:
    """Read the frame index and box xyxy (px) of each file that ``table`` lists.

    Raises:
        DataError: a damaged table, or a row without these numbers.
    """
    boxes = {}
    for number, row in read_table(table, advice="harvest the footage again").rows:
        try:
            frame, x0, y0, x1, y1 = (float(row[key].replace(",", ".")) for key in ("frame", "x0", "y0", "x1", "y1"))
            if not (np.isfinite((frame, x0, y0, x1, y1)).all() and frame == int(frame)):
                raise ValueError
        except (ValueError, KeyError):
            raise DataError(
                f"{table}, line {number}: got no numbers frame, x0, y0, x1, y1, expected them as 'harvest' writes "
                "them; harvest the footage again"
            ) from None
        boxes[row.get("file", "")] = (int(frame), (x0, y0, x1, y1))
    return boxes


def _seconds(text: str | None, where: str) -> float:
    """A column of times is optional; one that is there holds numbers."""
    try:
        value = float(text.replace(",", ".")) if text else np.nan
    except ValueError:
        value = np.inf
    if np.isinf(value):
        raise DataError(f"{where}: got time_s {text!r}, expected seconds; harvest the footage again")
    return value
