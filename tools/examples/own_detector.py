"""A detector of your own: a function that makes one for a camera. It finds what is brighter than the street.

In a camera file: ``detector: own_detector:bright_things`` where this file lies on Python's path, or a name that your
package offers::

    [project.entry-points."reid_mtda.detectors"]
    bright = "own_detector:bright_things"
"""

import cv2
import numpy as np

import reid_mtda as rm
from reid_mtda.types import Detect, Detections, ImageArray


def bright_things() -> Detect:
    """Make the detector; it is called once for each camera, so it may remember what it saw."""

    def find(image: ImageArray) -> Detections:
        mask = (image.min(axis=2) > 200).astype(np.uint8)
        boxes = cv2.connectedComponentsWithStats(mask)[2][1:, :4].astype(np.float32)  # left, top, width, height
        boxes[:, 2:] += boxes[:, :2]
        return Detections(boxes, np.ones(len(boxes), np.float32))

    return find


if __name__ == "__main__":
    street = np.zeros((120, 160, 3), np.uint8)
    street[20:100, 30:60] = 255
    print(rm.load_detector("own_detector:bright_things")(street).xyxy.tolist())
