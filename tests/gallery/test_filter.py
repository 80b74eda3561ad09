"""What a filter takes, and what it refuses with a remedy."""

from dataclasses import fields

import pytest

from reid_mtda.errors import ConfigError, GalleryError
from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.gallery.gallery import Gallery


def test_any_sequence_of_names_is_taken_and_equal_filters_are_equal() -> None:
    assert Filter(["gate", "hall"]) == Filter(("gate", "hall")) and hash(Filter(["gate"])) == hash(Filter(("gate",)))
    assert Filter() == EVERYTHING and Filter([]) != EVERYTHING
    assert [field.name for field in fields(Filter)] == ["cameras", "start_s", "end_s", "min_score"]
    assert Filter(min_score=0.5).lets_all_rows_pass and not Filter([]).lets_all_rows_pass


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cameras": "gate"}, r"cameras: got 'gate', expected a list: \['gate'\]"),
        ({"start_s": float("nan")}, "start_s: got nan, expected POSIX seconds"),
        ({"end_s": 1e12}, "end_s: got 1000000000000.0, expected POSIX seconds"),
        ({"min_score": 1.5}, "min_score: got 1.5, expected -1 to 1"),
        ({"start_s": 5, "end_s": 4}, "start_s 5 lies after end_s 4; swap them"),
    ],
)
def test_what_is_no_filter_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"filter.*{message}"):
        Filter(**given)  # type: ignore[arg-type]


def test_a_score_without_a_search_is_refused(tmp_path) -> None:
    with Gallery.open(tmp_path / "gallery", "a1b2c3d4e5f6", 4) as gallery:
        for ask in (gallery.sightings, gallery.numbers, gallery.count, lambda where: gallery.newest(5, where=where)):
            with pytest.raises(GalleryError, match=r"got min_score 0.5 without a search; leave it out"):
                ask(Filter(min_score=0.5))
