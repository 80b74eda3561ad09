"""Who is on which picture of query and gallery, checked: which answers are right, and which do not count."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import DataError, ShapeError
from reid_mtda.types import IntArray

log = logging.getLogger(__name__)

MAX_TABLE_CAMERAS = 1024
"""Gallery cameras up to which the camera-pair table is made; its cost grows with their number."""

Ids = tuple[npt.ArrayLike, npt.ArrayLike]
"""Identities and cameras of the pictures of one side, integers (N,) each."""


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Who is where, with the gallery in the order its columns are scored in: by camera if pairs are wanted.

    ``order`` (G,) gallery index of each column; ``block`` (G,) block number of each column; ``starts`` (C + 1,)
    first column of each block; ``by_pid`` (G,) columns grouped by identity, those of query q being
    ``by_pid[first[q]:last[q]]``.
    """

    query_pids: IntArray
    query_camids: IntArray
    gallery_camids: IntArray
    order: IntArray
    block: IntArray
    starts: IntArray
    by_pid: IntArray
    first: IntArray
    last: IntArray
    with_tables: bool
    with_pairs: bool


def check_ground_truth(shape: tuple[int, ...], query: Ids, gallery: Ids, *, per_camera: bool) -> GroundTruth:
    """Check who is on which picture, and order the gallery for the tables that are wanted.

    Args:
        shape: (Q, G), how many pictures each side has.
        query: identities and cameras of the queries.
        gallery: those of the gallery.
        per_camera: tables by camera are wanted.

    Raises:
        ShapeError: lengths that do not fit, or numbers that are not integers.
        DataError: a side is empty, or no query has a right answer in another camera.
    """
    qp, qc = (_ids(n, a, shape[0]) for n, a in zip(("query_pids", "query_camids"), query, strict=True))
    gp, gc = (_ids(n, a, shape[1]) for n, a in zip(("gallery_pids", "gallery_camids"), gallery, strict=True))
    for side, count in zip(("query", "gallery"), shape, strict=True):
        if count == 0:
            raise DataError(f"{side}: got no pictures, expected at least one; choose a split that has both sides")
    cameras, block = np.unique(gc, return_inverse=True)
    with_pairs = per_camera and len(cameras) <= MAX_TABLE_CAMERAS
    if not with_pairs:
        block = np.zeros_like(block)
    if per_camera and not with_pairs:
        log.warning(
            "camera pairs are left out: %d gallery cameras, expected at most %d; the table per query camera is made",
            len(cameras),
            MAX_TABLE_CAMERAS,
        )
    order = np.argsort(block, kind="stable")
    gp, gc, block = gp[order], gc[order], block[order]
    by_pid = np.argsort(gp, kind="stable")
    first, last = (np.searchsorted(gp[by_pid], qp, side=side) for side in ("left", "right"))
    _check_answers(qp, qc, gp, gc, by_pid, first, last)
    starts = np.searchsorted(block, np.arange(block[-1] + 2))
    return GroundTruth(qp, qc, gc, order, block, starts, by_pid, first, last, per_camera, with_pairs)


def _ids(name: str, array: npt.ArrayLike, length: int) -> IntArray:
    ids = np.asarray(array)
    if ids.shape != (length,) or (ids.dtype.kind not in "iu" and length):
        raise ShapeError(f"{name}: got {ids.dtype} {ids.shape}, expected integers ({length},), one for each row")
    if length and int(ids.max()) > np.iinfo(np.int64).max:
        raise ShapeError(f"{name}: got {ids.max()}, expected numbers below 2**63; renumber them")
    return ids.astype(np.int64)


def _check_answers(
    qp: IntArray, qc: IntArray, gp: IntArray, gc: IntArray, by_pid: IntArray, first: IntArray, last: IntArray
) -> None:
    """Refuse when not one query has a right answer, and say which of the two causes it is."""
    shared = last > first
    if not shared.any():
        raise DataError(
            f"query and gallery share no identity: query has {_some(qp)}, gallery has {_some(gp)}; "
            "take both sides from the same data set"
        )
    for q in np.flatnonzero(shared):
        if np.any(gc[by_pid[first[q] : last[q]]] != qc[q]):
            return
    cameras = sorted({(int(p), int(c)) for p, c in zip(qp[shared], qc[shared], strict=True)})
    seen = ", ".join(f"{p} in camera {c}" for p, c in cameras[:5]) + (", ..." if len(cameras) > 5 else "")
    raise DataError(
        f"no identity is seen in two cameras: query and gallery hold identity {seen} alone, and answers from the "
        f"query's own camera do not count; query cameras are {_some(qc)}, gallery cameras {_some(gc)}; "
        "add pictures of the same people from another camera"
    )


def _some(ids: Iterable[int]) -> str:
    unique = sorted({int(i) for i in ids})
    return ", ".join(map(str, unique[:5])) + (f", ... ({len(unique)} in all)" if len(unique) > 5 else "")
