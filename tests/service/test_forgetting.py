"""Who is let go is gone: with their reviews, from memory too, and with a receipt."""

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from service_fixtures import REASON, RunningService, crop_of
from test_model_registry import finished, watch

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import StorageError
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.camera import AddedSighting
from reid_mtda.live.model_gate import GateSample
from reid_mtda.model import load_model
from reid_mtda.service import model_registry
from reid_mtda.service.review import Proposal
from reid_mtda.service.roles import Principal, Role
from reid_mtda.service.run import running_service
from reid_mtda.site import Site
from reid_mtda.types import Tracklet

API = "/api/v1"
ANN = Principal("ann", Role.ADMIN, None, "id")


def see(running: RunningService, camera: str, track_id: int, days_ago: float) -> int:
    """Somebody was seen."""
    system, seen, crop = running.service.system, time.time() - 86400 * days_ago, crop_of(track_id % 4)
    system.samples._kept.setdefault(camera, []).append(GateSample(camera, track_id, seen, seen + 5, crop, crop))
    return system.gallery.add(system.model_server.embed_one(crop), camera, track_id, seen, seen + 5, crop, added_s=seen)


def propose(running: RunningService, query: int, candidate: int) -> int:
    """A review of two sightings."""
    rows = running.service.system.gallery.lookup([query, candidate])
    asked, found = rows[query].key, rows[candidate].key
    proposal = Proposal(asked, query, rows[query].camera, found, candidate, rows[candidate].camera, 0.9, "x-1", b"jpeg")
    return running.service.reviews.propose(ANN, proposal, "same", audit=lambda number: None).id


def reviews(running: RunningService) -> list[int]:
    return sorted(review.id for review in running.service.reviews.listed(ANN))


def test_reviews_and_samples_grow_old_with_their_sightings(running: RunningService) -> None:
    old, new, other = see(running, "gate", 900, 400), see(running, "market", 901, 1), see(running, "gate", 902, 1)
    propose(running, old, new), propose(running, other, old)
    stays = propose(running, other, new)
    assert running.service.system.expire_sightings(accept=True) == {"gate": 1}
    assert reviews(running) == [stays]
    for path in (running.folder / "state").glob("reviews.sqlite*"):  # the log of changes, too
        assert b"gate/900/" not in path.read_bytes()
    assert sorted(sample.track_id for sample in running.service.system.samples.all()) == [901, 902]


def test_each_turn_that_let_somebody_go_has_a_receipt(running: RunningService, model_folder: Path) -> None:
    see(running, "gate", 900, 400)
    running.service.system.stop(3)
    site = Site("running", running.folder, {"gate": Camera(url="synthetic://street?camera=gate&duration=20")})
    gallery, state = running.folder / "gallery", running.folder / "state"
    with running_service(site, model_folder, gallery, state, accept_retention=True) as service:
        entries = service.audit.entries(action="retention")
    assert [(entry.user, entry.detail) for entry in entries] == [("service", {"removed": {"gate": 1}})]


def test_a_review_of_somebody_who_was_not_carried_over_shows_nobody_else(running: RunningService) -> None:
    review = propose(running, running.numbers[0, "gate"], running.numbers[0, "market"])
    key = next(iter(running.service.system.gallery.lookup([running.numbers[0, "gate"]]).values())).key
    running.service.reviews.renumber({key: 7}.get)
    moved = running.service.reviews.get(ANN, review)
    assert (moved.query_id, moved.candidate_id) == (7, 0)


def promoted(running: RunningService, name: str = "turned") -> None:
    """A model in service, and the one before with its gallery set aside."""
    watch(running)
    running.service.models.promote("ann", name)
    assert finished(running, running.client("admin"))["state"] == "done"


@pytest.mark.parametrize("part", ["reviews", "kept", "aside", "gallery"])
def test_an_erasure_that_failed_half_way_completes_when_repeated(
    running: RunningService, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    promoted(running)
    service, admin = running.service, running.client("admin")
    numbers = {(row.camera, row.track_id): number for number, row in service.system.gallery.sightings().items()}
    number = numbers["gate", 0]
    propose(running, number, numbers["market", 1])
    broken = {
        "reviews": (service.reviews, "forget"),
        "kept": (service.system.kept, "forget"),
        "aside": (service.system.model_server.previous_gallery, "delete"),
        "gallery": (service.system.gallery, "delete"),
    }[part]

    def fail(*_: object) -> int:
        raise StorageError("the disk refused")

    body = {"sighting_ids": [number], "reason": "asked for"}
    with monkeypatch.context() as patch:
        patch.setattr(*broken, fail)
        assert admin.post(f"{API}/erasures", json=body).status_code == 507
    receipt = admin.post(f"{API}/erasures", json=body).json()
    assert receipt["sightings"] == [number] and reviews(running) == []
    for gallery in (service.system.gallery, service.system.model_server.previous_gallery):
        assert ("gate", 0) not in {(row.camera, row.track_id) for row in gallery.sightings().values()}


def test_whoever_is_let_go_while_the_model_changes_does_not_stand_up_again(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention at the worst moment: the new gallery answers, the old one is not set aside yet."""
    system, threads = running.service.system, list[threading.Thread]()
    see(running, "gate", 900, 400)
    switch = system.switch

    def switch_and_forget(*arguments) -> Gallery:
        old = switch(*arguments)
        threads.append(threading.Thread(target=lambda: system.expire_sightings(accept=True)))
        threads[0].start()
        threads[0].join(0.5)
        return old

    monkeypatch.setattr(system, "switch", switch_and_forget)
    promoted(running)
    threads[0].join(10)
    for gallery in (system.gallery, system.model_server.previous_gallery):
        assert len(gallery) == 12 and 900 not in {row.track_id for row in gallery.sightings().values()}


def test_whoever_is_let_go_while_a_gallery_is_made_is_not_in_it(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(running, "gate", 900, 400)

    def carry_over(*arguments, **others) -> dict[int, int]:
        numbers = real(*arguments, **others)
        running.service.system.expire_sightings(accept=True)
        return numbers

    real = model_registry.carry_over
    monkeypatch.setattr(model_registry, "carry_over", carry_over)
    promoted(running)
    assert len(running.service.system.gallery) == len(running.service.system.model_server.previous_gallery) == 12


def test_an_erasure_that_waits_for_a_change_of_model_erases_nobody_else(running: RunningService) -> None:
    """Numbers are read once nothing can change any more: the same one is another person's in the new gallery."""
    system, admin = running.service.system, running.client("admin")
    before, manifest = system.gallery, system.model.manifest
    other = load_model(running.folder / "candidates" / "turned")
    after = Gallery.open(running.folder / "new", other)
    turned = other.embed(crop_of(0))[0]
    for _, row in sorted(before.sightings().items(), reverse=True):
        after.add(turned, row.camera, row.track_id, row.start_s, row.end_s, crop_of(0))
    body = {"sighting_ids": [running.numbers[0, "gate"]], "model_id": manifest.model_id, "reason": "asked for it"}
    answers: list[int] = []
    with system.model_server.galleries_lock:
        asking = threading.Thread(target=lambda: answers.append(admin.post(f"{API}/erasures", json=body).status_code))
        asking.start()
        time.sleep(0.5)
        system.model_server.previous_gallery = system.switch(other, after)
    asking.join(10)
    assert answers == [409] and len(after) == len(before)


def test_an_erasure_and_a_sighting_under_way_leave_all_or_nothing(running: RunningService) -> None:
    """Crops to adapt to are kept after the sighting is added: an erasure in between waits for them."""
    system, is_added, asked = running.service.system, threading.Event(), threading.Event()
    tracklet = Tracklet(
        "gate", 990, (crop_of(1),), np.zeros((1, 4), np.float32), np.zeros(1, np.int64), np.array([1e9])
    )

    def on_added(added: AddedSighting) -> None:
        is_added.set()
        asked.wait(5)
        time.sleep(0.2)
        system._added(added, keep_crops=True)

    worker = system.pool.worker("gate")
    worker._on_added = on_added
    rows = np.asarray([system.model_server.embed_one(crop_of(1))])
    future: Future[np.ndarray] = Future()
    future.set_result(rows)
    worker._pending.append((system.model_server.serving, tracklet, future))
    adding = threading.Thread(target=lambda: worker._collect(1.0))
    adding.start()
    assert is_added.wait(5)
    admin, body = running.client("admin"), {"camera": "gate", "reason": "asked for it"}
    erasing = threading.Thread(target=lambda: admin.post(f"{API}/erasures", json=body))
    erasing.start()
    asked.set()
    adding.join(10), erasing.join(10)
    assert not system.gallery.sightings(Filter(["gate"])) and system.kept is not None
    assert not system.kept.count().get("gate") and not [s for s in system.samples.all() if s.camera == "gate"]


def test_sightings_of_a_camera_that_nobody_knows_are_told_of(running: RunningService) -> None:
    see(running, "cellar", 900, 400)
    assert running.service.system.expire_sightings() == {}
    assert "sightings of cellar stay" in running.service.system.alerts.of("retention")
    erased = running.client("admin").post(f"{API}/erasures", json={"camera": "cellar", "reason": "too old"})
    assert erased.status_code == 201
    running.service.system.expire_sightings()
    assert running.service.system.alerts.of("retention") == ""


def test_what_the_audit_cannot_note_is_not_decided(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageError("audit: no space left")

    client, reviewer = running.client("operator", user="ann"), running.client("reviewer", user="bob")
    asked = client.post(f"{API}/search", json={"sighting_id": running.numbers[0, "gate"], **REASON}).json()
    body = {"search_id": asked["search_id"], "sighting_id": asked["hits"][0]["sighting_id"], "decision": "same"}
    with monkeypatch.context() as full:
        full.setattr(running.service.audit, "add", refuse)
        assert client.post(f"{API}/reviews", json=body).status_code == 507
    assert client.get(f"{API}/reviews").json() == []
    number = client.post(f"{API}/reviews", json=body).json()["id"]
    with monkeypatch.context() as full:
        full.setattr(running.service.audit, "add", refuse)
        assert reviewer.post(f"{API}/reviews/{number}/decision", json={"decision": "same"}).status_code == 507
    assert client.get(f"{API}/reviews").json()[0]["state"] == "open"
    assert reviewer.post(f"{API}/reviews/{number}/decision", json={"decision": "same"}).json()["state"] == "confirmed"
