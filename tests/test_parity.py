"""Two ways to the same thing give the same thing: torch and export, FAISS and exact, offline and live."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid_mtda.export import export_student
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.index import Index
from reid_mtda.gallery.rows import Rows
from reid_mtda.gallery.search import search_picture
from reid_mtda.live.ingest import ingest_camera
from reid_mtda.model import Model, load_model
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.types import FloatArray, ImageArray, Preprocess
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.preprocess import read_image, to_model_input
from reid_mtda.vision.tracklets import TrackletBuilder
from reid_mtda.vision.video import read_frames

SMALL = Preprocess(height=64, width=32)
URL = "synthetic://street?camera=gate&seed=7&part=test&duration=20"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    built = build_embedder(EmbedderSpec(arch="osnet_x0_25", num_classes=4), seed=0)
    with torch.no_grad():  # BatchNorm statistics that are not the neutral ones of a new network
        for _ in range(3):
            built(torch.randn(16, 3, 64, 32))
    return built.eval()


@pytest.fixture(scope="module")
def crops() -> list[ImageArray]:
    """Crops off the street, as the tracker cuts them."""
    builder, detect = TrackletBuilder("gate"), load_detector("motion")
    found = []
    for frame in read_frames(URL, camera="gate", fps=5):
        found += builder.update(frame, detect(frame.image))
    tracklets = found + builder.flush()
    assert tracklets, "the street shows nobody: nothing would be compared"
    return [crop for tracklet in tracklets for crop in tracklet.crops]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, model: torch.nn.Module, crops: list[ImageArray]) -> Model:
    folder = tmp_path_factory.mktemp("model") / "student"
    export_student(model, folder, arch="osnet_x0_25", preprocess=SMALL, trained_on="noise", check_crops=crops[:8])
    return load_model(folder)


def test_torch_equals_exported(model: torch.nn.Module, exported: Model, crops: list[ImageArray]) -> None:
    batch = to_model_input(crops, exported.manifest.preprocess)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(batch)).embedding.numpy()
    assert np.sum(wanted * exported.embed(crops), axis=1).min() > 0.99999


def test_a_row_does_not_depend_on_its_batch(exported: Model, crops: list[ImageArray]) -> None:
    alone = np.concatenate([exported.embed(crop) for crop in crops[:9]])
    np.testing.assert_allclose(exported.embed(crops[:9]), alone, atol=1e-5)


def clustered(count: int, dim: int = 64, seed: int = 0) -> FloatArray:
    """Vectors as re-identification has them: a few sightings around each person."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(count // 8, dim))
    rows = people[rng.integers(0, len(people), count)] + 0.5 * rng.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("has_codes", [False, True])
def test_the_index_equals_exact(has_codes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_codes:
        monkeypatch.setattr("reid_mtda.gallery.index.CODED_FROM", 1000)
        monkeypatch.setattr("reid_mtda.gallery.index._CANDIDATES", 400)
    rows = clustered(4000)
    ids = np.arange(5, 4005)
    index = Index(64)
    times = np.zeros(4000)
    index.add(Rows(ids, rows, tuple(f"c{i % 3}" for i in range(4000)), times, times))
    assert (index._codes is not None) == has_codes
    gone = ids[::7]
    index.remove(gone)
    allowed = ids[::3]
    chosen = Filter(cameras=("c0",))
    recalls = []
    noise = 0.02 * np.random.default_rng(1).normal(size=(40, 64))
    for query in (rows[:40] + noise).astype(np.float32):
        scores = rows @ query
        scores[::7] = -2
        order = np.argsort(-scores, kind="stable")[:10]
        got_scores, got = index.search(query, 10, exact=True)
        np.testing.assert_array_equal(got, ids[order])
        np.testing.assert_allclose(got_scores, scores[order], atol=1e-6)
        _, quick = index.search(query, 10)
        recalls.append(np.isin(quick, ids[order]).mean())
        some = np.where(np.isin(ids, allowed), scores, -2)
        order = np.argsort(-some, kind="stable")[:10]
        np.testing.assert_array_equal(index.search(query, 10, chosen)[1], ids[order])
    assert np.mean(recalls) == 1 if not has_codes else np.mean(recalls) > 0.95


def test_offline_crops_equal_live_crops(tmp_path: Path, exported: Model, crops: list[ImageArray]) -> None:
    from reid_mtda.data.footage import harvest_crops

    frames = read_frames(URL, camera="gate", fps=5)
    report = harvest_crops(frames, load_detector("motion"), TrackletBuilder("gate", fps=5), tmp_path / "crops")
    harvested = sorted((tmp_path / "crops" / "gate").glob("*.jpg"))
    assert report.crops == len(harvested) == len(crops)
    # JPEG is the one thing between the two paths.
    offline = exported.embed(harvested)
    live = exported.embed(crops)
    assert (offline @ live.T).max(axis=1).min() > 0.98
    assert sorted(crop.shape for crop in crops) == sorted(read_image(path).shape for path in harvested)

    with Gallery.open(tmp_path / "gallery", exported) as gallery:
        frames = read_frames(URL, camera="gate", fps=5)
        ingest = ingest_camera(frames, load_detector("motion"), TrackletBuilder("gate"), exported, gallery)
        assert ingest.tracklets == report.tracklets
        for number, sighting in gallery.sightings().items():
            shown = cv2.cvtColor(cv2.imread(str(sighting.thumbnail)), cv2.COLOR_BGR2RGB)
            hits = search_picture(np.asarray(shown, np.uint8), exported, gallery, k=1).hits
            assert hits[0].sighting_id == number or hits[0].score > 0.98
