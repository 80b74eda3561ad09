"""A service with a filled gallery and still cameras: requests meet the real parts, and nothing waits for time."""

import io
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette wishes for httpx's successor; httpx serves
    from starlette.testclient import TestClient

from colour_model import write_colour_model

from reid_mtda.camera_settings import Camera
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.camera import LivePicture
from reid_mtda.live.surroundings import Surroundings
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.app import create_app
from reid_mtda.service.app_state import AppState, make_app_state
from reid_mtda.service.roles import Role
from reid_mtda.service.serving_record import load_serving
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import Site
from reid_mtda.types import Detections, Frame

CAMERAS = ("gate", "market", "plaza")
PEOPLE = ((200, 30, 30), (30, 200, 30), (40, 40, 220), (210, 200, 40))
REASON = {"purpose": "missing child", "case_reference": "2026-0413"}
SECRET_URL = "rtsp://user:pa55word@127.0.0.1:1/plaza"


def crop_of(person: int, light: int = 0) -> np.ndarray:
    """Somebody in a coat of their own colour and dark trousers."""
    crop = np.full((96, 48, 3), 128, np.uint8)
    crop[10:50] = PEOPLE[person]
    crop[50:] = (40, 40, 50)
    return np.clip(crop.astype(int) + light, 0, 255).astype(np.uint8)


def png_of(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


@dataclass
class RunningService:
    """A service, and clients of it."""

    service: AppState
    folder: Path
    numbers: dict[tuple[int, str], int]
    began: float

    def token(self, role: str, *, user: str = "", cameras: list[str] | None = None, days: float = 1) -> str:
        text, _ = self.service.auth.create(user or role, Role.of(role), days=days, cameras=cameras, created_by="test")
        return text

    def visitor(self) -> TestClient:
        return TestClient(
            create_app(self.service), base_url="http://127.0.0.1", raise_server_exceptions=False, follow_redirects=False
        )

    def client(self, role: str, **arguments) -> TestClient:
        client = self.visitor()
        client.headers["Authorization"] = f"Bearer {self.token(role, **arguments)}"
        return client

    def signed_in(self, role: str, **arguments) -> tuple[TestClient, str]:
        """A browser's client and the secret of its forms."""
        client = self.visitor()
        client.headers["Accept"] = "text/html"
        answer = client.post("/login", data={"token": self.token(role, **arguments)})
        assert answer.status_code == 303
        return client, self.service.auth.resume(client.cookies["rmt_session"]).csrf


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    write_colour_model(folder)
    return folder


@pytest.fixture
def running(tmp_path: Path, model_folder: Path) -> Iterator[RunningService]:
    serving = load_serving(tmp_path / "state", model_folder, tmp_path / "gallery")
    gallery = Gallery.open(tmp_path / "gallery", serving.model)
    cameras = {name: Camera(url=f"synthetic://street?camera={name}&duration=20", detector="motion") for name in CAMERAS}
    cameras["plaza"] = Camera(url=SECRET_URL, detector="motion")
    system = LiveSystem(
        Site("running", tmp_path, cameras),
        serving.model,
        gallery,
        around=Surroundings(crops=tmp_path / "state" / "crops"),
    )
    for name in CAMERAS:
        system.pool.pause(name)
    system.start()
    numbers, began = {}, time.time() - 3600
    for person in range(len(PEOPLE)):
        for place, camera in enumerate(CAMERAS):
            crop = crop_of(person, 4 * place)
            start = began + 60 * person + 300 * place
            numbers[person, camera] = gallery.add(
                system.model_server.embed_one(crop), camera, 10 * person + place, start, start + 8, crop
            )
    write_colour_model(tmp_path / "candidates" / "turned", turn=1)
    settings = ServiceSettings(candidates=str(tmp_path / "candidates"))
    service = make_app_state(system, tmp_path / "state", settings, serving=serving)
    yield RunningService(service, tmp_path, numbers, began)
    service.closing.set()
    system.stop(3)
    service.close()


def show_live(
    running: RunningService, camera: str, person: int, track_id: int = 5, *, height: int = 180, width: int = 320
) -> None:
    """Put somebody before a camera."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[40:136, 100:148] = crop_of(person)
    people = Detections(
        np.array([[100, 40, 148, 136]], np.float32), np.ones(1, np.float32), np.array([track_id], np.int64)
    )
    running.service.system.pool.worker(camera).picture = LivePicture(Frame(camera, 1, time.time(), image), people)
