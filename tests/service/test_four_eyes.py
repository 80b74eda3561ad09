"""Two decisions are two people's: names that look alike, tokens of one's own making, and tokens of one admin."""

from pathlib import Path

import pytest
from service_fixtures import REASON, RunningService, TestClient

from reid_mtda.service.roles import AccessError, Role
from reid_mtda.service.tokens import Auth
from reid_mtda.service.user_names import check_user_name, person_key

API = "/api/v1"
ALIKE = (
    ("ann", "Ann"), ("ann", "ann."), ("ann", "an-n"), ("ann", "a n n"), ("ann", "ánn"), ("ann", "ａｎｎ"),
    ("ann", "Ⓐnn"), ("ann lee", "ann  lee"), ("José", "Jose\u0301"), ("straße", "STRASSE"), ("ace", "асе"),
    ("oleg", "0leg"), ("Łukasz", "lukasz"), ("ann", "аnn"), ("ivo", "ινο"), ("ann", "ann'"),
)  # fmt: skip


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_are_one_persons(one: str, other: str) -> None:
    assert person_key(one) == person_key(other)


@pytest.mark.parametrize(("one", "other"), [("ann", "anna"), ("Anna", "Hanna"), ("राम", "रमा"), ("bot-1", "bot-2")])
def test_names_of_two_people_stay_two(one: str, other: str) -> None:
    assert person_key(one) != person_key(other)


@pytest.mark.parametrize(
    "name",
    ["аnn", "annα", "ann\u200b", "a\u00adnn", "ᴀnn", "ɑnn", "ann😀", "...", " ", "\u3164", "a\u034fnn", "ann\u202e",
     "ann٣", "service", "Service", "command  line", "Command-Line", "sérvice", "ѕеrvice", "ЅЕRVICE", "a" * 65,
     "a\nb", ""],
)  # fmt: skip
def test_names_that_deceive_or_are_reserved_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="got"):
        check_user_name(name)
    auth = Auth(tmp_path)
    with pytest.raises(AccessError, match="user: got") as refused:
        auth.create(name, Role.REVIEWER, days=1, created_by="test")
    assert refused.value.status == 422 and auth.tokens() == []


@pytest.mark.parametrize(
    "name", ["Ann Müller", "o'brien", "ann@example.org", "山田 太郎", "Анна", "김철수", "محمد علي", "R2-D2"]
)
def test_names_that_people_have_are_taken(name: str) -> None:
    assert check_user_name(f"  {name} ") == name


def test_a_name_is_spelled_one_way(tmp_path: Path) -> None:
    auth = Auth(tmp_path)
    auth.create("Ann Lee", Role.OPERATOR, days=1, created_by="test")
    auth.create("Ann  Lee", Role.REVIEWER, days=1, created_by="test")  # the same, as it is kept
    with pytest.raises(AccessError, match="which is 'Ann Lee' in tokens made before"):
        auth.create("ann lee", Role.REVIEWER, days=1, created_by="test")


def proposed(running: RunningService, client: TestClient) -> int:
    asked = client.post(f"{API}/search", json={"sighting_id": running.numbers[0, "gate"], **REASON}).json()
    body = {"search_id": asked["search_id"], "sighting_id": asked["hits"][0]["sighting_id"], "decision": "same"}
    return int(client.post(f"{API}/reviews", json=body).json()["id"])


def holder(running: RunningService, admin: TestClient, user: str, role: str) -> TestClient:
    """A client with a token that ``admin`` made."""
    made = admin.post(f"{API}/tokens", json={"user": user, "role": role})
    assert made.status_code == 201, made.text
    client = running.visitor()
    client.headers["Authorization"] = f"Bearer {made.json()['token']}"
    return client


def decide(client: TestClient, review: int) -> tuple[int, str]:
    answer = client.post(f"{API}/reviews/{review}/decision", json={"decision": "same"})
    return answer.status_code, answer.json().get("state") or answer.json()["error"]["message"]


def test_a_token_of_ones_own_making_is_no_second_pair_of_eyes(running: RunningService) -> None:
    ann = running.client("admin", user="ann")
    bob = holder(running, ann, "bob", "reviewer")
    code, why = decide(bob, proposed(running, ann))
    assert code == 403 and "your token goes back to ann" in why
    carl = holder(running, holder(running, ann, "dora", "admin"), "carl", "reviewer")  # by a detour
    assert decide(carl, 1)[0] == 403
    assert decide(running.client("reviewer", user="eva"), 1) == (200, "confirmed")


def test_whoever_made_the_first_ones_token_does_not_decide(running: RunningService) -> None:
    ann = running.client("admin", user="ann")
    code, why = decide(ann, proposed(running, holder(running, ann, "bob", "operator")))
    assert code == 403 and "goes back to you" in why


def test_two_tokens_of_one_admin_are_no_four_eyes(running: RunningService) -> None:
    ann, zoe = running.client("admin", user="ann"), running.client("admin", user="zoe")
    review = proposed(running, holder(running, ann, "bob", "operator"))
    code, why = decide(holder(running, ann, "carl", "reviewer"), review)
    assert code == 403 and "both tokens were made by ann" in why
    assert decide(holder(running, zoe, "dora", "reviewer"), review) == (200, "confirmed")


def test_decisions_are_kept_and_audited_with_their_tokens(running: RunningService) -> None:
    ann, bob = running.client("operator", user="ann"), running.client("reviewer", user="bob")
    assert decide(bob, proposed(running, ann))[0] == 200
    ids = {token.user: token.id for token in running.service.auth.tokens()}
    for action, user in (("review_proposed", "ann"), ("review_decided", "bob"), ("search", "ann")):
        (entry,) = running.service.audit.entries(action=action)
        assert (entry.user, entry.detail["by_token"]) == (user, ids[user])
