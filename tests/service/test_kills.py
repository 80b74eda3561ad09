"""An attack: the process is killed at any moment; what it did stands in the audit, whole, with nothing beside it."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from colour_model import write_colour_model

from reid_mtda.gallery.gallery import Gallery
from reid_mtda.service.app_state import make_app_state
from reid_mtda.service.audit import verify_audit
from reid_mtda.service.run import running_service
from reid_mtda.service.serving_record import load_serving
from reid_mtda.site import Camera, Site

KILLS = int(os.environ.get("REID_MTDA_KILLS", "12"))

# Makes tokens and revokes them, adds, pauses and removes cameras, and erases sightings, until it is killed. What it was
# told is done it says on a line.
WORK = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_kills import service_in
from reid_mtda.service.tokens import issue_token, revoke_token
from reid_mtda.site import Camera
import numpy as np
folder = Path(sys.argv[1])
service, system = service_in(folder)
vector = np.eye(1, system.model.manifest.embedding_dim, dtype=np.float32)[0]
print("ready", flush=True)
for turn in range(10_000):
    name = f"u{time.time_ns()}"
    _, info = issue_token(service.auth, service.audit, name, "viewer", by="command line")
    print("token", info.id, flush=True)
    if turn % 2:
        revoke_token(service.auth, service.audit, info.id, by="command line")
        print("revoked", info.id, flush=True)
    service.cameras.add("ann", "c" + name, Camera(url="synthetic://street?camera=gate&duration=20"))
    print("camera", "c" + name, flush=True)
    service.cameras.remove("ann", "c" + name)
    number = system.gallery.add(vector, "gate", turn, time.time(), time.time() + 1, np.zeros((8, 8, 3), np.uint8))
    service.erasures.erase("ann", lambda gallery: gallery.lookup([number]), "asked for it")
    print("erased", number, flush=True)
"""


def service_in(folder: Path):
    """A service's parts over a gallery, without cameras at work."""
    from reid_mtda.live.surroundings import Surroundings
    from reid_mtda.live.system import LiveSystem
    from reid_mtda.service.settings import ServiceSettings

    serving = load_serving(folder / "state", folder / "model", folder / "gallery")
    gallery = Gallery.open(folder / "gallery", serving.model)
    site = Site("s", folder, {"gate": Camera(url="synthetic://street?camera=gate&duration=20")})
    system = LiveSystem(site, serving.model, gallery, around=Surroundings(crops=folder / "state" / "crops"))
    settings = ServiceSettings(allowed_schemes=("synthetic",))
    return make_app_state(system, folder / "state", settings, serving=serving), system


def rows(file: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.mark.slow
def test_kills_lose_nothing_and_leave_nothing_unaudited(tmp_path: Path) -> None:
    write_colour_model(tmp_path / "model")
    chance, said = random.Random(0), list[list[str]]()
    for _ in range(KILLS):
        command = [sys.executable, "-c", WORK, str(tmp_path), str(Path(__file__).parent)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": PATHS})
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        try:
            child.wait(chance.uniform(0.01, 0.6))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        said += [
            line.split() for line in child.communicate()[0].splitlines() if line.endswith(tuple("0123456789abcdef"))
        ]
    assert len(said) > KILLS
    report = verify_audit(tmp_path / "state")
    assert report.is_sound and report.doubts == ()

    state, details = tmp_path / "state", "SELECT json_extract(detail, '$.{}') FROM audit WHERE action = '{}'"
    audited = {
        action: {row[0] for row in rows(state / "audit.sqlite", details.format(key, action))}
        for action, key in (("token_created", "token"), ("token_revoked", "token"), ("camera_added", "camera"))
    }
    there = {row[0] for row in rows(state / "access.sqlite", "SELECT id FROM tokens")}
    revoked = {row[0] for row in rows(state / "access.sqlite", "SELECT id FROM tokens WHERE revoked_s IS NOT NULL")}
    assert there <= audited["token_created"] and revoked <= audited["token_revoked"]
    assert {number for what, number in said if what == "token"} <= there  # what was acknowledged stands
    assert {number for what, number in said if what == "revoked"} <= revoked
    assert {name for what, name in said if what == "camera"} <= audited["camera_added"]
    with running_service(
        Site("s", tmp_path, {"gate": Camera(url="synthetic://street?camera=gate&duration=20")}),
        tmp_path / "model", tmp_path / "gallery", state,
    ) as service:  # fmt: skip
        service.erasures.poll()  # what was interrupted is completed
        erased = {int(number) for what, number in said if what == "erased"}
        assert not erased & set(service.system.gallery.lookup(erased))
        begun, ended = (
            {entry.detail["erasure"] for entry in service.audit.entries(action=action, limit=10_000)}
            for action in ("erasure_begun", "erasure")
        )
        assert begun <= ended
    assert list(state.rglob("*.part*")) == [] and not (state / "erasures.json").exists()


PATHS = os.pathsep.join([*sys.path, str(Path(__file__).parents[1]), str(Path(__file__).parent)])
