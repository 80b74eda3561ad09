"""What was changed while running is there after a restart: cameras, pauses, and the way back to the model before."""

import json
import logging
import shutil
import threading
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

from colour_model import write_colour_model
from service_fixtures import REASON, RunningService, crop_of
from test_model_registry import watch

from reid_mtda.camera_means import write_cameras
from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model_folder import read_manifest
from reid_mtda.service.app import create_app
from reid_mtda.service.app_state import AppState
from reid_mtda.service.cameras import FILE
from reid_mtda.service.queries import number_of
from reid_mtda.service.roles import Role
from reid_mtda.service.run import running_service
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import Site

API = "/api/v1"
SECRET = "pa55word"
ADDED = {
    "name": "yard",
    "url": f"rtsp://user:{SECRET}@127.0.0.1:1/yard?key={SECRET}",
    "detector": "motion",
    "retention_days": 2,
}


Start = Callable[..., AbstractContextManager[tuple[AppState, TestClient]]]


@pytest.fixture
def start(tmp_path: Path, model_folder: Path) -> Start:
    """Start the service as after the last stop; ``allowed``: the hosts of its settings; ``gone``: files that went."""
    cameras = {
        name: Camera(url=f"synthetic://street?camera={name}&duration=20", retention_days=2, detector="motion")
        for name in ("gate", "market")
    }

    @contextmanager
    def started(
        *,
        allowed: tuple[str, ...] = ("127.0.0.1",),
        gone: str = "",
        model: Path = model_folder,
        gallery: Path = tmp_path / "gallery",
    ) -> Iterator[tuple[AppState, TestClient]]:
        settings = ServiceSettings(allowed_hosts=allowed, candidates=str(tmp_path / "candidates"))
        there = {name: camera for name, camera in cameras.items() if name != gone}
        site, state = Site("running", tmp_path, there), tmp_path / "state"
        with running_service(site, model, gallery, state, settings) as service:
            token, _ = service.auth.create("ann", Role.ADMIN, days=1, created_by="test")
            yield (
                service,
                TestClient(
                    create_app(service),
                    base_url="http://127.0.0.1",
                    headers={"Authorization": f"Bearer {token}"},
                    raise_server_exceptions=False,
                ),
            )

    return started


def names(client: TestClient) -> list[str]:
    return [camera["name"] for camera in client.get(f"{API}/cameras").json()]


def test_cameras_are_found_as_they_were_left(start: Start, tmp_path: Path) -> None:
    with start() as (_, client):
        assert client.post(f"{API}/cameras", json=ADDED).status_code == 201
        assert client.delete(f"{API}/cameras/gate").status_code == 204
        for name in ("market", "yard"):
            assert client.post(f"{API}/cameras/{name}/pause").status_code == 200
    with start() as (service, client):
        cameras = {camera["name"]: camera for camera in client.get(f"{API}/cameras").json()}
        assert sorted(cameras) == ["market", "yard"]
        assert cameras["yard"]["retention_days"] == 2 and cameras["yard"]["state"] == "paused"
        assert cameras["market"]["state"] == "paused"
        assert service.system.pool._cameras["yard"].stream._url == ADDED["url"]  # its password is still there
        assert client.post(f"{API}/cameras/gate/restore").status_code == 201
        assert client.post(f"{API}/cameras/gate/restore").status_code == 422
        assert client.post(f"{API}/cameras/yard/restore").status_code == 422
        assert client.post(f"{API}/cameras/market/resume").json()["state"] != "paused"
        assert client.delete(f"{API}/cameras/yard").status_code == 204
    for path in (tmp_path / "state").glob("cameras*"):
        assert path.stat().st_mode & 0o077 == 0 and SECRET.encode() not in path.read_bytes()
    with start() as (_, client):
        assert names(client) == ["gate", "market"]
        assert {camera["state"] for camera in client.get(f"{API}/cameras").json()} & {"paused"} == set()
        actions = [entry["action"] for entry in client.get(f"{API}/audit").json()["entries"]]
    assert actions.count("camera_added") == actions.count("camera_put_back") == 1
    assert actions.count("camera_removed") == 2


def test_an_address_no_longer_allowed_is_left_out_and_named_without_its_password(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with start() as (_, client):
        client.post(f"{API}/cameras", json=ADDED)
        kept = [path for path in (tmp_path / "state").iterdir() if SECRET.encode() in path.read_bytes()]
        assert kept and all(path.name.startswith(FILE) and path.stat().st_mode & 0o077 == 0 for path in kept)
    with start(allowed=()) as (_, client):
        assert names(client) == ["gate", "market"]
        (entry,) = client.get(f"{API}/audit", params={"action": "camera_refused"}).json()["entries"]
        assert "host '127.0.0.1' is not allowed" in entry["detail"]["reason"]
        assert "yard" in client.get(f"{API}/alerts").text
        paths = (f"{API}/audit", f"{API}/cameras", f"{API}/alerts", "/metrics")
        shown = "".join(client.get(path).text for path in paths)
    assert "yard" in caplog.text and SECRET not in caplog.text and SECRET not in shown
    with start() as (_, client):  # the settings allow it again
        assert names(client) == ["gate", "market", "yard"] and client.get(f"{API}/alerts").json() == {}
    with start(allowed=()) as (_, client):  # it can be removed all the same, address and all
        assert client.delete(f"{API}/cameras/yard").status_code == 204
        assert client.delete(f"{API}/cameras/yard").status_code == 404
        assert client.get(f"{API}/alerts").json() == {}
    assert not [path for path in (tmp_path / "state").iterdir() if SECRET.encode() in path.read_bytes()]
    with start() as (service, client):
        assert names(client) == ["gate", "market"] and service.system.pool.former == {"yard": 2.0}


def test_what_the_system_refuses_is_not_kept(start: Start) -> None:
    with start() as (service, client):
        body = {"name": "market", "url": "synthetic://street?camera=plaza&duration=20"}
        assert client.post(f"{API}/cameras", json=body).status_code == 422
        with pytest.raises(ConfigError, match="no such camera"):
            service.cameras.remove("ann", "nowhere")
        with pytest.raises(ConfigError, match="no such camera"):
            service.cameras.switch("ann", "nowhere", paused=True)
        rows = service.cameras._database.read("SELECT * FROM cameras")
        assert [tuple(row) for row in rows] == [(name, None, 2.0, 0, 0) for name in ("gate", "market")]


def test_damaged_settings_are_named_and_the_service_starts(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with start() as (service, client):
        client.post(f"{API}/cameras", json=ADDED)
        with service.cameras._database.write() as connection:
            connection.execute("UPDATE cameras SET settings = '[]' WHERE name = 'yard'")
    with start() as (_, client):
        assert names(client) == ["gate", "market"]
    assert "what is kept of camera 'yard' cannot be read" in caplog.text


def test_sightings_of_a_removed_camera_grow_old_after_a_restart_too(start: Start, tmp_path: Path) -> None:
    with start() as (service, client):
        client.post(f"{API}/cameras", json=ADDED)
        vector = service.system.model_server.embed_one(crop_of(0))
        client.delete(f"{API}/cameras/yard")
        client.delete(f"{API}/cameras/market")
        assert client.post(f"{API}/cameras/market/restore").status_code == 201
    with Gallery.open(tmp_path / "gallery") as gallery:
        for age_days in (1, 3):
            seen = time.time() - age_days * 86400
            for camera in ("yard", "market"):  # the file of the market goes while nobody looks
                gallery.add(vector, camera, age_days, seen, seen + 5, crop_of(0), added_s=seen)
    with start(gone="market") as (service, _):
        service.system.expire_sightings(accept=True)
        left = [(row.camera, row.track_id) for row in service.system.gallery.sightings().values()]
        assert sorted(left) == [("market", 1), ("yard", 1)]


def wait_for_job(client: TestClient) -> dict:
    deadline = time.monotonic() + 20
    while (job := client.get(f"{API}/model/candidates").json()["job"])["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def test_one_can_go_back_to_the_model_before_after_a_restart(start: Start, tmp_path: Path) -> None:
    for turn in (1, 2):
        write_colour_model(tmp_path / "candidates" / f"turned{turn}", turn=turn)
    with start() as (service, client):
        first = client.get(f"{API}/model").json()["model_id"]
        assert not client.get(f"{API}/model/candidates").json()["can_roll_back"]
        for person in range(2):
            for place, camera in enumerate(("gate", "market")):
                crop, seen = crop_of(person, 4 * place), time.time() - 600 + 60 * place
                service.system.gallery.add(
                    service.system.model_server.embed_one(crop), camera, 10 * person + place, seen, seen + 5, crop
                )
        for name in ("turned1", "turned2"):  # the second is what a restart must come back with
            watch(RunningService(service, tmp_path, {}, 0.0))
            assert client.post(f"{API}/model/promotions", json={"name": name}).status_code == 202
            assert wait_for_job(client)["state"] == "done"
            first, before = client.get(f"{API}/model").json()["model_id"], first
    with Gallery.open(tmp_path / "gallery") as gallery:  # no way back leads to it: neither erasure nor retention would
        assert len(gallery) == 0
    with start() as (service, client):
        assert client.get(f"{API}/model").json()["model_id"] == first
        assert client.get(f"{API}/model/candidates").json()["can_roll_back"]
        # What is erased now must not come back with the former gallery.
        rows = client.get(f"{API}/sightings").json()["sightings"]
        gone = next(row["sighting_id"] for row in rows if row["track_id"] == 11)
        client.post(f"{API}/erasures", json={"sighting_ids": [gone], "reason": "asked for"})
        assert len(service.system.model_server.previous_gallery) == len(rows) - 1
        assert client.post(f"{API}/model/rollback").status_code == 202
        assert wait_for_job(client)["state"] == "done"
        assert client.get(f"{API}/model").json()["model_id"] == before
        left = client.get(f"{API}/sightings").json()["sightings"]
        assert 11 not in {row["track_id"] for row in left}
        number = next(row["sighting_id"] for row in left if row["track_id"] == 0)
        body = {"sighting_id": number, "k": 1, "cameras": ["market"], "end_s": time.time() - 300, **REASON}
        assert [hit["track_id"] for hit in client.post(f"{API}/search", json=body).json()["hits"]] == [1]
    with start() as (_, client):
        assert client.get(f"{API}/model").json()["model_id"] == before


@pytest.mark.parametrize("record", ["{", "[]", '{"started_with": "x"}', "null"])
def test_a_damaged_record_serves_what_was_asked_for(start: Start, tmp_path: Path, record: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "serving.json").write_text(record)
    with start() as (_, client):
        assert client.get(f"{API}/model").status_code == 200


def test_a_promoted_model_that_vanished_is_named_and_the_asked_one_serves(
    start: Start, tmp_path: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start() as (_, client):
        asked = client.get(f"{API}/model").json()["model_id"]
        place = {"model": str(tmp_path / "gone"), "gallery": str(tmp_path / "gallery")}
        record = {"started_with": asked, "model_id": "0" * 16, "now": place, "before": place}
        (tmp_path / "state" / "serving.json").write_text(json.dumps(record))
    with start() as (_, client):
        assert client.get(f"{API}/model").json()["model_id"] == asked
    assert "the model put in service last cannot be used" in caplog.text and "gone" in caplog.text
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert gallery.model_id == asked


def test_drift_is_measured_against_what_was_seen_before_the_restart(start: Start) -> None:
    first, later = np.eye(2, 36, dtype=np.float32)
    for vector, count, expected in ((first, 200, 0.0), (later, 20, 1.0)):
        with start() as (service, client):
            for name in ("gate", "market"):
                client.post(f"{API}/cameras/{name}/pause")
            for _ in range(count):
                service.system.model_server.drift_monitor.sighting("yard", vector, vector[None])
            assert client.get(f"{API}/model").json()["drift"]["yard"] == pytest.approx(expected, abs=1e-6)


def test_each_model_has_what_its_cameras_looked_like(start: Start, tmp_path: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "asked")
    write_colour_model(tmp_path / "candidates" / "turned", turn=1)
    axes = np.eye(36, dtype=np.float32)
    for folder, mean in ((tmp_path / "asked", axes[0]), (tmp_path / "candidates" / "turned", axes[1])):
        write_cameras(folder, read_manifest(folder), {"gate": mean[None]})

    def drift(service: AppState, client: TestClient) -> float:
        for _ in range(20):
            service.system.model_server.drift_monitor.sighting("gate", axes[0], axes[:1])
        return client.get(f"{API}/model").json()["drift"]["gate"]

    with start(model=tmp_path / "asked") as (service, client):
        for name in ("gate", "market"):
            client.post(f"{API}/cameras/{name}/pause")
        assert drift(service, client) == pytest.approx(0.0, abs=1e-6)
        watch(RunningService(service, tmp_path, {}, 0.0))
        assert client.post(f"{API}/model/promotions", json={"name": "turned"}).status_code == 202
        assert wait_for_job(client)["state"] == "done"
        assert drift(service, client) == pytest.approx(1.0, abs=1e-6)
    with start(model=tmp_path / "asked") as (service, client):
        assert drift(service, client) == pytest.approx(1.0, abs=1e-6)
        assert client.post(f"{API}/model/rollback").status_code == 202
        assert wait_for_job(client)["state"] == "done"
        assert drift(service, client) == pytest.approx(0.0, abs=1e-6)
    (tmp_path / "asked" / "cameras.json").write_text("{")
    with start(model=tmp_path / "asked") as (_, client):
        assert client.get(f"{API}/model").json()["drift"] == {}


def test_a_start_looks_up_the_sightings_of_reviews_and_no_others(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start() as (service, client):
        for track_id in range(4):
            see(service, track_id)
        query, candidate, *_ = service.system.gallery.numbers().tolist()
        made = client.post(f"{API}/search", json={"sighting_id": query, "k": 3, **REASON}).json()
        body = {"search_id": made["search_id"], "sighting_id": candidate, "decision": "same"}
        review = client.post(f"{API}/reviews", json=body).json()
        service.reviews.renumber({}.get)  # as if it had been made with another gallery
    read_all, readers = Gallery.sightings, list[threading.Thread]()

    def noted(gallery: Gallery, **chosen: object) -> dict:
        readers.append(threading.current_thread())
        return read_all(gallery, **chosen)

    monkeypatch.setattr(Gallery, "sightings", noted)
    with start() as (service, client):
        assert threading.current_thread() not in readers  # retention, on its own thread, may read what it likes
        (found,) = client.get(f"{API}/reviews").json()
        assert found == review and (found["query_id"], found["candidate_id"]) == (query, candidate)
        assert service.reviews.renumber(lambda key: number_of(service.system.gallery, key)) == 0


def see(service: AppState, track_id: int) -> None:
    """Somebody walks past the gate, and is added to the gallery that answers."""
    crop, seen, system = crop_of(track_id % 4), time.time() - 600 + track_id, service.system
    system.gallery.add(system.model_server.embed_one(crop), "gate", track_id, seen, seen + 5, crop)


def tracks(gallery: Gallery) -> list[int]:
    return sorted(row.track_id for row in gallery.sightings().values())


@pytest.mark.parametrize("moment", ["switch", "carry over"])
def test_a_kill_while_the_model_changes_loses_nobody(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    write_colour_model(tmp_path / "candidates" / "turned", turn=1)
    with start() as (service, client):
        old = service.system.gallery
        see(service, 1)

        def killed(*arguments: object) -> None:
            see(service, 2)
            if moment == "carry over":
                switch(*arguments)
                see(service, 3)  # by the new model alone
                vector = np.eye(1, old.dim, dtype=np.float32)[0]
                old.add(vector, "gate", 4, time.time(), time.time(), crop_of(0))
            raise RuntimeError("killed")

        switch = service.system.switch
        monkeypatch.setattr(service.system, "switch", killed)
        watch(RunningService(service, tmp_path, {}, 0.0))
        client.post(f"{API}/model/promotions", json={"name": "turned"})
        assert wait_for_job(client)["state"] == "failed"
    expected = [1, 2] if moment == "switch" else [1, 2, 3, 4]
    with start() as (service, client):
        assert wait_for_job(client)["state"] == "done"
        assert service.system.model.manifest.model_id != old.model_id and tracks(service.system.gallery) == expected
        assert client.post(f"{API}/model/rollback").status_code == 202
        assert wait_for_job(client)["state"] == "done"
        assert tracks(service.system.gallery) == expected
    with start() as (_, client):  # it is complete
        assert client.get(f"{API}/model/candidates").json()["job"] is None


def promote(service: AppState, client: TestClient, tmp_path: Path, name: str) -> str:
    """Put a candidate in service; how the job ended."""
    watch(RunningService(service, tmp_path, {}, 0.0))
    assert client.post(f"{API}/model/promotions", json={"name": name}).status_code == 202
    return wait_for_job(client)["state"]


def test_a_gallery_that_nobody_reaches_does_not_stay(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One begun for a model that did not go in service after all, and one that a kill left behind."""
    manifest = write_colour_model(tmp_path / "candidates" / "turned", turn=1)
    made = tmp_path / "state" / "galleries"
    with start() as (service, client):
        see(service, 1)

        def full(*arguments: object, **others: object) -> None:
            assert (made / manifest.model_id).is_dir()
            raise StorageError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr("reid_mtda.service.model_registry.keep_serving", full)
            assert promote(service, client, tmp_path, "turned") == "failed"
        assert list(made.iterdir()) == [] and tracks(service.system.gallery) == [1]
        assert promote(service, client, tmp_path, "turned") == "done"
    with Gallery.open(made / "0123", "0123", 3) as gallery:
        gallery.add(np.eye(1, 3, dtype=np.float32)[0], "gate", 1, 1.0, 2.0, crop_of(0))
    with start() as (_, client):
        (entry,) = client.get(f"{API}/audit", params={"action": "gallery_removed"}).json()["entries"]
        assert entry["detail"] == {"gallery": "0123"}
        assert [folder.name for folder in made.iterdir()] == [manifest.model_id]


@pytest.mark.parametrize("what", ["its folder went", "another was asked for"])
def test_what_a_model_saw_that_does_not_answer_any_more_stays_within_reach(
    start: Start, tmp_path: Path, what: str
) -> None:
    write_colour_model(tmp_path / "candidates" / "turned", turn=1)
    folder = tmp_path / "candidates" / "turned"
    with start() as (service, client):
        see(service, 1)
        assert promote(service, client, tmp_path, "turned") == "done"
        see(service, 2)
    other: dict[str, Path] = {}
    if what == "its folder went":
        folder.rename(tmp_path / "elsewhere")
    else:
        other = {"model": tmp_path / "other", "gallery": tmp_path / "gallery2"}
        write_colour_model(other["model"], turn=2)
    with start(**other) as (service, client):
        assert wait_for_job(client)["state"] == "done"
        assert tracks(service.system.gallery) == tracks(service.system.model_server.previous_gallery) == [1, 2]
        number = next(n for n, row in service.system.gallery.sightings().items() if row.track_id == 1)
        client.post(f"{API}/erasures", json={"sighting_ids": [number], "reason": "asked for"})
        see(service, 3)
    if other:
        with Gallery.open(tmp_path / "gallery") as gallery:  # the first of all: nothing reaches it any more
            assert tracks(gallery) == []
    if what == "its folder went":
        (tmp_path / "elsewhere").rename(folder)
    with start(**other) as (service, client):  # one can go back, and nobody is lost
        assert tracks(service.system.gallery) == [2, 3] and tracks(service.system.model_server.previous_gallery) == [2]
        assert client.post(f"{API}/model/rollback").status_code == 202
        assert wait_for_job(client)["state"] == "done"
        assert tracks(service.system.gallery) == [2, 3]
