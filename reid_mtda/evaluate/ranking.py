"""CMC, mAP and mINP of a ranked gallery, by the rules of Market-1501.

For each query the gallery is ranked by score, larger first, equal scores in input order. Gallery entries with the
query's identity *and* camera are dropped before ranks are counted. A query with no right answer left is left out of
every mean and counted. AP is the mean of the precision at each right answer.

No full argsort: the metrics need only the ranks of the few right answers, and the rank of one is the number of gallery
scores above its own, read off sorted *values*. Values are sorted per gallery camera, so that one pass gives the ranks
within each camera (the camera-pair table) and, added up, those within the whole gallery.

Reference: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015; mINP: Ye et al., Deep Learning for
Person Re-identification: A Survey and Outlook, TPAMI 2022, equation 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import DataError, ShapeError
from reid_mtda.evaluate.cosine import Floats, as_floats, cosine_scores, unit_rows
from reid_mtda.evaluate.rerank import rerank_dist
from reid_mtda.types import CameraScores, DoubleArray, IntArray, PersonScores, RetrievalScores

MAX_TABLE_CAMERAS = 64
_CHUNK_BYTES = 32 * 2**20


def rank_scores(
    query_embeddings: npt.ArrayLike,
    query_pids: npt.ArrayLike,
    query_camids: npt.ArrayLike,
    gallery_embeddings: npt.ArrayLike,
    gallery_pids: npt.ArrayLike,
    gallery_camids: npt.ArrayLike,
    *,
    max_rank: int = 50,
    per_camera: bool = True,
    rerank: bool = False,
) -> RetrievalScores:
    """Rank the gallery by cosine for each query and score the ranking; rows are normalised here.

    Args:
        query_embeddings: (Q, D) float; float64 is kept, everything else becomes float32. A row of zeros scores 0.
        query_pids: (Q,) integers.
        query_camids: (Q,) integers.
        gallery_embeddings: (G, D) float.
        gallery_pids: (G,) integers; identities that no query has are distractors and stay. Leave out Market-1501's
            junk (-1) when loading: the number has no special meaning here.
        gallery_camids: (G,) integers.
        max_rank: length R of the CMC curve; a gallery of fewer rows makes it shorter.
        per_camera: fill the tables per query camera and per camera pair (none beyond 64 gallery cameras).
        rerank: rank by k-reciprocal distances (`reid_mtda.evaluate.rerank`) instead of cosine.

    Raises:
        ShapeError: dimensions or lengths that do not fit, ids that are not integers, embeddings that are not finite.
        DataError: a side is empty or has nothing but zeros, or no query has a right answer in another camera.

    >>> scores = rank_scores([[1.0, 0.0]], [7], [0], [[0.0, 1.0], [1.0, 0.1]], [7, 8], [1, 1])
    >>> scores.mAP, scores.cmc.tolist()
    (0.5, [0.0, 1.0])
    """
    query = unit_rows("query embeddings", query_embeddings)
    gallery = unit_rows("gallery embeddings", gallery_embeddings)
    for side, rows in (("query", query), ("gallery", gallery)):
        if len(rows) and not rows.any():
            raise DataError(
                f"{side} embeddings: all rows are zero, expected directions; look at the model that made them"
            )
    if query.shape[1] != gallery.shape[1]:
        raise ShapeError(
            f"embeddings: query rows have {query.shape[1]} numbers, gallery rows {gallery.shape[1]}, expected the "
            "same; embed both sides with one model"
        )
    truth = _check_truth((len(query), len(gallery)), query_pids, query_camids, gallery_pids, gallery_camids, per_camera)
    if rerank:
        dist = rerank_dist(query, gallery)
        return _rank(lambda rows: -dist[rows][:, truth.order], truth, max_rank)
    return _rank(cosine_scores(query, gallery[truth.order]), truth, max_rank)


def rank_matrix(
    matrix: npt.ArrayLike,
    query_pids: npt.ArrayLike,
    query_camids: npt.ArrayLike,
    gallery_pids: npt.ArrayLike,
    gallery_camids: npt.ArrayLike,
    *,
    is_dist: bool,
    max_rank: int = 50,
    per_camera: bool = True,
) -> RetrievalScores:
    """Score a ranking given as a matrix (Q, G): of scores, larger is better, or with ``is_dist`` of distances.

    Other arguments and refusals as for `rank_scores`.

    >>> rank_matrix([[0.2, 0.1]], [7], [0], [7, 8], [1, 1], is_dist=True).mAP
    0.5
    """
    values = as_floats("matrix", matrix)
    truth = _check_truth(values.shape, query_pids, query_camids, gallery_pids, gallery_camids, per_camera)

    def scores(rows: slice) -> Floats:
        chunk = values[rows][:, truth.order]
        if not np.isfinite(chunk).all():
            raise ShapeError("matrix: holds values that are not finite (NaN or infinite); expected numbers alone")
        return np.negative(chunk, out=chunk) if is_dist else chunk

    return _rank(scores, truth, max_rank)


@dataclass(frozen=True, eq=False)
class _Truth:
    """Who is where, with the gallery in the order its columns are scored in: by camera if tables are wanted.

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


def _check_truth(
    shape: tuple[int, ...],
    query_pids: npt.ArrayLike,
    query_camids: npt.ArrayLike,
    gallery_pids: npt.ArrayLike,
    gallery_camids: npt.ArrayLike,
    per_camera: bool,
) -> _Truth:
    qp, qc = (_ids(n, a, shape[0]) for n, a in (("query_pids", query_pids), ("query_camids", query_camids)))
    gp, gc = (_ids(n, a, shape[1]) for n, a in (("gallery_pids", gallery_pids), ("gallery_camids", gallery_camids)))
    for side, count in zip(("query", "gallery"), shape, strict=True):
        if count == 0:
            raise DataError(f"{side}: got no pictures, expected at least one; choose a split that has both sides")
    cameras, block = np.unique(gc, return_inverse=True)
    with_tables = per_camera and len(cameras) <= MAX_TABLE_CAMERAS
    if not with_tables:
        block = np.zeros_like(block)
    order = np.argsort(block, kind="stable")
    gp, gc, block = gp[order], gc[order], block[order]
    by_pid = np.argsort(gp, kind="stable")
    first, last = (np.searchsorted(gp[by_pid], qp, side=side) for side in ("left", "right"))
    _check_answers(qp, qc, gp, gc, by_pid, first, last)
    starts = np.searchsorted(block, np.arange(block[-1] + 2))
    return _Truth(qp, qc, gc, order, block, starts, by_pid, first, last, with_tables)


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


def _rank(score_rows: Callable[[slice], Floats], truth: _Truth, max_rank: int) -> RetrievalScores:
    """Score the ranking in chunks; ``score_rows(slice)`` gives new scores (rows, G), columns as ``truth.order``."""
    if max_rank < 1:
        raise ShapeError(f"max_rank: got {max_rank}, expected at least 1")
    num_queries, width, blocks = len(truth.query_camids), len(truth.order), len(truth.starts) - 1
    step = max(1, _CHUNK_BYTES // (8 * width))
    overall = np.empty((3, num_queries))
    within = np.empty((3, num_queries, blocks))
    for begin in range(0, num_queries, step):
        rows = slice(begin, min(begin + step, num_queries))
        count = rows.stop - begin
        row, column = _same_identity(truth, rows)
        junk = truth.gallery_camids[column] == truth.query_camids[rows][row]
        scores = score_rows(rows)
        scores[row[junk], column[junk]] = -np.inf
        row, column = row[~junk], column[~junk]
        place, block_place = _places(scores, truth, row, column)
        overall[:, rows] = _per_list(row, place, count)
        within[:, rows] = _per_list(row * blocks + truth.block[column], block_place, count * blocks).reshape(
            3, count, blocks
        )
    return _summary(truth, overall, within, min(max_rank, width))


def _same_identity(truth: _Truth, rows: slice) -> tuple[IntArray, IntArray]:
    """Every (row within the chunk, column) whose identities are equal, as two flat arrays (P,)."""
    first, last = truth.first[rows], truth.last[rows]
    count = last - first
    row = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, truth.by_pid[first[row] + nth]


def _places(scores: Floats, truth: _Truth, row: IntArray, column: IntArray) -> tuple[IntArray, IntArray]:
    """Places (P,) from 0 of the right answers (row, column), in the whole gallery and in their own block."""
    value = scores[row, column]
    place, block_place = np.zeros_like(row), np.zeros_like(row)
    tied = np.zeros(len(row), bool)
    for block, (start, stop) in enumerate(zip(truth.starts[:-1], truth.starts[1:], strict=True)):
        ordered = np.sort(scores[:, start:stop], axis=1)
        not_above = _count_not_above(ordered, row, value)
        own = truth.block[column] == block
        place += (stop - start) - not_above
        block_place[own] = (stop - start) - not_above[own]
        other = not_above - 1 - own  # an equal score that is not this answer itself would stand here
        tied |= (other >= 0) & (ordered[row, np.maximum(other, 0)] == value)
    for r in np.unique(row[tied]):
        here = row == r
        place[here], block_place[here] = (order[column[here]] for order in _exact_places(scores[r], truth))
    return place, block_place


def _count_not_above(ordered: Floats, row: IntArray, value: Floats) -> IntArray:
    """How many of ``ordered[row[i]]`` (rising) are <= ``value[i]``: np.searchsorted for many rows at once."""
    width = ordered.shape[1]
    low, high = np.zeros_like(row), np.full_like(row, width)
    for _ in range(width.bit_length()):
        middle = (low + high) // 2
        goes_up = (low < high) & (ordered[row, np.minimum(middle, width - 1)] <= value)
        low, high = np.where(goes_up, middle + 1, low), np.where(goes_up, high, middle)
    return low


def _exact_places(scores: Floats, truth: _Truth) -> tuple[IntArray, IntArray]:
    """Places (G,) of every column by a full sort in which equal scores keep input order; overall and in its block."""
    places, block_places = np.empty_like(truth.order), np.empty_like(truth.order)
    in_order = np.arange(len(scores))
    places[np.lexsort((truth.order, -scores))] = in_order
    block_places[np.lexsort((truth.order, -scores, truth.block))] = in_order - truth.starts[truth.block]
    return places, block_places


def _per_list(list_id: IntArray, place: IntArray, num_lists: int) -> DoubleArray:
    """AP, INP and place of the first right answer (3, num_lists) of ranked lists; NaN for one with none.

    Args:
        list_id: (P,) the list that each right answer belongs to.
        place: (P,) its place in it from 0.
        num_lists: how many lists there are.
    """
    order = np.lexsort((place, list_id))
    list_id, place = list_id[order], place[order]
    count = np.bincount(list_id, minlength=num_lists)
    start = np.cumsum(count) - count
    precision = (np.arange(len(place)) - start[list_id] + 1) / (place + 1)
    filled = count > 0
    result = np.full((3, num_lists), np.nan)
    result[0, filled] = np.bincount(list_id, precision, num_lists)[filled] / count[filled]
    result[1, filled] = count[filled] / (place[(start + count - 1)[filled]] + 1)
    result[2, filled] = place[start[filled]]
    return result


def _summary(truth: _Truth, overall: DoubleArray, within: DoubleArray, max_rank: int) -> RetrievalScores:
    ap, inp, first = overall[:, ~np.isnan(overall[0])]
    hits = np.bincount(np.minimum(first.astype(np.int64), max_rank), minlength=max_rank + 1)[:max_rank]
    per_camera: list[CameraScores] = []
    per_pair: list[CameraScores] = []
    if truth.with_tables:
        gallery_cameras = truth.gallery_camids[truth.starts[:-1]]
        for camid in np.unique(truth.query_camids):
            mine = truth.query_camids == camid
            per_camera += _table_row(int(camid), None, overall[:, mine])
            for block, other in enumerate(gallery_cameras):
                per_pair += _table_row(int(camid), int(other), within[:, mine, block])
    return RetrievalScores(
        mAP=float(ap.mean()),
        mINP=float(inp.mean()),
        cmc=np.cumsum(hits).astype(np.float32) / np.float32(len(ap)),
        num_queries=len(truth.query_camids),
        num_valid_queries=len(ap),
        per_camera=tuple(per_camera),
        per_camera_pair=tuple(per_pair),
        per_person=_by_person(truth.query_pids, overall),
    )


def _by_person(query_pids: IntArray, lists: DoubleArray) -> PersonScores:
    """Sums over each person's queries of lists (3, Q) that have a right answer."""
    valid = ~np.isnan(lists[0])
    ap, _, first = lists[:, valid]
    pids, person = np.unique(query_pids[valid], return_inverse=True)
    count, ap_sum, hits = (np.bincount(person, weights) for weights in (None, ap, first == 0))
    return PersonScores(pids, count.astype(np.int64), ap_sum.astype(np.float64), hits.astype(np.float64))


def _table_row(query_camid: int, gallery_camid: int | None, lists: DoubleArray) -> list[CameraScores]:
    """One row, or none where no query of this camera has a right answer there."""
    ap, _, first = lists[:, ~np.isnan(lists[0])]
    if not len(ap):
        return []
    return [CameraScores(query_camid, gallery_camid, float(ap.mean()), float((first == 0).mean()), len(ap))]
