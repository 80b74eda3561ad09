"""A gallery for another model holds the same people under the same keys, and answers alike."""

from pathlib import Path

import numpy as np
import pytest
from colour_model import write_colour_model

from reid_mtda.errors import GalleryError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.reindex import carry_over, drop_gone
from reid_mtda.model import load_model


def picture(person: int) -> np.ndarray:
    return np.random.default_rng(person).integers(0, 255, (6, 3, 3), np.uint8).repeat(16, 0).repeat(16, 1)


@pytest.fixture
def models(tmp_path: Path):
    for turn in (0, 1):
        write_colour_model(tmp_path / f"model{turn}", turn=turn)
    return [load_model(tmp_path / f"model{turn}", threads=1) for turn in (0, 1)]


@pytest.fixture
def old(tmp_path: Path, models) -> Gallery:
    gallery = Gallery.open(tmp_path / "old", models[0])
    for n in range(40):
        vector = models[0].embed(picture(n))[0]
        gallery.add(vector, f"camera{n % 3}", n, 100.0 + n, 105.0 + n, picture(n))
    return gallery


def test_everything_is_carried_over_and_answers_alike(tmp_path: Path, models, old: Gallery) -> None:
    new, told = Gallery.open(tmp_path / "new", models[1]), []
    numbers = carry_over(old, new, models[1], progress=lambda *step: told.append(step))
    assert told[-1] == ("embedding anew", 40, 40) and len(numbers) == len(new) == 40
    was, now = old.lookup(numbers), new.lookup(numbers.values())
    assert all(was[a].key == now[b].key for a, b in numbers.items())
    for number in list(numbers)[:10]:
        before = [numbers[hit.sighting_id] for hit in old.search(old.vector(number), 3).hits]
        after = [hit.sighting_id for hit in new.search(new.vector(numbers[number]), 3).hits]
        assert before[0] == after[0]


def test_stopped_and_repeated_it_adds_what_is_missing_and_removes_what_went(tmp_path: Path, models, old) -> None:
    new, calls = Gallery.open(tmp_path / "new", models[1]), []

    def stopped() -> bool:
        calls.append(1)
        return len(calls) > 1

    carry_over(old, new, models[1], stopped=stopped)
    assert len(new) == 32
    gone = next(iter(old.sightings()))
    key = old.lookup([gone])[gone].key
    old.delete([gone])
    drop_gone(old, new)
    numbers = carry_over(old, new, models[1])
    assert len(new) == len(numbers) == 39
    assert key not in {row.key for row in new.sightings().values()}


def test_a_damaged_thumbnail_costs_its_own_sighting_alone(tmp_path: Path, models, old) -> None:
    number, row = next(iter(old.sightings().items()))
    row.thumbnail.write_bytes(b"no picture")
    numbers = carry_over(old, Gallery.open(tmp_path / "new", models[1]), models[1])
    assert number not in numbers and len(numbers) == 39


def test_a_gallery_of_another_model_is_refused(models, old: Gallery) -> None:
    with pytest.raises(GalleryError, match="to re-index with"):
        carry_over(old, old, models[1])
