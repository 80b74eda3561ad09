"""Masks and zones laid over frames: parts of the picture that nobody may look at, and parts that people stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from reid_mtda.polygons import Point
from reid_mtda.types import FloatArray, Frame, ImageArray
from reid_mtda.vision.video import FrameSource

BoolArray = npt.NDArray[np.bool_]
_GREY = 114  # as detectors' padding: they were trained to see nothing in it


def mask_frames(masks: Sequence[Sequence[Point]]) -> Callable[[Frame], Frame]:
    """Make what paints ``masks`` over a camera's frames.

    Nothing behind it sees what was there: neither detector nor crops nor the pictures that people are shown.

    Args:
        masks: polygons in shares of the picture; none leaves frames as they are.
    """
    hidden: BoolArray | None = None

    def paint(frame: Frame) -> Frame:
        nonlocal hidden
        if not masks:
            return frame
        height, width = frame.image.shape[:2]
        if hidden is None or hidden.shape != (height, width):
            hidden = covered(masks, height, width)
        image = frame.image.copy()  # others may hold the frame
        image[hidden] = _GREY
        return Frame(frame.camera, frame.index, frame.time_s, image)

    return paint


def covered(polygons: Sequence[Sequence[Point]], height: int, width: int) -> BoolArray:
    """Find the pixels of a picture that lie in one of some polygons.

    Args:
        polygons: in shares of the picture.
        height: of the picture, in pixels.
        width: of the picture, in pixels.

    Returns:
        bool (height, width).
    """
    stencil: ImageArray = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64) * (width, height)
        cv2.fillPoly(stencil, [np.rint(corners).astype(np.int32)], 1)
    return np.asarray(stencil, np.bool_)


def masked_source(source: FrameSource, masks: Sequence[Sequence[Point]]) -> FrameSource:
    """The frames of ``source`` with ``masks`` painted over them."""
    if not masks:
        return source
    paint = mask_frames(masks)

    def frames() -> Iterator[Frame]:
        for frame in source:
            yield paint(frame)

    return FrameSource(
        frames(), is_live=source.is_live, expected=source.expected, start_s=source.start_s, release=source.close
    )


def stands_in(polygon: Sequence[Point], xyxy: FloatArray, height: int, width: int) -> BoolArray:
    """Find who stands in a polygon: whose box has the middle of its lower side there.

    Args:
        polygon: in shares of the picture.
        xyxy: boxes (N, 4) in pixels.
        height: of the picture, in pixels.
        width: of the picture, in pixels.

    Returns:
        bool (N,).
    """
    contour = np.asarray(polygon, np.float32) * np.array([width, height], np.float32)
    feet = np.stack([(xyxy[:, 0] + xyxy[:, 2]) / 2, xyxy[:, 3]], axis=1)
    feet = np.clip(feet, 0, np.array([width, height], np.float32))  # boxes cut by the lower edge still stand
    inside = [cv2.pointPolygonTest(contour, (float(x), float(y)), False) >= 0 for x, y in feet]
    return np.asarray(inside, np.bool_)
