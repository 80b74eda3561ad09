"""What the attack by kills does in a process of its own: everything that leaves traces on disk, until it is killed.

The nursery imports once and forks a child for each kill: a thousand starts would otherwise be a thousand imports.
Run as ``python attack_work.py FOLDER KILLS SEED``; what a child was told is done stands in FOLDER/said, a line each.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from colour_model import write_colour_model

from reid_mtda.camera_means import read_cameras
from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ReidError
from reid_mtda.files import remove_part_files
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.surroundings import Surroundings
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.app_state import AppState, make_app_state
from reid_mtda.service.serving_record import load_serving
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.service.token_issue import issue_token, revoke_token
from reid_mtda.site import Site
from reid_mtda.types import Tracklet

SITE = {"gate": Camera(url="synthetic://street?camera=gate&duration=20", keep_for_adaptation=True)}
MODELS = {"plain": 0, "turned": 1}
_LONGEST_S = 60.0


def service_in(folder: Path) -> tuple[AppState, LiveSystem]:
    """A service's parts over a gallery as a start makes them, without cameras at work."""
    state = folder / "state"
    remove_part_files(state)
    serving = load_serving(state, folder / "plain", folder / "gallery")
    gallery = Gallery.open(serving.now.gallery, serving.model)
    adapted = read_cameras(serving.now.model, serving.model.manifest)
    around = Surroundings(crops=state / "crops", references=state)
    system = LiveSystem(Site("s", folder, SITE), serving.model, gallery, adapted=adapted, around=around)
    settings = ServiceSettings(allowed_schemes=("synthetic",), candidates=str(folder / "candidates"))
    service = make_app_state(system, state, settings, serving=serving)
    service.models.restore(serving)
    service.cameras.restore()
    return service, system


def prepare(folder: Path) -> None:
    """Two models, and a service that once changed from one to the other."""
    write_colour_model(folder / "plain")
    write_colour_model(folder / "candidates" / "turned", turn=1)
    (folder / "state").mkdir(mode=0o700)
    service, system = service_in(folder)
    service.models._change("ann", "turned", folder / "candidates" / "turned")
    system.stop(3)
    service.close()


def work(folder: Path, say: int, seed: int) -> None:
    """Make tokens and cameras and take them back, add sightings with crops, erase them, change the model; for ever."""

    def told(*words: object) -> None:
        os.write(say, (" ".join(map(str, words)) + " .\n").encode())

    chance = random.Random(seed)
    service, system = service_in(folder)
    told("ready")
    service.erasures.poll()
    picture = np.zeros((16, 8, 3), np.uint8)
    while True:
        name = f"u{time.time_ns()}"
        turn = chance.random()
        if turn < 0.25:
            _, info = issue_token(service.auth, service.audit, name, "viewer", by="command line")
            told("token", info.id)
            if chance.random() < 0.5:
                revoke_token(service.auth, service.audit, info.id, by="command line")
                told("revoked", info.id)
        elif turn < 0.45:
            service.cameras.add("ann", "c" + name, Camera(url="synthetic://street?camera=gate&duration=20"))
            told("camera", "c" + name)
            if chance.random() < 0.7:
                service.cameras.remove("ann", "c" + name)
                told("removed", "c" + name)
        elif turn < 0.95:
            track, now = int(time.time_ns() % 2**40), time.time()
            vector = np.zeros(system.model.manifest.embedding_dim, np.float32)
            vector[track % len(vector)] = 1
            number = system.gallery.add(vector, "gate", track, now, now + 1, picture)
            box, times = np.array([[0, 0, 8, 16]], np.float32), np.array([now])
            if system.kept is not None:
                system.kept.take(Tracklet("gate", track, (picture,), box, np.array([0]), times))
            told("sighting", track)
            if chance.random() < 0.5:
                service.erasures.erase("ann", lambda gallery: gallery.lookup([number]), "asked for it")  # noqa: B023
                told("erased", track)
        elif service.models.can_roll_back:
            job = service.models.roll_back("ann")
            while (job := service.models.job) is not None and job.state == "running":
                time.sleep(0.002)
            if job is not None and job.state == "done":
                told("switched", system.model.manifest.model_id)


def main() -> None:
    """Fork children and kill them, one after the other."""
    folder, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    prepare_pid = os.fork()
    if prepare_pid == 0:  # in a child, so that no thread or session is there when others are forked
        prepare(folder)
        os._exit(0)
    assert os.waitpid(prepare_pid, 0)[1] == 0
    with (folder / "said").open("wb") as said:
        for number in range(kills):
            hear, say = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(hear)
                try:
                    work(folder, say, number)
                except BaseException as error:
                    os.write(say, f"failed {type(error).__name__}: {error} .\n".encode())
                    if not isinstance(error, ReidError):
                        import traceback

                        traceback.print_exc()
                os._exit(1)
            os.close(say)
            if number % 10:  # most are killed at work, some on their way to it
                first = os.read(hear, 6)
                said.write(first)
            time.sleep(chance.uniform(0, 0.25))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            with os.fdopen(hear, "rb") as rest:
                said.write(rest.read())
            said.write(b"\n")
            said.flush()


if __name__ == "__main__":
    main()
