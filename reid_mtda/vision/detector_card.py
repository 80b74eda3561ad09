"""What a detector's file does not say of itself: a card beside it, ``net.json`` for ``net.onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from reid_mtda.schema import Strict, load_yaml

LayoutName = Literal["ssd", "boxes", "yolox", "yolov5", "yolov8", "end2end", "fastestdet"]


class DetectorCard(Strict):
    """How a detector wants its picture and what its output means; what is left out is as usual for the layout."""

    layout: LayoutName | None = Field(
        default=None,
        description="ssd: rows (picture, class, score, box as fractions); boxes: rows (box, score) and a list of "
        "classes; yolox, yolov5: rows (box, objectness, classes); yolov8: rows or columns (box, classes); end2end: "
        "rows (corners, score, class); fastestdet: a map of cells. Without it, it is told from the output's shape "
        "where one alone fits.",
    )
    person_class: int | None = Field(default=None, ge=0, description="Number of the class of people.")
    decoded: bool | None = Field(
        default=None, description="yolox: boxes are pixels already, and not offsets to be decoded with their cells."
    )
    channels: Literal["rgb", "bgr"] | None = Field(default=None, description="Order of the input's colours.")
    input_max: Literal[1, 255] | None = Field(default=None, description="What white is in the input.")
    mean: tuple[float, float, float] | None = Field(
        default=None, description="Subtracted from the input, by channel, in its own units."
    )
    std: tuple[float, float, float] | None = Field(default=None, description="The input is divided by, by channel.")
    letterbox: bool | None = Field(
        default=None, description="The picture keeps its shape and is padded; false: it is stretched."
    )
    input_type: Literal["float32", "float16", "uint8"] = Field(default="float32", description="Numbers of the input.")


def card_path(network: Path) -> Path:
    """Where the card of a detector's file lies."""
    return network.with_suffix(".json")


def read_card(network: Path) -> DetectorCard:
    """The card beside a detector's file; an empty one where there is none.

    Raises:
        ConfigError: a card with a mistake in it, with the key and the nearest known one.
    """
    path = card_path(network)
    return load_yaml(path, DetectorCard) if path.is_file() else DetectorCard()
