"""The service compares embeddings centred by camera: every way in, its thresholds, models, restarts and new cameras."""

from __future__ import annotations

import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from colour_model import DIM, write_colour_model
from service_fixtures import REASON, RunningService, crop_of, png_of, show_live
from test_model_registry import finished, watch

from reid_mtda.camera_means import read_centring, write_cameras
from reid_mtda.camera_settings import Camera
from reid_mtda.centring import CameraMeans, centre
from reid_mtda.errors import ConfigError
from reid_mtda.model_folder import read_manifest
from reid_mtda.service.app import create_app
from reid_mtda.service.app_state import AppState
from reid_mtda.service.metrics import SampledRecall
from reid_mtda.service.roles import Role
from reid_mtda.service.run import running_service
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import Site
from reid_mtda.types import FloatArray

API = "/api/v1"
CAMERAS = ("gate", "market", "plaza")
RNG = np.random.default_rng(0)
BIAS = {name: 1.5 * axis for name, axis in zip(CAMERAS, np.eye(3, DIM), strict=True)}


def rows_of(camera: str, count: int, *, turned: float = 0.0) -> FloatArray:
    """People of one camera, whose mean is ``BIAS``; ``turned``: radians towards another one."""
    bias = np.cos(turned) * BIAS[camera] + np.sin(turned) * 1.5 * np.eye(DIM)[9]
    rows = RNG.normal(size=(count, DIM)) / np.sqrt(DIM) + bias
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def adapted(folder: Path, model_folder: Path, people: dict[str, int], *, turn: int = 0) -> Path:
    """A model with means of the cameras named."""
    if turn:
        write_colour_model(folder, turn=turn)
    else:
        shutil.copytree(model_folder, folder)
    write_cameras(folder, read_manifest(folder), {name: rows_of(name, 60) for name in people}, people)
    return folder


def means_of(folder: Path) -> CameraMeans:
    found = read_centring(folder, read_manifest(folder))
    assert found is not None
    return found


Start = Callable[..., AbstractContextManager[tuple[AppState, TestClient]]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start the service on what lies in ``tmp_path``; its cameras stand still."""

    @contextmanager
    def started(model: Path, **settings: object) -> Iterator[tuple[AppState, TestClient]]:
        cameras = {name: Camera(url=f"synthetic://street?camera={name}&duration=20") for name in CAMERAS}
        chosen = ServiceSettings(candidates=str(tmp_path / "candidates"), **settings)  # type: ignore[arg-type]
        site, state = Site("centred", tmp_path, cameras), tmp_path / "state"
        with running_service(site, model, tmp_path / "gallery", state, chosen) as service:
            for name in CAMERAS:
                service.system.pool.pause(name)
            token, _ = service.auth.create("ann", Role.ADMIN, days=1, created_by="test")
            client = TestClient(create_app(service), base_url="http://127.0.0.1", follow_redirects=False)
            client.headers["Authorization"] = f"Bearer {token}"
            yield service, client

    return started


def fill(service: AppState, each: int = 20, cameras: tuple[str, ...] = ("gate", "market")) -> None:
    """People on view at once, ``each`` at every camera, an hour ago."""
    for camera in cameras:
        starts = (time.time() - 3600 + 2.0 * np.arange(each)).tolist()
        ends = [begin + 9 for begin in starts]
        service.system.gallery.add_many(rows_of(camera, each), camera, start_s=starts, end_s=ends)


def check_scores(service: AppState, answer: dict, query: FloatArray, camera: str | None, means: CameraMeans) -> None:
    gallery = service.system.gallery
    rows = gallery.vectors([hit["sighting_id"] for hit in answer["hits"]])
    there = centre(np.stack([rows[hit["sighting_id"]] for hit in answer["hits"]]), [h["camera"] for h in answer["hits"]], means)  # fmt: skip  # noqa: E501
    wanted = there @ centre(query[None], [camera], means)[0]
    np.testing.assert_allclose([hit["score"] for hit in answer["hits"]], wanted, atol=2e-5)
    assert len(answer["hits"]) > 5 and answer["is_centred"] and answer["taken_by"] == camera


def test_every_query_is_centred_by_who_took_it(start: Start, tmp_path: Path, model_folder: Path) -> None:
    """A sighting, somebody picked live, an upload whose camera is told, and one from elsewhere: the common mean."""
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 15})
    means = means_of(model)
    with start(model) as (service, client):
        fill(service)
        gallery = service.system.gallery
        answer = client.post(f"{API}/search", json={"sighting_id": 3, **REASON}).json()
        check_scores(service, answer, gallery.vector(3), "gate", means)

        show_live(RunningService(service, tmp_path, {}, 0.0), "market", 1)
        pick = client.post(f"{API}/cameras/market/picks", json={"track_id": 5}).json()["pick_id"]
        answer = client.post(f"{API}/search", json={"pick_id": pick, **REASON}).json()
        picture = service.searches.kept(service.auth.identify(client.headers["Authorization"][7:]), answer["search_id"])
        check_scores(service, answer, picture.query.vector, "market", means)

        query = service.system.model_server.embed_one(crop_of(2))
        for told, camera in (({"seen_camera": "gate"}, "gate"), ({}, None)):
            files = {"picture": ("p.png", png_of(crop_of(2)), "image/png")}
            answer = client.post(f"{API}/search/picture", data={**REASON, **told}, files=files).json()
            check_scores(service, answer, query, camera, means)
        answer = client.post(
            f"{API}/search/picture", data={**REASON, "seen_s": 5.0}, files={"picture": ("p.png", png_of(crop_of(2)))}
        )
        assert answer.status_code == 422 and "only one of" in answer.json()["error"]["message"]
        told = client.get(f"{API}/model").json()
        assert told["is_centred"] and told["camera_means"]["gate"]["origin"] == "adaptation"
        assert told["camera_means"]["market"]["share"] == pytest.approx(15 / 35, abs=1e-3)
        assert told["camera_means"]["plaza"] == {"origin": "common", "people": 0, "share": 0.0, "made": None}


def test_the_page_says_what_was_compared(start: Start, tmp_path: Path, model_folder: Path) -> None:
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 15})
    with start(model) as (service, client):
        fill(service)
        client.headers["Accept"] = "text/html"
        status = client.get("/status").text
        assert "Camera means" in status and "about 40 people, counts 67 %" in status and "that of all cameras" in status
        assert 'name="seen_camera"' in client.get("/search").text and 'name="seen_at"' not in client.get("/search").text
        files = {"picture": ("p.png", png_of(crop_of(2)), "image/png")}
        answer = client.post(f"{API}/search/picture", data=REASON, files=files).json()
        page = client.get(f"/searches/{answer['search_id']}").text
        assert "was taken off before comparing" in page and "names no camera" in page


@pytest.mark.parametrize("kind", ["off", "no means", "other cameras", "not counted"])
def test_what_is_not_centred_is_compared_as_it_is(
    start: Start, tmp_path: Path, model_folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 15})
    card = json.loads((model / "cameras.json").read_text())
    if kind == "no means":
        (model / "cameras.json").unlink()
    if kind == "other cameras":
        card["cameras"] = {f"{name} of another site": one for name, one in card["cameras"].items()}
    if kind == "not counted":
        del card["cameras"]["gate"]["people"]
    if kind in ("other cameras", "not counted"):
        (model / "cameras.json").write_text(json.dumps(card))
    with start(model, centred="off" if kind == "off" else "auto") as (service, client):
        fill(service)
        answer = client.post(f"{API}/search", json={"sighting_id": 3, **REASON}).json()
        assert not answer["is_centred"]
        hit = answer["hits"][0]
        vectors = service.system.gallery.vectors([3, hit["sighting_id"]])
        assert hit["score"] == pytest.approx(float(vectors[3] @ vectors[hit["sighting_id"]]), abs=1e-5)
        told = client.get(f"{API}/model").json()
        assert not told["is_centred"] and told["camera_means"] == {}
        client.headers["Accept"] = "text/html"
        assert "Camera means" not in client.get("/status").text and "seen_camera" not in client.get("/search").text
    said = {
        "no means": "no means of cameras there",
        "other cameras": "of no camera here",
        "not counted": "seen at gate",
    }
    assert said.get(kind, "") in caplog.text


def test_on_is_refused_where_a_model_knows_no_cameras(start: Start, tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"cameras\.json says too little"), start(model_folder, centred="on"):
        pass
    model = adapted(tmp_path / "model", model_folder, {"gate": 40})
    write_colour_model(tmp_path / "candidates" / "plain", turn=1)
    with start(model, centred="on") as (_, client):
        answer = client.post(f"{API}/model/comparisons", json={"name": "plain"})
        assert answer.status_code == 422 and "says too little" in answer.json()["error"]["message"]


def test_thresholds_of_another_scale_are_not_used(
    start: Start, tmp_path: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 40})
    rate = {"false_match_rate": 0.05}
    with start(model, **rate) as (service, client):
        fill(service, 60)
        assert client.post(f"{API}/model/calibration").status_code == 200
        centred = client.get(f"{API}/model").json()["thresholds"]
        kept = service.calibration.current()
        assert kept.is_calibrated and kept.centring == service.system.gallery.centring.mark
        scores = service.system.gallery.vectors(range(1, 61), as_compared=True)
        rows = np.stack([scores[number] for number in range(1, 61)])
        upper = (rows @ rows.T)[np.triu_indices(60, 1)]
        assert kept.of("gate", "gate") < float(upper.max()) + 1e-3
    with start(model, **rate) as (_, client):
        assert client.get(f"{API}/model").json()["thresholds"] == centred
    assert "not used" not in caplog.text
    with start(model, centred="off", **rate) as (service, client):
        words = f"means {kept.centring}), and embeddings are compared uncentred"
        assert "not used, those of before were measured centred" in caplog.text and words in caplog.text
        service.calibration.renew()
        plain = service.calibration.current()
        assert plain.centring == "" and plain.of("gate", "gate") > kept.of("gate", "gate") + 0.1
    with start(model, **rate) as (service, client):
        service.system.gallery.delete(range(5, 200))
        service.calibration.renew()
        told = client.get(f"{API}/model").json()
        assert not told["is_calibrated"] and "those of before were measured uncentred" in told["calibration"]
        client.headers["Accept"] = "text/html"
        assert "measured uncentred" in client.get("/status").text


def test_each_model_is_centred_by_its_own_means(start: Start, tmp_path: Path, model_folder: Path) -> None:
    """Promoted, taken back, and taken back after a restart, when the gallery set aside was opened without its model."""
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 15})
    candidate = adapted(tmp_path / "candidates" / "turned", model_folder, {"gate": 9, "plaza": 30}, turn=1)
    seen = {"gate": crop_of(0), "market": crop_of(1)}

    def check(service: AppState, client: TestClient, folder: Path) -> None:
        number = int(service.system.gallery.numbers()[0])
        answer = client.post(f"{API}/search", json={"sighting_id": number, **REASON}).json()
        row = service.system.gallery.lookup([number])[number]
        check_scores(service, answer, service.system.gallery.vector(number), row.camera, means_of(folder))

    with start(model) as (service, client):
        for n in range(12):
            camera = ("gate", "market")[n % 2]
            crop = np.clip(seen[camera].astype(int) + 9 * n, 0, 255).astype(np.uint8)
            embedded = service.system.model_server.embed_one(crop)
            service.system.gallery.add(embedded, camera, n, time.time() - 60, time.time() - 50, crop)
        running = RunningService(service, tmp_path, {}, 0.0)
        check(service, client, model)
        for folder in (candidate, model, candidate):
            watch(running)
            way = f"{API}/model/rollback" if folder == model else f"{API}/model/promotions"
            body = None if folder == model else {"name": "turned"}
            assert client.post(way, json=body).status_code == 202
            assert finished(running, client)["state"] == "done"
            check(service, client, folder)
    with start(model) as (service, client):
        check(service, client, candidate)
        assert client.post(f"{API}/model/rollback").status_code == 202
        assert finished(RunningService(service, tmp_path, {}, 0.0), client)["state"] == "done"
        check(service, client, model)


def test_a_new_camera_gets_a_mean_of_its_own_as_it_sees_people(
    start: Start, tmp_path: Path, model_folder: Path
) -> None:
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 40})
    with start(model) as (service, client):
        gallery = service.system.gallery
        fill(service, 19, ("gate", "plaza"))
        before = gallery.centring
        client.post(f"{API}/model/calibration")
        assert gallery.centring.mark == before.mark == means_of(model).mark and not list(tmp_path.glob("state/means-*"))
        fill(service, 1, ("plaza",))
        stored = gallery.vectors(gallery.numbers().tolist())
        client.post(f"{API}/model/calibration")
        assert gallery.centring.mark != before.mark
        told = client.get(f"{API}/model").json()["camera_means"]["plaza"]
        assert told["origin"] == "sightings" and 1 <= told["people"] <= 20 and told["made"].endswith("Z")
        for number, row in gallery.vectors(list(stored)).items():
            np.testing.assert_array_equal(row, stored[number])  # what is stored is as it was added
        answer = client.post(f"{API}/search", json={"sighting_id": int(gallery.numbers()[-1]), **REASON}).json()
        check_scores(service, answer, gallery.vector(int(gallery.numbers()[-1])), "plaza", gallery.centring)
        common = gallery.centring.common
        own = gallery.centring.by_camera["plaza"]
        assert own @ BIAS["plaza"] > common @ BIAS["plaza"]
        client.post(f"{API}/model/calibration")  # nothing new was seen
        (entry,) = service.audit.entries(action="camera_means_renewed")
        assert (
            "20 sightings" in entry.detail["cameras"]["plaza"] and "does not know" in entry.detail["cameras"]["plaza"]
        )
        fill(service, 20, ("plaza",))
        client.post(f"{API}/model/calibration")
        assert len(service.audit.entries(action="camera_means_renewed")) == 2
        mark = gallery.centring.mark
    with start(model) as (service, client):
        assert service.system.gallery.centring.mark == mark
        service.system.gallery.delete(
            [n for n, row in service.system.gallery.sightings().items() if row.camera == "plaza"]
        )
        client.post(f"{API}/model/calibration")  # whoever was seen there is gone, and their mean with them
        assert service.system.gallery.centring.mark == means_of(model).mark
        assert client.get(f"{API}/model").json()["camera_means"]["plaza"]["origin"] == "common"


def test_a_mean_that_drifted_is_made_anew(start: Start, tmp_path: Path, model_folder: Path) -> None:
    model = adapted(tmp_path / "model", model_folder, {"gate": 60, "market": 60})
    with start(model) as (service, client):
        gallery = service.system.gallery
        fill(service, 200, ("gate",))
        client.post(f"{API}/model/calibration")
        assert gallery.centring.mark == means_of(model).mark  # other people at the same camera are no drift
        gallery.add_many(rows_of("gate", 200, turned=0.6), "gate")
        client.post(f"{API}/model/calibration")
        (entry,) = service.audit.entries(action="camera_means_renewed")
        assert entry.detail["cameras"].keys() == {"gate"} and "for it drifted by 0." in entry.detail["cameras"]["gate"]
        assert gallery.centring.by_camera["gate"][9] > 0.2 > means_of(model).by_camera["gate"][9] + 0.1
        kept = gallery.centring.mark
        client.post(f"{API}/model/calibration")
        assert gallery.centring.mark == kept
        client.headers["Accept"] = "text/html"
        assert "made of sightings" in client.get("/status").text


def test_a_damaged_record_of_means_is_made_anew(
    start: Start, tmp_path: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = adapted(tmp_path / "model", model_folder, {"gate": 40})
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / f"means-{read_manifest(model).model_id}.json").write_text('{"cameras": 5}')
    with start(model) as (service, _):
        assert service.system.gallery.centring.mark == means_of(model).mark and "means are made anew" in caplog.text


def test_recall_is_measured_on_what_is_compared(start: Start, tmp_path: Path, model_folder: Path) -> None:
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 40})
    with start(model) as (service, _):
        fill(service, 40, CAMERAS)
        assert SampledRecall(service.system).now() == 1.0


def test_reranked_answers_keep_their_scores(start: Start, tmp_path: Path, model_folder: Path) -> None:
    model = adapted(tmp_path / "model", model_folder, {"gate": 40, "market": 40})
    with start(model) as (service, client):
        fill(service, 40)
        body = {"sighting_id": 3, "k": 200, **REASON}
        plain = client.post(f"{API}/search", json=body).json()
        again = client.post(f"{API}/search", json={**body, "rerank": True}).json()
        assert not plain["is_reranked"] and again["is_reranked"]
        pairs = [{hit["sighting_id"]: hit["score"] for hit in answer["hits"]} for answer in (plain, again)]
        assert pairs[0] == pairs[1] and list(pairs[0]) != list(pairs[1]) and 3 not in pairs[1]
        few = client.post(f"{API}/search", json={**body, "k": 5, "rerank": True}).json()["hits"]
        assert [hit["sighting_id"] for hit in few] == list(pairs[1])[:5]
        files = {"picture": ("p.png", png_of(crop_of(2)), "image/png")}
        answer = client.post(f"{API}/search/picture", data={**REASON, "rerank": "true"}, files=files).json()
        assert answer["is_reranked"]
        client.headers["Accept"] = "text/html"
        page = client.get(f"/searches/{answer['search_id']}").text
        assert "a lower score may stand above a higher one" in page and 'name="rerank" value="yes" checked' in page
