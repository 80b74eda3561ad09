"""The page without a browser: every page renders for every role, forms work without scripts, errors are pages."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from service_fixtures import REASON, SECRET_URL, RunningService, crop_of, png_of, show_live

from reid_mtda.errors import StorageError
from reid_mtda.types import Tracklet

PAGES = ("/", "/sightings", "/search", "/reviews", "/status", "/tokens", "/audit")
ALLOWED = {
    "viewer": {"/", "/sightings", "/status"},
    "operator": {"/", "/sightings", "/search", "/reviews", "/status"},
    "reviewer": {"/", "/sightings", "/search", "/reviews", "/status"},
    "admin": set(PAGES),
}


@pytest.mark.parametrize("role", ALLOWED)
def test_each_role_sees_its_pages_and_links_to_no_others(running: RunningService, role: str) -> None:
    client, _ = running.signed_in(role)
    linked = set(re.findall(r'<a href="(/[a-z]*)"', client.get("/").text))
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code == (200 if path in ALLOWED[role] else 403), path
        assert (path in linked) == (path in ALLOWED[role]), path
        assert "pa55word" not in answer.text and SECRET_URL not in answer.text


def test_nobody_gets_in_without_signing_in(running: RunningService) -> None:
    visitor = running.visitor()
    visitor.headers["Accept"] = "text/html"
    for path in PAGES:
        answer = visitor.get(path)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/login?next=")


def test_search_by_upload_refine_and_confirm_with_forms_alone(running: RunningService) -> None:
    client, csrf = running.signed_in("operator", user="ann")
    made = client.post(
        "/search",
        data={"csrf": csrf, **REASON},
        files={"picture": ("p.png", png_of(crop_of(1)), "image/png")},
    )
    assert made.status_code == 303
    answer = client.get(made.headers["location"])
    assert answer.status_code == 200 and "12 sightings searched" in answer.text
    refined = client.post(
        made.headers["location"] + "/filters", data={"csrf": csrf, "cameras": ["market"], "k": "3", "min_score": "0.5"}
    )
    page = client.get(refined.headers["location"]).text
    assert set(re.findall(r'<p class="line"><b>([a-z]+)</b>', page)) == {"market"}
    number = running.numbers[1, "market"]
    said = client.post(
        refined.headers["location"] + "/reviews", data={"csrf": csrf, "sighting_id": number, "decision": "same"}
    )
    assert said.status_code == 303
    longest = {"csrf": csrf, "sighting_id": "9" * 5000, "decision": "same"}
    assert client.post(refined.headers["location"] + "/reviews", data=longest).status_code == 422
    assert "waits for a second person" in client.get(refined.headers["location"]).text
    reviewer, secret = running.signed_in("reviewer", user="bob")
    assert reviewer.post("/reviews/1", data={"csrf": secret, "decision": "same"}).status_code == 303
    assert "bob says" in reviewer.get("/reviews?state=confirmed").text
    assert "confirmed by two" in client.get(refined.headers["location"]).text


def test_a_search_of_as_many_cameras_as_there_can_be(running: RunningService) -> None:
    client, csrf = running.signed_in("operator")
    cameras = ["market", *(f"camera{n}" for n in range(127))]
    fields = {"csrf": csrf, **REASON, "sighting_id": str(running.numbers[0, "gate"]), "cameras": cameras}
    made = client.post("/search", data=fields, files={"picture": ("", b"", "application/octet-stream")})
    assert made.status_code == 303, made.text


def test_a_search_that_waits_for_the_model_keeps_nobody_else_waiting(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()
    of_upload = running.service.queries.of_upload

    def slow(*arguments, **more):
        asked.set()
        assert answered.wait(20)
        return of_upload(*arguments, **more)

    monkeypatch.setattr(running.service.queries, "of_upload", slow)
    client, csrf = running.signed_in("operator")
    form = {"data": {"csrf": csrf, **REASON}, "files": {"picture": ("p.png", png_of(crop_of(1)), "image/png")}}
    with client, ThreadPoolExecutor() as people:  # one event loop for both
        searching = people.submit(client.post, "/search", **form)
        assert asked.wait(20)
        health = people.submit(client.get, "/api/v1/health")
        try:
            assert health.result(5).status_code == 200 and not searching.done()
        finally:
            answered.set()
        assert searching.result(20).status_code == 303


def test_a_picked_person_is_shown_before_searching(running: RunningService) -> None:
    client, csrf = running.signed_in("operator")
    show_live(running, "gate", 0)
    pick = client.post("/api/v1/cameras/gate/picks", json={"track_id": 5}, headers={"X-CSRF-Token": csrf}).json()
    form = client.get("/search", params={"pick": pick["pick_id"]}).text
    assert f"/picks/{pick['pick_id']}/picture" in form
    assert client.get(f"/picks/{pick['pick_id']}/picture").content[:2] == b"\xff\xd8"
    other, _ = running.signed_in("operator", user="bob")
    assert other.get(f"/picks/{pick['pick_id']}/picture").status_code == 404


@pytest.mark.parametrize(
    ("data", "status", "complaint"),
    [
        ({"purpose": "", "case_reference": "x-1"}, 422, "purpose"),
        ({**REASON}, 422, "choose a picture"),
        ({**REASON, "sighting_id": "abc"}, 422, "expected a number"),
        ({**REASON, "sighting_id": "99999"}, 404, "no such sighting"),
        ({**REASON, "sighting_id": "9" * 5000}, 422, "expected a number"),
        ({**REASON, "sighting_id": "1", "cameras": ["x" * 65]}, 422, "cameras"),
        ({**REASON, "sighting_id": "1", "k": "many"}, 422, "cannot be read"),
        ({**REASON, "sighting_id": "1", "start": "yesterday"}, 422, "cannot be read"),
        ({**REASON, "sighting_id": "1", "min_score": "nan"}, 422, "min_score"),
        ({**REASON, "pick_id": "x"}, 404, "no longer held"),
    ],
)
def test_wrong_forms_come_back_as_a_page_with_words(
    running: RunningService, data: dict, status: int, complaint: str
) -> None:
    client, csrf = running.signed_in("operator")
    answer = client.post("/search", data={"csrf": csrf, **data})
    assert answer.status_code == status and complaint in answer.text and "<h1>" in answer.text


def test_that_nobody_can_be_looked_up_is_told_on_a_page(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_) -> None:
        raise StorageError("access.sqlite: could not be used")

    client, _ = running.signed_in("viewer")
    monkeypatch.setattr(running.service.auth, "resume", broken)
    answer = client.get("/")
    assert answer.status_code == 507 and "<h1>" in answer.text and "content-security-policy" in answer.headers


def test_names_are_escaped(running: RunningService) -> None:
    name = "<script>alert(1)</script>"
    client, _ = running.signed_in("admin", user=name)
    for path in ("/", "/tokens", "/audit"):
        text = client.get(path).text
        assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_a_wrong_token_is_told_on_the_form(running: RunningService) -> None:
    visitor = running.visitor()
    visitor.headers["Accept"] = "text/html"
    answer = visitor.post("/login", data={"token": "rmt_x_y"})
    assert answer.status_code == 401 and "unknown, expired or revoked" in answer.text


def test_a_token_made_on_the_page_is_shown_once(running: RunningService) -> None:
    client, csrf = running.signed_in("admin")
    form = {"csrf": csrf, "user": "dora", "role": "viewer", "days": "3", "cameras": ["gate"]}
    made = client.post("/tokens", data=form).text
    (token,) = re.findall(r"rmt_[0-9a-f]{8}_[\w-]{43}", made)
    assert running.service.auth.identify(token).cameras == frozenset({"gate"})
    assert token not in client.get("/tokens").text
    number = token.split("_")[1]
    assert client.post(f"/tokens/{number}/revoke", data={"csrf": csrf}).status_code == 303


def test_pausing_from_the_status_page(running: RunningService) -> None:
    client, csrf = running.signed_in("operator")
    assert client.post("/cameras/gate/resume", data={"csrf": csrf}).status_code == 303
    assert running.service.system.pool.state("gate").stream.state != "paused"
    assert client.post("/cameras/gate/explode", data={"csrf": csrf}).status_code == 404


def test_the_status_page_says_what_is_kept_for_adaptation(running: RunningService) -> None:
    system = running.service.system
    for name in ("gate", "market"):
        camera = system.pool._cameras[name]
        camera.settings = camera.settings.model_copy(update={"keep_for_adaptation": True})
    crop = crop_of(0)
    times = np.array([1.0, 2.0])
    system.kept.take(Tracklet("gate", 1, (crop, crop), np.zeros((2, 4), np.float32), np.arange(2), times))
    text = running.signed_in("viewer")[0].get("/status").text
    headings = re.findall(r"<th[^>]*>([^<]*)</th>", text)
    rows = {
        name: re.findall(r"<td[^>]*>(.*?)</td>", cells, re.DOTALL)
        for name, cells in re.findall(r"<tr>\s*<td><b>(\w+)</b>(.*?)</tr>", text, re.DOTALL)
    }
    kept = {name: cells[headings.index("For adaptation") - 1] for name, cells in rows.items()}
    assert kept == {"gate": "2 crops", "market": "0 crops", "plaza": "no"}


def test_pages_hold_no_inline_script_or_style_and_nothing_from_elsewhere(running: RunningService) -> None:
    client, _ = running.signed_in("admin")
    for path in PAGES:
        text = client.get(path).text
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", text), path
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text), path


def test_a_disk_that_fills_up_is_said_on_the_page_and_searched_without_pictures(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = running.numbers[1, "gate"]
    running.service.system.gallery.lookup([number])[number].thumbnail.unlink()
    monkeypatch.setattr("reid_mtda.live.disk_guard.free_disk_mb", lambda folder: 300.0)
    running.service.system.disk.poll()
    for path in ("/", "/status"):
        assert (
            "pictures are not stored, sightings are, searches go on while the audit can be written"
            in running.signed_in("viewer")[0].get(path).text
        )
    lines = running.service.metrics.text().decode().splitlines()
    assert "reid_disk_low 1.0" in lines and "reid_disk_full 0.0" in lines
    answer = running.client("operator").post("/api/v1/search", json={"sighting_id": number, "k": 2, **REASON})
    assert {hit["camera"] for hit in answer.json()["hits"]} == {"market", "plaza"}


def test_the_address_of_the_form_of_models_can_be_opened(running: RunningService) -> None:
    for role in ("viewer", "admin"):
        answer = running.signed_in(role)[0].get("/models")
        assert (answer.status_code, answer.headers["location"]) == (303, "/status#model")
    assert running.visitor().get("/models", headers={"Accept": "text/html"}).headers["location"].startswith("/login")
