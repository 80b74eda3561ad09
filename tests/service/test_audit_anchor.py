"""The audit's head noted outside: who rewrites the whole chain, and what lies beside it, is found."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from builders import reid_mtda
from service_fixtures import RunningService
from test_audit_first import locked_audit

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.service.app_state import note_head
from reid_mtda.service.audit import Audit, verify_audit
from reid_mtda.service.audit_anchor import AuditAnchor, read_anchors
from reid_mtda.service.audit_chain import FIRST_HASH, HEAD_FILE
from reid_mtda.service.run import running_service
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import Site


def fill(state: Path, user: str, count: int) -> None:
    state.mkdir(exist_ok=True)
    audit = Audit(state)
    for number in range(count):
        audit.add(user, "search", case=f"c-{number}")
    audit.close()


def test_a_chain_written_wholly_anew_is_found_by_the_anchor(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "elsewhere" / "heads"
    file.parent.mkdir()
    fill(state, "ann", 5)
    anchor = AuditAnchor(str(file), state, clock=lambda: 1_772_352_000.0)
    for _ in range(3):
        fill(state, "ann", 2)
        audit = Audit(state)
        anchor.note(audit.head)
        audit.close()
    assert file.read_text().splitlines()[0].startswith("2026-03-01T08:00:00Z 7:")
    assert [number for number, _ in read_anchors(file)] == [7, 9, 11]
    assert verify_audit(state, heads=read_anchors(file)).is_sound
    assert reid_mtda("audit", "verify", state, "--anchors", file).returncode == 0

    for old in state.glob("audit*"):
        old.unlink()
    fill(state, "eve", 30)
    assert verify_audit(state).is_sound and (state / HEAD_FILE).exists(), "by itself it looks sound"
    assert "entry 7: is not the one noted" in verify_audit(state, heads=read_anchors(file)).fault
    done = reid_mtda("audit", "verify", state, "--anchors", file)
    assert done.returncode == 2 and "written anew" in done.stderr


def test_heads_come_when_something_was_done_and_the_hour_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("reid_mtda.service.audit_anchor.time.monotonic", lambda: now[0])
    anchor = AuditAnchor(str(tmp_path / "heads"), tmp_path / "state", every_s=3600)
    anchor.follow((1, "a" * 64))
    anchor.follow((2, "b" * 64))
    now[0] += 3600
    anchor.follow((2, "b" * 64))
    now[0] += 3600
    anchor.follow((2, "b" * 64))
    assert [number for number, _ in read_anchors(tmp_path / "heads")] == [1, 2]


@pytest.mark.parametrize("place", ["{state}/heads", "{state}/../state/deep/heads"])
def test_a_file_in_the_state_folder_proves_nothing(tmp_path: Path, place: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    for name in (place.format(state=tmp_path / "state"), str(tmp_path / "link" / "heads")):
        with pytest.raises(ConfigError, match="lies in the state folder"):
            AuditAnchor(name, tmp_path / "state")


@pytest.mark.parametrize("place", ["syslog:", "syslog://", "syslog://a:b", "syslog://host:514/x", "syslog:///dev/log"])
def test_places_that_are_none_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a file, syslog, or syslog://HOST\[:PORT\]"):
        AuditAnchor(place, tmp_path)


def test_syslog_gets_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        log.settimeout(5)
        AuditAnchor(f"syslog://127.0.0.1:{log.getsockname()[1]}", tmp_path).note((3, "c" * 64))
        message = log.recv(1000).decode()
    assert message.startswith("<109>reid-mtda: audit head 2") and message.endswith("Z 3:" + "c" * 64)
    (tmp_path / "log").write_text(f"Mar 1 host {message}\n\n")
    assert read_anchors(tmp_path / "log") == [(3, "c" * 64)]


@pytest.mark.parametrize("text", ["", "\n\n", "no head\n", "2026-03-01T08:00:00Z 7:abc\n", f"1:{'a' * 64}\nx\n"])
def test_files_that_hold_no_heads_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "heads").write_text(text)
    with pytest.raises(StorageError, match=r"heads: (holds no heads|line \d: got)"):
        read_anchors(tmp_path / "heads")
    with pytest.raises(StorageError, match="cannot be read"):
        read_anchors(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match="cannot be read"):
        read_anchors(tmp_path / "binary")


def test_a_head_of_nothing_must_be_that(tmp_path: Path) -> None:
    fill(tmp_path / "state", "ann", 1)
    assert verify_audit(tmp_path / "state", heads=[(0, FIRST_HASH)]).is_sound
    assert "entry 0" in verify_audit(tmp_path / "state", heads=[(0, "1" * 64)]).fault


def test_two_heads_of_one_number_are_not_both_right(tmp_path: Path) -> None:
    fill(tmp_path / "state", "ann", 3)
    right = verify_audit(tmp_path / "state").head
    assert verify_audit(tmp_path / "state", heads=[(3, right), (3, right)]).is_sound
    assert "entry 3" in verify_audit(tmp_path / "state", heads=[(3, right), (3, "1" * 64)]).fault


def test_a_service_notes_its_start_and_stop_and_says_when_it_cannot(tmp_path: Path, model_folder: Path) -> None:
    file = tmp_path / "away" / "heads"
    settings = ServiceSettings(audit_anchor=str(file))
    site = Site("s", tmp_path, {"gate": Camera(url="synthetic://street?camera=gate&duration=20")})
    with running_service(site, model_folder, tmp_path / "gallery", tmp_path / "state", settings) as service:
        assert "could not be noted there (No such file or directory)" in service.system.alerts.of("audit anchor")
        file.parent.mkdir()
        note_head(service, at_once=False)
        assert service.system.alerts.of("audit anchor") == ""
        begun = service.audit.head
    noted = read_anchors(file)
    assert noted[0] == begun and noted[-1][0] > begun[0]
    assert verify_audit(tmp_path / "state", heads=noted).is_sound


def test_a_camera_file_is_not_followed_before_it_is_audited(
    running: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras, follower = running.service.cameras, running.service.system.follower
    assert follower.before_change == cameras._note_file
    from reid_mtda.live.site_reload import SiteChange

    new = Camera(url="synthetic://street?camera=plaza&duration=20")
    monkeypatch.setattr(follower._watch, "poll", lambda: [SiteChange("added", "yard", None, new)])
    with locked_audit(running):
        follower.follow()
        assert "yard" not in running.service.system.pool.states()
        assert "cannot be recorded" in running.service.system.alerts.of("camera yard")
    monkeypatch.setattr(follower._watch, "poll", list)
    follower.follow()
    assert "yard" in running.service.system.pool.states()
    newest = running.service.audit.entries(limit=1)[0]
    assert (newest.action, newest.detail) == ("site_file_added", {"camera": "yard"})
