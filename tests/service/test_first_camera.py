"""A site without a camera is served, and its first one is added from the page: looked at, then written as a file."""

import stat
import time

import pytest
from service_fixtures import RunningService

from reid_mtda.camera_settings import Camera
from reid_mtda.live.site_reload import SiteWatcher
from reid_mtda.schema import load_yaml
from reid_mtda.site import load_site

STREET = "synthetic://street?camera=market&duration=20"


def send(running: RunningService, action: str, name: str, address: str, *, role: str = "admin", **who):
    client, csrf = running.signed_in(role, user=f"{role}-{time.time_ns()}", **who)
    return client.post("/cameras", data={"csrf": csrf, "action": action, "name": name, "address": address})


def actions(running: RunningService) -> list[str]:
    return [entry.action for entry in running.service.audit.entries(limit=20)]


def test_a_camera_is_looked_at_and_then_has_a_file(running: RunningService) -> None:
    looked = send(running, "look", "hall", STREET)
    assert looked.status_code == 200 and "data:image/jpeg;base64,/9j/" in looked.text and "640 x 360" in looked.text
    assert "found by motion" in looked.text and not (running.folder / "hall.yaml").exists()
    assert send(running, "add", "hall", STREET).status_code == 303
    path = running.folder / "hall.yaml"
    assert load_yaml(path, Camera) == Camera(url=STREET) and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {"camera_looked_at", "camera_added"} <= set(actions(running))
    again = send(running, "add", "hall", STREET)
    assert again.status_code == 422 and "hall" in again.text


@pytest.mark.parametrize(
    ("name", "address", "message"),
    [
        ("hall", "rtsp://ann:pa55word@10.9.9.9/live", "is not allowed"),
        ("hall", "/etc/passwd", "is not allowed"),
        ("hall", "ann:pa55word@10.0.0.5/live", "not an address"),
        ("../hall", STREET, "not a name"),
        ("site", STREET, "cannot take its file"),
        ("gate", STREET, "is there already"),
    ],
)
def test_what_cannot_be_added_is_said_without_the_password(running: RunningService, name, address, message) -> None:
    for action in ("look", "add") if name != "site" else ("add",):
        answer = send(running, action, name, address)
        assert answer.status_code == 422 and message in answer.text
        assert "pa55word" not in answer.text.partition("<form")[0]  # but where they typed it
    assert not list(running.folder.glob("*.yaml"))


@pytest.mark.parametrize(("role", "who"), [("operator", {}), ("admin", {"cameras": ["gate"]})])
def test_others_may_not(running: RunningService, role: str, who: dict[str, list[str]]) -> None:
    assert send(running, "add", "hall", STREET, role=role, **who).status_code == 403
    assert not (running.folder / "hall.yaml").exists()


def test_without_a_camera_the_page_leads_to_the_first(running: RunningService) -> None:
    for name in list(running.service.system.pool.states()):
        running.service.system.pool.remove(name)
    admin, _ = running.signed_in("admin")
    assert "Add the first camera" in admin.get("/").text and "Your first camera" in admin.get("/cameras/new").text
    viewer, _ = running.signed_in("viewer")
    assert "Ask an admin" in viewer.get("/").text


def test_an_empty_site_waits_for_its_first_file(tmp_path) -> None:
    site = load_site(tmp_path, may_be_empty=True)
    watcher = SiteWatcher(site)
    assert not site.cameras and watcher.poll() == [] and watcher.fault == ""
    (tmp_path / "hall.yaml").write_text(f"url: {STREET}\n")
    changes = [change for _ in range(3) for change in watcher.poll()]
    assert [(change.kind, change.name) for change in changes] == [("added", "hall")]
    (tmp_path / "hall.yaml").unlink()
    watcher.poll()
    assert "holds no camera file any more" in watcher.fault
