"""What the audit cannot note is not done: with its file locked every change is refused, and nothing has changed."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import pytest
from service_fixtures import RunningService, TestClient
from test_model_registry import watch

from reid_mtda.service.audit import FILE
from reid_mtda.service.database import Database
from reid_mtda.service.roles import Principal, Role

API = "/api/v1"


@contextlib.contextmanager
def locked_audit(running: RunningService) -> Iterator[None]:
    """Another process writes to the audit, and does not end."""
    database: Database = running.service.audit._database
    database._connection.execute("PRAGMA busy_timeout = 50")  # do not wait ten seconds for it
    other = sqlite3.connect(running.folder / "state" / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def state_of(running: RunningService) -> tuple[object, ...]:
    """All that the requests below would change."""
    service = running.service
    return (
        [(token.id, token.revoked_s) for token in service.auth.tokens()],
        {name: (state.stream.state, state.url) for name, state in service.system.pool.states().items()},
        service.cameras._database.read("SELECT count(*) FROM cameras WHERE is_removed OR settings IS NOT NULL")[0][0],
        service.cameras._database.read("SELECT count(*) FROM cameras WHERE is_paused")[0][0],
        service.system.model.manifest.model_id,
        None if service.models.job is None else service.models.job.state,
        len(service.system.gallery),
        service.reviews.listed(Principal("x", Role.ADMIN, None, "x")),
    )


def requests(running: RunningService, admin: TestClient) -> list[tuple[str, str, dict[str, object] | None]]:
    token = next(token.id for token in running.service.auth.tokens() if token.user == "victim")
    return [
        ("POST", "/tokens", {"user": "eve", "role": "admin"}),
        ("DELETE", f"/tokens/{token}", None),
        ("POST", "/cameras", {"name": "yard", "url": "synthetic://street?camera=gate&duration=20"}),
        ("DELETE", "/cameras/market", None),
        ("POST", "/cameras/market/restore", None),
        ("POST", "/cameras/gate/pause", None),
        ("POST", "/cameras/gate/resume", None),
        ("POST", "/model/promotions", {"name": "turned"}),
        ("POST", "/model/calibration", None),
        ("POST", "/erasures", {"camera": "gate", "reason": "asked for it"}),
    ]


def test_with_the_audit_locked_nothing_is_done(running: RunningService) -> None:
    watch(running)
    admin = running.client("admin", user="ann")
    running.token("viewer", user="victim")
    before, asked = state_of(running), requests(running, admin)
    with locked_audit(running):
        for method, path, body in asked:
            answer = admin.request(method, f"{API}{path}", json=body)
            # What cannot be, like taking up a camera that is there, is refused before the audit is asked.
            assert answer.status_code in ((422,) if path.endswith("/restore") else (507,)), (path, answer.text)
            assert state_of(running) == before, path
    assert admin.post(f"{API}/cameras/market/restore").status_code == 422
    for method, path, body in asked[:4]:
        assert admin.request(method, f"{API}{path}", json=body).status_code in (201, 204), path
    actions = [entry.action for entry in running.service.audit.entries(limit=4)]
    assert actions == ["camera_removed", "camera_added", "token_revoked", "token_created"]


def test_with_the_audit_locked_nobody_signs_in(running: RunningService) -> None:
    token, visitor = running.token("admin"), running.visitor()
    with locked_audit(running):
        assert visitor.post("/login", data={"token": token}).status_code == 507
    assert running.service.auth._database.read("SELECT count(*) FROM sessions")[0][0] == 0


def test_forms_of_the_page_do_nothing_either(running: RunningService) -> None:
    browser, csrf = running.signed_in("admin", user="ann")
    running.token("viewer", user="victim")
    victim = next(token.id for token in running.service.auth.tokens() if token.user == "victim")
    before = state_of(running)
    with locked_audit(running):
        for path, fields in (
            ("/tokens", {"user": "eve", "role": "admin", "days": "1"}),
            (f"/tokens/{victim}/revoke", {}),
            ("/cameras/gate/resume", {}),
            ("/models", {"action": "promote", "name": "turned"}),
        ):
            assert browser.post(path, data={"csrf": csrf, **fields}).status_code == 507, path
            assert state_of(running) == before, path


def test_a_change_that_fails_after_its_entry_has_another_one(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two admins at once: both names pass the look before, one camera is added."""
    admin, pool = running.client("admin"), running.service.system.pool
    body = {"name": "gate", "url": "synthetic://street?camera=gate&duration=20"}
    real = pool.check_new
    with monkeypatch.context() as patch:
        looks = iter([lambda name: None, real])
        patch.setattr(pool, "check_new", lambda name: next(looks)(name))
        assert admin.post(f"{API}/cameras", json=body).status_code == 422
    newest, before = running.service.audit.entries(limit=2)
    assert (before.action, newest.action, newest.detail["change"]) == (
        "camera_added",
        "camera_change_failed",
        "camera_added",
    )


def test_a_slow_audit_of_one_picture_holds_up_no_other(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, log = running.client("viewer"), running.service.access_log
    slow, other = running.numbers[0, "gate"], running.numbers[1, "gate"]
    real, is_held, go_on = log._add, threading.Event(), threading.Event()

    def held(principal: Principal, action: str, number: int, *rest: object) -> None:
        if number == slow:
            is_held.set()
            assert go_on.wait(10)
        real(principal, action, number, *rest)

    monkeypatch.setattr(log, "_add", held)
    answers: list[int] = []
    ask = lambda: answers.append(client.get(f"{API}/sightings/{slow}/thumbnail").status_code)  # noqa: E731
    waiting = [threading.Thread(target=ask) for _ in range(2)]
    for thread in waiting:
        thread.start()
    assert is_held.wait(5)
    assert client.get(f"{API}/sightings/{other}/thumbnail").status_code == 200 and answers == []
    go_on.set()
    for thread in waiting:
        thread.join(10)
    assert answers == [200, 200] and log._turns == {}
    opened = [entry.detail["sighting_id"] for entry in running.service.audit.entries(action="picture_opened")]
    assert sorted(opened) == sorted([slow, other])  # two at once are one opening
