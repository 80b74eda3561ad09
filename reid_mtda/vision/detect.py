"""Finding people in a frame: by motion, by OpenCV's HOG, or with a detector network in a file.

What a network's output means is read from the shapes of its graph, never from its file's name. A new layout is a
function that returns a ``_Layout`` and one line in ``_LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.networks import SUFFIXES, Network, open_network
from reid_mtda.types import Detect, Detections, FloatArray, ImageArray
from reid_mtda.vision.motion import motion_detector

_NMS_IOU = 0.5
_STRIDES = (8, 16, 32)
_DEFAULT_SIDE_PX = 640  # where a graph leaves its input size open


def load_detector(
    name_or_path: str,
    *,
    min_score: float = 0.4,
    min_height_px: float = 48,
    threads: int | None = None,
    device: str = "cpu",
) -> Detect:
    """Make a detector: uint8 (H, W, 3) RGB -> the people in it, boxes within the frame.

    Args:
        name_or_path: ``motion`` (fixed cameras, no weights; every score is 1), ``hog`` (where OpenCV has it), or the
            path of a network in ONNX (``.onnx``) or OpenVINO IR (``.xml`` beside its ``.bin``).
        min_score: people scored lower are left out.
        min_height_px: people lower in the frame are left out.
        threads: CPU threads of a network; None takes all this process may use.
        device: where a network runs, as in ``networks.open_network``; what is no network runs on the CPU.

    Returns:
        The detector. A motion detector remembers what it saw: make one per camera, and use it on one thread.

    Raises:
        ConfigError: a number out of range, a device that is not there, or HOG where OpenCV has none.
        ModelError: a file that is missing, no network, or one whose output layout is not known; a device whose results
            differ from the CPU's.
    """
    if not 0 <= min_score <= 1:
        raise ConfigError(f"detector {name_or_path}: min_score must be 0..1, got {min_score}")
    if name_or_path in ("motion", "hog") and device not in ("cpu", "auto"):
        raise ConfigError(
            f"detector {name_or_path}: got device {device!r}, expected 'cpu': it is no network; leave device out"
        )
    if name_or_path == "motion":
        return _kept(motion_detector(min_height_px), 0.0, min_height_px)
    if name_or_path == "hog":
        return _kept(_hog(), min_score, min_height_px)
    found = _network(Path(name_or_path).expanduser(), threads, device, min_score)
    return _kept(found, min_score, min_height_px)


def _kept(detect: Detect, min_score: float, min_height_px: float) -> Detect:
    """``detect`` with boxes clipped to the frame, and without those too low, too weak or empty."""

    def find(image: ImageArray) -> Detections:
        found = detect(image)
        height, width = image.shape[:2]
        xyxy = np.clip(found.xyxy, 0, np.array([width, height, width, height], np.float32))
        sides = xyxy[:, 2:] - xyxy[:, :2]
        keep = (found.score >= min_score) & (sides[:, 1] >= max(min_height_px, 1)) & (sides[:, 0] >= 1)
        return Detections(xyxy[keep], found.score[keep])

    return find


def _hog() -> Detect:
    make = getattr(cv2, "HOGDescriptor", None)
    people = getattr(cv2, "HOGDescriptor_getDefaultPeopleDetector", None)
    if make is None or people is None:
        raise ConfigError(
            f"detector hog: this OpenCV ({cv2.__version__}) has no HOGDescriptor, which left it with version 5; "
            "use 'motion', or the path of an ONNX or OpenVINO person detector"
        )
    hog = make()
    hog.setSVMDetector(people())

    def find(image: ImageArray) -> Detections:
        boxes, weights = hog.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), winStride=(8, 8), scale=1.05)
        xywh = np.asarray(boxes, np.float32).reshape(-1, 4)
        # The margin's distance becomes a score in 0..1; the trained box has about 1/8 of background on each side.
        score = 1 / (1 + np.exp(-2 * np.asarray(weights, np.float32).reshape(-1)))
        inset = xywh[:, 2:] * np.float32(0.1)
        xyxy = np.concatenate([xywh[:, :2] + inset, xywh[:, :2] + xywh[:, 2:] - inset], axis=1)
        return _suppressed(xyxy, score.astype(np.float32))

    return find


# ------------------------------------------------------------------------------------------------ networks in files


@dataclass(frozen=True)
class _Layout:
    """How a network wants its picture, and what its output says.

    ``decode``: output -> (xyxy (N, 4) px of the input, score (N,)). ``letterbox``: the picture keeps its shape and
    is padded right and below with grey.
    """

    decode: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    letterbox: bool
    rgb: bool
    unit: bool  # pixels 0..1 instead of 0..255


def _network(path: Path, threads: int | None, device: str, min_score: float) -> Detect:
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{path}: not a detector, expected 'motion', 'hog' or a file ending in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"{path}: no such detector file; check the path")
    network = open_network(path, device=device, threads=threads)
    height, width = _input_size(network)

    def infer(tensor: FloatArray) -> FloatArray:
        return np.asarray(network.run(tensor)[0], np.float32)

    layout = _layout(path, infer(np.zeros((1, 3, height, width), np.float32)).shape, height, width)

    def find(image: ImageArray) -> Detections:
        tensor, scale = _prepare(image, height, width, layout)
        xyxy, score = layout.decode(infer(tensor))
        likely = score >= max(min_score, 0.01)
        return _suppressed(xyxy[likely] / scale, score[likely])

    return find


def _prepare(image: ImageArray, height: int, width: int, layout: _Layout) -> tuple[FloatArray, FloatArray]:
    """The network's input (1, 3, height, width), and input pixels per picture pixel as (4,) for xyxy."""
    scale = np.array([width / image.shape[1], height / image.shape[0]])
    if layout.letterbox:
        scale[:] = scale.min()
    inner = np.maximum(1, np.rint(scale * (image.shape[1], image.shape[0]))).astype(int)
    canvas = np.full((height, width, 3), 114, np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(image, (int(inner[0]), int(inner[1])), interpolation=cv2.INTER_LINEAR)
    ordered = canvas if layout.rgb else canvas[..., ::-1]
    tensor = np.ascontiguousarray(ordered.transpose(2, 0, 1)[None], np.float32)
    if layout.unit:
        tensor /= 255
    return tensor, np.tile(scale, 2).astype(np.float32)


def _suppressed(xyxy: FloatArray, score: FloatArray) -> Detections:
    """Of boxes that overlap much, the best."""
    if not len(xyxy):
        return Detections.empty()
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    keep = np.asarray(cv2.dnn.NMSBoxes(xywh.tolist(), score.tolist(), 0.0, _NMS_IOU), np.int64).reshape(-1)
    return Detections(np.ascontiguousarray(xyxy[keep], np.float32), np.ascontiguousarray(score[keep], np.float32))


def _layout(path: Path, shape: Sequence[int], height: int, width: int) -> _Layout:
    for recognise in _LAYOUTS:
        if layout := recognise(tuple(shape), height, width):
            return layout
    raise ModelError(
        f"{path}: output layout not known, got output {'x'.join(map(str, shape))} for input 1x3x{height}x{width}; "
        "expected SSD 1x1xNx7, YOLOX 1xAx(5+C), YOLOv8 1x(4+C)xA or FastestDet 1x(5+C)x(h/16)x(w/16)"
    )


def _cells(height: int, width: int) -> int:
    return sum((height // stride) * (width // stride) for stride in _STRIDES)


def _ssd(shape: tuple[int, ...], height: int, width: int) -> _Layout | None:
    """Rows (picture, class, score, x0, y0, x1, y1), box as fractions of the input; class 1 is a person."""
    if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != 7:
        return None

    def decode(output: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows = output.reshape(-1, 7)
        ends = np.flatnonzero(rows[:, 0] < 0)  # a row of picture -1 ends the list
        rows = rows[: ends[0]] if len(ends) else rows
        rows = rows[rows[:, 1] == 1]
        return rows[:, 3:] * np.array([width, height, width, height], np.float32), rows[:, 2]

    return _Layout(decode, letterbox=False, rgb=False, unit=False)


def _yolox(shape: tuple[int, ...], height: int, width: int) -> _Layout | None:
    """Per cell (dx, dy, log w, log h, objectness, classes), to be decoded with the cell's place and stride."""
    if len(shape) != 3 or shape[1] != _cells(height, width) or shape[2] < 6:
        return None
    place, stride = _grid(height, width)

    def decode(output: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows = output[0]
        centre = (rows[:, :2] + place) * stride
        half = np.exp(np.minimum(rows[:, 2:4], 20)) * stride / 2
        return np.concatenate([centre - half, centre + half], axis=1), rows[:, 4] * rows[:, 5]

    return _Layout(decode, letterbox=True, rgb=False, unit=False)


def _grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Of every cell of every stride, row by row: place (A, 2) as (column, row), and stride (A, 1)."""
    places, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        places.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _yolov8(shape: tuple[int, ...], height: int, width: int) -> _Layout | None:
    """Per column (centre x, centre y, w, h in px, classes)."""
    if len(shape) != 3 or shape[2] != _cells(height, width) or shape[1] < 5:
        return None

    def decode(output: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows = output[0].T
        half = rows[:, 2:4] / 2
        return np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1), rows[:, 4]

    return _Layout(decode, letterbox=True, rgb=True, unit=True)


def _fastestdet(shape: tuple[int, ...], height: int, width: int) -> _Layout | None:
    """A map of cells of 16 px: objectness, (dx, dy) before tanh, (w, h) before the logistic function, classes."""
    if len(shape) != 4 or shape[1] < 6 or shape[2:] != (height // 16, width // 16):
        return None
    rows, columns = np.mgrid[: shape[2], : shape[3]]

    def decode(output: FloatArray) -> tuple[FloatArray, FloatArray]:
        objectness, dx, dy, w, h, person = output[0, :6]
        x, y = (columns + np.tanh(dx)) * 16, (rows + np.tanh(dy)) * 16
        half_w, half_h = width / 2 / (1 + np.exp(-w)), height / 2 / (1 + np.exp(-h))
        xyxy = np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1).reshape(-1, 4)
        score = np.clip(objectness, 0, None) ** 0.6 * np.clip(person, 0, None) ** 0.4
        return xyxy.astype(np.float32), score.reshape(-1)

    return _Layout(decode, letterbox=False, rgb=False, unit=True)


_LAYOUTS = (_ssd, _yolox, _yolov8, _fastestdet)


def _input_size(network: Network) -> tuple[int, int]:
    """(height, width) of the one picture that a detector takes."""
    shapes = network.inputs
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (3, None):
        raise ModelError(f"{network.path}: not a detector, got inputs of shape {shapes}, expected one 1x3xHxW")
    height, width = (side or _DEFAULT_SIDE_PX for side in shapes[0][2:])
    return height, width
