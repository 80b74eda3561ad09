"""The API as programs meet it: searches, rights on objects, cameras, reviews, erasure, refusals."""

import json
import re
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from builders import ROOT
from service_fixtures import PEOPLE, REASON, SECRET_URL, RunningService, crop_of, png_of, show_live

from reid_mtda.errors import GalleryError
from reid_mtda.gallery.stored_sightings import StoredSightings
from reid_mtda.types import Detections, Tracklet
from reid_mtda.zoo.folder import write_origin

API = "/api/v1"


BODIES = {
    "POST /search": {"sighting_id": 1, **REASON},
    "POST /cameras/{name}/picks": {"track_id": 1},
    "POST /reviews": {"search_id": "1", "sighting_id": 1, "decision": "same"},
    "POST /reviews/{number}/decision": {"decision": "same"},
    "POST /cameras": {"name": "tunnel", "url": "synthetic://street?camera=tunnel"},
    "POST /tokens": {"user": "carl", "role": "viewer"},
    "POST /erasures": {"sighting_ids": [999], "reason": "asked for it"},
    "POST /erasures/requests": {"search_id": "1", "sighting_ids": [1], "reason": "asked for it"},
    "POST /erasures/requests/{number}/decision": {"decision": "refuse"},
    "POST /model/comparisons": {"name": "nobody"},
    "POST /model/promotions": {"name": "nobody"},
}
"""A body that is understood, by route."""


def search_sighting(client, number: int, **more):
    return client.post(f"{API}/search", json={"sighting_id": number, **REASON, **more})


def test_a_sighting_is_found_again_in_the_other_cameras(running: RunningService) -> None:
    answer = search_sighting(running.client("operator"), running.numbers[1, "gate"], k=2).json()
    found = {hit["sighting_id"] for hit in answer["hits"]}
    assert found == {running.numbers[1, "market"], running.numbers[1, "plaza"]}
    assert answer["gallery_size"] == 12 and answer["hits"][0]["rank"] == 1
    assert answer["hits"][0]["start"].endswith("Z")


def test_an_uploaded_picture_finds_its_person(running: RunningService) -> None:
    client = running.client("operator")
    files = {"picture": ("p.png", png_of(crop_of(2)), "image/png")}
    answer = client.post(f"{API}/search/picture", files=files, data={**REASON, "k": "3"}).json()
    assert {hit["sighting_id"] for hit in answer["hits"]} == {
        running.numbers[2, camera] for camera in ("gate", "market", "plaza")
    }
    assert client.get(f"{API}/search/{answer['search_id']}").json()["hits"] == answer["hits"]


def nobody(image: np.ndarray) -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@pytest.mark.parametrize("detect", [None, nobody], ids=["motion alone", "a detector"])
def test_a_picture_of_a_bare_wall_is_said_to_show_nobody(running: RunningService, detect: object) -> None:
    """Whether or not the site has a detector for single pictures."""
    running.service.queries._detect = detect
    client, wall = running.client("operator"), {"picture": ("w.png", png_of(np.full((480, 640, 3), 170, np.uint8)))}
    refused = client.post(f"{API}/search/picture", files=wall, data=REASON)
    assert refused.status_code == 422 and "no person found in this picture" in refused.json()["error"]["message"]
    whole = client.post(f"{API}/search/picture", files=wall, data={**REASON, "whole_picture": "true"}).json()
    assert len(whole["hits"]) == 12 and whole["remark"].startswith("No person was found")
    browser, csrf = running.signed_in("operator")
    page = browser.post("/search", files=wall, data={**REASON, "csrf": csrf})
    assert page.status_code == 422 and "no person found in this picture" in page.text
    page = browser.post("/search", files=wall, data={**REASON, "csrf": csrf, "whole_picture": "yes"})
    assert "No person was found in the picture" in browser.get(page.headers["location"]).text


def test_a_scene_is_looked_through_where_a_detector_can(running: RunningService) -> None:
    client, scene = running.client("operator"), np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    files = {"picture": ("s.png", png_of(scene))}
    unseen = client.post(f"{API}/search/picture", files=files, data=REASON).json()
    assert unseen["remark"].startswith("Whether a person is in the picture was not looked at")
    running.service.queries._detect = nobody
    assert client.post(f"{API}/search/picture", files=files, data=REASON).status_code == 422
    found = Detections(np.array([[10, 10, 60, 110]], np.float32), np.ones(1, np.float32))
    running.service.queries._detect = lambda image: found
    assert client.post(f"{API}/search/picture", files=files, data=REASON).json()["remark"] == ""


def test_a_person_picked_live_is_found(running: RunningService) -> None:
    show_live(running, "gate", 3, track_id=77)
    client = running.client("operator")
    picture = client.get(f"{API}/cameras/gate/picture")
    people = json.loads(picture.headers["X-People"])
    assert picture.headers["content-type"] == "image/jpeg" and people[0]["track_id"] == 77
    pick = client.post(f"{API}/cameras/gate/picks", json={"track_id": 77}).json()
    answer = client.post(f"{API}/search", json={"pick_id": pick["pick_id"], **REASON, "k": 3}).json()
    assert {hit["track_id"] for hit in answer["hits"]} == {30, 31, 32}
    assert client.post(f"{API}/cameras/gate/picks", json={"track_id": 1}).status_code == 404


def test_filters_of_camera_time_and_score(running: RunningService) -> None:
    client, number = running.client("operator"), running.numbers[0, "gate"]
    assert {h["camera"] for h in search_sighting(client, number, cameras=["market"]).json()["hits"]} == {"market"}
    late = search_sighting(client, number, start_s=running.began + 500).json()["hits"]
    assert {hit["camera"] for hit in late} == {"plaza"}
    assert len(search_sighting(client, number, min_score=0.95).json()["hits"]) == 2
    nowhere = search_sighting(client, number, cameras=["nowhere", "market"]).json()
    assert {hit["camera"] for hit in nowhere["hits"]} == {"market"} and nowhere["unknown_cameras"] == ["nowhere"]
    running.service.cameras.remove("ann", "market")  # its sightings stay, and so does their camera
    gone = search_sighting(client, number, cameras=["market"]).json()
    assert gone["hits"] and gone["unknown_cameras"] == []


def test_a_camera_of_others_is_as_unknown_as_one_that_is_not_there(running: RunningService) -> None:
    client = running.client("operator", cameras=["gate"])
    answer = search_sighting(client, running.numbers[0, "gate"], cameras=["plaza", "nowhere", "gate"]).json()
    assert answer["unknown_cameras"] == ["nowhere", "plaza"]


def test_rights_hold_on_objects_not_on_routes(running: RunningService) -> None:
    client = running.client("operator", cameras=["gate", "market"])
    plaza = running.numbers[1, "plaza"]
    hits = search_sighting(client, running.numbers[1, "gate"], k=100).json()["hits"]
    assert {hit["camera"] for hit in hits} == {"gate", "market"}
    assert {row["camera"] for row in client.get(f"{API}/sightings").json()["sightings"]} == {"gate", "market"}
    assert client.get(f"{API}/sightings", params={"camera": "plaza"}).json()["sightings"] == []
    assert [camera["name"] for camera in client.get(f"{API}/cameras").json()] == ["gate", "market"]
    missing = client.get(f"{API}/sightings/999999").json()
    for answer in (
        client.get(f"{API}/sightings/{plaza}"),
        client.get(f"{API}/sightings/{plaza}/thumbnail"),
        search_sighting(client, plaza),
        client.get(f"{API}/cameras/plaza"),
        client.get(f"{API}/cameras/plaza/picture"),
        client.post(f"{API}/cameras/plaza/pause"),
        client.post(f"{API}/cameras/plaza/picks", json={"track_id": 5}),
    ):
        assert answer.status_code == 404
    # A forbidden sighting reads like a missing one.
    assert client.get(f"{API}/sightings/{plaza}").json()["error"]["message"] == missing["error"]["message"].replace(
        "999999", str(plaza)
    )
    assert client.get("/metrics").status_code == 403


@pytest.mark.parametrize(
    ("role", "method", "path", "body"),
    [
        ("viewer", "POST", "/search", {"sighting_id": 1, **REASON}),
        ("viewer", "POST", "/cameras/gate/pause", None),
        ("viewer", "GET", "/reviews", None),
        ("operator", "POST", "/reviews/1/decision", {"decision": "same"}),
        ("reviewer", "POST", "/cameras", {"name": "x", "url": "synthetic://street?camera=gate"}),
        ("reviewer", "DELETE", "/cameras/gate", None),
        ("reviewer", "GET", "/tokens", None),
        ("reviewer", "POST", "/tokens", {"user": "x", "role": "admin"}),
        ("reviewer", "POST", "/erasures", {"camera": "gate", "reason": "asked for"}),
        ("reviewer", "GET", "/audit", None),
        ("reviewer", "GET", "/audit/verification", None),
        ("reviewer", "POST", "/retention", None),
        ("reviewer", "POST", "/model/calibration", None),
    ],
)
def test_lesser_roles_are_refused(
    running: RunningService, role: str, method: str, path: str, body: dict | None
) -> None:
    answer = running.client(role).request(method, API + path, json=body)
    assert answer.status_code == 403
    assert answer.json()["error"]["kind"] == "forbidden"


def test_an_admin_of_some_cameras_makes_and_reads_no_tokens_and_reads_no_audit(running: RunningService) -> None:
    client = running.client("admin", cameras=["gate"])
    assert client.get(f"{API}/tokens").status_code == 403
    assert client.post(f"{API}/tokens", json={"user": "x", "role": "admin"}).status_code == 403
    assert client.get(f"{API}/audit").status_code == 403
    assert client.get(f"{API}/audit/verification").status_code == 403
    erased = client.post(f"{API}/erasures", json={"camera": "market", "reason": "asked for"}).json()
    assert erased["sightings"] == []
    foreign = {"sighting_ids": [running.numbers[0, "market"]], "reason": "asked for"}
    assert client.post(f"{API}/erasures", json=foreign).json()["sightings"] == []
    assert len(running.service.system.gallery) == 12


def test_every_route_but_health_wants_a_token(running: RunningService) -> None:
    visitor = running.visitor()
    paths = visitor.get(f"{API}/openapi.json").json()["paths"]
    assert len(paths) > 20
    for path, methods in paths.items():
        for method in methods:
            made = path.format(number=1, name="gate", search_id="x", token_id="x")
            answer = visitor.request(method.upper(), made)
            expected = {f"{API}/health": 200, f"{API}/ready": 200}.get(path, 401)
            assert answer.status_code == expected, (method, path, answer.text)
    assert visitor.get("/metrics").status_code == 401


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "purpose"),
        ({"sighting_id": 1, "purpose": "", "case_reference": "x-1"}, "purpose"),
        ({"sighting_id": 1, "purpose": "a reason", "case_reference": ""}, "case_reference"),
        ({**REASON}, "expected one of them"),
        ({"sighting_id": 1, "pick_id": "x", **REASON}, "expected one of them"),
        ({"sighting_id": "one", **REASON}, "sighting_id"),
        ({"sighting_id": -5, **REASON}, "sighting_id"),
        ({"sighting_id": 10**30, **REASON}, "sighting_id"),
        ({"sighting_id": 1, **REASON, "k": 0}, "k"),
        ({"sighting_id": 1, **REASON, "k": 10**9}, "k"),
        ({"sighting_id": 1, **REASON, "colour": "red"}, "colour"),
        ({"sighting_id": 1, **REASON, "start_s": 20, "end_s": 10}, "lies after end_s"),
        ({"sighting_id": 1, **REASON, "start_s": 1e300}, "start_s"),
        ({"sighting_id": 1, **REASON, "min_score": 7}, "min_score"),
        ([1, 2], "body"),
    ],
)
def test_wrong_searches_are_named(running: RunningService, body: object, complaint: str) -> None:
    answer = running.client("operator").post(f"{API}/search", json=body)
    assert answer.status_code == 422 and complaint in answer.json()["error"]["message"]


@pytest.mark.parametrize("cameras", [["x" * 65], ["gate"] * 1001])
def test_no_endless_list_of_cameras_gets_into_the_audit(running: RunningService, cameras: list[str]) -> None:
    files, data = {"picture": ("p.png", png_of(crop_of(0)), "image/png")}, {**REASON, "cameras": cameras}
    answer = running.client("operator").post(f"{API}/search/picture", files=files, data=data)
    assert answer.status_code in (400, 422)
    assert not running.service.audit.entries(action="search")


def huge_png() -> bytes:
    """A few bytes that promise a picture of 30,000 by 30,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no bytes"),
        (b"<?php echo 1; ?>", "not a picture"),
        (b"%PDF-1.7 " + b"x" * 500, "not a picture"),
        (huge_png(), "too large"),
        (png_of(crop_of(0))[:120], "damaged or cut short"),
        (png_of(crop_of(0)[:4, :4]), "too small"),
    ],
)
def test_what_is_no_picture_is_refused(running: RunningService, data: bytes, complaint: str) -> None:
    files = {"picture": ("p.png", data, "image/png")}
    answer = running.client("operator").post(f"{API}/search/picture", files=files, data=REASON)
    assert answer.status_code == 422 and complaint in answer.json()["error"]["message"]


def test_huge_bodies_are_refused_with_and_without_a_stated_length(running: RunningService) -> None:
    client = running.client("operator")
    stated = client.post(f"{API}/search", content=b"x" * 300_000)
    assert stated.status_code == 413
    unstated = client.post(
        f"{API}/search", content=(b"x" * 50_000 for _ in range(10)), headers={"Content-Type": "application/json"}
    )
    assert unstated.status_code in (400, 413)
    lying = client.post(f"{API}/search", content=b"{}", headers={"Content-Length": "many"})
    assert lying.status_code == 400


def test_pages_of_sightings_go_on_where_the_last_ended(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, seen, before = running.client("viewer"), [], None
    monkeypatch.delattr(StoredSightings, "numbers")  # a page must not read all of them
    while True:
        page = client.get(f"{API}/sightings", params={"limit": 5, **({"before": before} if before else {})}).json()
        seen += [row["sighting_id"] for row in page["sightings"]]
        before = page["next"]
        if before is None:
            break
    assert seen == sorted(running.numbers.values(), reverse=True)


def test_a_thumbnail_is_a_picture_that_no_cache_keeps(running: RunningService) -> None:
    answer = running.client("viewer").get(f"{API}/sightings/{running.numbers[0, 'gate']}/thumbnail")
    assert answer.content[:2] == b"\xff\xd8" and answer.headers["cache-control"] == "no-store"


def test_cameras_are_added_by_the_list_and_passwords_stay_inside(running: RunningService) -> None:
    client = running.client("admin")
    body = {"name": "tunnel", "url": "synthetic://street?camera=tunnel&duration=20"}
    assert client.post(f"{API}/cameras", json=body).status_code == 201
    assert client.post(f"{API}/cameras", json=body).status_code == 422
    for url in ("/etc/passwd", "rtsp://169.254.169.254/x", "http://127.0.0.1/x", "device:0"):
        refused = client.post(f"{API}/cameras", json={"name": "x", "url": url})
        assert refused.status_code == 422 and "not allowed" in refused.json()["error"]["message"]
    assert client.post(f"{API}/cameras", json={**body, "name": "../x"}).status_code == 422
    everything = client.get(f"{API}/cameras").text + client.get("/metrics").text + client.get(f"{API}/audit").text
    assert "pa55word" not in everything and "rtsp://***@127.0.0.1" in everything
    assert SECRET_URL not in everything
    assert client.delete(f"{API}/cameras/tunnel").status_code == 204
    assert client.get(f"{API}/cameras/tunnel").status_code == 404


def test_a_camera_is_added_with_a_detector_that_is_there_and_no_other(
    running: RunningService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its name in the models folder: nobody reads the server's files, and no camera fails for ever."""
    monkeypatch.setenv("REID_MTDA_MODELS", str(tmp_path))
    client = running.client("admin")
    body = {"name": "other", "url": "synthetic://street?camera=tunnel&duration=20"}
    for detector, message in (
        ("yolox-nano", "run 'reid-mtda models pull yolox-nano'"),
        ("yolox-nona", "did you mean 'yolox-nano'"),
        ("/etc/passwd.onnx", "no file and no person detector of that name"),
    ):
        refused = client.post(f"{API}/cameras", json={**body, "detector": detector})
        assert refused.status_code == 422 and message in refused.json()["error"]["message"]
    write_detector(tmp_path / "people" / "model.onnx")
    write_origin(tmp_path / "people", task="detector", source="a test", licence="none")
    assert client.post(f"{API}/cameras", json={**body, "detector": "people"}).status_code == 201
    assert client.delete(f"{API}/cameras/other").status_code == 204


def write_detector(path: Path) -> None:
    """A network that finds nobody."""
    path.parent.mkdir(parents=True)
    nobody = onnx.numpy_helper.from_array(np.zeros((1, 84, 85), np.float32), "nobody")
    nodes = [
        onnx.helper.make_node("ReduceSum", ["images"], ["total"], keepdims=0),
        onnx.helper.make_node("Mul", ["total", "nobody"], ["output"]),
    ]
    inputs = [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 64, 64])]
    outputs = [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, 84, 85])]
    graph = onnx.helper.make_graph(nodes, "net", inputs, outputs, [nobody])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)


def test_pausing_is_shown(running: RunningService) -> None:
    client = running.client("operator")
    assert client.post(f"{API}/cameras/gate/resume").json()["state"] != "paused"
    assert client.post(f"{API}/cameras/gate/pause").json()["state"] == "paused"


def test_a_search_and_its_kept_answer_belong_to_one_person(running: RunningService) -> None:
    mine, other = running.client("operator", user="ann"), running.client("admin", user="bob")
    made = search_sighting(mine, running.numbers[0, "gate"]).json()["search_id"]
    assert mine.get(f"{API}/search/{made}").status_code == 200
    assert other.get(f"{API}/search/{made}").status_code == 404
    body = {"search_id": made, "sighting_id": running.numbers[0, "market"], "decision": "same"}
    assert other.post(f"{API}/reviews", json=body).status_code == 404


def test_a_name_that_searched_once_reads_nothing_kept_with_a_viewer_s_token(running: RunningService) -> None:
    """What is kept belongs to a name; what may be read is the token's."""
    operator, viewer = running.client("operator", user="ann"), running.client("viewer", user="ann")
    made = search_sighting(operator, running.numbers[0, "gate"]).json()["search_id"]
    show_live(running, "gate", 0)
    pick = operator.post(f"{API}/cameras/gate/picks", json={"track_id": 5}).json()["pick_id"]
    for path in (f"{API}/search/{made}", f"/searches/{made}", f"/searches/{made}/picture", f"/picks/{pick}/picture"):
        assert operator.get(path).status_code == 200, path
        assert viewer.get(path).status_code == 403, path


def test_a_live_picture_is_encoded_once_however_many_look(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *given: (time.sleep(0.05), encoded.append("once"), encode(*given))[2])
    show_live(running, "gate", 0)
    viewer = running.client("viewer")
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: viewer.get(f"{API}/cameras/gate/picture"), range(16)))
    assert len({answer.content for answer in seen}) == 1 and seen[0].content[:2] == b"\xff\xd8"
    assert len(encoded) == 1
    show_live(running, "gate", 1)
    assert viewer.get(f"{API}/cameras/gate/picture").content != seen[0].content and len(encoded) == 2


@pytest.mark.parametrize("reason", ["two\nlines", "a bell\x07", "turned \u202e round", "nothing\u200b"])
def test_what_stands_in_the_audit_can_be_read(running: RunningService, reason: str) -> None:
    admin = running.client("admin")
    refused = admin.post(f"{API}/erasures", json={"sighting_ids": [999], "reason": reason})
    assert refused.status_code == 422 and "reason: " in refused.json()["error"]["message"]
    named = admin.post(f"{API}/tokens", json={"user": "ann", "role": "viewer", "cameras": [reason]})
    assert named.status_code == 422
    assert search_sighting(admin, running.numbers[0, "gate"], cameras=[reason]).status_code == 422


def test_a_kept_answer_goes_with_the_right_to_its_camera_and_after_two_hours(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, narrower = running.client("operator", user="ann"), running.client("operator", user="ann", cameras=["market"])
    made = search_sighting(mine, running.numbers[0, "gate"]).json()["search_id"]
    assert narrower.get(f"{API}/search/{made}").status_code == 404
    assert narrower.get(f"/searches/{made}/picture").status_code == 404
    assert mine.get(f"/searches/{made}/picture").content[:2] == b"\xff\xd8"
    monkeypatch.setattr("reid_mtda.service.searches.KEPT_S", -1.0)  # the time is over
    assert mine.get(f"{API}/search/{made}").status_code == 404


def test_four_eyes(running: RunningService) -> None:
    ann, bob, ann_too = (
        running.client("operator", user="ann"),
        running.client("reviewer", user="bob"),
        running.client("reviewer", user="ann"),
    )
    made = search_sighting(ann, running.numbers[0, "gate"]).json()["search_id"]
    body = {"search_id": made, "sighting_id": running.numbers[0, "market"], "decision": "same"}
    review = ann.post(f"{API}/reviews", json=body).json()
    assert review["state"] == "open" and review["first_user"] == "ann"
    assert ann.post(f"{API}/reviews", json=body).status_code == 409
    same = ann_too.post(f"{API}/reviews/{review['id']}/decision", json={"decision": "same"})
    assert same.status_code == 403 and "four eyes" in same.json()["error"]["message"]
    decided = bob.post(f"{API}/reviews/{review['id']}/decision", json={"decision": "same"}).json()
    assert decided["state"] == "confirmed" and decided["second_user"] == "bob"
    assert bob.post(f"{API}/reviews/{review['id']}/decision", json={"decision": "different"}).status_code == 409
    negative = running.client("reviewer", user="cleo", cameras=["plaza"])
    assert negative.get(f"{API}/reviews").json() == []
    assert negative.get(f"{API}/reviews/{review['id']}/picture").status_code == 404
    assert bob.get(f"{API}/reviews/{review['id']}/picture").content[:2] == b"\xff\xd8"


def test_erasure_takes_everything_and_gives_a_receipt(running: RunningService) -> None:
    admin = running.client("admin")
    number = running.numbers[0, "market"]
    made = search_sighting(admin, running.numbers[0, "gate"]).json()["search_id"]
    admin.post(f"{API}/reviews", json={"search_id": made, "sighting_id": number, "decision": "same"})
    thumbnail = running.service.system.gallery.lookup([number])[number].thumbnail
    assert thumbnail.is_file()
    kept, boxes = running.service.system.kept, np.zeros((2, 4), np.float32)
    for track_id in (1, 11):
        kept.take(Tracklet("market", track_id, (crop_of(0),) * 2, boxes, np.arange(2), np.arange(2.0)))
    receipt = admin.post(f"{API}/erasures", json={"sighting_ids": [number, 999_999], "reason": "asked for"}).json()
    assert receipt["sightings"] == [number] and receipt["reviews"] == 1
    assert receipt["crops"] == 2 and kept.count() == {"market": 2}
    assert not thumbnail.exists()
    assert admin.get(f"{API}/sightings/{number}").status_code == 404
    assert number not in {hit["sighting_id"] for hit in admin.get(f"{API}/search/{made}").json()["hits"]}
    entry = admin.get(f"{API}/audit", params={"action": "erasure"}).json()["entries"][0]
    assert (entry["number"], entry["hash"]) == (receipt["receipt"], receipt["hash"])
    gone = admin.post(
        f"{API}/erasures", json={"camera": "plaza", "before_s": running.began + 700, "reason": "asked for"}
    ).json()
    assert gone["sightings"] == [running.numbers[0, "plaza"], running.numbers[1, "plaza"]]


def test_numbers_read_under_another_model_erase_nobody(running: RunningService) -> None:
    admin, number = running.client("admin"), running.numbers[0, "market"]
    body = {"sighting_ids": [number], "reason": "asked for"}
    refused = admin.post(f"{API}/erasures", json={**body, "model_id": "0" * 16})
    assert refused.status_code == 409 and "read them anew" in refused.text
    assert admin.get(f"{API}/sightings/{number}").status_code == 200
    model_id = admin.get(f"{API}/model").json()["model_id"]
    assert admin.post(f"{API}/erasures", json={**body, "model_id": model_id}).json()["sightings"] == [number]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"camera": "gate", "before_s": 1e400, "reason": "asked"}', 422),
        ('{"camera": "gate", "before_s": NaN, "reason": "asked"}', 422),
        ('{"sighting_ids": [1], "before_s": 5, "reason": "asked"}', 422),
        ('{"sighting_ids": [], "reason": "asked"}', 422),
        ('{"camera": "nosuch", "reason": "asked"}', 404),
    ],
)
def test_an_erasure_that_says_something_else_than_it_does_erases_nobody(
    running: RunningService, body: str, status: int
) -> None:
    admin, before = running.client("admin"), len(running.service.system.gallery)
    headers = {"Content-Type": "application/json"}
    assert admin.post(f"{API}/erasures", content=body, headers=headers).status_code == status
    assert len(running.service.system.gallery) == before


def test_the_audit_tells_who_searched_what_and_why(running: RunningService) -> None:
    operator, admin = running.client("operator", user="ann"), running.client("admin")
    search_sighting(operator, running.numbers[0, "gate"])
    operator.get(f"{API}/sightings/{running.numbers[0, 'market']}")
    entries = admin.get(f"{API}/audit").json()["entries"]
    opened, searched = entries[0], entries[1]
    assert (opened["action"], opened["user"]) == ("sighting_opened", "ann")
    assert searched["detail"]["purpose"] == REASON["purpose"]
    assert searched["detail"]["case_reference"] == REASON["case_reference"]
    assert searched["detail"]["input"].startswith("gate/0/")
    assert admin.get(f"{API}/audit/verification").json()["is_sound"]


def test_tokens_are_made_once_and_revoked_at_once(running: RunningService) -> None:
    admin = running.client("admin")
    made = admin.post(f"{API}/tokens", json={"user": "dora", "role": "viewer", "cameras": ["gate"]}).json()
    dora = running.visitor()
    dora.headers["Authorization"] = f"Bearer {made['token']}"
    assert dora.get(f"{API}/me").json() == {"user": "dora", "role": "viewer", "cameras": ["gate"]}
    assert made["token"] not in admin.get(f"{API}/tokens").text
    assert admin.delete(f"{API}/tokens/{made['id']}").status_code == 204
    assert dora.get(f"{API}/me").status_code == 401
    assert admin.delete(f"{API}/tokens/{made['id']}").status_code == 404


def test_no_match_is_said_once_calibrated(running: RunningService) -> None:
    """Twenty people on view at once are 190 certain negatives; a negative then reaches no threshold."""
    gallery, calibration = running.service.system.gallery, running.service.calibration
    for n in range(20):
        crop = crop_of(n % len(PEOPLE), n)
        gallery.add(
            running.service.system.model_server.embed_one(crop), "gate", 900 + n, running.began, running.began + 5, crop
        )
    admin, negative = running.client("admin"), crop_of(0)
    negative[10:50] = (250, 0, 250)
    files = {"picture": ("p.png", png_of(negative), "image/png")}
    # Of one comparison in a thousand 190 say nothing, whatever the threshold.
    assert admin.post(f"{API}/model/calibration").json() == []
    told = admin.get(f"{API}/model").json()
    assert not told["is_calibrated"] and told["expected_false_matches"] is None
    assert re.match(r"cannot be calibrated yet: it needs \d+ more simultaneous tracklets", told["calibration"])
    assert told["calibration"][1:] in running.signed_in("admin")[0].get("/status").text
    calibration._settings = calibration._settings.model_copy(update={"false_match_rate": 0.2})
    thresholds = admin.post(f"{API}/model/calibration").json()
    assert thresholds[0]["negatives"] >= 190 > thresholds[0]["independent"] and thresholds[0]["upper_rate"] <= 0.2
    told = admin.get(f"{API}/model").json()
    assert told["expected_false_matches"] == pytest.approx(32 * thresholds[0]["upper_rate"])
    answer = running.client("operator").post(f"{API}/search/picture", files=files, data=REASON).json()
    assert answer["is_calibrated"] and answer["matches"] == 0 and answer["hits"]
    page = running.signed_in("admin")[0].get("/status").text
    assert "One search of these 32 sightings then matches up to" in page and "Found within a camera" in page


def test_nobody_waits_for_a_calibration(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds on a busy site: it is measured in the background, and answers are judged by the last one."""
    begun, let_go = threading.Event(), threading.Event()

    def slow(*given: object, **named: object) -> None:
        begun.set()
        assert let_go.wait(20)
        raise GalleryError("closed meanwhile")

    monkeypatch.setattr("reid_mtda.service.calibration.calibrate", slow)
    running.service.calibration._due = 0.0
    running.service.calibration.poll()
    assert begun.wait(10)
    running.service.calibration.poll()  # one at a time
    assert search_sighting(running.client("operator"), running.numbers[0, "gate"]).status_code == 200
    let_go.set()


def test_opened_pictures_are_audited_with_the_search_once_and_a_page_s_are_not(running: RunningService) -> None:
    ann, number = running.client("operator", user="ann"), running.numbers[0, "market"]
    picture, audit = f"{API}/sightings/{number}/thumbnail", running.service.audit

    def opened(action: str) -> list[tuple[str, str | None]]:
        found = audit.entries(action=action)
        assert all((entry.detail["sighting_id"], entry.detail["camera"]) == (number, "market") for entry in found)
        return [(entry.user, entry.detail["search_id"]) for entry in found]

    for _ in range(3):
        assert ann.get(picture).status_code == 200
    assert opened("picture_opened") == [("ann", None)]
    made = search_sighting(ann, running.numbers[0, "gate"]).json()["search_id"]
    for _ in range(3):
        ann.get(picture)
    assert opened("picture_opened") == [("ann", made), ("ann", None)]
    ann.get(f"{API}/sightings/{number}")
    page, _ = running.signed_in("operator", user="ann")
    page.get(f"/sightings/{number}")
    assert page.get(picture).status_code == 200
    running.client("viewer", user="bob").get(f"{API}/sightings/{number}")
    assert opened("sighting_opened") == [("bob", None), ("ann", made), ("ann", made)]
    assert len(opened("picture_opened")) == 2


def test_metrics_are_prometheus_text(running: RunningService) -> None:
    client = running.client("admin")
    search_sighting(client, running.numbers[0, "gate"])
    text = client.get("/metrics").text
    assert 'reid_frames_total{camera="gate"}' in text
    assert "reid_gallery_size 12.0" in text and "reid_search_seconds_count 1.0" in text


def test_readiness_tells_nothing_but_that(running: RunningService) -> None:
    assert running.visitor().get(f"{API}/ready").json() == {"status": "ready"}
    running.service.closing.set()
    assert running.visitor().get(f"{API}/ready").status_code == 503


def test_a_fault_of_ours_shows_no_traceback_and_is_counted(
    running: RunningService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running.service.queries, "sighting", lambda *_: 1 / 0)
    answer = running.client("viewer").get(f"{API}/sightings/1")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text and answer.json()["error"]["kind"] == "internal"
    assert "ZeroDivision" in caplog.text
    page, _ = running.signed_in("viewer")
    assert page.get("/sightings/1").status_code == 500
    for one in (answer, page.get("/sightings/1")):
        assert "default-src 'none'" in one.headers["content-security-policy"]
        assert one.headers["cache-control"] == "no-store"
    assert 'reid_http_requests_total{status="5xx"} 3.0' in running.service.metrics.text().decode()


def test_the_pages_table_of_the_api_is_the_api_with_its_roles(running: RunningService) -> None:
    """Every route is listed once, with a role that is not turned away for its role; the role below gets nothing."""
    text = (ROOT / "reid_mtda" / "service" / "README.md").read_text(encoding="utf-8").partition("## The API")[2]
    table = re.findall(r"^\| (\w+) \| (.*)$", text, re.M)[1:]
    rows = {role: re.findall(r"`((?:GET|POST|DELETE) /[^`]+)`", line) for role, line in table}
    paths = running.client("admin").get(f"{API}/openapi.json").json()["paths"]
    routes = [
        f"{method.upper()} {path.removeprefix(API)}" for path in paths if path.startswith(API) for method in paths[path]
    ]
    assert sorted(route for row in rows.values() for route in row) == sorted(routes)
    visitor = running.visitor()
    clients = [visitor, visitor, *(running.client(role) for role in ("viewer", "operator", "reviewer", "admin"))]
    for number, (role, row) in enumerate(rows.items()):
        for route in row:
            method, path = route.split(" ")
            if path == "/events":
                continue  # it never ends
            address = API + re.sub(r"{\w+}", "1", path.replace("{name}", "gate"))
            body = {"data": REASON, "files": {"picture": ("p.png", png_of(crop_of(0)))}} if "picture" in route else {}
            body = {"json": BODIES[route]} if route in BODIES else body
            if role == "anybody":
                assert visitor.request(method, address).status_code in (200, 503), route
                continue
            assert visitor.request(method, address, **body).status_code == 401, route
            below = {"viewer": None, "reviewer": "operator"}.get(role, list(rows)[number - 1])
            if below and route != "GET /search/{search_id}":  # nobody below has one to ask for
                assert clients[number].request(method, address, **body).status_code == 403, f"{route} below {role}"
            answer = clients[number + 1].request(method, address, **body)
            assert answer.status_code not in (401, 403), f"{route} by {role}"


def test_a_camera_that_only_the_gallery_knows_is_known(running: RunningService) -> None:
    system, crop = running.service.system, crop_of(0)
    system.gallery.add(system.model_server.embed_one(crop), "cellar", 1, running.began, running.began + 1, crop)
    answer = search_sighting(running.client("operator"), running.numbers[0, "gate"], cameras=["cellar", "attic"]).json()
    assert [hit["camera"] for hit in answer["hits"]] == ["cellar"] and answer["unknown_cameras"] == ["attic"]


def test_an_admin_of_some_cameras_reads_no_verdict_on_others(running: RunningService) -> None:
    assert running.client("admin", cameras=["market"]).get(f"{API}/model/candidates").status_code == 403


def test_retention_says_that_the_clock_is_in_doubt(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.service.system._clock_watch, "poll", lambda: "the clock jumped 9 hours ahead")
    refused = running.client("admin").post(f"{API}/retention")
    assert refused.status_code == 409 and "jumped 9 hours" in refused.json()["error"]["message"]


def test_how_many_sightings_other_cameras_have_is_not_told(running: RunningService) -> None:
    limited, whole = running.client("operator", cameras=["market"]), running.client("operator")
    number, picture = running.numbers[0, "market"], {"picture": ("p.png", png_of(crop_of(0)))}
    for client, size in ((limited, 4), (whole, 12)):
        assert search_sighting(client, number).json()["gallery_size"] == size
        assert client.get(f"{API}/model").json()["gallery_size"] == size
        assert client.post(f"{API}/search/picture", data=REASON, files=picture).json()["gallery_size"] == size
    running.service.system.disk.poll = lambda: False  # it would find that there is room
    running.service.system.disk.message = "sightings are not stored: /srv/gallery: no space left"
    for role, is_told in (("viewer", False), ("operator", True)):
        browser, _ = running.signed_in(role)
        for page in ("/", "/status"):
            assert ("/srv/gallery" in browser.get(page).text) == is_told
