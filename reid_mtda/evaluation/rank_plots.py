"""Rankings as pictures: queries with their best answers, and the answers of one search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from reid_mtda.errors import ConfigError, DataError, ImageError
from reid_mtda.evaluation.cosine import cosine_scores, unit_rows
from reid_mtda.evaluation.evaluate import name_cameras
from reid_mtda.files import atomic_write
from reid_mtda.types import ImageArray, IntArray, RetrievalSplit, SearchAnswer
from reid_mtda.vision.preprocess import read_image

_CROP = (96, 192)  # width, height of a drawn crop in px
_FRAME = 5
_GAP = 10
_LINE = 17
_MARGIN = 18
_INK, _FAINT, _PAPER, _PANEL = (24, 28, 36), (104, 112, 124), (255, 255, 255), (241, 243, 246)
_RIGHT, _WRONG, _QUERY = (18, 140, 74), (206, 44, 44), (52, 84, 160)


@dataclass(frozen=True)
class _Tile:
    """One crop with its frame and captions; ``right`` None is neither right nor wrong."""

    picture: Path | ImageArray
    captions: tuple[str, ...]
    colour: tuple[int, int, int] | None = None
    right: bool | None = None


def draw_retrieval(
    path: Path,
    split: RetrievalSplit,
    query_embeddings: npt.ArrayLike,
    gallery_embeddings: npt.ArrayLike,
    *,
    num_queries: int = 8,
    num_answers: int = 10,
) -> IntArray:
    """Draw queries, a row each, with their best answers over all cameras; right framed green, wrong red.

    Queries are taken at equal steps from each camera in turn, never by how well they did. Entries of the query's own
    identity and camera are left out, as in scoring; a query without a right answer is not drawn.

    Args:
        path: the PNG to write.
        split: the test; its pictures are read.
        query_embeddings: (Q, D).
        gallery_embeddings: (G, D).
        num_queries: rows drawn, fewer where there are fewer.
        num_answers: answers in a row.

    Returns:
        int64 (rows,) which queries were drawn.

    Raises:
        DataError: no query has a right answer in another camera.
    """
    chosen = _choose_queries(split, num_queries)
    scores_of = cosine_scores(unit_rows("query", query_embeddings), unit_rows("gallery", gallery_embeddings))
    rows = []
    cameras = name_cameras(split)
    for q in chosen:
        scores = scores_of(slice(q, q + 1))[0]
        pid, camid = split.query.pids[q], split.query.camids[q]
        scores[(split.gallery.pids == pid) & (split.gallery.camids == camid)] = -np.inf
        best = np.lexsort((split.gallery.pids == pid, -scores))[
            :num_answers
        ]  # of equal ones wrong first, as in scoring
        best = best[np.isfinite(scores[best])]
        found, there = (int(np.sum((split.gallery.pids == pid)[some])) for some in (best, np.isfinite(scores)))
        captions = (cameras[camid], f"person {pid}", f"{found} of {there} found")
        tiles = [_Tile(split.query.paths[q], captions, _QUERY)]
        for g, score in zip(best, score_texts(scores[best].tolist()), strict=True):
            right = bool(split.gallery.pids[g] == pid)
            where = cameras[split.gallery.camids[g]]
            tiles.append(_Tile(split.gallery.paths[g], (where, score), _RIGHT if right else _WRONG, right))
        rows.append(tiles)
    heads = ["query", *(str(place) for place in range(1, num_answers + 1))]
    note = "Best answers over all cameras, by cosine score. Green, tick: the same person. Red, cross: another."
    _save(path, _draw_grid(rows, heads, note))
    return chosen


def draw_contact_sheet(path: Path, query: ImageArray, answer: SearchAnswer, *, columns: int = 6) -> None:
    """Draw what a search found: the query, then the hits best first with camera, score and time (UTC).

    Args:
        path: the PNG to write.
        query: uint8 (H, W, 3) RGB picture of the person asked for.
        answer: the hits; none is a sheet that says so. A thumbnail that is gone is drawn as an empty box.
        columns: tiles in a row.
    """
    tiles = [_Tile(query, ("query",), _QUERY)]
    scores = score_texts([hit.score for hit in answer.hits])
    for place, (hit, score) in enumerate(zip(answer.hits, scores, strict=True), start=1):
        when = datetime.fromtimestamp(hit.sighting.start_s, UTC)
        captions = (f"{place}. {hit.sighting.camera}", f"score {score}", f"{when:%Y-%m-%d}", f"{when:%H:%M:%S}")
        tiles.append(_Tile(hit.sighting.thumbnail, captions))
    rows = [tiles[begin : begin + columns] for begin in range(0, len(tiles), columns)]
    note = (
        f"{len(answer.hits)} best of {answer.gallery_size} sightings, times in UTC" if answer.hits else "nobody found"
    )
    _save(path, _draw_grid(rows, [], f"{note} · model {answer.model_id[:12]}"))


def _choose_queries(split: RetrievalSplit, count: int) -> IntArray:
    """Queries with a right answer, at equal steps from each camera in turn, int64 (at most ``count``,)."""
    cameras_of: dict[int, set[int]] = {}
    for pid, camid in zip(split.gallery.pids.tolist(), split.gallery.camids.tolist(), strict=True):
        cameras_of.setdefault(pid, set()).add(camid)
    of_camera: dict[int, list[int]] = {}
    for q, (pid, camid) in enumerate(zip(split.query.pids.tolist(), split.query.camids.tolist(), strict=True)):
        if cameras_of.get(pid, set()) - {camid}:
            of_camera.setdefault(camid, []).append(q)
    if not of_camera:
        raise DataError("query and gallery: no query has a right answer in another camera; nothing can be drawn")
    groups = [of_camera[camid] for camid in sorted(of_camera)]
    turns = -(-count // len(groups))
    spots = [
        (group, (turn + (number + 0.5) / len(groups)) / min(turns, len(group)))
        for turn in range(turns)  # each camera starts elsewhere, or the same person would head every row
        for number, group in enumerate(groups)
        if turn < len(group)
    ]
    return np.array([group[int(share * len(group))] for group, share in spots][:count], np.int64)


def check_sheet(path: Path) -> None:
    """Refuse a contact sheet's name that is not a PNG's, before any work.

    Raises:
        ConfigError: another suffix.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: got the suffix {path.suffix!r}, expected .png: a sheet is a picture; rename it")


def score_texts(scores: Sequence[float]) -> list[str]:
    """Scores of one row as text: two decimals, three where two scores that differ would read the same.

    >>> score_texts([0.91, 0.874, 0.871]), score_texts([0.5, 0.5])
    (['0.910', '0.874', '0.871'], ['0.50', '0.50'])
    """
    short = [f"{score:.2f}" for score in scores]
    return short if len(set(short)) == len(set(scores)) else [f"{score:.3f}" for score in scores]


def _draw_grid(rows: Sequence[Sequence[_Tile]], heads: Sequence[str], note: str) -> Image.Image:
    """Tiles in rows under column ``heads``, with ``note`` beneath."""
    columns = max(len(heads), *(len(row) for row in rows))
    lines = max(len(tile.captions) for row in rows for tile in row)
    cell = (_CROP[0] + 2 * _FRAME, _CROP[1] + 2 * _FRAME + lines * _LINE + 4)
    top = _MARGIN + (_LINE + 6 if heads else 0)
    bold, plain = _font(14), _font(13)
    width = 2 * _MARGIN + columns * cell[0] + (columns - 1) * _GAP
    width = max(width, 2 * _MARGIN + int(plain.getlength(note)))
    sheet = Image.new("RGB", (width, top + len(rows) * (cell[1] + _GAP) + _LINE + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        x = _MARGIN + column * (cell[0] + _GAP) + cell[0] // 2
        pen.text((x, _MARGIN), head, _INK if column else _QUERY, bold, anchor="ma")
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            _draw_tile(sheet, pen, (_MARGIN + column * (cell[0] + _GAP), top + row * (cell[1] + _GAP)), tile, plain)
    pen.text((_MARGIN, sheet.height - _MARGIN // 2), note, _FAINT, plain, anchor="ls")
    return sheet


def _draw_tile(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], tile: _Tile, font: ImageFont.FreeTypeFont
) -> None:
    x, y = corner
    outer = (x, y, x + _CROP[0] + 2 * _FRAME - 1, y + _CROP[1] + 2 * _FRAME - 1)
    middle = x + _FRAME + _CROP[0] // 2, y + _FRAME + _CROP[1] // 2
    pen.rectangle(outer, _PANEL, tile.colour or _FAINT, _FRAME if tile.colour else 1)
    crop = _fitted(tile.picture)
    if crop is None:
        pen.text(middle, "picture gone", _FAINT, font, anchor="mm")
    else:
        sheet.paste(crop, (middle[0] - crop.width // 2, middle[1] - crop.height // 2))
    if tile.right is not None:
        _draw_mark(pen, (outer[2] - 13, y + 13), tile.right)
    for line, caption in enumerate(tile.captions):
        spot = (middle[0], outer[3] + 4 + line * _LINE)
        pen.text(spot, _shorten(caption, font), _FAINT if line else _INK, font, anchor="ma")


def _draw_mark(pen: ImageDraw.ImageDraw, centre: tuple[int, int], right: bool) -> None:
    """A tick or a cross on a disc, for eyes that do not tell green from red."""
    x, y = centre
    pen.ellipse((x - 11, y - 11, x + 11, y + 11), _RIGHT if right else _WRONG)
    if right:
        pen.line([(x - 5, y), (x - 1, y + 5), (x + 6, y - 5)], _PAPER, 3, joint="curve")
    else:
        pen.line([(x - 5, y - 5), (x + 5, y + 5)], _PAPER, 3)
        pen.line([(x - 5, y + 5), (x + 5, y - 5)], _PAPER, 3)


def _fitted(picture: Path | ImageArray) -> Image.Image | None:
    """The picture scaled to fit a crop's box, or None where its file is gone or damaged."""
    try:
        image = Image.fromarray(read_image(picture) if isinstance(picture, Path) else picture)
    except ImageError:
        return None
    scale = min(_CROP[0] / image.width, _CROP[1] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _shorten(text: str, font: ImageFont.FreeTypeFont) -> str:
    while len(text) > 2 and font.getlength(text) > _CROP[0] + 2 * _FRAME + _GAP - 2:
        text = text[:-2] + "…"
    return text


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ImageError("pillow: was built without FreeType, expected its own font; reinstall pillow from its wheel")
    return font


def _save(path: Path, sheet: Image.Image) -> None:
    with atomic_write(Path(path)) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
