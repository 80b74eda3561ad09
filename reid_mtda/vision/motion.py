"""Finding people by motion before a fixed camera: no weights, and no idea of what a person looks like."""

from __future__ import annotations

import cv2
import numpy as np

from reid_mtda.types import Detect, Detections, FloatArray, ImageArray

_WORK_WIDTH_PX = 480
_HISTORY = 200
_WARM_UP = 10
_CHANGED = 0.5  # share of the picture beyond which light or camera moved, not people


def motion_detector(min_height_px: float) -> Detect:
    """A detector that learns the background from what it is shown, one frame after the other; scores are 1.

    Nothing is reported in its first frames, nor while most of the picture changes. Somebody who stands still fades
    into the background after about ``_HISTORY`` frames.
    """
    background = cv2.createBackgroundSubtractorMOG2(history=_HISTORY, varThreshold=20, detectShadows=True)
    background.setShadowThreshold(0.45)
    seen = 0
    shape: tuple[int, ...] = ()

    def find(image: ImageArray) -> Detections:
        nonlocal seen, shape
        if image.shape != shape:  # another resolution: what was learnt does not fit
            seen, shape = 0, image.shape
        scale = min(1.0, _WORK_WIDTH_PX / image.shape[1])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        moving = background.apply(cv2.GaussianBlur(small, (3, 3), 0), learningRate=1.0 if seen == 0 else -1)
        seen += 1
        mask = np.where(moving == 255, 255, 0).astype(np.uint8)  # 127 is shadow
        if seen <= _WARM_UP or np.count_nonzero(mask) > _CHANGED * mask.size:
            return Detections.empty()
        xyxy = _boxes(mask, min_height_px * scale) / np.float32(scale)
        return Detections(xyxy.astype(np.float32), np.ones(len(xyxy), np.float32))

    return find


def _boxes(mask: ImageArray, min_height: float) -> FloatArray:
    """Boxes float32 (N, 4) of upright blobs in ``mask`` (H, W) of 0 and 255."""
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    # People come apart at belt and neck, where they look like the background: close gaps upwards more than sideways.
    tall = max(3, int(min_height / 4) | 1)
    mask = cv2.morphologyEx(
        mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_RECT, (max(3, tall // 3 | 1), tall))
    )
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    blobs = stats[1:]
    width, height = blobs[:, cv2.CC_STAT_WIDTH], blobs[:, cv2.CC_STAT_HEIGHT]
    filled = blobs[:, cv2.CC_STAT_AREA] / np.maximum(width * height, 1)
    upright = (height >= min_height) & (height >= 1.2 * width) & (height <= 6 * width) & (filled > 0.3)
    x, y = blobs[:, cv2.CC_STAT_LEFT], blobs[:, cv2.CC_STAT_TOP]
    return np.asarray(np.stack([x, y, x + width, y + height], axis=1)[upright], np.float32)
