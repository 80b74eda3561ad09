"""The stream of events: for how long it lasts, who hears what, and how it goes on after a restart."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from fastapi.sse import format_sse_event
from service_fixtures import RunningService

from reid_mtda.live.events import Events
from reid_mtda.service import api
from reid_mtda.service.roles import Principal


def listen(
    running: RunningService, who: Principal, *, last: int = 0, meanwhile: Callable[[], None] = lambda: None
) -> str:
    """What the stream gives; the token is revoked as soon as it begins, so it must end. ``meanwhile``: at each turn."""
    told = []
    running.service.auth.revoke(who.token_id)

    async def hear() -> None:
        async for told_now in api.events(who, running.service, last):
            data = json.dumps(told_now.data)
            told.append(format_sse_event(data_str=data, event=told_now.event, id=told_now.id).decode())
            meanwhile()

    asyncio.run(asyncio.wait_for(hear(), 5))
    return "".join(told)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_POLL_S", 0.01)
    monkeypatch.setattr(api, "_CHECKED_S", 0.1)


def test_a_revoked_token_hears_no_more_however_busy_the_site(running: RunningService) -> None:
    who = running.service.auth.identify(running.token("operator"))

    def busy() -> None:
        running.service.system.events.publish("sighting", "gate", sighting_id=1)

    assert "event: sighting" in listen(running, who, meanwhile=busy)  # it ended by itself
    assert running.service.listeners == 0


def test_what_was_erased_is_told_to_who_sees_its_camera_and_paths_to_operators(running: RunningService) -> None:
    gone = [running.numbers[0, "gate"], running.numbers[1, "gate"], running.numbers[0, "plaza"]]
    running.client("admin").post("/api/v1/erasures", json={"sighting_ids": gone, "reason": "asked for it"})
    running.service.system.events.publish(
        "disk", None, level="vectors", message="pictures are not stored: /srv/gallery: no space left"
    )
    for role, cameras, counts, hears_of_disk in (
        ("viewer", ["gate"], ['"count": 2'], False),
        ("viewer", ["plaza"], ['"count": 1'], False),
        ("operator", ["plaza"], ['"count": 1'], True),
        ("viewer", ["market"], [], False),
    ):
        who = running.service.auth.identify(running.token(role, cameras=cameras))
        text = listen(running, who)
        assert text.count("event: erased") == len(counts) and all(count in text for count in counts)
        assert ("/srv/gallery" in text) == hears_of_disk and "pictures are not stored" in text


def test_signing_out_ends_the_sessions_stream_and_no_other(running: RunningService) -> None:
    token = running.token("operator")
    auth = running.service.auth
    sessions = [auth.open_session(token)[0] for _ in range(2)]
    gone, stays = (auth.resume(session) for session in sessions)
    auth.close_session(sessions[0])
    assert not api._still_valid(running.service, gone)
    assert api._still_valid(running.service, stays) and api._still_valid(running.service, auth.identify(token))


@pytest.mark.parametrize("clock_s", [60.0, -3600.0])
def test_who_comes_back_after_a_restart_hears_what_came_since(
    running: RunningService, monkeypatch: pytest.MonkeyPatch, clock_s: float
) -> None:
    before = Events()
    for _ in range(50):
        before.publish("sighting", "gate")
    restarted_ns = time.time_ns() + int(clock_s * 1e9)
    with monkeypatch.context() as later:
        later.setattr("time.time_ns", lambda: restarted_ns)
        running.service.system.events = after = Events()
    after.publish("sighting", "gate", sighting_id=1)
    who = running.service.auth.identify(running.token("viewer"))
    text = listen(running, who, last=before.last)
    assert text.count("event: sighting") == 1 and f"id: {after.last}\n" in text


def test_notices_are_for_operators_and_cameras_for_those_who_see_them(running: RunningService) -> None:
    system = running.service.system
    system.periodic_checks.clear()  # they would find that nothing is wrong
    system.alerts.put("model", "its folder /srv/model is gone")
    system.alerts.put("camera gate", "gate.yaml is broken")
    for role, cameras, expected in (
        ("viewer", None, [False, False]),
        ("operator", None, [True, True]),
        ("operator", ["plaza"], [True, False]),
    ):
        who = running.service.auth.identify(running.token(role, cameras=cameras))
        text = listen(running, who)
        assert [words in text for words in ("/srv/model", "gate.yaml")] == expected
