"""Erasure is whole, or says what is left and finishes it later: picks, kept answers, logs that others read, kills."""

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from service_fixtures import REASON, RunningService, crop_of, show_live

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.service.queries import SearchError, live_prefixes
from reid_mtda.service.run import running_service
from reid_mtda.site import Site

API = "/api/v1"


def gate_site(running: RunningService) -> Site:
    return Site("running", running.folder, {"gate": Camera(url="synthetic://street?camera=gate&duration=20")})


def read_by_another(path: Path) -> sqlite3.Connection:
    """Somebody reads a database, and does not end."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return reader


@pytest.mark.parametrize("by_camera", [False, True])
def test_a_person_picked_live_goes_with_their_sighting(running: RunningService, by_camera: bool) -> None:
    service, admin = running.service, running.client("admin")
    system, track_id = service.system, 777
    show_live(running, "gate", 0, track_id)
    pick = admin.post(f"{API}/cameras/gate/picks", json={"track_id": track_id}).json()["pick_id"]
    other = running.client("operator", user="bob")
    show_live(running, "gate", 1, 778)
    other_pick = other.post(f"{API}/cameras/gate/picks", json={"track_id": 778}).json()["pick_id"]
    found = admin.post(f"{API}/search", json={"pick_id": pick, **REASON}).json()
    hit = next(hit for hit in found["hits"] if hit["camera"] == "market")
    body = {"search_id": found["search_id"], "sighting_id": hit["sighting_id"], "decision": "same"}
    assert admin.post(f"{API}/reviews", json=body).status_code == 201
    row = service.reviews._database.read("SELECT picture FROM reviews")[0]["picture"]
    seen = running.began + 3000
    number = system.gallery.add(system.model_server.embed_one(crop_of(0)), "gate", track_id, seen, seen + 5, crop_of(0))
    asked = {"camera": "gate"} if by_camera else {"sighting_ids": [number]}
    receipt = admin.post(f"{API}/erasures", json={**asked, "reason": "asked for it"}).json()
    assert number in receipt["sightings"] and receipt["reviews"] == 1 and receipt["left"] == []
    assert admin.get(f"{API}/search/{found['search_id']}").status_code == 404
    assert admin.post(f"{API}/search", json={"pick_id": pick, **REASON}).status_code == 404
    assert other.post(f"{API}/search", json={"pick_id": other_pick, **REASON}).status_code == (
        404 if by_camera else 200
    )
    for path in (running.folder / "state").glob("reviews.sqlite*"):
        assert bytes(row)[:200] not in path.read_bytes()


def test_reviews_of_live_pictures_made_by_0_1_go_with_their_camera(running: RunningService) -> None:
    reviews = running.service.reviews
    with reviews._database.write() as connection:
        for number, key in enumerate(("live:ab12", "upload:ab12")):
            connection.execute(
                "INSERT INTO reviews (query_key, query_camera, candidate_key, candidate_id, candidate_camera, score, "
                "case_reference, picture, first_user, first_decision, first_s, state) VALUES (?, 'gate', ?, 1, "
                "'market', 0.9, 'x-1', ?, 'ann', 'same', 1.0, 'open')",
                (key, f"market/{number}/1.000", b"jpeg"),
            )
    body = {"camera": "gate", "reason": "asked for it"}
    assert running.client("admin").post(f"{API}/erasures", json=body).json()["reviews"] == 1


def test_tracks_that_begin_alike_are_others() -> None:
    assert live_prefixes(["gate/5/100.000"]) == ("live/gate/5/",)
    assert not "live/gate/51/ab".startswith(live_prefixes(["gate/5/100.000"]))


def test_an_erased_hit_is_not_kept_in_anybodys_answer(running: RunningService) -> None:
    admin, number = running.client("admin"), running.numbers[0, "market"]
    made = admin.post(f"{API}/search", json={"sighting_id": running.numbers[0, "gate"], **REASON}).json()["search_id"]
    admin.post(f"{API}/erasures", json={"sighting_ids": [number], "reason": "asked for it"})
    assert number not in {judged.hit.sighting_id for judged in running.service.searches._kept[made].hits}


@pytest.mark.parametrize("file", ["gallery/gallery.sqlite", "state/reviews.sqlite"])
def test_a_receipt_tells_what_a_foreign_reader_keeps_and_it_is_removed_later(
    running: RunningService, file: str
) -> None:
    service, admin, number = running.service, running.client("admin"), running.numbers[0, "gate"]
    made = admin.post(f"{API}/search", json={"sighting_id": number, **REASON}).json()
    body = {"search_id": made["search_id"], "sighting_id": made["hits"][0]["sighting_id"], "decision": "same"}
    admin.post(f"{API}/reviews", json=body)
    reader = read_by_another(running.folder / file)
    receipt = admin.post(f"{API}/erasures", json={"sighting_ids": [number], "reason": "asked for it"}).json()
    assert len(receipt["left"]) == 1 and "another process reads" in receipt["left"][0]
    assert service.audit.entries(action="erasure")[0].detail["left"] == receipt["left"]
    assert "another process reads" in service.system.alerts.of("erasure")
    service.erasures._due = 0.0
    service.erasures.poll()
    assert service.audit.entries(action="erasure_completed") == []
    reader.close()
    service.erasures._due = 0.0
    service.erasures.poll()
    (entry,) = service.audit.entries(action="erasure_completed")
    assert entry.detail["receipts"] == [receipt["receipt"]] and service.system.alerts.of("erasure") == ""
    assert not (running.folder / "state" / "erasures.json").exists()


def test_an_erasure_that_a_kill_interrupted_is_completed_by_the_next_start(
    running: RunningService, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, admin, number = running.service, running.client("admin"), running.numbers[0, "gate"]

    def fail(*_: object) -> int:
        raise StorageError("killed here")

    monkeypatch.setattr(service.reviews, "forget", fail)
    body = {"sighting_ids": [number], "reason": "asked for it"}
    assert admin.post(f"{API}/erasures", json=body).status_code == 507
    (begun,) = service.audit.entries(action="erasure_begun")
    service.system.stop(3)
    with running_service(
        gate_site(running), model_folder, running.folder / "gallery", running.folder / "state"
    ) as next_:
        next_.erasures.poll()
        (entry,) = next_.audit.entries(action="erasure")
        assert entry.detail["sightings"] == [number] and entry.detail["erasure"] == begun.detail["erasure"]
        assert ("gate", 0) not in {(row.camera, row.track_id) for row in next_.system.gallery.sightings().values()}
    assert not (running.folder / "state" / "erasures.json").exists()


def test_an_erasure_that_the_audit_refuses_is_not_done_later_either(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, admin, number = running.service, running.client("admin"), running.numbers[0, "gate"]

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("audit: no space left")

    with monkeypatch.context() as full:
        full.setattr(service.audit, "add", refuse)
        body = {"sighting_ids": [number], "reason": "asked for it"}
        assert admin.post(f"{API}/erasures", json=body).status_code == 507
    service.erasures.poll()
    assert number in service.system.gallery.lookup([number]) and not (running.folder / "state/erasures.json").exists()


def test_an_erasure_under_way_is_not_done_twice(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    service, admin = running.service, running.client("admin")
    real, is_held, go_on = service.reviews.forget, threading.Event(), threading.Event()

    def held(*arguments: object) -> int:
        is_held.set()
        assert go_on.wait(10)
        return real(*arguments)

    monkeypatch.setattr(service.reviews, "forget", held)
    body = {"sighting_ids": [running.numbers[0, "gate"]], "reason": "asked for it"}
    asking = threading.Thread(target=lambda: admin.post(f"{API}/erasures", json=body))
    asking.start()
    assert is_held.wait(5)
    service.erasures.poll()
    go_on.set()
    asking.join(10)
    service.erasures.poll()
    assert len(service.audit.entries(action="erasure")) == 1


def test_the_gallery_set_aside_is_asked_by_name_and_not_walked(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, walked = running.service.system, list[str]()
    aside = Gallery.open(running.folder / "aside", "other", system.gallery.dim)
    for row in system.gallery.sightings().values():
        aside.add(system.model_server.embed_one(crop_of(0)), row.camera, row.track_id, row.start_s, row.end_s, None)
    system.model_server.previous_gallery = aside
    monkeypatch.setattr(Gallery, "sightings", lambda self, *_, **__: walked.append(str(self.folder)) or {})
    body = {"sighting_ids": [running.numbers[0, "gate"]], "reason": "asked for it"}
    assert running.client("admin").post(f"{API}/erasures", json=body).status_code == 201
    assert walked == [] and len(aside) == 11


SECOND = """
import sys
from pathlib import Path
from reid_mtda.errors import ReidError
from reid_mtda.service.run import running_service
from reid_mtda.camera_settings import Camera
from reid_mtda.site import Site
model, gallery, state = map(Path, sys.argv[1:])
try:
    with running_service(Site("s", gallery, {"gate": Camera(url="synthetic://street")}), model, gallery, state):
        print("started")
except ReidError as error:
    print(error)
"""


def test_a_second_service_on_one_gallery_is_refused(running: RunningService, model_folder: Path) -> None:
    running.service.system.stop(3)
    gallery = running.folder / "gallery"
    with running_service(gate_site(running), model_folder, gallery, running.folder / "state"):
        second = [sys.executable, "-c", SECOND, str(model_folder), str(gallery), str(running.folder / "state2")]
        said = subprocess.run(second, capture_output=True, text=True, timeout=180, check=True).stdout
        assert "another service serves this gallery" in said
        with Gallery.open(gallery, running.service.system.gallery.model_id, 36) as reading:  # other programs may
            assert len(reading) >= 12


def test_files_that_a_kill_left_half_written_are_removed_at_the_start(
    running: RunningService, model_folder: Path
) -> None:
    running.service.system.stop(3)
    state = running.folder / "state"
    parts = [state / ".erasures.json.x1.part.json", state / "crops" / "gate" / ".crops.csv.x1.part.csv"]
    job = state / "candidates" / "october" / ".run.json.x1.part.json"  # of an adaptation at work
    for part in (*parts, job):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"gate": 7}))
    with running_service(gate_site(running), model_folder, running.folder / "gallery", state):
        assert not any(part.exists() for part in parts) and job.exists()


@pytest.mark.parametrize("file", ["access.sqlite", "reviews.sqlite", "cameras.sqlite"])
def test_an_emptied_database_of_the_service_is_damage(running: RunningService, model_folder: Path, file: str) -> None:
    running.service.system.stop(3)
    running.service.close()
    for path in (running.folder / "state").glob(f"{file}*"):
        path.write_bytes(b"")
    with (
        pytest.raises(StorageError, match="0 bytes"),
        running_service(gate_site(running), model_folder, running.folder / "gallery", running.folder / "state"),
    ):
        pass


def test_retention_takes_people_picked_live_along(running: RunningService) -> None:
    service, operator = running.service, running.client("operator")
    show_live(running, "gate", 0, 777)
    pick = operator.post(f"{API}/cameras/gate/picks", json={"track_id": 777}).json()["pick_id"]
    system, old = service.system, running.began - 400 * 86400
    system.gallery.add(system.model_server.embed_one(crop_of(0)), "gate", 777, old, old + 5, crop_of(0), added_s=old)
    assert system.expire_sightings(accept=True) == {"gate": 1}
    with pytest.raises(SearchError, match="no longer held"):
        service.queries.picked(service.auth.identify(operator.headers["Authorization"].split()[1]), pick)


def test_retention_waits_for_a_yes_by_page_and_api(running: RunningService) -> None:
    system, admin = running.service.system, running.client("admin")
    old = running.began - 400 * 86400
    for track_id in range(3):
        system.gallery.add(
            system.model_server.embed_one(crop_of(0)), "gate", 900 + track_id, old, old + 5, None, added_s=old
        )
    refused = admin.post(f"{API}/retention")
    assert refused.status_code == 409 and "3 sightings (gate: 3)" in refused.json()["error"]["message"]
    browser, csrf = running.signed_in("admin", user="ann")
    viewer, _ = running.signed_in("operator", user="bob")
    assert (
        "3 sightings (gate: 3)" in browser.get("/status").text and "The clock is right" in browser.get("/status").text
    )
    assert "The clock is right" not in viewer.get("/status").text
    assert len(system.gallery) == 15
    assert browser.post("/retention", data={"csrf": csrf}).status_code == 303
    assert len(system.gallery) == 12 and "The clock is right" not in browser.get("/status").text
    (entry,) = running.service.audit.entries(action="retention")
    assert (entry.user, entry.detail["removed"], entry.detail["accepted"]) == ("ann", {"gate": 3}, True)
    assert admin.post(f"{API}/retention").json() == {}


def test_a_start_says_what_waits_and_takes_a_yes(running: RunningService, model_folder: Path) -> None:
    system, old = running.service.system, running.began - 400 * 86400
    system.gallery.add(system.model_server.embed_one(crop_of(0)), "gate", 900, old, old + 5, None, added_s=old)
    system.stop(3)
    places = gate_site(running), model_folder, running.folder / "gallery", running.folder / "state"
    with running_service(*places) as service:
        assert (
            "1 sightings (gate: 1)" in service.system.alerts.of("old sightings") and len(service.system.gallery) == 13
        )
    with running_service(*places, accept_retention=True) as service:
        assert service.system.alerts.of("old sightings") == ""
        assert 900 not in {row.track_id for row in service.system.gallery.sightings().values()}
