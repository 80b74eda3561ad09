"""A gallery opened centred answers as brute force over centred vectors does; what is stored stays as it was added."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.camera_means import read_centring, write_cameras
from reid_mtda.centring import CameraMeans, camera_means, centre
from reid_mtda.errors import ConfigError, GalleryError
from reid_mtda.evaluation.average_precision import rank_scores
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.thresholds import TrackRecord, simultaneous_pairs
from reid_mtda.model import Model, load_model
from reid_mtda.types import FloatArray, IntArray, ModelManifest, Preprocess
from reid_mtda.vision.preprocess import decode_image

DIM = 16
CARD = ModelManifest("a1b2c3d4e5f6", "given", DIM, Preprocess(8, 8), "nothing")
PEOPLE = {"c0": 40, "c1": 4}
BIAS = np.random.default_rng(9).normal(size=(4, DIM))


def rows_of(camera: int, count: int, seed: int) -> FloatArray:
    rows = np.random.default_rng([seed, camera]).normal(size=(count, DIM)) + BIAS[camera]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


ADAPTED = {name: rows_of(camera, 30, 1) for camera, name in enumerate(PEOPLE)}
MEANS = camera_means(ADAPTED, PEOPLE)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Of which only the card and ``cameras.json`` count: c0 and c1 are known, c2 is new."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_cameras(folder, CARD, ADAPTED, PEOPLE)
    return Model(CARD, lambda crops: crops[:, 0, 0, :1], "cpu", folder)


def fill(gallery: Gallery, count: int, seed: int = 2) -> tuple[dict[int, FloatArray], dict[int, str]]:
    """Sightings of c0, c1 and c2 in turn, 10 s apart: vectors and cameras by number."""
    rows = [rows_of(i % 3, count, seed)[i] for i in range(count)]
    cameras = [f"c{i % 3}" for i in range(count)]
    starts = [10.0 * i for i in range(count)]
    numbers = gallery.add_many(np.stack(rows), cameras, start_s=starts).tolist()
    return dict(zip(numbers, rows, strict=True)), dict(zip(numbers, cameras, strict=True))


def by_brute_force(
    query: FloatArray, camera: str | None, rows: dict[int, FloatArray], cameras: dict[int, str]
) -> dict[int, float]:
    there = centre(np.stack([*rows.values()]), [cameras[number] for number in rows], MEANS)
    scores = there @ centre(query[None], [camera], MEANS)[0]
    return dict(zip(rows, scores.tolist(), strict=True))


def check(
    gallery: Gallery, rows: dict[int, FloatArray], cameras: dict[int, str], camera: str | None, where: Filter
) -> None:
    query = rows_of(3, 1, 5)[0]
    wanted = by_brute_force(query, camera, rows, cameras)
    passing = [n for n in wanted if where.cameras is None or cameras[n] in where.cameras]
    best = sorted(passing, key=lambda number: -wanted[number])[:12]
    answer = gallery.search(query, 12, where=where, camera=camera)
    assert [hit.sighting_id for hit in answer.hits] == best
    np.testing.assert_allclose([hit.score for hit in answer.hits], [wanted[n] for n in best], atol=1e-5)


@pytest.mark.parametrize("camera", ["c0", "c1", "c2", None], ids=["c0", "c1", "a new camera", "from elsewhere"])
@pytest.mark.parametrize("where", [Filter(), Filter(["c1", "c2"])], ids=["all", "filtered"])
def test_a_search_equals_brute_force_over_centred_vectors(
    tmp_path: Path, model: Model, camera: str | None, where: Filter
) -> None:
    with Gallery.open(tmp_path / "gallery", CARD) as plain:  # so nothing is centred that is stored
        rows, cameras = fill(plain, 60)
        with Gallery.open(tmp_path / "gallery", model, centred="auto") as gallery:
            assert gallery.is_centred and not plain.is_centred
            check(gallery, rows, cameras, camera, where)
            more, of_more = fill(gallery, 30, seed=3)
            others, of_others = fill(plain, 30, seed=4)  # as another process would
            rows, cameras = rows | more | others, cameras | of_more | of_others
            check(gallery, rows, cameras, camera, where)
            for number in (1, 61, 95):
                del rows[number], cameras[number]
            assert gallery.delete([1, 61]) == (1, 61) and plain.delete([95]) == (95,)
            check(gallery, rows, cameras, camera, where)
            for number, row in plain.vectors(rows).items():
                np.testing.assert_array_equal(row, rows[number])


def test_a_large_centred_gallery_has_codes_of_what_it_compares(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid_mtda.gallery.index.CODED_FROM", 200)
    with Gallery.open(tmp_path / "gallery", model, centred="on") as gallery:
        rows, cameras = fill(gallery, 260)
        assert gallery._index._index._codes is not None
        check(gallery, rows, cameras, "c1", Filter(["c0"]))


def test_thresholds_of_compared_vectors_are_on_the_scale_of_a_search(tmp_path: Path, model: Model) -> None:
    """Scores of certain negatives, made of ``vectors(as_compared=True)``, are those that a search from one gives."""
    with Gallery.open(tmp_path / "gallery", model, centred="on") as gallery:
        rows, cameras = fill(gallery, 30)
        compared = gallery.vectors([*rows, 10**6], as_compared=True)
        assert compared.keys() == rows.keys()
        records = [TrackRecord(cameras[number], number, 0.0, 1.0, row) for number, row in compared.items()]
        numbers = list(compared)
        for negatives in simultaneous_pairs(records, frozenset()).values():
            for score, left, right in zip(negatives.scores, negatives.left, negatives.right, strict=True):
                hits = gallery.search(rows[numbers[left]], 30, camera=cameras[numbers[left]]).hits
                found = {hit.sighting_id: hit.score for hit in hits}
                assert found[numbers[right]] == pytest.approx(score, abs=1e-5)
        np.testing.assert_array_equal(gallery.vectors([1])[1], rows[1])


def test_min_score_is_of_what_is_compared(tmp_path: Path, model: Model) -> None:
    with Gallery.open(tmp_path / "gallery", model, centred="on") as gallery:
        rows, cameras = fill(gallery, 30)
        query = rows_of(0, 1, 5)[0]
        wanted = {n for n, score in by_brute_force(query, "c0", rows, cameras).items() if score >= 0.2}
        found = gallery.search(query, 30, where=Filter(min_score=0.2), camera="c0").hits
        assert {hit.sighting_id for hit in found} == wanted and 0 < len(wanted) < 30


def test_how_many_people_were_seen_travels_with_the_model(model: Model) -> None:
    assert model.folder is not None
    found = read_centring(model.folder, CARD)
    assert isinstance(found, CameraMeans)
    np.testing.assert_allclose(found.common, MEANS.common, atol=1e-6)
    assert found.by_camera.keys() == MEANS.by_camera.keys()
    for name, mean in found.by_camera.items():
        np.testing.assert_allclose(mean, MEANS.by_camera[name], atol=1e-6)


@pytest.mark.parametrize("kind", ["old", "none", "part", "damaged"])
def test_a_model_that_says_too_little_is_searched_plainly_and_that_is_said(
    tmp_path: Path, model: Model, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert model.folder is not None
    card = model.folder / "cameras.json"
    value = json.loads(card.read_text())
    for name in {"old": ["c0", "c1"], "part": ["c1"]}.get(kind, []):
        del value["cameras"][name]["people"]
    card.write_text("{" if kind == "damaged" else json.dumps(value))
    if kind == "none":
        card.unlink()
    with Gallery.open(tmp_path / "gallery", model, centred="auto") as gallery:
        assert not gallery.is_centred
        rows, _ = fill(gallery, 9)
        assert gallery.search(rows[4], 1, camera="c0").hits[0].score == pytest.approx(1, abs=1e-5)
    said = {"old": "were seen at c0, c1", "part": "were seen at c1", "none": "no means of cameras", "damaged": "usable"}
    assert str(card) in caplog.text and said[kind] in caplog.text and "uncentred" in caplog.text
    with pytest.raises(ConfigError, match=r"cameras\.json says too little .* adapt again"):
        Gallery.open(tmp_path / "gallery", model, centred="on")


def test_what_cannot_be_centred_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(GalleryError, match="without a model that lies in a folder"):
        Gallery.open(tmp_path / "gallery", CARD, centred="on")
    with pytest.raises(GalleryError, match="centred: got 'yes', expected one of off, auto, on"):
        Gallery.open(tmp_path / "gallery", CARD, centred="yes")  # type: ignore[arg-type]
    assert not (tmp_path / "gallery").exists()
    with Gallery.open(tmp_path / "gallery", CARD, centred="auto") as gallery:
        assert not gallery.is_centred and "compared as they are" in caplog.text


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_centring_finds_people_of_six_real_cameras(data_folder: Path, tmp_path: Path) -> None:
    """Market's test people through the product's search; means of the other people's crops, counted without labels."""
    from reid_mtda.data.pseudo_labels import count_people
    from reid_mtda.model import write_manifest

    weights = data_folder / "weights" / "osnet_x0_25_msmt17_from_pth.onnx"
    write_manifest(
        weights, tmp_path / "osnet", arch="osnet_x0_25", preprocess=Preprocess(256, 128), trained_on="MSMT17"
    )
    model = load_model(tmp_path / "osnet")
    with np.load(data_folder / "reid" / "market1501_six_cameras.npz", allow_pickle=False) as stored:
        buf, off, pid, cam = stored["buf"], stored["off"], stored["pid"], stored["cam"]
        split, tracklet = stored["split"], stored["tracklet"]

    def embed(rows: IntArray) -> FloatArray:
        return model.embed([decode_image(buf[off[i] : off[i + 1]].tobytes(), where=str(i)) for i in rows])

    adapted, people = {}, {}
    for camera in np.unique(cam):
        own = np.flatnonzero((cam == camera) & (split == "adapt"))
        own = own[np.linspace(0, len(own) - 1, min(len(own), 500)).round().astype(np.int64)]
        adapted[f"c{camera}"] = embed(own)
        people[f"c{camera}"] = count_people(adapted[f"c{camera}"], tracklet[own].astype(np.int64))
    assert model.folder is not None
    write_cameras(model.folder, model.manifest, adapted, people)
    test = np.flatnonzero(split == "test")
    rows, names = embed(test), [f"c{camera}" for camera in cam[test]]
    rank1 = {}
    with Gallery.open(tmp_path / "gallery", model) as gallery:
        numbers = gallery.add_many(rows, names, start_s=np.arange(len(rows), dtype=float).tolist())
    place = {number: row for row, number in enumerate(numbers.tolist())}
    for centred in ("off", "on"):
        with Gallery.open(tmp_path / "gallery", model, centred=centred) as gallery:  # type: ignore[arg-type]
            right = []
            for query, row in enumerate(rows):
                hits = gallery.search(row, len(rows), camera=names[query]).hits
                order = np.array([place[hit.sighting_id] for hit in hits])
                same = pid[test][order] == pid[test][query]
                counted = ~(same & (cam[test][order] == cam[test][query]))
                if (same & counted).any():
                    right.append(same[counted][0])
        rank1[centred] = float(np.mean(right))
    plain = rank_scores((rows, pid[test], cam[test]), (rows, pid[test], cam[test]))
    assert rank1["off"] == pytest.approx(plain.cmc[0], abs=0.002)
    assert rank1["on"] >= rank1["off"] + 0.03, (rank1, people)
