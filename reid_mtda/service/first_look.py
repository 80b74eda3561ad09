"""A camera looked at before it is added: its first frame, and the people found in it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np

from reid_mtda.camera_settings import MOTION, Camera
from reid_mtda.errors import ConfigError
from reid_mtda.vision.camera_detector import named_detector
from reid_mtda.vision.crops import encode_jpeg
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.first_frame import FirstFrame, first_frames

_MARK = (40, 220, 40)
_TIMEOUT_S = 15.0
_LEAST_PX = 8
_one_at_a_time = threading.Semaphore(2)  # whoever asks again and again must not fill the machine with readers


@dataclass(frozen=True)
class FirstLook:
    """What a camera showed: a JPEG with people framed, its size, and how many they are; None: motion cannot say."""

    jpeg: bytes
    height: int
    width: int
    detector: str
    people: int | None
    lowest_px: int | None


def look_at(name: str, camera: Camera) -> FirstLook:
    """Open a camera and look for people in its first frame.

    Args:
        name: for messages.
        camera: its settings; whether its address is allowed was asked before.

    Raises:
        ConfigError: it gave no frame, its detector does not work, or others are being looked at.
    """
    if not _one_at_a_time.acquire(blocking=False):
        raise ConfigError("other cameras are being looked at; try again in some seconds")
    try:
        answer = first_frames({name: camera.url}, timeout_s=_TIMEOUT_S)[name]
        if not isinstance(answer, FirstFrame):
            raise ConfigError(f"camera {name!r}: {answer}")
        image = answer.frame.image.copy()
        detector = named_detector(camera.detector)
        boxes = None
        if detector != MOTION:
            boxes = load_detector(detector, threads=1, min_height_px=_LEAST_PX, min_score=camera.min_score)(image).xyxy
            for x0, y0, x1, y1 in np.rint(boxes).astype(int).tolist():
                cv2.rectangle(image, (x0, y0), (x1, y1), _MARK, max(1, image.shape[0] // 240))
        low = int((boxes[:, 3] - boxes[:, 1]).min()) if boxes is not None and len(boxes) else None
        count = None if boxes is None else len(boxes)
        jpeg = encode_jpeg(image, longest_px=960, quality=80)
        return FirstLook(jpeg, image.shape[0], image.shape[1], detector, count, low)
    finally:
        _one_at_a_time.release()
