"""A street that can be filmed anywhere: drawn people walk past drawn cameras, with their true boxes and identities.

Everything follows from (seed, camera, part): a frame can be asked for at any index, in any order, in any process, and
is the same to the last byte.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import cv2
import numpy as np

from reid_mtda.errors import ConfigError
from reid_mtda.synthetic import canvas, figure, people, scenery, walks
from reid_mtda.synthetic.camera import HEIGHT_PX, LAB, TARGET, WIDTH_PX, CameraModel, camera_model, response
from reid_mtda.types import FloatArray, ImageArray, IntArray

CAMERAS: tuple[str, ...] = tuple(model.name for model in TARGET)
"""The target cameras, in the order of their camids 1, 2, ..."""
LAB_CAMERAS: tuple[str, ...] = tuple(model.name for model in LAB)
"""The cameras of the labelled source."""

NATIVE_FPS = 25.0
START_TIME_S = 1772352000.0  # 2026-03-01T08:00:00Z
_FIRST_PID = {"lab": 1, "train": 2001, "test": 4001}
_MAX_PEOPLE = 2000


@dataclass(frozen=True)
class SyntheticFrame:
    """One picture with its truth; ``index`` counts at 25 frames per second whatever rate was asked for.

    ``image`` uint8 (H, W, 3) RGB; ``xyxy`` float32 (N, 4) px, the drawn outline's box within the picture; ``pid``
    int64 (N,); ``visible`` float32 (N,), the share of the outline that is neither hidden nor outside.
    """

    index: int
    time_s: float
    image: ImageArray
    xyxy: FloatArray
    pid: IntArray
    visible: FloatArray


@dataclass(frozen=True)
class Street:
    """One recording: which camera films which ``people`` (``part``: 'train', 'test' or 'lab') for how long."""

    camera: str
    seed: int = 7
    part: str = "train"
    people: int = 40
    duration_s: float = 0.0  # 0: until everybody has passed once

    def __post_init__(self) -> None:
        where = "synthetic street"
        _choose(where, "camera", self.camera, (*CAMERAS, *LAB_CAMERAS))
        _choose(where, "part", self.part, tuple(_FIRST_PID))
        if not 1 <= self.people <= _MAX_PEOPLE:
            raise ConfigError(f"{where}: people must be 1..{_MAX_PEOPLE}, got {self.people}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"{where}: seed must be 0..2^63-1, got {self.seed}")
        if not (math.isfinite(self.duration_s) and self.duration_s >= 0):
            raise ConfigError(f"{where}: duration must be >= 0 seconds, got {self.duration_s}")
        if self.duration_s == 0:
            object.__setattr__(self, "duration_s", self.people * walks.SPACING_S + walks.LONGEST_S)

    @property
    def pids(self) -> range:
        """The identities of this part."""
        first = _FIRST_PID[self.part]
        return range(first, first + self.people)


def parse_url(url: str) -> Street:
    """Read ``synthetic://street?camera=gate&seed=7&part=train&duration=60&people=40``; only ``camera`` is needed.

    >>> parse_url("synthetic://street?camera=gate&duration=60").duration_s
    60.0

    Raises:
        ConfigError: another place than ``street``, an unknown or repeated key, a value of the wrong kind or range.
    """
    split = urlsplit(url)
    if split.scheme != "synthetic" or split.netloc != "street" or split.path not in ("", "/"):
        raise ConfigError(f"{url}: not a synthetic street, expected synthetic://street?camera={CAMERAS[0]}&seed=7")
    kinds: dict[str, Callable[[str], object]] = {
        "camera": str, "seed": int, "part": str, "people": int, "duration": float,
    }  # fmt: skip
    found: dict[str, object] = {}
    for key, text in parse_qsl(split.query, keep_blank_values=True):
        _choose(url, "key", key, tuple(kinds))
        if key in found:
            raise ConfigError(f"{url}: key {key!r} stands twice; keep one of them")
        try:
            found[key] = kinds[key](text)
        except ValueError:
            wanted = "a whole number" if kinds[key] is int else "a number"
            raise ConfigError(f"{url}: {key} must be {wanted}, got {text!r}") from None
    if "camera" not in found:
        raise ConfigError(f"{url}: missing key 'camera'; add one of {', '.join(CAMERAS)}")
    if "duration" in found:
        found["duration_s"] = found.pop("duration")
    try:
        return Street(**found)  # type: ignore[arg-type]
    except ConfigError as error:
        raise ConfigError(f"{url}: {str(error).split(': ', 1)[1]}") from None


def _choose(where: str, what: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        near = difflib.get_close_matches(got, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        raise ConfigError(f"{where}: unknown {what} {got!r}; {hint}")


def street_frames(
    camera: str, seed: int = 7, part: str = "train", duration_s: float = 0.0, fps: float | None = None,
    *, people: int = 40,
) -> Iterator[SyntheticFrame]:  # fmt: skip
    """Film ``camera``: see ``film``. ``duration_s`` 0 lasts until everybody has passed once.

    Args:
        camera: the camera's name.
        seed: of what is drawn.
        part: ``train`` or ``test`` people.
        duration_s: how long it lasts.
        fps: frames per second; None: all.
        people: how many.
    """
    return film(Street(camera, seed, part, people, duration_s), fps)


def film(street: Street, fps: float | None = None) -> Iterator[SyntheticFrame]:
    """Yield the frames of ``street`` at ``fps`` (None or above 25: all 25 a second); others are never drawn.

    Raises:
        ConfigError: ``fps`` is not above 0.
    """
    rate = NATIVE_FPS if fps is None else min(float(fps), NATIVE_FPS)
    if not rate > 0:
        raise ConfigError(f"synthetic street: fps must be > 0, got {fps}")
    draw = open_street(street)
    for number in range(math.ceil(street.duration_s * rate - 1e-6)):
        yield draw(round(number * NATIVE_FPS / rate))


def open_street(street: Street) -> Callable[[int], SyntheticFrame]:
    """Prepare ``street`` once and return the function frame index -> frame."""
    model = camera_model(street.camera)
    backdrop = scenery.paint_backdrop(model, street.seed)
    props = scenery.make_props(model, street.seed)
    take = response(model, street.seed)
    looks = {pid: people.draw_look(street.seed, pid) for pid in street.pids}
    under_way = walks.timetable(street.seed, model, looks)

    def draw(index: int) -> SyntheticFrame:
        scene = backdrop.copy()
        time_s = index / NATIVE_FPS
        walkers = sorted((walk.at(time_s) for walk in under_way(time_s)), key=lambda walker: -walker.z_m)
        owner = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
        waiting = list(props)
        drawn = []
        for number, walker in enumerate(walkers, start=1):
            while waiting and waiting[0].z_m > walker.z_m:
                _paint_prop(scene, owner, waiting.pop(0))
            box, area = _paint_walker(scene, owner, number, walker, looks[walker.pid], model)
            drawn.append((number, walker.pid, box, area))
        for prop in waiting:
            _paint_prop(scene, owner, prop)
        shown = np.bincount(owner.ravel(), minlength=len(drawn) + 1)
        kept = [(pid, box, shown[number] / area) for number, pid, box, area in drawn if shown[number]]
        return SyntheticFrame(
            index=index,
            time_s=START_TIME_S + time_s,
            image=take(scene, index, time_s),
            xyxy=np.array([box for _, box, _ in kept], np.float32).reshape(-1, 4),
            pid=np.array([pid for pid, _, _ in kept], np.int64),
            visible=np.array([share for _, _, share in kept], np.float32),
        )

    return draw


def _paint_prop(scene: ImageArray, owner: ImageArray, prop: scenery.Prop) -> None:
    high, wide = prop.mask.shape
    window = np.s_[prop.y : prop.y + high, prop.x : prop.x + wide]
    cv2.copyTo(prop.image, prop.mask, scene[window])
    owner[window][prop.mask > 0] = 0


def _paint_walker(
    scene: ImageArray, owner: ImageArray, number: int, walker: walks.Walker, look: people.Person, model: CameraModel
) -> tuple[tuple[int, int, int, int], int]:
    """Draw one person; returns the outline's box within the picture and its whole area in pixels."""
    column, row, scale = model.ground(walker.x_m, walker.z_m)
    height_px = look.height_m * scale
    elevation = math.atan2(model.height_m - 0.9, math.hypot(walker.x_m, walker.z_m))
    rgb, alpha = figure.draw_person(look, height_px, walker.view_angle, walker.gait_phase, elevation=elevation)
    solid = alpha > 127
    area = max(1, int(np.count_nonzero(solid)))
    left = round(column) - alpha.shape[1] // 2
    top = round(row + canvas.FOOT_MARGIN * height_px) - alpha.shape[0]
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(WIDTH_PX, left + alpha.shape[1]), min(HEIGHT_PX, top + alpha.shape[0])
    if x1 <= x0 or y1 <= y0:
        return (0, 0, 0, 0), area
    _paint_shadow(scene, column, row, height_px)
    inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    window = np.s_[y0:y1, x0:x1]
    cover = alpha[inside]
    through = cv2.multiply(scene[window], cv2.merge((255 - cover,) * 3), scale=1 / 255)
    scene[window] = cv2.add(through, rgb[inside])
    owner[window][solid[inside]] = number
    x, y, wide, high = cv2.boundingRect(solid[inside].astype(np.uint8))
    return (x0 + x, y0 + y, x0 + x + wide, y0 + y + high), area


def _paint_shadow(scene: ImageArray, column: float, row: float, height_px: float) -> None:
    wide, high = round(0.2 * height_px), max(2, round(0.055 * height_px))
    x0, y0 = max(0, round(column) - wide), max(0, round(row) - high)
    view = scene[y0 : round(row) + high + 1, x0 : max(0, round(column) + wide + 1)]
    if not view.size:
        return
    shade = np.full(view.shape[:2], 255, np.uint8)
    centre = (round(column) - x0, round(row) - y0)
    cv2.ellipse(shade, centre, (wide, high), 0, 0, 360, (178,), cv2.FILLED, cv2.LINE_AA)
    cv2.ellipse(shade, centre, (wide * 2 // 3, high * 2 // 3), 0, 0, 360, (140,), cv2.FILLED, cv2.LINE_AA)
    view[:] = cv2.multiply(view, cv2.merge((shade,) * 3), scale=1 / 255)
