"""NumPy archives of unknown origin, read without running anything that is in them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import DataError

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(
    path: Path, names: tuple[str, ...] | None = None, *, expected: str, optional: tuple[str, ...] = ()
) -> Arrays:
    """The arrays of an ``.npz`` file by name: those called ``names``, or all.

    Args:
        path: the file.
        names: what to read; without them everything.
        expected: ends every message: what the file should hold and where it comes from.
        optional: read beside ``names`` where it is there.

    Raises:
        DataError: no such file, no archive, a damaged one, one that holds Python objects, or one without ``names``.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file, {expected}")
    try:
        with path.open("rb") as file:
            begin = file.read(6)
        if begin == b"\x93NUMPY":
            raise DataError(f"{path}: got a single array, {expected}")
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path}: got no .npz file, {expected}")
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names or () if name not in archive]
            if missing:
                there = ", ".join(archive.files) or "none"
                raise DataError(f"{path}: got the arrays {there}, no {', '.join(missing)}; {expected}")
            wanted = archive.files if names is None else (*names, *(name for name in optional if name in archive))
            return {name: _array(path, archive, name, expected) for name in wanted}
    except DataError:
        raise
    except Exception as error:  # foreign bytes make the zip and array readers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged ({reason}), {expected}") from None


def _array(path: Path, archive: np.lib.npyio.NpzFile, name: str, expected: str) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        # NumPy's own advice is to run what the file holds.
        raise DataError(f"{path}: the array {name} holds Python objects, not numbers; {expected}") from None
    return found
