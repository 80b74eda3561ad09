"""A candidate goes live through the gate alone, takes the gallery and the reviews along, and can be taken back."""

import signal
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from colour_model import write_colour_model
from service_fixtures import CAMERAS, PEOPLE, REASON, RunningService, crop_of, png_of

from reid_mtda.errors import DataError
from reid_mtda.live.holdout import load_holdout
from reid_mtda.live.model_gate import GateSample
from reid_mtda.model import Model, load_model
from reid_mtda.service.app import create_app
from reid_mtda.service.run import _tell_parts_of_the_end, running_service
from reid_mtda.service.serving_record import load_serving
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import Site
from reid_mtda.types import FloatArray

API = "/api/v1"


def watch(running: RunningService) -> None:
    """Enough people at once for the gate to judge."""
    system = running.service.system
    for camera in CAMERAS:
        for n in range(60):
            early, late = (crop_of(n % len(PEOPLE), 3 * light) for light in range(2))
            sample = GateSample(camera, n, float(n), n + 3.0, early, late)
            system.samples._kept.setdefault(camera, deque(maxlen=150)).append(sample)


def finished(running: RunningService, client) -> dict:
    deadline = time.monotonic() + 20
    while (job := client.get(f"{API}/model/candidates").json()["job"])["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def test_promoted_searched_and_rolled_back(running: RunningService, model_folder: Path) -> None:
    watch(running)
    admin = running.client("admin")
    before = admin.get(f"{API}/model").json()["model_id"]
    made = admin.post(f"{API}/search", json={"sighting_id": running.numbers[1, "gate"], "k": 2, **REASON}).json()
    body = {"search_id": made["search_id"], "sighting_id": running.numbers[1, "market"], "decision": "same"}
    review = admin.post(f"{API}/reviews", json=body).json()
    running.service.system.gallery.delete([running.numbers[0, "gate"]])  # numbers shift in the new gallery
    assert admin.get(f"{API}/model/candidates").json()["candidates"] == ["turned"]
    assert admin.post(f"{API}/model/comparisons", json={"name": "turned"}).json()["passes"]
    assert admin.post(f"{API}/model/promotions", json={"name": "turned"}).status_code == 202
    assert finished(running, admin)["state"] == "done"
    after = admin.get(f"{API}/model").json()
    assert after["model_id"] != before and after["gallery_size"] == 11
    kept = load_serving(running.folder / "state", model_folder, running.folder / "gallery")
    assert kept.model.model_id == after["model_id"] and kept.started_with == before

    rows = {(r["camera"], r["track_id"]): r["sighting_id"] for r in admin.get(f"{API}/sightings").json()["sightings"]}
    hits = admin.post(f"{API}/search", json={"sighting_id": rows["gate", 10], "k": 2, **REASON}).json()["hits"]
    assert {(hit["camera"], hit["track_id"]) for hit in hits} == {("market", 11), ("plaza", 12)}
    (moved,) = admin.get(f"{API}/reviews").json()
    assert moved["id"] == review["id"] and moved["candidate_id"] == rows["market", 11]

    # What is erased now must not come back with the old gallery.
    admin.post(f"{API}/erasures", json={"sighting_ids": [rows["plaza", 12]], "reason": "asked for"})
    aside = running.service.system.model_server.previous_gallery
    assert (12, "plaza") not in {(row.track_id, row.camera) for row in aside.sightings().values()}
    assert admin.post(f"{API}/model/rollback").status_code == 202
    assert finished(running, admin)["state"] == "done"
    assert admin.get(f"{API}/model").json()["model_id"] == before
    left = {(row["camera"], row["track_id"]) for row in admin.get(f"{API}/sightings").json()["sightings"]}
    assert len(left) == 10 and ("plaza", 12) not in left
    actions = [entry["action"] for entry in admin.get(f"{API}/audit").json()["entries"]]
    assert actions.count("model_switched") == 2 and "candidate_judged" in actions


def test_what_is_listed_can_be_chosen_and_nothing_else(running: RunningService) -> None:
    write_colour_model(running.folder / "candidates" / "October 2.1", turn=1)
    (running.folder / "candidates" / "empty").mkdir()
    admin = running.client("admin")
    assert admin.get(f"{API}/model/candidates").json()["candidates"] == ["October 2.1", "turned"]
    assert admin.post(f"{API}/model/comparisons", json={"name": "October 2.1"}).status_code == 200
    for name in ("empty", ".", "..", "turned/", "../candidates/turned", str(running.folder / "candidates" / "turned")):
        assert admin.post(f"{API}/model/comparisons", json={"name": name[-64:]}).status_code == 404, name


def test_a_candidate_that_fails_changes_nothing(running: RunningService) -> None:
    admin = running.client("admin")
    model_id = admin.get(f"{API}/model").json()["model_id"]
    refused = admin.post(f"{API}/model/promotions", json={"name": "turned"})  # nobody was seen yet
    assert refused.status_code == 409 and "does not pass the gate" in refused.json()["error"]["message"]
    watch(running)
    weights = running.folder / "candidates" / "turned" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-8] + b"tampered")
    assert admin.post(f"{API}/model/promotions", json={"name": "turned"}).status_code == 503
    for name in ("../model", "nowhere", "/etc"):
        assert admin.post(f"{API}/model/promotions", json={"name": name}).status_code == 404
    assert admin.post(f"{API}/model/rollback").status_code == 409
    assert admin.get(f"{API}/model").json()["model_id"] == model_id


def test_a_signal_to_stop_ends_the_gate(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    watch(running)
    server = uvicorn.Server(uvicorn.Config(create_app(running.service), log_config=None))
    _tell_parts_of_the_end(server, running.service)

    def load(folder: Path, **how: str) -> Model:
        model = load_model(folder, **how)

        def embed_and_stop(crops: FloatArray) -> FloatArray:
            server.handle_exit(signal.SIGTERM, None)
            return model.network(crops)

        return replace(model, network=embed_and_stop)

    monkeypatch.setattr("reid_mtda.service.model_registry.load_model", load)
    admin, csrf = running.signed_in("admin")
    ended = admin.post("/models", data={"csrf": csrf, "action": "promote", "name": "turned"})
    assert ended.status_code == 503 and "the service stopped before the comparison" in ended.text
    assert not running.service.audit.entries(action="candidate_judged")


def test_only_admins_of_all_cameras_change_models(running: RunningService) -> None:
    for client in (running.client("reviewer"), running.client("admin", cameras=["gate"])):
        for path in ("comparisons", "promotions"):
            assert client.post(f"{API}/model/{path}", json={"name": "turned"}).status_code == 403
        assert client.post(f"{API}/model/rollback").status_code == 403


def test_the_status_page_offers_candidates_to_admins_alone(running: RunningService) -> None:
    admin, csrf = running.signed_in("admin")
    assert "turned" in admin.get("/status").text
    assert "turned" not in running.signed_in("reviewer")[0].get("/status").text
    refused = admin.post("/models", data={"csrf": csrf, "action": "promote", "name": "turned"})
    assert refused.status_code == 409 and "does not pass the gate" in refused.text
    watch(running)
    del running.service.system.samples._kept["plaza"]
    assert admin.post("/models", data={"csrf": csrf, "action": "promote", "name": "turned"}).status_code == 303
    finished(running, running.client("admin"))
    page = admin.get("/status").text
    assert "Go back to the model before" in page and "not judged, too few people seen at once: plaza" in page
    negative, secret = running.signed_in("reviewer")
    assert negative.post("/models", data={"csrf": secret, "action": "rollback"}).status_code == 403


def test_a_check_set_is_judged_and_audited(running: RunningService) -> None:
    """Labelled pictures: the same coats in two cameras; the candidate answers alike, so it passes with its numbers."""
    folder = running.folder / "check"
    for part in ("query", "bounding_box_test"):
        (folder / part).mkdir(parents=True)
        for person in range(len(PEOPLE)):
            for camera in (1, 2):
                name = f"{person + 1:04d}_c{camera}s1_000001_00.png"
                (folder / part / name).write_bytes(png_of(crop_of(person, 4 * camera)))
    running.service.models._check_set = load_holdout(str(folder), 0.01)
    watch(running)
    admin = running.client("admin")
    comparison = admin.post(f"{API}/model/comparisons", json={"name": "turned"}).json()
    assert comparison["passes"] and comparison["checks"] == {"camera 1": [1.0, 1.0], "camera 2": [1.0, 1.0]}
    (entry,) = admin.get(f"{API}/audit", params={"action": "candidate_judged"}).json()["entries"]
    assert entry["detail"]["check_scores"] == comparison["checks"]
    next((folder / "query").iterdir()).unlink()
    gone = admin.post(f"{API}/model/promotions", json={"name": "turned"})
    assert gone.status_code == 422 and "_c" in gone.json()["error"]["message"]


def test_a_check_set_that_is_not_there_is_told_at_the_start(running: RunningService, model_folder: Path) -> None:
    settings = ServiceSettings(holdout=str(running.folder / "nowhere"))
    site = Site("running", running.folder, {})
    with (
        pytest.raises(DataError, match="nowhere: no such folder"),
        running_service(site, model_folder, running.folder / "other", running.folder / "state2", settings),
    ):
        raise AssertionError("it started")
