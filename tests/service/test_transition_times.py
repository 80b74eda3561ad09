"""Travel times: what nobody could have reached is left out, counted and said; nothing happens where none are stated."""

import itertools
import json
import re

import numpy as np
import pytest
from service_fixtures import REASON, RunningService, crop_of, png_of, show_live

from reid_mtda.camera_settings import Camera, Travel
from reid_mtda.schema import parse
from reid_mtda.service.calibration import overlapping_pairs
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.service.transition_times import LeftOut, Reach, Seen, TravelTimes

API = "/api/v1"


def cameras(**neighbours: dict[str, Travel]) -> dict[str, Camera]:
    return {name: Camera(url="x", neighbours=neighbours.get(name, {})) for name in ("gate", "market", "plaza")}


def state(running: RunningService, **neighbours: dict[str, Travel]) -> None:
    """Write travel times into the files of the town's cameras, so to speak."""
    for name, stated in neighbours.items():
        camera = running.service.system.pool._cameras[name]
        camera.settings = camera.settings.model_copy(update={"neighbours": stated})


def search(client, number: int, **more) -> dict:
    return client.post(f"{API}/search", json={"sighting_id": number, **REASON, **more}).json()


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Seen("plaza", 14, 20), Reach.TOO_SOON),
        (Seen("plaza", 15, 20), Reach.POSSIBLE),
        (Seen("plaza", 130, 131), Reach.POSSIBLE),
        (Seen("plaza", 131, 132), Reach.TOO_LATE),
        (Seen("plaza", 5, 20), Reach.TOO_SOON),  # at once in two views
        (Seen("plaza", -20, -1), Reach.TOO_SOON),  # the way back takes as long
        (Seen("plaza", -20, -5), Reach.POSSIBLE),
        (Seen("plaza", -300, -121), Reach.TOO_LATE),
        (Seen("market", 5, 6), Reach.POSSIBLE),  # both show the same ground
        (Seen("gate", 10.5, 11), Reach.POSSIBLE),
        (Seen("harbour", 10.5, 11), Reach.POSSIBLE),
    ],
)
def test_what_somebody_seen_at_the_gate_from_0_to_10_can_reach(other: Seen, expected: Reach) -> None:
    times = TravelTimes(cameras(gate={"plaza": Travel(min_s=5, max_s=120), "market": Travel(min_s=0)}))
    assert times.reach(Seen("gate", 0, 10), other) is expected
    assert times.reach(other, Seen("gate", 0, 10)) is expected


def test_a_way_back_may_take_longer() -> None:
    times = TravelTimes(cameras(gate={"plaza": Travel(min_s=5)}, plaza={"gate": Travel(min_s=60)}))
    gate, before, after = Seen("gate", 100, 110), Seen("plaza", 70, 80), Seen("plaza", 120, 130)
    assert times.reach(gate, after) is Reach.POSSIBLE and times.reach(gate, before) is Reach.TOO_SOON
    assert not TravelTimes(cameras()).are_stated and times.are_stated


def test_a_path_holds_no_pair_that_is_too_soon_and_nobody_more_could_be_added() -> None:
    rng, names = np.random.default_rng(3), ("gate", "market", "plaza")
    times = TravelTimes(cameras(gate={"plaza": Travel(min_s=30, max_s=31)}, plaza={"market": Travel(min_s=20)}))
    for _ in range(20):
        starts = rng.uniform(0, 200, 12)
        seen = [Seen(names[n % 3], start, start + 3) for n, start in enumerate(starts)]
        possible = times.possible_together(seen)
        chosen = [one for one, is_possible in zip(seen, possible, strict=True) if is_possible]
        pairs = itertools.combinations(chosen, 2)
        assert all(times.reach(one, other) is not Reach.TOO_SOON for one, other in pairs)
        for one in set(seen) - set(chosen):
            assert any(times.reach(one, other) is Reach.TOO_SOON for other in chosen)
    assert times.possible_together([]) == []


def test_a_search_from_a_sighting_leaves_out_and_says_why(running: RunningService) -> None:
    client, number = running.client("operator"), running.numbers[1, "gate"]
    everything = search(client, number, k=100)
    assert len(everything["hits"]) == 11
    assert everything["left_out"] == {"too_soon": 0, "too_late": 0, "message": ""}
    # From the gate at 60..68 s: to the market 232, 292, 352, 412 s; to the plaza 532, 592, 652, 712 s.
    state(running, gate={"market": Travel(min_s=250), "plaza": Travel(max_s=600)})
    answer = search(client, number, k=100)
    gone = {running.numbers[0, "market"], running.numbers[2, "plaza"], running.numbers[3, "plaza"]}
    assert {h["sighting_id"] for h in everything["hits"]} - {h["sighting_id"] for h in answer["hits"]} == gone
    assert answer["left_out"] == {
        "too_soon": 1,
        "too_late": 2,
        "message": "3 sightings left out: 1 that nobody could have reached so soon, "
        "2 that are later than the site says people take",
    }
    assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 9))
    shown = search(client, number, k=100, keep_unreachable=True)
    assert len(shown["hits"]) == 11 and not shown["left_out"]["message"]
    entries = running.service.audit.entries(action="search", limit=2)
    assert [entry.detail["left_out"] for entry in entries] == [0, 3]
    assert entries[1].detail["seen"] == ["gate", pytest.approx(running.began + 60)]


def test_more_are_asked_for_until_enough_are_reachable(running: RunningService) -> None:
    state(running, gate={"market": Travel(min_s=9000), "plaza": Travel(min_s=9000)})
    answer = search(running.client("operator"), running.numbers[0, "gate"], k=3)
    assert {hit["camera"] for hit in answer["hits"]} == {"gate"} and len(answer["hits"]) == 3
    few = search(running.client("operator"), running.numbers[0, "gate"], k=4)
    assert len(few["hits"]) == 3 and few["left_out"]["too_soon"] == 8
    limited = running.client("operator", cameras=["gate", "market"])  # what they may not see is not counted either
    assert search(limited, running.numbers[0, "gate"], k=4)["left_out"]["too_soon"] == 4


def test_the_path_makes_no_jump_that_nobody_can_make(running: RunningService) -> None:
    client = running.client("operator")
    files = {"picture": ("p.png", png_of(crop_of(2)), "image/png")}
    numbers = [running.numbers[2, camera] for camera in ("gate", "market", "plaza")]

    def searched() -> dict:
        return client.post(f"{API}/search/picture", files=files, data={**REASON, "k": "3"}).json()

    assert searched()["path"] == numbers
    state(running, plaza={"gate": Travel(min_s=700)})
    answer = searched()
    assert len(answer["hits"]) == 3 and not answer["left_out"]["message"]  # nobody said where the picture was taken
    unlike = next(hit["sighting_id"] for hit in reversed(answer["hits"]) if hit["camera"] in ("gate", "plaza"))
    assert answer["path"] == [number for number in numbers if number != unlike]


def test_a_picture_with_its_camera_and_time_is_limited_too(running: RunningService) -> None:
    state(running, gate={"market": Travel(min_s=250), "plaza": Travel(max_s=600)})
    client = running.client("operator")

    def searched(**form: object):
        files = {"picture": ("p.png", png_of(crop_of(1)), "image/png")}
        return client.post(f"{API}/search/picture", files=files, data={**REASON, "k": "100", **form})

    answer = searched(seen_camera="gate", seen_s=running.began + 68).json()
    assert (answer["left_out"]["too_soon"], answer["left_out"]["too_late"]) == (1, 2) and len(answer["hits"]) == 9
    for form, complaint in (
        ({"seen_camera": "gate"}, "expected both: where and when"),
        ({"seen_s": 1.0}, "expected both: where and when"),
        ({"seen_camera": "gate", "seen_s": 1e200}, "seen_s"),
    ):
        refused = searched(**form)
        assert refused.status_code == 422 and complaint in refused.json()["error"]["message"]
    assert searched(seen_camera="nowhere", seen_s=1.0).status_code == 404
    client = running.client("operator", cameras=["market"])
    assert searched(seen_camera="gate", seen_s=1.0).status_code == 404


def test_a_person_picked_live_was_seen_there_and_then(running: RunningService) -> None:
    state(running, gate={"market": Travel(max_s=600)})  # the town's people were at the market an hour ago
    show_live(running, "gate", 3, track_id=77)
    client = running.client("operator")
    pick = client.post(f"{API}/cameras/gate/picks", json={"track_id": 77}).json()["pick_id"]
    answer = client.post(f"{API}/search", json={"pick_id": pick, **REASON, "k": 100}).json()
    assert answer["left_out"]["too_late"] == 4 and {hit["camera"] for hit in answer["hits"]} == {"gate", "plaza"}


def test_the_page_says_what_was_left_out_and_shows_it_when_asked(running: RunningService) -> None:
    client, csrf = running.signed_in("operator")
    assert "seen_camera" not in client.get("/search").text and "keep_unreachable" not in client.get("/search").text
    state(running, gate={"market": Travel(min_s=250)})
    assert 'name="seen_camera"' in client.get("/search").text
    form = {"csrf": csrf, **REASON, "k": "50"}
    made = client.post("/search", data={**form, "sighting_id": running.numbers[1, "gate"]}).headers["location"]
    page = client.get(made).text
    assert "1 sighting left out that nobody could have reached so soon" in page
    assert len(re.findall(r'<li class="hit', page)) == 10
    shown = client.post(f"{made}/filters", data={"csrf": csrf, "k": "50", "keep_unreachable": "yes"})
    page = client.get(shown.headers["location"]).text
    assert "left out" not in page and 'value="yes" checked' in page and len(re.findall(r'<li class="hit', page)) == 11
    files = {"picture": ("p.png", png_of(crop_of(1)), "image/png")}
    refused = client.post("/search", data={**form, "seen_camera": "gate", "seen_at": "noon"}, files=files)
    assert refused.status_code == 422 and "a time cannot be read" in refused.text
    record = "2001-01-01T00:00:00"
    made = client.post("/search", data={**form, "seen_camera": "gate", "seen_at": record}, files=files)
    assert made.status_code == 303


def test_cameras_added_while_running_may_state_them(running: RunningService) -> None:
    client = running.client("admin")
    body = {"name": "yard", "url": "synthetic://street?camera=gate&duration=20"}
    refused = client.post(f"{API}/cameras", json={**body, "neighbours": {"gaet": {"min_s": 5}}})
    assert refused.status_code == 422 and "did you mean 'gate'?" in refused.json()["error"]["message"]
    wrong = client.post(f"{API}/cameras", json={**body, "neighbours": {"gate": {"min_s": 5, "max_s": 1}}})
    assert wrong.status_code == 422 and "below min_s" in wrong.json()["error"]["message"]
    assert client.post(f"{API}/cameras", json={**body, "neighbours": {"gate": {"min_s": 5}}}).status_code == 201
    assert running.service.system.pool.state("yard").settings.neighbours == {"gate": Travel(min_s=5)}


def test_one_left_out_is_told_in_the_singular() -> None:
    assert str(LeftOut(1, 0)) == "1 sighting left out that nobody could have reached so soon"
    assert str(LeftOut(0, 2)) == "2 sightings left out that are later than the site says people take"
    assert str(LeftOut()) == ""


def test_one_person_in_two_views_of_the_same_ground_is_no_proof_against_a_match(running: RunningService) -> None:
    """Of both cameras people are seen at once with the gate's; for one of them its settings say why."""
    admin, system = running.client("admin"), running.service.system
    for name, travel in (("alley", {"min_s": 0}), ("bridge", {"max_s": 60})):
        body = {"name": name, "url": "synthetic://street?camera=gate&duration=20", "neighbours": {"gate": travel}}
        assert admin.post(f"{API}/cameras", json=body).status_code == 201
        system.pool.pause(name)
    rows = np.random.default_rng(0).normal(size=(3 * 64, system.gallery.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # so many who look unlike each other that a rate can be met
    cameras = np.repeat(["gate", "alley", "bridge"], 64).tolist()
    tracks = list(range(900, 900 + 64)) * 3
    system.gallery.add_many(rows, cameras, track_ids=tracks, start_s=running.began, end_s=running.began + 5)
    pairs = {tuple(row["cameras"] or ()) for row in admin.post(f"{API}/model/calibration").json()}
    assert ("bridge", "gate") in pairs and ("alley", "gate") not in pairs
    kept = running.service.cameras._database.read("SELECT * FROM cameras WHERE settings IS NOT NULL")
    again = {row["name"]: parse(Camera, json.loads(row["settings"]), where="test") for row in kept}
    assert len(again) == 2 and overlapping_pairs(again) == {("alley", "gate")}  # a restart reads the same


@pytest.mark.parametrize(
    ("neighbours", "pairs"),
    [
        ({"market": Travel(min_s=0)}, {("gate", "market")}),
        ({"market": Travel(min_s=0, max_s=9)}, {("gate", "market")}),
        ({"market": Travel()}, set()),
        ({"market": Travel(max_s=9)}, set()),
        ({"market": Travel(min_s=5)}, set()),
    ],
)
def test_the_same_ground_is_a_time_stated_as_zero(neighbours: dict[str, Travel], pairs: set[tuple[str, str]]) -> None:
    cameras = {"market": Camera(url="a.mp4"), "gate": Camera(url="b.mp4", neighbours=neighbours)}
    assert overlapping_pairs(cameras) == pairs


def test_a_pair_of_the_settings_that_names_no_camera_is_noticed(running: RunningService) -> None:
    calibration, alerts = running.service.calibration, running.service.system.alerts
    calibration._settings = ServiceSettings(overlapping=(("gate", "markt"),))
    calibration.poll()
    assert "got markt, no camera of this site" in alerts.of("overlapping")
    calibration._settings = ServiceSettings(overlapping=(("gate", "market"),))
    calibration.poll()
    assert alerts.of("overlapping") == ""
