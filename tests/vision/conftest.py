"""Small videos, networks and the development data for the tests of vision."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video whose frame i is grey level 4 * i, with a red left half."""

    def write(name: str = "clip.mp4", frames: int = 30, fps: float = 10.0, size: tuple[int, int] = (64, 96)) -> Path:
        path = tmp_path / name
        codec = "MJPG" if path.suffix == ".avi" else "mp4v"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (size[1], size[0]))
        for index in range(frames):
            picture = np.full((*size, 3), 4 * index, np.uint8)
            picture[:, : size[1] // 2] = (0, 0, 255)  # BGR
            writer.write(picture)
        writer.release()
        return path

    return write


@pytest.fixture(scope="session")
def development_data() -> Path:
    """The folder of development data; skips where it is absent."""
    folder = Path(os.environ.get("REID_MTDA_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
    if not (folder / "video").is_dir():
        pytest.skip("no development data: set REID_MTDA_DATA to its folder")
    return folder
