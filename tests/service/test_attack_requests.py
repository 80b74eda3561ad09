"""Attacks by requests: every role at every route, and ten thousand requests that nobody should send."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from service_fixtures import REASON, RunningService, crop_of, png_of, show_live
from test_api import API, BODIES

from reid_mtda import service
from reid_mtda.service.tokens import Role

REQUESTS = int(os.environ.get("REID_MTDA_REQUESTS", "10200"))
ROOT = Path(__file__).parents[2]
ROLES = ("viewer", "operator", "reviewer", "admin")
ENDLESS = {"GET /events"}

# Forms and pages, with the least role that may use them; the API's table is in the service's page.
PAGES = {
    "GET /login": "", "POST /login": "", "POST /logout": "viewer", "GET /": "viewer", "GET /sightings": "viewer",
    "GET /sightings/{number}": "viewer", "POST /cameras/{name}/{action}": "operator", "GET /status": "viewer",
    "GET /search": "operator", "GET /picks/{pick_id}/picture": "operator", "POST /search": "operator",
    "GET /searches/{search_id}": "operator", "GET /searches/{search_id}/picture": "operator",
    "POST /searches/{search_id}/filters": "operator", "POST /searches/{search_id}/reviews": "operator",
    "GET /reviews": "operator", "POST /reviews/{number}": "reviewer", "GET /audit": "admin", "GET /tokens": "admin",
    "POST /tokens": "admin", "POST /tokens/{token_id}/revoke": "admin", "GET /models": "viewer",
    "POST /models": "admin", "POST /retention": "admin", "GET /erasures": "operator",
    "POST /searches/{search_id}/erasure": "operator", "POST /erasures/{number}": "admin",
}  # fmt: skip
OPEN_TO_ADD = "admin"  # of page routes that this table does not name


def api_roles() -> dict[str, str]:
    """The least role of each route, as the service's page says; '' for anybody."""
    text = (ROOT / "reid_mtda" / "service" / "README.md").read_text(encoding="utf-8").partition("## The API")[2]
    table = re.findall(r"^\| (\w+) \| (.*)$", text, re.M)[1:]
    # Reviewers decide in the second place; the first is an operator's.
    least = {"anybody": "", "reviewer": "reviewer"}
    return {
        route: least.get(role, role)
        for role, line in table
        for route in re.findall(r"`((?:GET|POST|DELETE|PUT|PATCH) /[^`]+)`", line)
    }


def page_routes() -> set[str]:
    """Forms and pages, of whatever file of the service's begins with ``web``."""
    names = [name for _, name, _ in pkgutil.iter_modules(service.__path__) if name.startswith("web")]
    routers = [getattr(importlib.import_module(f"{service.__name__}.{name}"), "router", None) for name in names]
    return {
        f"{method} {route.path}"
        for router in routers if router is not None
        for route in router.routes
        for method in route.methods - {"HEAD"}
    }  # fmt: skip


def rank(role: str) -> int:
    return Role.of(role) if role else 0


@pytest.mark.attack
def test_every_role_at_every_route(running: RunningService, tmp_path: Path) -> None:
    """Below its role nobody gets an answer, from it on everybody does, and some cameras' tokens show no others."""
    expired, _ = running.service.auth.create("old", Role.ADMIN, days=1e-9, cameras=None, created_by="test")
    revoked, info = running.service.auth.create("gone", Role.ADMIN, days=1, cameras=None, created_by="test")
    running.service.auth.revoke(info.id)
    principals: list[tuple[str, str, str | None, list[str] | None]] = [
        ("nobody", "", None, None), ("expired", "", expired, None), ("revoked", "", revoked, None),
        ("invented", "", "rmt_" + "a" * 43, None),
        *((role, role, None, None) for role in ROLES), *((f"{role} of gate", role, None, ["gate"]) for role in ROLES),
    ]  # fmt: skip
    differing, cells, api, pages = list[str](), 0, api_roles(), page_routes()
    assert pages, "no pages found: the way that they are looked up is out of date"
    unnamed = {route for route in pages if route not in PAGES and "openapi" not in route and "docs" not in route}
    routes = [(route, least, True) for route, least in api.items() if route not in ENDLESS]
    routes += [(route, least, False) for route, least in (PAGES | dict.fromkeys(unnamed, OPEN_TO_ADD)).items()]
    api_client, browser = running.visitor(), running.visitor()  # an application costs more than all its requests
    browser.headers["Accept"] = "text/html"
    for who, role, token, cameras in principals:
        shown = running.token(role, user=f"{role}x", cameras=cameras) if role else token
        for route, least, is_api in sorted(routes):
            method, path = route.split(" ")
            path = path.replace("{name}", "gate").replace("{action}", "pause")
            address = (API if is_api else "") + re.sub(r"{\w+}", "1", path)
            running.service.throttle._failures.clear()
            client = api_client if is_api else browser
            client.cookies.clear()
            client.headers.pop("Authorization", None)
            body: dict[str, Any] = {"json": BODIES[route]} if is_api and route in BODIES else {}
            csrf = ""
            if not is_api and role:
                assert browser.post("/login", data={"token": shown}).status_code == 303
                csrf = running.service.auth.resume(browser.cookies["rmt_session"]).csrf
            elif shown is not None:
                client.headers["Authorization"] = f"Bearer {shown}"
            if "picture" in route and method == "POST":
                body = {"data": REASON, "files": {"picture": ("p.png", png_of(crop_of(0)))}}
            if not is_api and method == "POST":
                body = {
                    "data": {
                        "csrf": csrf,
                        "user": "x",
                        "role": "viewer",
                        "days": "1",
                        "action": "none",
                        "decision": "same",
                        **REASON,
                    }
                }
                body["data"]["sighting_id"] = "1"
            answer = client.request(method, address, **body)
            cells += 1
            status, text = answer.status_code, answer.text
            turned_away = status in (401, 403) or (status == 303 and "/login" in answer.headers.get("location", ""))
            if route == "POST /logout" and role:
                turned_away = status == 403
            if not least:
                fine = status < 500 or path == "/ready"
            elif rank(role) < rank(least):
                fine = turned_away or (bool(role) and status == 404)
            else:
                fine = status < 500 and status != 401 and (not turned_away or cameras is not None)
            if cameras and any(other in text for other in ("market", "plaza", "pa55word")):
                fine = False
            if not fine:
                differing.append(f"{who}: {route}: {status} {text[:120]!r}")
    sys.stdout.write(f"{cells} cells of {len(routes)} routes x {len(principals)}; {len(differing)} differ\n")
    assert not differing, "\n".join(differing)


NASTY: list[Any] = [
    "", " ", "\x00", "\n", "a" * 5000, "é", "e\u0301", "\u202e\u2066abc", "\ud800", "😀" * 200, "../../etc/passwd",
    "%00", "%2e%2e%2f", "<script>alert(1)</script>", "' OR 1=1 --", "{{7*7}}", "${jndi:ldap://x}", "-1", "0", "1e400",
    "NaN", "١٢", "1_0", "0x10", None, True, False, [], {}, [[]], {"a": {"a": {}}}, -1, 0, 1, 2**31, 2**63, 2**64,
    -(2**63) - 1, 10**40, 1.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf"), ["gate"] * 300,
    ["gate", 1, None], {"gate": 1}, "2026-13-45T99:99:99Z", "2026-03-01T08:00:00", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59+14:00", "1970-01-01T00:00:00-12:00", "gate", "market", "GATE", "gate\n", "rtsp://127.0.0.1/x",
    "file:///etc/passwd", "synthetic://street?camera=gate", "synthetic://nowhere?x=\x00",
]  # fmt: skip


def value(chance: random.Random, depth: int = 0) -> Any:
    if depth < 3 and chance.random() < 0.1:
        return {str(chance.choice(NASTY)): value(chance, depth + 1) for _ in range(chance.randint(0, 4))}
    return chance.choice(NASTY)


def properties(schema: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    while "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return list(schema.get("properties", {}))


def quoted(text: object) -> str:
    from urllib.parse import quote

    return quote(str(text).encode("utf-8", "surrogatepass"), safe="")


@pytest.mark.attack
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_request_is_answered_by_a_fault_of_the_service(running: RunningService) -> None:
    """Values of every kind in paths, queries, headers and bodies, by every role: refused or answered, never 500."""
    chance = random.Random(int(os.environ.get("REID_MTDA_SEED", "0")))
    for number, camera in enumerate(("gate", "market")):
        show_live(running, camera, number)
    clients = [running.client(role, user=f"{role}{n}") for n, role in enumerate(ROLES)]
    clients += [running.client(role, cameras=["gate"]) for role in ("operator", "admin")]
    browsers = [running.signed_in(role, user=f"b{n}") for n, role in enumerate(ROLES)]
    spec = clients[0].get(f"{API}/openapi.json").json()
    routes = [
        (method.upper(), path, operation)
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
        if not path.endswith("/events")
    ]
    pages = sorted(route.split(" ") for route in page_routes() if "{" in route or "POST" in route or "GET" in route)
    good = [str(number) for number in running.numbers.values()]
    counts, faults, began = Counter[int](), list[str](), time.monotonic()
    for _ in range(REQUESTS):
        if chance.random() < 0.75:
            method, path, operation = chance.choice(routes)
            client = chance.choice(clients)
            for name in re.findall(r"{(\w+)}", path):
                known = ["gate", "market", "yard", *good]
                path = path.replace(
                    f"{{{name}}}", chance.choice(known) if chance.random() < 0.6 else quoted(value(chance))
                )
            names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            query = "&".join(
                f"{name}={quoted(value(chance))}"
                for name in chance.sample([*names, "x"], chance.randint(0, len(names) + 1))
            )
            content, headers = b"", dict[str, str]()
            form = operation.get("requestBody", {}).get("content", {})
            if "application/json" in form:
                keys = properties(form["application/json"]["schema"], spec)
                body = dict(BODIES.get(f"{method} {path.removeprefix(API)}", {}))
                if "purpose" in keys and chance.random() < 0.7:
                    body |= {**REASON, "sighting_id": int(chance.choice(good))}
                for key in chance.sample([*keys, "x"], chance.randint(0, min(3, len(keys)))):
                    body[key] = value(chance)
                given: Any = body if chance.random() < 0.9 else value(chance)
                content = json.dumps(given).encode()
                if chance.random() < 0.1:
                    content = chance.choice(
                        [
                            content[: len(content) // 2],
                            b"",
                            b"[" * 20_000,
                            b"\xff\xfe",
                            b"\xef\xbb\xbf" + content,
                            b"nul",
                        ]
                    )
                headers["Content-Type"] = (
                    "application/json" if chance.random() < 0.9 else chance.choice(["", "text/xml"])
                )
            elif form:
                picture = png_of(crop_of(chance.randrange(4)))
                if chance.random() < 0.5:
                    cut = chance.randrange(len(picture))
                    picture = picture[:cut] + bytes(chance.randrange(256) for _ in range(8)) + picture[cut + 8 :]
                content = b"".join(
                    b'--e\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % part
                    for part in [
                        (b"picture", b'; filename="p.png"', picture),
                        (b"purpose", b"", str(value(chance)).encode("utf-8", "surrogatepass")),
                        (b"case_reference", b"", b"x-1"),
                    ][: chance.randint(0, 3)]
                ) + chance.choice([b"--e--\r\n", b"", b"--f--"])
                headers["Content-Type"] = chance.choice(["multipart/form-data; boundary=e", "multipart/form-data", "x"])
        else:
            method, path = chance.choice(pages)
            client, csrf = chance.choice(browsers)
            for name in re.findall(r"{(\w+)}", path):
                path = path.replace(f"{{{name}}}", chance.choice(["gate", *good, quoted(value(chance))]))
            keys = [
                "next",
                "k",
                "before",
                "limit",
                "camera",
                "cameras",
                "since",
                "until",
                "decision",
                "action",
                "role",
                "days",
            ]
            fields = [(key, value(chance)) for key in chance.sample(keys, chance.randint(0, 4))]
            query = "&".join(f"{key}={quoted(item)}" for key, item in fields)
            content, headers = b"", {}
            if method == "POST":
                if path == "/logout":
                    continue
                content = f"csrf={csrf if chance.random() < 0.9 else 'x'}&{query}".encode()
                headers["Content-Type"] = "application/x-www-form-urlencoded"
        if chance.random() < 0.05:
            name, text = chance.choice(["Range", "Accept", "Cookie", "If-None-Match", "X-Forwarded-For"]), value(chance)
            headers[name] = re.sub(r"[^\x20-\x7e]", "?", str(text))[:2000]
        url = path + (f"?{query}" if query else "")
        answer = client.request(method, url, content=content, headers=headers)
        counts[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code not in (503, 507):
            faults.append(f"{method} {url[:200]} {content[:300]!r}: {answer.status_code}")
        if "Traceback" in answer.text or "pa55word" in answer.text:
            faults.append(f"{method} {url[:200]}: shows what nobody may see")
    shown = ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))
    sys.stdout.write(f"{sum(counts.values())} requests in {time.monotonic() - began:.0f} s; {shown}\n")
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults[:20])
    assert running.service.audit.verify().is_sound
    assert running.client("viewer").get(f"{API}/ready").status_code in (200, 503)
