"""Tokens, sessions, throttling, and what stands before every request."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from service_fixtures import RunningService, TestClient
from starlette.formparsers import MultiPartParser
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from reid_mtda.errors import ConfigError
from reid_mtda.schema import parse
from reid_mtda.service.app import create_app
from reid_mtda.service.roles import AccessError, Role
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.service.throttle import Throttle
from reid_mtda.service.tokens import Auth


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth(tmp_path: Path, clock: Clock) -> Auth:
    return Auth(tmp_path, clock=clock)


def test_a_token_stands_nowhere_on_disk(auth: Auth, tmp_path: Path) -> None:
    text, _ = auth.create("ann", Role.ADMIN, days=1, created_by="test")
    session, _ = auth.open_session(text)
    auth.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.encode() not in everything and text.split("_", 2)[2].encode() not in everything
    assert session.encode() not in everything
    assert (tmp_path / "access.sqlite").stat().st_mode & 0o077 == 0


def test_tokens_expire_and_take_their_sessions_along(auth: Auth, clock: Clock) -> None:
    text, info = auth.create("ann", Role.VIEWER, days=0.25, created_by="test")
    session, seconds = auth.open_session(text)
    assert seconds == pytest.approx(0.25 * 86400)
    assert auth.resume(session).user == "ann"
    clock.now = info.expires_s
    for use in (lambda: auth.identify(text), lambda: auth.resume(session), lambda: auth.open_session(text)):
        with pytest.raises(AccessError) as refused:
            use()
        assert refused.value.status == 401


def test_sessions_end_after_twelve_hours(auth: Auth, clock: Clock) -> None:
    session, _ = auth.open_session(auth.create("ann", Role.VIEWER, days=90, created_by="test")[0])
    clock.now += 12 * 3600 + 1
    with pytest.raises(AccessError, match="session has ended"):
        auth.resume(session)


def test_revoking_ends_sessions_at_once(auth: Auth) -> None:
    text, info = auth.create("ann", Role.ADMIN, days=1, created_by="test")
    session, _ = auth.open_session(text)
    assert auth.has_admin and auth.revoke(info.id) and not auth.has_admin
    with pytest.raises(AccessError):
        auth.resume(session)
    assert not auth.revoke(info.id)


def test_an_admin_of_some_cameras_is_no_way_back_in(auth: Auth, clock: Clock) -> None:
    """They may make no tokens: the service must offer a first one again once the last full admin's has expired."""
    auth.create("ann", Role.ADMIN, days=90, cameras=["gate"], created_by="test")
    assert not auth.has_admin
    auth.create("bob", Role.ADMIN, days=1, created_by="test")
    assert auth.has_admin
    clock.now += 86400
    assert not auth.has_admin


@pytest.mark.parametrize(
    ("user", "days", "complaint"), [("", 1, "user"), ("a" * 65, 1, "user"), ("a\nb", 1, "user"), ("ann", 0, "days")]
)
def test_wrong_tokens_are_not_made(auth: Auth, user: str, days: float, complaint: str) -> None:
    with pytest.raises(AccessError, match=complaint):
        auth.create(user, Role.VIEWER, days=days, created_by="test")


def test_scope_narrows_and_never_widens(auth: Auth) -> None:
    text, _ = auth.create("ann", Role.VIEWER, days=1, cameras=["gate", "plaza"], created_by="test")
    ann = auth.identify(text)
    assert ann.scope(None) == ("gate", "plaza")
    assert ann.scope(["plaza", "market"]) == ("plaza",)
    assert ann.scope(["market"]) == ()
    everyone, _ = auth.create("bob", Role.VIEWER, days=1, created_by="test")
    assert auth.identify(everyone).scope(None) is None


def test_guessing_gets_slower_and_memory_of_it_fades(clock: Clock) -> None:
    throttle, waits = Throttle(clock=clock), []

    def wait_for(address: str) -> float:
        try:
            throttle.failed(address)
        except AccessError as error:
            assert error.status == 429
            return error.retry_after_s
        return 0.0

    for _ in range(12):
        waits.append(wait_for("1.2.3.4"))
        clock.now += waits[-1]
        if waits[-1]:
            assert wait_for("1.2.3.4") == 0.0
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64]
    assert wait_for("5.6.7.8") == 0.0
    assert wait_for("1.2.3.4") == 128
    clock.now += 601
    assert [wait_for("1.2.3.4") for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_of_fifty_wrong_tokens_at_once_five_are_free() -> None:
    throttle, start = Throttle(clock=lambda: 0.0), threading.Barrier(50)

    def guess(_: int) -> bool:
        start.wait()
        try:
            throttle.failed("1.2.3.4")
        except AccessError:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(guess, range(50))) == 5


def test_waits_do_not_follow_a_wall_clock_that_is_set() -> None:
    assert Throttle()._clock is time.monotonic


def test_throttle_memory_is_bounded(clock: Clock) -> None:
    throttle = Throttle(size=100, clock=clock)
    for n in range(1000):
        throttle.failed(str(n))
    assert len(throttle._failures) == 100


# ------------------------------------------------------------------------------------------------------- over HTTP


def test_wrong_tokens_are_throttled(running: RunningService) -> None:
    visitor = running.visitor()
    visitor.headers["Authorization"] = "Bearer wrong"
    assert [visitor.get("/api/v1/me").status_code for _ in range(7)] == [401] * 5 + [429] * 2
    assert int(visitor.get("/api/v1/me").headers["retry-after"]) >= 1


def test_wrong_tokens_never_lock_out_right_ones(running: RunningService) -> None:
    """They share an address, e.g. an office's: fifty wrong ones at once, then somebody signs in and goes on."""
    running.service.throttle = Throttle(clock=lambda: 0.0)  # however slow this machine is
    visitor, right = running.visitor(), running.client("viewer")
    with ThreadPoolExecutor(8) as pool:
        wrong = {"Authorization": "Bearer rmt_1_wrong"}
        answers = list(pool.map(lambda _: visitor.get("/api/v1/me", headers=wrong).status_code, range(50)))
    assert answers.count(401) == 5 and answers.count(429) == 45
    assert right.get("/api/v1/me").status_code == 200
    assert running.visitor().post("/login", data={"token": "wrong"}).status_code == 429
    assert running.signed_in("viewer")[0].get("/").status_code == 200
    assert visitor.get("/api/v1/me", headers=wrong).status_code == 429  # nor does the right one clear the count


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "bearer x y", "rmt"])
def test_odd_authorisation_is_unauthorised(running: RunningService, header: str) -> None:
    assert running.visitor().get("/api/v1/me", headers={"Authorization": header}).status_code == 401


def test_foreign_host_names_are_refused(running: RunningService) -> None:
    visitor = running.visitor()
    assert visitor.get("/login", headers={"Host": "evil.example"}).status_code == 400
    assert visitor.get("/login", headers={"Host": "127.0.0.1:8080"}).status_code == 200
    assert visitor.get("/login", headers={"Host": "[::1]:8080"}).status_code == 200


def test_every_answer_carries_the_security_headers(running: RunningService) -> None:
    visitor = running.visitor()
    for path in ("/login", "/nowhere", "/api/v1/health", "/api/v1/me", "/static/style.css"):
        headers = visitor.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "server" not in headers
    assert visitor.get("/static/../app.py").status_code == 404
    assert visitor.get("/static/%2e%2e/%2e%2e/app.py").status_code == 404


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(running: RunningService) -> None:
    visitor = running.visitor()
    cookie = visitor.post("/login", data={"token": running.token("viewer")}).headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie


def test_behind_tls_of_a_trusted_proxy_cookies_and_browsers_keep_to_it(running: RunningService) -> None:
    app = ProxyHeadersMiddleware(create_app(running.service), ["testclient"])
    visitor = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
    for scheme, is_secure in (("http", False), ("https", True)):
        sent = {"X-Forwarded-Proto": scheme}
        headers = visitor.post("/login", data={"token": running.token("viewer")}, headers=sent).headers
        assert ("; secure" in headers["set-cookie"].lower()) is is_secure
        assert ("strict-transport-security" in headers) is is_secure


@pytest.mark.parametrize("proxy", ["*", "proxy.local", "10.0.0.0/33", "", "127.0.0.1:8080"])
def test_a_proxy_that_is_no_address_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigError, match=r"live\.yaml: trusted_proxies: got .* expected IP addresses"):
        parse(ServiceSettings, {"trusted_proxies": [proxy]}, where="live.yaml")


@pytest.mark.parametrize(
    ("proxy", "trusted", "strange"),
    [
        ("127.0.0.1", ("127.0.0.1", "::ffff:127.0.0.1"), ("127.0.0.2", "::ffff:127.0.0.2", "::1")),
        ("10.0.0.5/24", ("10.0.0.9", "::ffff:10.0.0.9"), ("10.0.1.9", "::ffff:10.0.1.9")),
        ("fd00::5/64", ("fd00::9",), ("fd01::9", "10.0.0.9")),
    ],
)
def test_proxies_are_trusted_by_network(proxy: str, trusted: tuple[str, ...], strange: tuple[str, ...]) -> None:
    settings = parse(ServiceSettings, {"trusted_proxies": [proxy]}, where="live.yaml")
    hosts = ProxyHeadersMiddleware(lambda *_: None, list(settings.trusted_proxies)).trusted_hosts
    assert all(host in hosts for host in trusted) and not any(host in hosts for host in strange)


def test_a_cookie_alone_changes_nothing(running: RunningService) -> None:
    client, csrf = running.signed_in("admin")
    path = "/api/v1/cameras/gate/pause"
    assert client.post(path).status_code == 403
    assert client.post(path, headers={"X-CSRF-Token": "wrong"}).status_code == 403
    assert client.post(path, headers={"X-CSRF-Token": csrf, "Origin": "https://evil.example"}).status_code == 403
    assert client.post(path, headers={"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post(path, headers={"X-CSRF-Token": csrf, "Origin": "null"}).status_code == 403
    assert client.post(path, headers={"X-CSRF-Token": csrf}).status_code == 200
    assert client.post("/tokens", data={"user": "x", "role": "admin"}).status_code == 403
    assert client.post("/logout", data={"csrf": "x"}).status_code == 403


def test_nobodys_upload_is_refused_unread(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse_form = MultiPartParser.parse

    async def watched(parser: MultiPartParser) -> object:
        read.append("a form")
        return await parse_form(parser)

    monkeypatch.setattr(MultiPartParser, "parse", watched)
    path, files = "/api/v1/search/picture", {"picture": ("p.png", b"x" * 300_000, "image/png")}
    visitor = running.visitor()
    refused = visitor.post(path, files=files)
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["kind"] == "unauthorised" and not read
    assert visitor.post("/search", files=files).status_code == 401 and not read
    for known in (running.client("operator"), running.signed_in("operator")[0]):
        known.headers["Accept"] = "application/json"
        assert known.post(path, files=files).status_code in (403, 422)  # no secret of the page; no picture
    assert len(read) == 1
    assert running.client("viewer").post(path, files=files).status_code == 403 and len(read) == 1


def test_nobody_signs_in_from_a_page_without_an_origin(running: RunningService) -> None:
    """A sandboxed frame of another site says "null"; our own pages say who they are."""
    visitor, data = running.visitor(), {"token": running.token("viewer")}
    assert visitor.post("/login", data=data, headers={"Origin": "null"}).status_code == 403
    assert "set-cookie" not in visitor.post("/login", data=data, headers={"Origin": "null"}).headers
    assert visitor.post("/login", data=data, headers={"Origin": "http://127.0.0.1"}).status_code == 303
    assert visitor.get("/login").headers["referrer-policy"] == "same-origin"


def test_signing_in_and_out(running: RunningService) -> None:
    client, csrf = running.signed_in("viewer")
    assert client.get("/").status_code == 200
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303
    assert client.get("/").headers["location"] == "/login?next=/"


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:1"])
def test_signing_in_leads_nowhere_else(running: RunningService, target: str) -> None:
    answer = running.visitor().post("/login", data={"token": running.token("viewer"), "next": target})
    assert answer.headers["location"] == "/"
