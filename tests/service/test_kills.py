"""An attack: the process is killed at any moment; what it did stands in the audit, whole, with nothing beside it."""

import os
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from attack_work import SITE, service_in

from reid_mtda.service.audit import verify_audit

KILLS = int(os.environ.get("REID_MTDA_KILLS", "100"))
PATHS = os.pathsep.join([*sys.path, str(Path(__file__).parents[1]), str(Path(__file__).parent)])


def rows(file: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.mark.attack
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_lose_nothing_and_leave_nothing_unaudited(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("attack_work.py")), str(tmp_path), str(KILLS), "0"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"})
    said = defaultdict(list)
    for line in (tmp_path / "said").read_text().splitlines():
        if line.endswith(" ."):  # what the kill cut off in the middle was not said
            said[line.split()[0]].append(line.split(maxsplit=1)[1].removesuffix(" .") if " " in line else "")
    sys.stdout.write(f"{KILLS} kills; acknowledged: { {what: len(told) for what, told in said.items()} }\n")
    assert not said["failed"], said["failed"][:3]  # every start was one, and nothing was refused
    assert len(said["ready"]) >= 0.8 * KILLS

    state = tmp_path / "state"
    report = verify_audit(state)
    assert report.is_sound and report.doubts == ()
    details = "SELECT json_extract(detail, '$.{}') FROM audit WHERE action = '{}'"
    audited = {
        action: [row[0] for row in rows(state / "audit.sqlite", details.format(key, action))]
        for action, key in (
            ("token_created", "token"), ("token_revoked", "token"), ("camera_added", "camera"),
            ("camera_removed", "camera"), ("model_switched", "model_id"),
        )
    }  # fmt: skip
    there = {row[0] for row in rows(state / "access.sqlite", "SELECT id FROM tokens")}
    revoked = {row[0] for row in rows(state / "access.sqlite", "SELECT id FROM tokens WHERE revoked_s IS NOT NULL")}
    assert there <= set(audited["token_created"]) and revoked <= set(audited["token_revoked"])
    assert set(said["token"]) <= there and set(said["revoked"]) <= revoked  # what was acknowledged stands
    assert set(said["camera"]) <= set(audited["camera_added"])
    assert set(said["removed"]) <= set(audited["camera_removed"])
    assert len(audited["model_switched"]) >= len(said["switched"])

    service, system = service_in(tmp_path)
    try:
        service.erasures.poll()  # what was interrupted is completed
        while (job := service.models.job) is not None and job.state == "running":
            pass
        cameras = {row[0] for row in rows(state / "cameras.sqlite", "SELECT name FROM cameras WHERE NOT is_removed")}
        assert cameras <= set(audited["camera_added"]) | SITE.keys()
        assert set(said["camera"]) - set(audited["camera_removed"]) <= set(system.pool.states())

        kept, gone = set(map(int, said["sighting"])), set(map(int, said["erased"]))
        before = system.model_server.previous_gallery
        for gallery in (system.gallery, before):
            assert gallery is not None
            tracks = {sighting.track_id for sighting in gallery.sightings().values()}
            assert not gone & tracks
        tracks = {sighting.track_id for sighting in system.gallery.sightings().values()}
        begun, ended = (
            [entry.detail["erasure"] for entry in service.audit.entries(action=action, limit=1_000_000)]
            for action in ("erasure_begun", "erasure")
        )
        assert set(begun) <= set(ended)
        # An erasure that was killed before it was acknowledged is completed all the same.
        assert len(kept - gone - tracks) <= len(set(ended)) - len(gone)
        assert system.kept is not None
        crops = {int(path.stem.split("_")[0]) for path in (state / "crops" / "gate").glob("*.jpg")}
        assert not gone & crops and crops <= tracks, "no crop without its sighting"
    finally:
        system.stop(3)
        service.close()
    assert list(tmp_path.rglob("*.part*")) == [] and not (state / "erasures.json").exists()
