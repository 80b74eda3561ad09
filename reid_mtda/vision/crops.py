"""A box cut out of a picture, and a picture made a JPEG: one rounding and one encoder for all that is seen."""

from __future__ import annotations

import cv2
import numpy as np

from reid_mtda.errors import ImageError, ShapeError
from reid_mtda.types import FloatArray, ImageArray, check_array

QUALITY = 90
THUMBNAIL_PX = 512
"""Height and width at most of a picture that is kept to be shown."""


def crop_box(image: ImageArray, box: FloatArray) -> ImageArray:
    """Cut a box out of a picture, rounded outwards, inside the picture, at least one pixel high and wide.

    Args:
        image: uint8 (H, W, 3), H and W >= 1.
        box: (4,) xyxy px; it may reach over the edges.

    Returns:
        A view of ``image``, uint8 (h, w, 3): copy it where it shall outlive the picture.

    >>> crop_box(np.zeros((10, 10, 3), np.uint8), np.array([1.7, 2.0, 4.2, 30.0])).shape
    (8, 4, 3)
    """
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(box[2:]), (left + 1, top + 1), (width, height)).astype(int)
    return image[top:bottom, left:right]


def encode_jpeg(image: ImageArray, *, longest_px: int | None = None, quality: int = QUALITY) -> bytes:
    """Encode a picture uint8 (h, w, 3) RGB as JPEG.

    Args:
        image: at least 1x1 pixels.
        longest_px: scales it down to this height and width at most; None keeps its size.
        quality: of the JPEG, 1..100.

    Raises:
        ShapeError: not uint8 (h, w, 3), or without pixels.
        ImageError: a size that no JPEG has.
    """
    check_array("picture", image, np.uint8, (None, None, 3))
    if image.size == 0:
        raise ShapeError(f"picture: got {image.shape[0]}x{image.shape[1]} pixels, expected at least 1x1")
    scale = 1.0 if longest_px is None else longest_px / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"picture: {image.shape[1]}x{image.shape[0]} px is no JPEG's size, expected 65500 px at most")
    return bytes(data)
