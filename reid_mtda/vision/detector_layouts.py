"""What the outputs of detector networks mean: declared by a card, or the only layout that fits; else refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_mtda.errors import ModelError
from reid_mtda.types import FloatArray
from reid_mtda.vision.detector_card import DetectorCard, LayoutName, card_path

_STRIDES = (8, 16, 32)
_COCO_CLASSES = 80

Outputs = Sequence[FloatArray]
Boxes = tuple[FloatArray, FloatArray]
"""xyxy (N, 4) in pixels of the input, score (N,)."""


@dataclass(frozen=True)
class Layout:
    """How a network wants its picture, and what its outputs say.

    ``decode``: outputs -> people. ``letterbox``: the picture keeps its shape and is padded right and below with grey.
    ``unit``: pixels 0..1 instead of 0..255.
    """

    decode: Callable[[Outputs], Boxes]
    letterbox: bool
    rgb: bool
    unit: bool


def choose_layout(path: Path, outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout:
    """The layout that the card names, or the only one that fits the outputs of a trial.

    Args:
        path: the network, for messages.
        outputs: what it gave for one picture.
        height: of the input, px.
        width: of the input, px.
        card: what is known of it.

    Raises:
        ModelError: no layout fits, or several, or not the one that the card names.
    """
    shape = outputs[0].shape
    fitting = _fitting(outputs, height, width)
    name = card.layout
    if name is None:
        if len(fitting) != 1:
            what = f"fits {' and '.join(fitting)}" if fitting else "is of no layout known here"
            raise ModelError(
                f"{path}: output layout not known, got output {_written(shape)} for input 1x3x{height}x{width}, which "
                f"{what}; expected SSD 1x1xNx7, boxes Nx5 and N, YOLOX 1xAx85, YOLOv8 1x84xA or 1xAx84, or FastestDet "
                f"1x85x(h/16)x(w/16); state layout in {card_path(path).name} beside it"
            )
        name = fitting[0]
    made = _LAYOUTS[name](outputs, height, width, card)
    if made is None:
        raise ModelError(
            f"{path}: output {_written(shape)} is not of layout {name}, which {card_path(path).name} states; mend it"
        )
    return made


def _fitting(outputs: Outputs, height: int, width: int) -> list[LayoutName]:
    """The layouts that the shapes allow, leaving out what no released model has."""
    shape, cells = outputs[0].shape, _cells(height, width)
    if len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == 7:
        return ["ssd"]
    if len(outputs) >= 2 and len(shape) == 2 and shape[1] == 5 and outputs[1].shape == shape[:1]:
        return ["boxes"]
    if len(shape) == 4 and shape[1] >= 6 and shape[2:] == (height // 16, width // 16):
        return ["fastestdet"]
    if len(shape) != 3:
        return []
    if shape[1] == cells and shape[2] >= 5:
        # One column more than classes and box is objectness. COCO's 80 classes tell, and raw offsets.
        if shape[2] in (4 + _COCO_CLASSES, 5):
            return ["yolov8"]
        if shape[2] == 5 + _COCO_CLASSES or _looks_raw(outputs[0][0]):
            return ["yolox"]
        return ["yolox", "yolov8"]
    if shape[2] == cells and shape[1] >= 5:
        return ["yolov8"] if shape[1] != 5 + _COCO_CLASSES else ["yolox", "yolov8"]
    return []


def _looks_raw(rows: FloatArray) -> bool:
    """Whether rows hold offsets within cells instead of pixels; all zeros prove nothing."""
    middle = float(np.median(np.abs(rows[:, :4])))
    return 1e-3 < middle < 4


def _cells(height: int, width: int) -> int:
    return sum((height // stride) * (width // stride) for stride in _STRIDES)


def _ssd(outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout | None:
    """Rows (picture, class, score, x0, y0, x1, y1), box as fractions of the input."""
    shape = outputs[0].shape
    if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != 7:
        return None
    person = _PersonClass(card.person_class)

    def decode(outputs: Outputs) -> Boxes:
        rows = outputs[0].reshape(-1, 7)
        ends = np.flatnonzero(rows[:, 0] < 0)  # a row of picture -1 ends the list
        rows = rows[: ends[0]] if len(ends) else rows
        rows = rows[rows[:, 1] == person.number(rows[rows[:, 2] >= 0.3, 1])]
        return rows[:, 3:] * np.array([width, height, width, height], np.float32), rows[:, 2]

    return _layout(decode, card, letterbox=False, rgb=False, unit=False)


class _PersonClass:
    """The class of people in a list that names classes: 1 where 0 is the background, 0 where there is no other.

    Args:
        stated: by the card; None: told by the classes that are found.
    """

    def __init__(self, stated: int | None) -> None:
        self._stated = stated
        self._seen: set[int] = set()

    def number(self, found: FloatArray) -> int:
        """The class of people, now that these classes were ``found`` with some certainty.

        Raises:
            ModelError: class 0 and others: no convention says which are people.
        """
        if self._stated is not None:
            return self._stated
        self._seen |= {int(one) for one in np.unique(found)}
        if 0 in self._seen and len(self._seen) > 1:
            raise ModelError(
                f"detector: it finds classes {', '.join(map(str, sorted(self._seen)))} and nothing says which is a "
                "person; state person_class in the card beside its file"
            )
        return 0 if self._seen == {0} else 1


def _boxes(outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout | None:
    """Rows (x0, y0, x1, y1, score) in pixels of the input, and the class of each in a second output."""
    if len(outputs) < 2 or outputs[0].ndim != 2 or outputs[0].shape[1] != 5:
        return None
    person = card.person_class or 0

    def decode(outputs: Outputs) -> Boxes:
        rows = outputs[0][outputs[1].reshape(-1) == person]
        return rows[:, :4], rows[:, 4]

    return _layout(decode, card, letterbox=False, rgb=False, unit=False)


def _yolox(outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout | None:
    """Per cell (dx, dy, log w, log h, objectness, classes), to be decoded with the cell's place and stride."""
    shape, person = outputs[0].shape, card.person_class or 0
    if len(shape) != 3 or shape[1] != _cells(height, width) or shape[2] < 6 + person:
        return None
    place, stride = _grid(height, width)
    decoded = _is_decoded(outputs[0][0], place, stride) if card.decoded is None else card.decoded

    def decode(outputs: Outputs) -> Boxes:
        rows = outputs[0][0]
        score = rows[:, 4] * rows[:, 5 + person]
        if decoded:
            return _from_centres(rows), score
        centre = (rows[:, :2] + place) * stride
        half = np.exp(np.minimum(rows[:, 2:4], 20)) * stride / 2
        return np.concatenate([centre - half, centre + half], axis=1), score

    return _layout(decode, card, letterbox=True, rgb=False, unit=False)


def _is_decoded(rows: FloatArray, place: FloatArray, stride: FloatArray) -> bool:
    """Whether the first two columns are pixels: then each row's centre lies about its own cell."""
    return bool(np.median(np.abs(rows[:, :2] / stride - place - 0.5)) < 2 and np.median(np.abs(rows[:, :2])) > 4)


def _grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Of every cell of every stride, row by row: place (A, 2) as (column, row), and stride (A, 1)."""
    places, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        places.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _yolov5(outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout | None:
    """Rows (centre x, centre y, w, h in px, objectness, classes), whatever their number."""
    shape, person = outputs[0].shape, card.person_class or 0
    if len(shape) != 3 or shape[2] < 6 + person:
        return None

    def decode(outputs: Outputs) -> Boxes:
        rows = outputs[0][0]
        return _from_centres(rows), rows[:, 4] * rows[:, 5 + person]

    return _layout(decode, card, letterbox=True, rgb=True, unit=True)


def _yolov8(outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout | None:
    """Per column, or per row, (centre x, centre y, w, h in px, classes)."""
    shape, person, cells = outputs[0].shape, card.person_class or 0, _cells(height, width)
    if len(shape) != 3 or cells not in shape[1:] or min(shape[1:]) < 5 + person:
        return None
    by_row = shape[1] == cells and shape[2] != cells

    def decode(outputs: Outputs) -> Boxes:
        rows = outputs[0][0] if by_row else outputs[0][0].T
        return _from_centres(rows), rows[:, 4 + person]

    return _layout(decode, card, letterbox=True, rgb=True, unit=True)


def _end2end(outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout | None:
    """Rows (x0, y0, x1, y1 in px, score, class) that are chosen already."""
    if outputs[0].ndim != 3 or outputs[0].shape[2] != 6:
        return None
    person = card.person_class or 0

    def decode(outputs: Outputs) -> Boxes:
        rows = outputs[0][0]
        rows = rows[rows[:, 5] == person]
        return rows[:, :4], rows[:, 4]

    return _layout(decode, card, letterbox=True, rgb=True, unit=True)


def _fastestdet(outputs: Outputs, height: int, width: int, card: DetectorCard) -> Layout | None:
    """A map of cells of 16 px: objectness, (dx, dy) before tanh, (w, h) before the logistic function, classes."""
    shape, person = outputs[0].shape, card.person_class or 0
    if len(shape) != 4 or shape[1] < 6 + person or shape[2:] != (height // 16, width // 16):
        return None
    rows, columns = np.mgrid[: shape[2], : shape[3]]

    def decode(outputs: Outputs) -> Boxes:
        objectness, dx, dy, w, h = outputs[0][0, :5]
        x, y = (columns + np.tanh(dx)) * 16, (rows + np.tanh(dy)) * 16
        half_w, half_h = width / 2 / (1 + np.exp(-w)), height / 2 / (1 + np.exp(-h))
        xyxy = np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1).reshape(-1, 4)
        score = np.clip(objectness, 0, None) ** 0.6 * np.clip(outputs[0][0, 5 + person], 0, None) ** 0.4
        return xyxy.astype(np.float32), score.reshape(-1)

    return _layout(decode, card, letterbox=False, rgb=False, unit=True)


def _from_centres(rows: FloatArray) -> FloatArray:
    half = rows[:, 2:4] / 2
    return np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)


def _layout(
    decode: Callable[[Outputs], Boxes], card: DetectorCard, *, letterbox: bool, rgb: bool, unit: bool
) -> Layout:
    """The layout with its usual input, or what the card says of it."""
    return Layout(
        decode,
        letterbox=letterbox if card.letterbox is None else card.letterbox,
        rgb=rgb if card.channels is None else card.channels == "rgb",
        unit=unit if card.input_max is None else card.input_max == 1,
    )


_LAYOUTS: dict[LayoutName, Callable[[Outputs, int, int, DetectorCard], Layout | None]] = {
    "ssd": _ssd,
    "boxes": _boxes,
    "yolox": _yolox,
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "end2end": _end2end,
    "fastestdet": _fastestdet,
}


def _written(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
