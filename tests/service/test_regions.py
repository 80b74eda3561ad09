"""Masks and zones from the page: an admin's, audited first, written to the camera's file or kept with its settings."""

import json

import pytest
from service_fixtures import RunningService, show_live

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import StorageError
from reid_mtda.schema import load_yaml

MASK = [[0, 0], [0.5, 0], [0.5, 0.5]]
DOOR = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]
DRAWN = [{"kind": "mask", "name": "", "corners": MASK}, {"kind": "zone", "name": "door", "corners": DOOR}]


def save(running: RunningService, drawn: object, *, role: str = "admin", camera: str = "gate", **who):
    client, csrf = running.signed_in(role, **who)
    text = drawn if isinstance(drawn, str) else json.dumps(drawn)
    return client.post(f"/cameras/{camera}/regions", data={"csrf": csrf, "regions": text})


def actions(running: RunningService) -> list[str]:
    return [entry.action for entry in running.service.audit.entries(limit=20)]


def test_the_cameras_file_gets_them_and_the_audit_first(running: RunningService) -> None:
    path = running.folder / "gate.yaml"
    url = running.service.system.pool.state("gate").settings.url
    path.write_text(f"# by the door\nurl: {url}\n")
    answer = save(running, DRAWN)
    assert answer.status_code == 303 and "camera_regions_changed" in actions(running)
    camera = load_yaml(path, Camera)
    assert len(camera.masks) == 1 and set(camera.zones) == {"door"} and path.read_text().startswith("# by the door")
    client, _ = running.signed_in("admin")
    assert "Saved." in client.get(answer.headers["location"]).text


def test_a_camera_without_a_file_keeps_them_with_its_settings(running: RunningService) -> None:
    assert save(running, DRAWN).status_code == 303
    settings = running.service.system.pool.state("gate").settings
    assert len(settings.masks) == 1 and set(settings.zones) == {"door"}
    assert running.service.system.pool.state("gate").stream.state == "paused"  # as it was


def test_what_is_no_area_is_said_and_what_was_drawn_stays(running: RunningService) -> None:
    crossing = [{"kind": "mask", "name": "", "corners": [[0, 0], [1, 1], [1, 0], [0, 1]]}]
    answer = save(running, crossing)
    assert answer.status_code == 422 and "its sides cross" in answer.text and "[1.0, 1.0]" in answer.text
    twice = save(running, [DRAWN[1], DRAWN[1]])
    assert twice.status_code == 422 and "two have the same name" in twice.text
    for text in ("{", "[1]", '[{"kind": "door", "corners": []}]', "[" * 5000, '[{"kind": "mask", "corners": [[1]]}]'):
        assert save(running, text).status_code == 422
    assert running.service.system.pool.state("gate").settings.masks == ()
    assert "camera_regions_changed" not in actions(running)


@pytest.mark.parametrize(("role", "who"), [("operator", {}), ("viewer", {}), ("admin", {"cameras": ["plaza"]})])
def test_others_may_not(running: RunningService, role: str, who: dict[str, list[str]]) -> None:
    assert save(running, DRAWN, role=role, **who).status_code in (403, 404)
    client, _ = running.signed_in(role, user="looker", **who)
    assert client.get("/cameras/gate/regions").status_code in (403, 404)
    assert running.service.system.pool.state("gate").settings.masks == ()


def test_what_cannot_be_audited_is_not_done(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    path = running.folder / "gate.yaml"
    path.write_text(f"url: {running.service.system.pool.state('gate').settings.url}\n")
    before, client = path.read_text(), running.signed_in("admin")

    def full(*_: object, **__: object) -> None:
        raise StorageError("audit.sqlite: the disk is full")

    monkeypatch.setattr(running.service.audit, "add", full)
    answer = client[0].post("/cameras/gate/regions", data={"csrf": client[1], "regions": json.dumps(DRAWN)})
    assert answer.status_code == 507 and path.read_text() == before


def test_the_status_shows_zones_and_leads_admins_to_the_editor(running: RunningService) -> None:
    save(running, DRAWN)
    show_live(running, "gate", 0)
    for role, leads in (("admin", True), ("operator", False)):
        text = running.signed_in(role, user=f"{role}2")[0].get("/status").text
        assert "door: 0 there" in text and ("/cameras/gate/regions" in text) is leads
    zones = running.client("viewer").get("/api/v1/cameras/gate").json()["zones"]
    assert zones == {"door": {"now": 0, "visits": 0, "mean_s": 0.0, "longest_s": 0.0}}
