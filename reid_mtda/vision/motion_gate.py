"""Sparing a detector network the frames in which nothing can have changed."""

from __future__ import annotations

import cv2
import numpy as np

from reid_mtda.types import Detect, Detections, ImageArray

_WIDTH_PX = 160
_STEP = 14  # grey levels beyond noise
_SHARE = 0.0015  # of the picture: somebody small far away


def motion_gated(detect: Detect, *, most_skipped: int = 10) -> Detect:
    """``detect``, left out while the last picture held nobody and nothing has moved since.

    People who stand still are detected in every frame, so that their tracks go on. However still it is, every
    ``most_skipped`` frames the detector looks all the same.
    """
    reference: ImageArray | None = None
    skipped = 0
    was_empty = False

    def find(image: ImageArray) -> Detections:
        nonlocal reference, skipped, was_empty
        small = _small(image)
        if was_empty and skipped < most_skipped and reference is not None and not _moved(reference, small):
            skipped += 1
            return Detections.empty()
        found = detect(image)
        reference, skipped, was_empty = small, 0, len(found) == 0
        return found

    return find


def _small(image: ImageArray) -> ImageArray:
    height = max(1, round(image.shape[0] * _WIDTH_PX / image.shape[1]))
    grey = cv2.cvtColor(cv2.resize(image, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.GaussianBlur(grey, (3, 3), 0), np.uint8)


def _moved(before: ImageArray, now: ImageArray) -> bool:
    if before.shape != now.shape:
        return True
    return float(np.mean(cv2.absdiff(before, now) > _STEP)) > _SHARE
