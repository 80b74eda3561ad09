"""Embeddings as rows of length 1 and their cosine scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import ShapeError

Floats = npt.NDArray[np.floating[Any]]


def as_floats(where: str, array: npt.ArrayLike) -> Floats:
    """Numbers in two dimensions as float64 where they are that already, else float32.

    Raises:
        ShapeError: not numbers, or not two dimensions.
    """
    try:
        values = np.asarray(array)
    except ValueError:
        raise ShapeError(f"{where}: rows differ in length, expected numbers in rows and columns") from None
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise ShapeError(f"{where}: got {values.dtype} {values.shape}, expected numbers in rows and columns")
    return values if values.dtype == np.float64 else values.astype(np.float32, copy=False)


def unit_rows(where: str, embeddings: npt.ArrayLike) -> Floats:
    """Embeddings (N, D) scaled to rows of length 1; a row of zeros stays so.

    Raises:
        ShapeError: not numbers, not two dimensions, or not finite.
    """
    rows = as_floats(where, embeddings)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    if not np.isfinite(largest).all():
        first = int(np.flatnonzero(~np.isfinite(largest[:, 0]))[0])
        raise ShapeError(
            f"{where}: row {first} holds NaN or infinity, expected finite numbers; "
            "look at the model or the picture that made it"
        )
    rows = rows / np.where(largest > 0, largest, 1)  # first, so that squares neither overflow nor vanish
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.where(length > 0, length, 1)
    return unit


def cosine_scores(query: Floats, gallery: Floats) -> Callable[[slice], Floats]:
    """A function from a slice of query rows to their cosines with every gallery row, a new array (rows, G).

    Equal gallery rows score exactly equally. A BLAS product alone does not give that: it rounds the columns at an
    edge of its blocks differently, and ties would fall out by chance.

    Args:
        query: (Q, D) rows of length 1.
        gallery: (G, D) rows of length 1.
    """
    number: dict[bytes, int] = {}
    distinct_row = np.array([number.setdefault(row.tobytes(), len(number)) for row in gallery], np.int64)
    if len(number) == len(gallery):
        columns = gallery.T
        return lambda rows: query[rows] @ columns
    distinct = gallery[np.unique(distinct_row, return_index=True)[1]].T
    return lambda rows: (query[rows] @ distinct)[:, distinct_row]
