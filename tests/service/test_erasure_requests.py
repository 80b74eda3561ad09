"""Erasing somebody by picture: two people, nothing before the second, nothing left after."""

import pytest
from service_fixtures import REASON, RunningService, crop_of, png_of

from reid_mtda.service.erasure_requests import FILE

API = "/api/v1"


def ask(running: RunningService, *, user: str = "ann", person: int = 0, role: str = "operator", **more):
    """Search by a picture of somebody and ask for the erasure of the three that show them."""
    client = running.client(role, user=user, **more)
    picture = {"picture": ("p.png", png_of(crop_of(person)), "image/png")}
    search = client.post(f"{API}/search/picture", files=picture, data={**REASON, "whole_picture": "true"}).json()
    theirs = [running.numbers[person, camera] for camera in ("gate", "market", "plaza")]
    body = {"search_id": search["search_id"], "sighting_ids": theirs, "reason": "letter of 3 March"}
    return client, client.post(f"{API}/erasures/requests", json=body)


def test_somebody_else_erases_and_nothing_of_the_person_is_left(running: RunningService) -> None:
    ann, answer = ask(running)
    assert answer.status_code == 201, answer.text
    asked = answer.json()
    number, theirs = asked["id"], asked["sighting_ids"]
    gallery, state = running.service.system.gallery, running.folder / "state"
    assert asked["state"] == "open" and len(gallery.lookup(theirs)) == 3  # nothing went yet
    assert ann.get(f"{API}/erasures/requests/{number}/picture").content[:3] == b"\xff\xd8\xff"
    answer = running.client("admin", user="bob").post(
        f"{API}/erasures/requests/{number}/decision", json={"decision": "erase"}
    )
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert (done["state"], done["first_user"], done["second_user"]) == ("erased", "ann", "bob")
    assert gallery.lookup(theirs) == {} and len(gallery) == 9
    assert ann.get(f"{API}/erasures/requests/{number}/picture").status_code == 404
    held = b"".join(path.read_bytes() for path in state.glob(f"{FILE}*"))
    assert b"\xff\xd8\xff" not in held and b"gate/0/" not in held
    actions = [entry.action for entry in running.service.audit.entries(limit=50)]
    assert {"erasure_asked", "erasure_approved", "erasure_begun", "erasure"} <= set(actions)


@pytest.mark.parametrize(("user", "role", "status"), [("ann", "admin", 403), ("bob", "reviewer", 403)])
def test_the_same_person_and_who_is_no_admin_cannot_decide(
    running: RunningService, user: str, role: str, status: int
) -> None:
    number = ask(running)[1].json()["id"]
    answer = running.client(role, user=user).post(
        f"{API}/erasures/requests/{number}/decision", json={"decision": "erase"}
    )
    assert answer.status_code == status and len(running.service.system.gallery) == 12


def test_a_refusal_erases_nothing_but_the_picture_asked_with(running: RunningService) -> None:
    number = ask(running)[1].json()["id"]
    bob = running.client("admin", user="bob")
    answer = bob.post(f"{API}/erasures/requests/{number}/decision", json={"decision": "refuse"})
    assert answer.json()["state"] == "refused" and len(running.service.system.gallery) == 12
    assert bob.get(f"{API}/erasures/requests/{number}/picture").status_code == 404
    again = bob.post(f"{API}/erasures/requests/{number}/decision", json={"decision": "erase"})
    assert again.status_code == 409 and len(running.service.system.gallery) == 12


def test_only_answers_of_ones_own_search_can_be_asked_for(running: RunningService) -> None:
    client, answer = ask(running)
    search = client.post(f"{API}/search", json={"sighting_id": running.numbers[0, "gate"], **REASON, "k": 1}).json()
    body = {"search_id": search["search_id"], "sighting_ids": [running.numbers[3, "plaza"]], "reason": "asked for"}
    assert client.post(f"{API}/erasures/requests", json=body).status_code == 404
    other = running.client("operator", user="eve")
    assert other.post(f"{API}/erasures/requests", json={**body, "search_id": search["search_id"]}).status_code == 404
    assert running.client("viewer").get(f"{API}/erasures/requests").status_code == 403
    assert answer.json()["id"] not in [
        one["id"]
        for one in running.client("operator", user="eve", cameras=["gate"]).get(f"{API}/erasures/requests").json()
    ]


def test_what_goes_otherwise_meanwhile_closes_the_request(running: RunningService) -> None:
    _, answer = ask(running)
    admin = running.client("admin", user="bob")
    theirs = answer.json()["sighting_ids"]
    admin.post(f"{API}/erasures", json={"sighting_ids": theirs[:1], "reason": "asked"})
    (one,) = admin.get(f"{API}/erasures/requests").json()
    assert one["state"] == "open" and one["sighting_ids"] == theirs[1:]
    admin.post(f"{API}/erasures", json={"sighting_ids": theirs[1:], "reason": "asked"})
    (one,) = admin.get(f"{API}/erasures/requests").json()
    assert one["state"] == "gone" and one["sighting_ids"] == []


def test_the_pages_lead_through_it(running: RunningService) -> None:
    page, csrf = running.signed_in("operator", user="ann")
    files = {"picture": ("p.png", png_of(crop_of(0)), "image/png")}
    answer = page.post("/search", data={"csrf": csrf, **REASON, "whole_picture": "yes"}, files=files)
    answer = page.get(answer.headers["location"])
    assert "This person is to be erased" in answer.text
    where = answer.url.path + "/erasure"
    theirs = [str(running.numbers[0, camera]) for camera in ("gate", "market")]
    sent = page.post(where, data={"csrf": csrf, "sighting_ids": theirs, "reason": "letter of 3 March"})
    assert sent.status_code == 303 and "Somebody else, an admin, must decide" in page.get("/erasures").text
    assert page.post(where, data={"csrf": csrf, "sighting_ids": theirs, "reason": ""}).status_code == 422
    assert page.post(where, data={"csrf": csrf, "reason": "letter"}).status_code == 422
    boss, secret = running.signed_in("admin", user="bob")
    assert "Erase 2 sightings for good" in boss.get("/erasures").text
    assert boss.post("/erasures/1", data={"csrf": secret, "decision": "erase"}).status_code == 303
    assert len(running.service.system.gallery) == 10 and "erased" in boss.get("/erasures").text
