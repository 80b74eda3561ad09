"""Evidence of a confirmed review: whole, checkable by others, audited; what was changed is found."""

import io
import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from builders import reid_mtda
from service_fixtures import REASON, RunningService, crop_of

from reid_mtda.errors import StorageError
from reid_mtda.service.evidence import MANIFEST, verify_evidence
from reid_mtda.types import Tracklet

API = "/api/v1"


def review_of(running: RunningService, decision: str = "same") -> int:
    """Somebody's review, decided by ann, who operates, and bob, who reviews."""
    ann, bob = running.client("operator", user="ann"), running.client("reviewer", user="bob")
    search = ann.post(f"{API}/search", json={"sighting_id": running.numbers[0, "gate"], **REASON}).json()
    found = running.numbers[0, "market"]
    body = {"search_id": search["search_id"], "sighting_id": found, "decision": "same"}
    number = ann.post(f"{API}/reviews", json=body).json()["id"]
    if decision:
        assert bob.post(f"{API}/reviews/{number}/decision", json={"decision": decision}).status_code == 200
    return number


@pytest.fixture
def package(running: RunningService, tmp_path: Path) -> Path:
    kept = running.service.system.kept
    assert kept is not None
    running.service.system.periodic_checks.clear()  # the camera is not opted in: a look would remove its crops
    row = running.service.system.gallery.lookup([running.numbers[0, "market"]])[running.numbers[0, "market"]]
    boxes, times = np.array([[0, 0, 48, 96]], np.float32), np.array([row.start_s])
    kept.take(Tracklet("market", row.track_id, (crop_of(0),), boxes, np.array([3], np.int64), times))
    answer = running.client("reviewer").get(f"{API}/reviews/{review_of(running)}/evidence")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    file = tmp_path / "evidence.zip"
    file.write_bytes(answer.content)
    return file


def test_it_holds_what_both_saw_and_others_can_check_it(running: RunningService, package: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "out")
    out = tmp_path / "out"
    told = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    review = json.loads((out / "review.json").read_text())
    assert (review["first_user"], review["second_user"], review["state"]) == ("ann", "bob", "confirmed")
    assert review["case_reference"] == REASON["case_reference"] and review["second"].endswith("Z")
    assert json.loads((out / "sighting.json").read_text())["camera"] == "market"
    assert json.loads((out / "model.json").read_text())["model_id"] == running.service.system.model.model_id
    assert len(list((out / "crops").iterdir())) == 1
    entries = [json.loads(line) for line in (out / "audit.jsonl").read_text().splitlines()]
    assert {entry["action"] for entry in entries} >= {"search", "review_proposed", "review_decided"}
    assert {entry["user"] for entry in entries} == {"ann", "bob"}
    assert "vector" not in (out / "review.json").read_text()
    report = verify_evidence(package, running.folder / "state")
    assert report.is_in_audit and report.files == 8
    assert running.service.audit.entries(action="evidence")[0].user == "reviewer"


def test_the_command_line_checks_it(running: RunningService, package: Path) -> None:
    told = reid_mtda("evidence", "verify", package, "--state", running.folder / "state")
    assert told.returncode == 0 and told.stdout.startswith("unchanged, as the audit says: review 1, 8 files")


def changed(package: Path, name: str, data: bytes | None, *, also_sums: bool = False) -> None:
    import hashlib

    with zipfile.ZipFile(package) as archive:
        files = {one: archive.read(one) for one in archive.namelist()}
    files.pop(name, None)
    if data is not None:
        files[name] = data
    if also_sums and data is not None:
        card = json.loads(files[MANIFEST])
        card["files"][name] = hashlib.sha256(data).hexdigest()
        files[MANIFEST] = json.dumps(card, indent=2, sort_keys=True).encode()
    with zipfile.ZipFile(package, "w") as archive:
        for one, content in files.items():
            archive.writestr(one, content)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("candidate.jpg", b"another picture", "candidate.jpg was changed"),
        ("query.jpg", None, "added or taken out: query.jpg"),
        ("more.txt", b"x", "added or taken out: more.txt"),
        (MANIFEST, b"{}", "not a package of evidence"),
    ],
)
def test_what_was_changed_is_found(package: Path, name: str, data: bytes | None, words: str) -> None:
    changed(package, name, data)
    with pytest.raises(StorageError, match=words):
        verify_evidence(package)


def test_one_made_anew_with_right_hashes_is_not_what_the_audit_handed_out(
    running: RunningService, package: Path
) -> None:
    changed(package, "candidate.jpg", b"another picture", also_sums=True)
    assert not verify_evidence(package).is_in_audit  # by itself it is sound
    with pytest.raises(StorageError, match="does not say that it handed this package out"):
        verify_evidence(package, running.folder / "state")


def test_entries_that_were_written_anew_do_not_match_their_hash(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        lines = archive.read("audit.jsonl").replace(b'"bob"', b'"eve"')
    changed(package, "audit.jsonl", lines, also_sums=True)
    with pytest.raises(StorageError, match="of the audit was changed"):
        verify_evidence(package)


def test_a_cut_one_is_refused(package: Path) -> None:
    package.write_bytes(package.read_bytes()[:-200])
    with pytest.raises(StorageError, match="is cut or damaged"):
        verify_evidence(package)


@pytest.mark.parametrize(("decision", "state"), [("", "open"), ("different", "disputed")])
def test_there_is_none_of_what_two_people_did_not_confirm(running: RunningService, decision: str, state: str) -> None:
    number = review_of(running, decision)
    answer = running.client("reviewer").get(f"{API}/reviews/{number}/evidence")
    assert answer.status_code == 409 and f"is {state}" in answer.json()["error"]["message"]


def test_it_is_for_reviewers_who_see_the_cameras(running: RunningService) -> None:
    number = review_of(running)
    assert running.client("operator").get(f"{API}/reviews/{number}/evidence").status_code == 403
    assert running.client("reviewer", cameras=["plaza"]).get(f"{API}/reviews/{number}/evidence").status_code == 404
    page = running.client("reviewer", user="eve")
    page.headers["Accept"] = "text/html"
    assert f"/api/v1/reviews/{number}/evidence" in page.get("/reviews?state=confirmed").text


def test_nothing_is_handed_out_that_the_audit_cannot_note(running: RunningService, monkeypatch) -> None:
    number = review_of(running)
    client = running.client("reviewer")

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(running.service.audit, "add", refuse)
    answer = client.get(f"{API}/reviews/{number}/evidence")
    assert answer.status_code == 507 and not zipfile.is_zipfile(io.BytesIO(answer.content))
