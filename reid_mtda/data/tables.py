"""Text tables as people and programs save them, read by one rule: any byte-order mark; commas, semicolons or tabs."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from reid_mtda.errors import DataError

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Table:
    """A table: the names of its columns, and each row's line number with its cells by column, ``""`` for none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, or as UTF-16 where its byte-order mark says so; the mark is dropped.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        data = Path(path).read_bytes()
        if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-8-sig")
        text = data.decode("utf-16")
        if "\n" not in text:  # bytes that begin so by chance
            raise ValueError("no line of text in it")
        return text
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as text ({reason}); replace it by an undamaged copy") from None


def read_table(path: Path, *, advice: str) -> Table:
    """Read a table whose first line names its columns.

    Cells are stripped. Columns are told apart by the comma, semicolon or tab that the first line has most of; a first
    line ``sep=;``, as spreadsheets write it, is obeyed.

    Args:
        path: the file.
        advice: ends every message: what to do about a table that is damaged.

    Raises:
        DataError: it cannot be read, is no table, or has a row of more values than columns.
    """
    lines = read_text(path).splitlines()
    first, delimiter = 0, ""
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:
        first, delimiter = 1, lines[0][4]
    head = lines[first] if len(lines) > first else ""
    delimiter = delimiter or max(_DELIMITERS, key=head.count)
    try:
        reader = csv.reader(lines[first:], delimiter=delimiter, strict=True)
        columns = tuple(name.strip() for name in next(reader, []))
        found = [(reader.line_num + first, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{path}: not a table of comma-separated values ({error}); {advice}") from None
    rows = []
    for number, cells in found:
        if any(cells[len(columns) :]):
            raise DataError(
                f"{path}, line {number}: got {len(cells)} values, expected the {len(columns)} columns of the first "
                f"line; {advice}"
            )
        if any(cells):
            cells = [*cells, *[""] * len(columns)]
            rows.append((number, dict(zip(columns, cells, strict=False))))
    return Table(columns, tuple(rows))


def split_numbers(line: str) -> list[str]:
    """Split a line of numbers at its semicolons, tabs, commas or blanks, whichever of them it has first in this order.

    Where semicolons stand between numbers a comma is a decimal point.

    >>> split_numbers("1;7;10,5"), split_numbers("1, 7, 10.5,"), split_numbers("1 7")
    (['1', '7', '10.5'], ['1', '7', '10.5'], ['1', '7'])
    """
    delimiter = next((one for one in (";", "\t", ",") if one in line), None)
    cells = [cell.strip() for cell in line.strip().split(delimiter)]
    if cells and not cells[-1]:
        cells.pop()
    return [cell.replace(",", ".") for cell in cells] if delimiter == ";" else cells
