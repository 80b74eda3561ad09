"""Finding people by motion before a fixed camera: no weights, and no idea of what a person looks like."""

from __future__ import annotations

import cv2
import numpy as np

from reid_mtda.types import Detect, Detections, FloatArray, ImageArray

_WORK_WIDTH_PX = 480  # frames are shrunk to this width, but people not below _WORK_HEIGHT_PX
_WORK_HEIGHT_PX = 20
_HISTORY = 600
_WARM_UP = 10
_CHANGED = 0.5  # share of the picture beyond which light or camera moved, not people
_VARIANCE = 12.0  # squared deviations from the background that make a pixel move
_SHADOW = 0.85  # shadows leave at least this share of the light; lower and dim cameras lose dark clothes
_SHAPE = (1.4, 6.0)  # height / width of a person
_FILLED = 0.2  # share of its box that a blob covers
_MOST_PARTS = 200
_PART = 0.2  # of the least height: smaller blobs are noise, not parts of people


def motion_detector(min_height_px: float) -> Detect:
    """A detector that learns the background from what it is shown, one frame after the other; scores are 1.

    Nothing is reported in its first frames, nor while most of the picture changes. Somebody who stands still fades
    into the background after some hundred frames, and people who move as one are found as one.

    Args:
        min_height_px: blobs lower than this, in pixels of the frame, are not reported.
    """
    background = cv2.createBackgroundSubtractorMOG2(_HISTORY, _VARIANCE, True)
    background.setShadowThreshold(_SHADOW)
    seen = 0
    shape: tuple[int, ...] = ()

    def find(image: ImageArray) -> Detections:
        nonlocal seen, shape
        if image.shape != shape:  # another resolution: what was learnt does not fit
            seen, shape = 0, image.shape
        scale = min(1.0, max(_WORK_WIDTH_PX / image.shape[1], _WORK_HEIGHT_PX / max(min_height_px, 1)))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        # The mean of what was seen so far, then slower, so that those who pass early are not taken for the place.
        rate = 1 / (seen + 1) if seen < _WARM_UP else 1 / min(max(60, 2 * seen), _HISTORY)
        moving = background.apply(cv2.GaussianBlur(small, (3, 3), 0), learningRate=rate)
        seen += 1
        mask = np.where(moving == 255, 255, 0).astype(np.uint8)  # 127 is shadow
        if seen <= _WARM_UP or np.count_nonzero(mask) > _CHANGED * mask.size:
            return Detections.empty()
        xyxy = people_boxes(mask, min_height_px * scale) / np.float32(scale)
        return Detections(xyxy.astype(np.float32), np.ones(len(xyxy), np.float32))

    return find


def people_boxes(mask: ImageArray, min_height: float) -> FloatArray:
    """Boxes float32 (N, 4) of what is shaped like a person in ``mask`` uint8 (H, W) of 0 and 255."""
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))))
    tall = max(3, int(min_height / 4) | 1)
    near = cv2.getStructuringElement(cv2.MORPH_RECT, (max(3, tall // 3 | 1), tall))
    _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, near), connectivity=8)
    x, y, width, height, area = stats[1:].T
    solid = (height >= _PART * min_height) & (area > _FILLED * width * height)
    boxes = _joined(np.stack([x, y, x + width, y + height], axis=1)[solid].astype(np.float32))
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[(high >= min_height) & (high >= _SHAPE[0] * wide) & (high <= _SHAPE[1] * wide)]


def _joined(boxes: FloatArray) -> FloatArray:
    """Boxes (N, 4) with the parts of a person made one: where clothes look like the background, bodies come apart.

    Two boxes are joined when one stands above the other with little between them and together they are no taller
    than a person is.
    """
    tallest = np.argsort(boxes[:, 1] - boxes[:, 3], kind="stable")[:_MOST_PARTS]  # rain and noise are countless
    left = sorted(boxes[tallest].tolist(), key=lambda box: box[1])
    done: list[list[float]] = []
    while left:
        box = left.pop(0)
        below = next((other for other in left if _one_body(box, other)), None)
        if below is None:
            done.append(box)
            continue
        left.remove(below)
        left.insert(0, [*np.minimum(box[:2], below[:2]).tolist(), *np.maximum(box[2:], below[2:]).tolist()])
    return np.asarray(done, np.float32).reshape(-1, 4)


def _one_body(upper: list[float], lower: list[float]) -> bool:
    shared = min(upper[2], lower[2]) - max(upper[0], lower[0])
    narrower = min(upper[2] - upper[0], lower[2] - lower[0])
    gap = lower[1] - upper[3]
    taller = max(upper[3] - upper[1], lower[3] - lower[1])
    width = max(upper[2], lower[2]) - min(upper[0], lower[0])
    height = max(upper[3], lower[3]) - upper[1]
    return shared >= 0.5 * narrower and gap <= 0.4 * taller and height <= 3.6 * width
