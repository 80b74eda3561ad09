"""Closed label sets: layouts on disk, roles without leaks, refusals that say what to put where."""

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_mtda.data.classification import (
    CLOSED_SETS,
    coloured,
    load_digits,
    load_imageclef,
    load_office31,
    load_officehome,
)
from reid_mtda.data.closed_domain import LabelledPictures, UnlabelledPictures, blended, joined
from reid_mtda.errors import DataError, ShapeError

DATA = Path(os.environ.get("REID_MTDA_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def write_picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 24, 3), shade, np.uint8)).save(path)


def write_tree(root, domains, classes, *, per_class=2):
    for d, domain in enumerate(domains):
        for c, name in enumerate(classes):
            for k in range(per_class):
                write_picture(root / domain / name / f"frame_{k:04d}.jpg", 10 + 7 * c + 5 * d)


def write_digits(root, count=6):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 10
    shapes = {"mnist": (28, 28), "mnistm": (32, 32, 3), "usps": (16, 16), "svhn_small": (32, 32, 3)}
    for name, shape in shapes.items():
        x = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
        y = labels.astype(np.uint8)
        np.savez(root / f"{name}.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    glyphs = rng.integers(0, 256, (40, 32, 32)).astype(np.uint8)
    np.savez(root / "fonts.npz", x=glyphs, y=(np.arange(40) % 10).astype(np.uint8), font=np.arange(40) // 10)


def test_digits_come_as_rgb_of_one_size_with_labels_apart(tmp_path):
    write_digits(tmp_path)
    domains = load_digits(tmp_path, size=28)
    assert list(domains) == ["mnist", "mnistm", "usps", "svhn_small", "fonts"]
    for name, domain in domains.items():
        assert domain.name == domain.target.domain == domain.test.domain == name
        assert domain.source.pictures.shape[1:] == domain.test.pictures.shape[1:] == (28, 28, 3)
        assert np.array_equal(domain.source.pictures, domain.target.pictures)


def test_fonts_are_split_by_font_and_coloured_alike_every_time(tmp_path):
    write_digits(tmp_path)
    first, second = load_digits(tmp_path)["fonts"], load_digits(tmp_path)["fonts"]
    assert len(first.test) == 10 and len(first.source) == 30  # one font of four is held out
    assert np.array_equal(first.source.pictures, second.source.pictures)


def test_coloured_glyphs_stay_readable():
    glyphs = np.zeros((200, 4, 4), np.uint8)
    glyphs[:, 1] = 255
    pictures = coloured(glyphs, seed=3).astype(float)
    contrast = np.abs(pictures[:, 1].mean((1, 2)) - pictures[:, 0].mean((1, 2)))
    assert contrast.min() > 40
    assert pictures.std(0).min() > 40  # and differ from each other


def test_a_target_has_no_label_to_leak():
    names = {field.name for field in dataclasses.fields(UnlabelledPictures)}
    assert names == {"pictures", "domain"}


def test_office31_folders_and_packed_pictures_give_the_same_domains(tmp_path):
    classes = [f"class_{i:02d}" for i in range(31)]
    for domain in ("amazon", "dslr", "webcam"):
        write_tree(tmp_path / "folders" / domain, ["images"], classes, per_class=1)
    folders = load_office31(tmp_path / "folders", size=20)
    chunks, domain_of = [], []
    for d, domain in enumerate(folders):
        for picture in folders[domain].source.pictures:
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            chunks.append(np.frombuffer(buffer.getvalue(), np.uint8))
            domain_of.append(d)
    (tmp_path / "packed").mkdir()
    np.savez(
        tmp_path / "packed" / "office31_160_jpeg.npz",
        buf=np.concatenate(chunks),
        off=np.cumsum([0, *map(len, chunks)]),
        y=np.tile(np.arange(31), 3).astype(np.uint8),
        domain=np.array(domain_of, np.uint8),
        classes=np.array(classes),
        domains=np.array(list(folders)),
    )
    packed = load_office31(tmp_path / "packed", size=20)
    for name, domain in folders.items():
        assert np.array_equal(domain.source.pictures, packed[name].source.pictures)
        assert np.array_equal(domain.source.labels, packed[name].source.labels)


def test_office31_adapts_to_all_pictures_and_is_scored_on_the_same(tmp_path):
    for domain in ("amazon", "dslr", "webcam"):
        write_tree(tmp_path / domain, ["images"], [f"c{i:02d}" for i in range(31)], per_class=1)
    domain = load_office31(tmp_path, size=20)["dslr"]
    assert domain.test.pictures is domain.target.pictures


def test_officehome_takes_either_spelling_of_its_fourth_domain(tmp_path):
    write_tree(tmp_path, ["Art", "Clipart", "Product", "Real World"], ["bed", "bike"])
    domains = load_officehome(tmp_path, size=24)
    assert list(domains) == ["Art", "Clipart", "Product", "RealWorld"]
    assert domains["RealWorld"].source.num_classes == 2


def test_imageclef_reads_its_lists_and_plain_folders(tmp_path):
    classes = [f"{i}" for i in range(12)]
    write_tree(tmp_path / "plain", ["c", "i", "p"], classes)
    assert list(load_imageclef(tmp_path / "plain", size=24)) == ["c", "i", "p"]
    lists = tmp_path / "lists"
    (lists / "list").mkdir(parents=True)
    for domain in "cip":
        lines = []
        for label in range(12):
            write_picture(lists / domain / f"{label}.jpg", 10 * label)
            lines.append(f"/home/somebody/{domain}/{label}.jpg {label}")
        (lists / "list" / f"{domain}List.txt").write_text("\n".join(lines))
    domains = load_imageclef(lists, size=24)
    assert list(domains) == ["c", "i", "p"]
    assert domains["c"].source.labels.tolist() == list(range(12))


@pytest.mark.parametrize("name", CLOSED_SETS)
def test_a_missing_root_says_what_to_put_where(name, tmp_path):
    with pytest.raises(DataError, match=r"expected .*; pass its folder with --root; nothing is downloaded"):
        CLOSED_SETS[name](tmp_path / "nowhere")


def test_domains_with_other_classes_are_refused(tmp_path):
    write_tree(tmp_path, ["Art", "Clipart", "Product"], ["bed", "bike"])
    write_tree(tmp_path, ["RealWorld"], ["bed", "sofa"])
    with pytest.raises(DataError, match=r"RealWorld: classes differ from the other domains \(\['bike', 'sofa'\]\)"):
        load_officehome(tmp_path)


def test_an_incomplete_office31_is_refused(tmp_path):
    for domain in ("amazon", "dslr", "webcam"):
        write_tree(tmp_path / domain, ["images"], ["bike", "mug"])
    with pytest.raises(DataError, match=r"got 2 classes, expected the 31 of Office-31"):
        load_office31(tmp_path)


def test_a_file_of_other_arrays_is_refused(tmp_path):
    write_digits(tmp_path)
    np.savez(tmp_path / "usps.npz", pictures=np.zeros(3))
    with pytest.raises(
        DataError, match=r"usps.npz: got the arrays pictures, no x_train, y_train, .*; expected Digits: "
    ):
        load_digits(tmp_path)


def test_labels_out_of_range_are_refused():
    with pytest.raises(ShapeError, match=r"labels out of range, got 0..3, expected 0..2"):
        LabelledPictures(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 3], np.int64), 3, "x")


def test_limited_draws_once_and_keeps_the_test_set(tmp_path):
    write_digits(tmp_path, count=30)
    domain = load_digits(tmp_path)["mnist"]
    small = domain.limited(10)
    assert len(small.source) == len(small.target) == 10
    assert small.test is domain.test
    assert np.array_equal(small.source.pictures, domain.limited(10).source.pictures)
    assert domain.limited(99) is domain


def test_blended_and_joined_keep_every_picture(tmp_path):
    write_digits(tmp_path)
    domains = list(load_digits(tmp_path).values())[:2]
    assert len(blended([d.target for d in domains])) == 12
    everything = joined([d.source for d in domains])
    assert everything.domain == "mnist+mnistm" and len(everything.labels) == 12


@pytest.mark.data
def test_the_real_sets_are_complete():
    if not DATA.is_dir():
        pytest.skip(f"no development data at {DATA}")
    domains = load_digits(DATA / "digits")
    assert {name: len(d.test) for name, d in domains.items() if name != "fonts"} == {
        "mnist": 3000,
        "mnistm": 3000,
        "usps": 2007,
        "svhn_small": 486,
    }
    office = load_office31(DATA / "office31", size=32)
    assert {name: len(d.source) for name, d in office.items()} == {"amazon": 2817, "dslr": 498, "webcam": 795}
