"""What a camera's file may say: one setting for each key."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from reid_mtda.polygons import Polygon, Polygons
from reid_mtda.schema import Strict

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}\Z")
AUTO = "auto"
MOTION = "motion"
"""Detectors that are no network: the best one at hand, and what moves."""
_MOST_REGIONS = 32
_OF_THE_SERVICE = ("device", "keep_for_adaptation", "neighbours", "pictures_in_events", "zones")
_FOR_PEOPLE = ("purpose", "legal_basis", "sign_text")
"""Keys of a camera that change nothing in what its footage gives."""


class Travel(Strict):
    """How long people take from one camera's view to another's."""

    min_s: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="Seconds that nobody is faster than, by any way; 0 where both views show the same ground.",
    )
    max_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which somebody is no longer expected; without it, whenever.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Travel:
        if self.max_s is not None and self.max_s < self.min_s:
            raise ValueError(f"got max_s {self.max_s:g} below min_s {self.min_s:g}, expected min_s <= max_s")
        return self


class Camera(Strict):
    """One camera of a site. Its name is the file's name without ``.yaml``."""

    url: str = Field(
        min_length=1,
        description="Where frames come from: a video file or a folder of pictures (relative to this file), "
        "'device:0', 'rtsp://...', 'http://...', or 'synthetic://street?camera=gate&seed=7'.",
        examples=["footage/gate.mp4"],
    )
    detector: str = Field(
        default=AUTO,
        description="How people are found: 'auto' (the best person detector of 'reid-mtda models' that is here, else "
        "motion), 'motion' (fixed cameras, no weights), the name of a detector of 'reid-mtda models', e.g. yolox-nano, "
        "one of your own (an entry point, or module:function), or the path of an ONNX or OpenVINO person detector "
        "(relative to this file), with its card beside it where it needs one.",
        examples=[AUTO],
    )
    device: str = Field(
        default="cpu",
        description="Where a detector network runs: 'cpu'; for ONNX also 'cuda', 'tensorrt' or 'coreml', for OpenVINO "
        "'gpu' or 'npu'; 'auto': the first of these that this machine has.",
        examples=["cpu"],
    )
    fps: float = Field(default=5.0, gt=0, le=60, description="Frames analysed per second.", examples=[5.0])
    min_height_px: int = Field(
        default=32,
        ge=8,
        le=4096,
        description="People lower than this in the frame, in pixels, are ignored.",
        examples=[32],
    )
    min_score: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Detections scored below this are ignored (motion scores are all 1).",
        examples=[0.4],
    )
    start_time: str | None = Field(
        default=None,
        description="When the first frame of a recording was taken, ISO 8601 with zone; without it what the file says "
        "itself, else the file's date less its length.",
        examples=["2026-03-01T08:00:00+00:00"],
    )
    retention_days: float = Field(
        default=30.0,
        gt=0,
        le=3650,
        description="Days after which sightings of this camera are deleted.",
        examples=[30.0],
    )
    keep_for_adaptation: bool = Field(
        default=False,
        description="Whether the running service keeps the best crops of this camera to adapt to later.",
        examples=[False],
    )
    pictures_in_events: bool = Field(
        default=False,
        description="Whether a sighting's picture goes to those whom the service tells of events (MQTT, webhooks).",
        examples=[False],
    )
    purpose: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Why this camera is watched; for 'reid-mtda dpia'.",
        examples=["finding lost children"],
    )
    legal_basis: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="On what basis; for 'reid-mtda dpia'.",
        examples=["GDPR Art. 6(1)(f)"],
    )
    sign_text: str | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="What the sign beside the camera says; for 'reid-mtda dpia'.",
        examples=["Cameras find lost children here; ask at the desk."],
    )
    neighbours: dict[str, Travel] = Field(
        default={},
        description="Travel times to other cameras of the site, by name; a search from a sighting leaves out what "
        "nobody could have reached. Stated for one direction they hold for both. No limit to cameras not named.",
        examples=[{"plaza": {"min_s": 5, "max_s": 120}}],
    )

    masks: Polygons = Field(
        default=(),
        max_length=_MOST_REGIONS,
        description="Parts of the picture that are painted over before anything looks at it, polygons of corners "
        "[x, y] in shares of its width and height from the upper left: what moves but is nobody, and what nobody may "
        "film.",
        examples=[[[[0, 0], [0.3, 0], [0.3, 0.2], [0, 0.2]]]],
    )
    zones: dict[Annotated[str, StringConstraints(pattern=NAME.pattern.replace(r"\Z", "$"))], Polygon] = Field(
        default={},
        max_length=_MOST_REGIONS,
        description="Parts of the ground by name, polygons as of masks: how many people stand there, and for how long.",
        examples=[{"door": [[0.4, 0.5], [0.6, 0.5], [0.6, 1], [0.4, 1]]}],
    )

    def for_footage(self) -> dict[str, object]:
        """The settings that may decide what footage gives, for a run's record.

        Those of the service alone are not among them, nor is the device: all devices give what the CPU gives. Masks
        are where there are any: footage harvested before there were masks is the same.
        """
        return self.model_dump(exclude={*_OF_THE_SERVICE, *_FOR_PEOPLE, *(() if self.masks else ("masks",))})
