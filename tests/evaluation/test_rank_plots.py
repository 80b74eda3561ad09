"""Pictures are checked by their pixels: frames green and red where right and wrong answers stand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluation import rank_plots
from reid_mtda.evaluation.rank_plots import check_sheet, draw_contact_sheet, draw_retrieval, score_texts
from reid_mtda.types import IdentitySet, RetrievalSplit, SearchAnswer, SearchHit, Sighting

STEP = rank_plots._CROP[0] + 2 * rank_plots._FRAME + rank_plots._GAP


def side(folder, name, pids, camids):
    paths = tuple(folder / f"{name}{i}.jpg" for i in range(len(pids)))
    for path in paths:
        Image.new("RGB", (12, 30), (120, 120, 120)).save(path)
    return IdentitySet(paths, np.array(pids, np.int64), np.array(camids, np.int64))


def frames(path, row=0):
    """Colour of the frame of each tile in a row, as 'right', 'wrong', 'query' or '' (none)."""
    image = np.asarray(Image.open(path).convert("RGB"))
    names = {rank_plots._RIGHT: "right", rank_plots._WRONG: "wrong", rank_plots._QUERY: "query"}
    lefts = range(rank_plots._MARGIN + 1, image.shape[1] - rank_plots._MARGIN, STEP)
    top = (
        rank_plots._MARGIN
        + rank_plots._LINE
        + 6
        + 60
        + row * (rank_plots._CROP[1] + 2 * rank_plots._FRAME + 3 * rank_plots._LINE + 4 + rank_plots._GAP)
    )
    return [names.get(tuple(int(c) for c in image[top, left]), "") for left in lefts]


def test_frames_follow_the_truth_and_junk_is_left_out(tmp_path):
    query = side(tmp_path, "q", [1, 5], [0, 0])
    gallery = side(tmp_path, "g", [1, 2, 1, 3], [0, 0, 1, 1])
    rows = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    drawn = draw_retrieval(tmp_path / "r.png", RetrievalSplit(query, gallery), [[1, 0], [0, 1]], rows)
    assert drawn.tolist() == [0], "identity 5 has no right answer"
    assert frames(tmp_path / "r.png")[:5] == ["query", "wrong", "right", "wrong", ""]


def test_queries_are_spread_over_cameras_and_people(tmp_path):
    pids = np.repeat(np.arange(10), 2)
    split = RetrievalSplit(side(tmp_path, "q", pids, [0, 1] * 10), side(tmp_path, "g", pids, [0, 1] * 10))
    rows = np.eye(10)[pids]
    drawn = draw_retrieval(tmp_path / "r.png", split, rows, rows, num_queries=4, num_answers=3)
    assert split.query.camids[drawn].tolist() == [0, 1, 0, 1]
    assert len(set(pids[drawn])) == 4
    assert frames(tmp_path / "r.png", row=3)[:4] == ["query", "right", "wrong", "wrong"]
    again = draw_retrieval(tmp_path / "again.png", split, rows, rows, num_queries=4, num_answers=3)
    assert again.tolist() == drawn.tolist()
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "r.png").read_bytes()


def test_more_rows_than_queries(tmp_path):
    split = RetrievalSplit(side(tmp_path, "q", [1], [0]), side(tmp_path, "g", [1], [1]), ("gate", "yard"))
    assert draw_retrieval(tmp_path / "r.png", split, [[1.0]], [[1.0]], num_queries=8).tolist() == [0]


def test_nothing_to_draw_is_told(tmp_path):
    split = RetrievalSplit(side(tmp_path, "q", [1], [0]), side(tmp_path, "g", [1], [0]))
    with pytest.raises(DataError, match="no query has a right answer in another camera; nothing can be drawn"):
        draw_retrieval(tmp_path / "r.png", split, [[1.0]], [[1.0]])
    assert not (tmp_path / "r.png").exists()


def hit(place, thumbnail):
    return SearchHit(
        0.9 - place / 10, place, Sighting("a-camera-with-quite-a-long-name", place, 1.7e9, 1.7e9, thumbnail)
    )


@pytest.mark.parametrize("count", [0, 1, 5, 6, 13])
def test_contact_sheet_has_a_tile_for_each_hit(tmp_path, count):
    thumbnail = side(tmp_path, "t", [1], [0]).paths[0]
    hits = tuple(hit(place, thumbnail if place != 1 else Path("gone.jpg")) for place in range(count))
    person = np.full((40, 20, 3), 200, np.uint8)
    draw_contact_sheet(tmp_path / "s.png", person, SearchAnswer("3fa9c1", 99, hits), columns=6)
    image = np.asarray(Image.open(tmp_path / "s.png"))
    grey = (np.abs(image.astype(int) - 120) <= 3).all(axis=2).sum()
    with_picture = count - (count > 1)
    assert grey == pytest.approx(with_picture * 77 * 192, rel=0.05, abs=200)
    assert image.shape[1] < 7 * STEP


def test_scores_that_differ_read_differently():
    assert score_texts([0.91, 0.874, 0.871]) == ["0.910", "0.874", "0.871"]
    assert score_texts([0.91, 0.87, 0.87]) == ["0.91", "0.87", "0.87"], "a tie is a tie"
    assert score_texts([]) == []


def test_captions_of_close_scores_have_three_decimals(tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(rank_plots, "_shorten", lambda text, font: texts.append(text) or text)
    split = RetrievalSplit(side(tmp_path, "q", [1], [0]), side(tmp_path, "g", [1, 2], [1, 1]))
    rows = [[0.9, np.sqrt(1 - 0.81)], [0.901, np.sqrt(1 - 0.901**2)]]
    draw_retrieval(tmp_path / "r.png", split, [[1.0, 0.0]], rows)
    assert {"0.901", "0.900", "camera 1", "camera 2"} <= set(texts)


@pytest.mark.parametrize("name", ["x.txt", "x", "x.jpg"])
def test_a_sheet_is_a_png(name):
    with pytest.raises(ConfigError, match=rf"{name}: got the suffix .*, expected \.png"):
        check_sheet(Path(name))
    check_sheet(Path("x.PNG"))
