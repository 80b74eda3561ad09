"""A first frame of each camera, all asked at once, so that one that is silent keeps no other waiting."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from reid_mtda.errors import ReidError
from reid_mtda.types import Frame
from reid_mtda.vision.address import redact_url
from reid_mtda.vision.video import read_frames


@dataclass(frozen=True)
class FirstFrame:
    """What a camera answered: its first frame, whether it is live, and the seconds that it took."""

    frame: Frame
    is_live: bool
    took_s: float


def first_frames(addresses: Mapping[str, str], *, timeout_s: float) -> dict[str, FirstFrame | str]:
    """Ask every camera for a frame.

    Args:
        addresses: by the camera's name, as ``read_frames`` takes them.
        timeout_s: seconds after which a camera is given up.

    Returns:
        By name the frame, or what was wrong, without passwords.
    """
    answers: dict[str, FirstFrame | str] = {}
    deadline = time.monotonic() + timeout_s
    # A reader that hangs in a driver cannot be stopped; as daemons they do not keep the process.
    threads = {
        name: threading.Thread(target=_ask, args=(name, url, answers), daemon=True) for name, url in addresses.items()
    }
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no frame within {timeout_s:g} s; check that it is on and answers, or give it more --timeout"
    return {name: answers.get(name) or f"{redact_url(url)}: {late}" for name, url in addresses.items()}


def _ask(name: str, url: str, answers: dict[str, FirstFrame | str]) -> None:
    began = time.monotonic()
    try:
        with contextlib.closing(read_frames(url, camera=name)) as frames:
            frame = next(frames, None)
            is_live = frames.is_live
    except ReidError as error:
        answers[name] = str(error)
        return
    nothing = f"{redact_url(url)}: not one frame; check the source"
    answers[name] = nothing if frame is None else FirstFrame(frame, is_live, time.monotonic() - began)
