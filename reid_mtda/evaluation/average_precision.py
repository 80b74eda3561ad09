"""CMC, mAP and mINP of a ranked gallery, by the rules of Market-1501.

For each query the gallery is ranked by score, larger first. Ranks are *pessimistic*: of equal scores wrong answers come
first, so that no score depends on the order of files, and an embedder that maps everybody to one point is worth
nothing. Gallery entries with the query's identity *and* camera are dropped before ranks are counted. A query with no
right answer left is left out of every mean and counted. AP is the mean of the precision at each right answer.

No full argsort: the metrics need only the ranks of the few right answers, and the rank of one is the number of wrong
answers that score as high, plus the right ones before it. Both are read off sorted *values*, sorted per gallery
camera, so that one pass gives the ranks within each camera (the camera-pair table) and, added up, those within the
whole gallery.

Reference: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015; mINP: Ye et al., Deep Learning for
Person Re-identification: A Survey and Outlook, TPAMI 2022, equation 2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import DataError, ShapeError
from reid_mtda.evaluation.cosine import Floats, as_floats, cosine_scores, unit_rows
from reid_mtda.evaluation.ground_truth import GroundTruth, Ids, check_ground_truth
from reid_mtda.k_reciprocal import rerank_dist
from reid_mtda.scores import CameraScores, PersonScores, RetrievalScores
from reid_mtda.types import DoubleArray, IntArray

log = logging.getLogger(__name__)

TIES_SAID_FROM = 0.01
"""Share of right answers tied with wrong ones from which a warning says so."""
_CHUNK_BYTES = 32 * 2**20

Side = tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]
"""Embeddings (N, D), identities (N,) and cameras (N,) of query or gallery."""


def rank_scores(
    query: Side,
    gallery: Side,
    *,
    max_rank: int = 50,
    per_camera: bool = True,
    rerank: bool = False,
) -> RetrievalScores:
    """Rank the gallery by cosine for each query and score the ranking; rows are normalised here.

    Args:
        query: embeddings (Q, D) float, identities (Q,) and cameras (Q,) integers. float64 is kept, everything else
            becomes float32; a row of zeros scores 0.
        gallery: the same of G pictures. Identities that no query has are distractors and stay. Leave out Market-1501's
            junk (-1) when loading: the number has no special meaning here.
        max_rank: length R of the CMC curve; a gallery of fewer rows makes it shorter.
        per_camera: fill the tables per query camera and per camera pair; the second stays empty, which is logged,
            beyond 1024 gallery cameras.
        rerank: rank by k-reciprocal distances (`reid_mtda.k_reciprocal`) instead of cosine.

    Raises:
        ShapeError: dimensions or lengths that do not fit, ids that are not integers, embeddings that are not finite.
        DataError: a side is empty or has nothing but zeros, or no query has a right answer in another camera.

    >>> scores = rank_scores(([[1.0, 0.0]], [7], [0]), ([[0.0, 1.0], [1.0, 0.1]], [7, 8], [1, 1]))
    >>> scores.mAP, scores.cmc.tolist()
    (0.5, [0.0, 1.0])
    """
    query_rows = unit_rows("query embeddings", query[0])
    gallery_rows = unit_rows("gallery embeddings", gallery[0])
    for side, rows in (("query", query_rows), ("gallery", gallery_rows)):
        if len(rows) and not rows.any():
            raise DataError(
                f"{side} embeddings: all rows are zero, expected directions; look at the model that made them"
            )
    if query_rows.shape[1] != gallery_rows.shape[1]:
        raise ShapeError(
            f"embeddings: query rows have {query_rows.shape[1]} numbers, gallery rows {gallery_rows.shape[1]}, "
            "expected the same; embed both sides with one model"
        )
    truth = check_ground_truth((len(query_rows), len(gallery_rows)), query[1:], gallery[1:], per_camera=per_camera)
    if rerank:
        dist = rerank_dist(query_rows, gallery_rows)
        return _rank(lambda rows: -dist[rows][:, truth.order], truth, max_rank)
    return _rank(cosine_scores(query_rows, gallery_rows[truth.order]), truth, max_rank)


def rank_matrix(
    matrix: npt.ArrayLike,
    query: Ids,
    gallery: Ids,
    *,
    is_dist: bool,
    max_rank: int = 50,
    per_camera: bool = True,
) -> RetrievalScores:
    """Score a ranking given as a matrix.

    Args:
        matrix: (Q, G) numbers.
        query: identities (Q,) and cameras (Q,), integers.
        gallery: those (G,) of the gallery.
        is_dist: they are distances, smaller is better; False: scores, larger is better.
        max_rank: as for `rank_scores`.
        per_camera: as for `rank_scores`.

    Raises:
        ShapeError: lengths that do not fit, or values that are not finite.
        DataError: a side is empty, or no query has a right answer in another camera.

    >>> rank_matrix([[0.2, 0.1]], ([7], [0]), ([7, 8], [1, 1]), is_dist=True).mAP
    0.5
    """
    values = as_floats("matrix", matrix)
    truth = check_ground_truth(values.shape, query, gallery, per_camera=per_camera)

    def scores(rows: slice) -> Floats:
        chunk = values[rows][:, truth.order]
        if not np.isfinite(chunk).all():
            raise ShapeError("matrix: holds values that are not finite (NaN or infinite); expected numbers alone")
        return np.negative(chunk, out=chunk) if is_dist else chunk

    return _rank(scores, truth, max_rank)


def _rank(score_rows: Callable[[slice], Floats], truth: GroundTruth, max_rank: int) -> RetrievalScores:
    """Score the ranking in chunks; ``score_rows(slice)`` gives new scores (rows, G), columns as ``truth.order``."""
    if max_rank < 1:
        raise ShapeError(f"max_rank: got {max_rank}, expected at least 1")
    num_queries, width, blocks = len(truth.query_camids), len(truth.order), len(truth.starts) - 1
    step = max(1, _CHUNK_BYTES // (8 * width))
    overall = np.empty((3, num_queries))
    cameras, camera = np.unique(truth.query_camids, return_inverse=True)
    pairs = np.zeros((3, len(cameras), blocks))
    tied = right = 0
    for begin in range(0, num_queries, step):
        rows = slice(begin, min(begin + step, num_queries))
        count = rows.stop - begin
        row, column = _same_identity(truth, rows)
        junk = truth.gallery_camids[column] == truth.query_camids[rows][row]
        scores = score_rows(rows)
        scores[row[junk], column[junk]] = -np.inf
        row, column = row[~junk], column[~junk]
        value, block = scores[row, column], truth.block[column]
        not_below, not_below_in_block, same = _count_not_below(scores, truth, row, block, value)
        overall[:, rows], same_right = _per_list(row, value, not_below, count)
        right, tied = right + len(row), tied + int((same > same_right).sum())
        if truth.with_pairs:
            within, _ = _per_list(row * blocks + block, value, not_below_in_block, count * blocks)
            _add_pairs(pairs, within.reshape(3, count, blocks), camera[rows])
    if tied >= TIES_SAID_FROM * right:
        log.warning(
            "%.1f %% of the right answers score exactly as a wrong one does, and count as ranked below it; look at "
            "the embeddings: a model that maps different people to one point cannot tell them apart",
            100 * tied / right,
        )
    return _summary(truth, overall, pairs, min(max_rank, width), tied / right)


def _add_pairs(pairs: DoubleArray, within: DoubleArray, camera: IntArray) -> None:
    """Add to the sums (3, cameras, blocks) of AP, rank-1 and queries those of a chunk's lists (3, rows, blocks)."""
    valid = ~np.isnan(within[0])
    np.add.at(pairs[0], camera, np.where(valid, within[0], 0))
    np.add.at(pairs[1], camera, within[2] == 0)
    np.add.at(pairs[2], camera, valid)


def _same_identity(truth: GroundTruth, rows: slice) -> tuple[IntArray, IntArray]:
    """Every (row within the chunk, column) whose identities are equal, as two flat arrays (P,)."""
    first, last = truth.first[rows], truth.last[rows]
    count = last - first
    row = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, truth.by_pid[first[row] + nth]


def _count_not_below(
    scores: Floats, truth: GroundTruth, row: IntArray, block: IntArray, value: Floats
) -> tuple[IntArray, IntArray, IntArray]:
    """Count gallery entries beside right answers (P,).

    Args:
        scores: (rows, G).
        truth: tells the blocks of the columns.
        row: (P,) row of each right answer.
        block: (P,) block of its column.
        value: (P,) its score.

    Returns:
        How many entries of its row score as it or better, itself among them; how many of those are in its block; and
        how many entries of its row score exactly as it.
    """
    whole, own, same = np.zeros_like(row), np.zeros_like(row), np.zeros_like(row)
    for number, (start, stop) in enumerate(zip(truth.starts[:-1], truth.starts[1:], strict=True)):
        ordered = np.sort(scores[:, start:stop], axis=1)
        below = _count_below(ordered, row, value, or_equal=False)
        not_below = (stop - start) - below
        whole += not_below
        mine = block == number
        own[mine] = not_below[mine]
        same += _count_below(ordered, row, value, or_equal=True) - below
    return whole, own, same


def _count_below(ordered: Floats, row: IntArray, value: Floats, *, or_equal: bool) -> IntArray:
    """How many of ``ordered[row[i]]`` (rising) are below ``value[i]``: np.searchsorted for many rows at once."""
    width = ordered.shape[1]
    low, high = np.zeros_like(row), np.full_like(row, width)
    for _ in range(width.bit_length()):
        middle = (low + high) // 2
        there = ordered[row, np.minimum(middle, width - 1)]
        goes_up = (low < high) & ((there <= value) if or_equal else (there < value))
        low, high = np.where(goes_up, middle + 1, low), np.where(goes_up, high, middle)
    return low


def _per_list(list_id: IntArray, value: Floats, not_below: IntArray, num_lists: int) -> tuple[DoubleArray, IntArray]:
    """AP, INP and place of the first right answer (3, num_lists) of ranked lists; NaN for one with none.

    Args:
        list_id: (P,) the list that each right answer belongs to.
        value: (P,) its score.
        not_below: (P,) how many of the list score as it or better, itself among them.
        num_lists: how many lists there are.

    Returns:
        The three numbers of each list, and how many right answers of its list score exactly as each (P,).
    """
    order = np.lexsort((-value, list_id))
    lists, values = list_id[order], value[order]
    count = np.bincount(lists, minlength=num_lists)
    start = np.cumsum(count) - count
    nth = np.arange(len(order)) - start[lists]
    begins = np.ones(len(order), bool)
    begins[1:] = (lists[1:] != lists[:-1]) | (values[1:] != values[:-1])
    group = np.cumsum(begins) - 1
    size = np.bincount(group)[group] if len(group) else group
    right_not_below = nth[begins][group] + size  # right answers that score as it or better
    place = nth + not_below[order] - right_not_below
    precision = (nth + 1) / (place + 1)
    filled = count > 0
    result = np.full((3, num_lists), np.nan)
    result[0, filled] = np.bincount(lists, precision, num_lists)[filled] / count[filled]
    result[1, filled] = count[filled] / (place[(start + count - 1)[filled]] + 1)
    result[2, filled] = place[start[filled]]
    same = np.empty_like(size)
    same[order] = size
    return result, same


def _summary(
    truth: GroundTruth, overall: DoubleArray, pairs: DoubleArray, max_rank: int, tied: float
) -> RetrievalScores:
    ap, inp, first = overall[:, ~np.isnan(overall[0])]
    hits = np.bincount(np.minimum(first.astype(np.int64), max_rank), minlength=max_rank + 1)[:max_rank]
    per_camera: list[CameraScores] = []
    per_pair: list[CameraScores] = []
    gallery_cameras = truth.gallery_camids[truth.starts[:-1]]
    for number, camid in enumerate(np.unique(truth.query_camids) if truth.with_tables else ()):
        mine = overall[:, (truth.query_camids == camid) & ~np.isnan(overall[0])]
        sums = (mine[0].sum(), (mine[2] == 0).sum(), mine.shape[1])
        per_camera += _table_row(int(camid), None, *sums)
        for block, other in enumerate(gallery_cameras if truth.with_pairs else ()):
            per_pair += _table_row(int(camid), int(other), *pairs[:, number, block])
    return RetrievalScores(
        mAP=float(ap.mean()),
        mINP=float(inp.mean()),
        cmc=np.cumsum(hits).astype(np.float32) / np.float32(len(ap)),
        num_queries=len(truth.query_camids),
        num_valid_queries=len(ap),
        per_camera=tuple(per_camera),
        per_camera_pair=tuple(per_pair),
        per_person=_by_person(truth.query_pids, overall),
        tied=tied,
    )


def _by_person(query_pids: IntArray, lists: DoubleArray) -> PersonScores:
    """Sums over each person's queries of lists (3, Q) that have a right answer."""
    valid = ~np.isnan(lists[0])
    ap, _, first = lists[:, valid]
    pids, person = np.unique(query_pids[valid], return_inverse=True)
    count, ap_sum, hits = (np.bincount(person, weights) for weights in (None, ap, first == 0))
    return PersonScores(pids, count.astype(np.int64), ap_sum.astype(np.float64), hits.astype(np.float64))


def _table_row(query_camid: int, gallery_camid: int | None, ap: float, hits: float, count: float) -> list[CameraScores]:
    """One row of sums over ``count`` queries, or none where no query of this camera has a right answer there."""
    if not count:
        return []
    return [CameraScores(query_camid, gallery_camid, float(ap / count), float(hits / count), int(count))]
