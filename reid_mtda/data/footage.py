"""Footage of one camera harvested into crops on disk: an unlabelled target, grouped by tracklet."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reid_mtda.data.crop_table import COLUMNS, Row, write_crop_table
from reid_mtda.errors import DataError, StorageError
from reid_mtda.files import write_json
from reid_mtda.progress import Progress, silent
from reid_mtda.types import Detect, Frame, Tracklet
from reid_mtda.vision.crops import encode_jpeg
from reid_mtda.vision.tracklets import TrackletBuilder
from reid_mtda.vision.video import frames_to_come

log = logging.getLogger(__name__)

_REPORT = "harvest.json"


@dataclass(frozen=True)
class HarvestReport:
    """What a harvest saw and kept; counts of frames, detections, tracklets and crops.

    ``too_low``: detections beside those that were left out, for they were lower than the camera's ``min_height_px``.
    """

    camera: str
    frames: int
    detections: int
    tracklets: int
    crops: int
    warnings: tuple[str, ...] = ()
    too_low: int = 0


def harvest_crops(
    frames: Iterable[Frame],
    detect: Detect,
    builder: TrackletBuilder,
    folder: Path,
    *,
    made_from: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> HarvestReport:
    """Detect and track people in ``frames`` and write the best crops of each tracklet.

    ``<folder>/<camera>/`` gets ``{track:06d}_{frame:06d}.jpg`` (as large as in the frame), ``crops.csv`` with one
    row per crop, and ``harvest.json``. It appears whole or not at all. Where it stands already, made with the same
    settings, its report is returned and ``frames`` stays untouched: a resumed job skips it. Nobody found is a
    valid, empty harvest with a warning in its report.

    Args:
        frames: frames of one camera in order.
        detect: the detector.
        builder: follows people; fresh, and for this camera alone, after which its folder is named.
        folder: where the folders of all cameras stand.
        made_from: what else decides the result (address, detector ...), recorded; a harvest that was made from
            something else is refused.
        progress: told of every frame.

    Raises:
        DataError: the folder stands there but is no finished harvest, or one made with other settings.
        StorageError: the disk refused; nothing half-written is left.
    """
    target = Path(folder) / builder.camera
    settings = {"max_crops": builder.max_crops, "fps": builder.fps, **(made_from or {})}
    if target.exists():
        return _finished(target, settings)
    part = target.with_name(f".{builder.camera}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # what a killed harvest left
        with _writing(target):
            part.mkdir(parents=True)
        report = _harvest(frames, detect, builder, part, progress)
        with _writing(target):
            write_json(part / _REPORT, {"report": asdict(report), "settings": settings})
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for warning in report.warnings:
        log.warning("%s", warning)
    return report


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Name ``target`` when the disk refuses."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{target}: crops could not be written ({error.strerror or error}); free space or choose another folder"
        ) from error


def _harvest(
    frames: Iterable[Frame],
    detect: Detect,
    builder: TrackletBuilder,
    folder: Path,
    progress: Progress,
) -> HarvestReport:
    camera, expected = builder.camera, frames_to_come(frames)
    table: list[Row] = []
    seen = found = too_low = 0
    for frame in frames:
        detections = detect(frame.image)
        table += write_crops(builder.update(frame, detections), folder)
        seen, found, too_low = seen + 1, found + len(detections), too_low + detections.too_low
        progress(f"harvest {camera}", seen, max(seen, expected))
    table += write_crops(builder.flush(), folder)
    write_crop_table(folder, table)
    crops, tracks = len(table), len({row["tracklet"] for row in table})
    return HarvestReport(camera, seen, found, tracks, crops, _warnings(camera, seen, found, crops, too_low), too_low)


def write_crops(tracklets: Iterable[Tracklet], folder: Path) -> list[Row]:
    """Write the crops of ``tracklets`` and return their rows of ``crops.csv``."""
    rows: list[Row] = []
    for tracklet in tracklets:
        for crop, xyxy, frame, time_s in zip(
            tracklet.crops, tracklet.xyxy, tracklet.frame_index.tolist(), tracklet.time_s.tolist(), strict=True
        ):
            name = f"{tracklet.track_id:06d}_{frame:06d}.jpg"
            data = encode_jpeg(crop, quality=95)
            with _writing(folder / name):
                (folder / name).write_bytes(data)
            values = (name, str(tracklet.track_id), str(frame), f"{time_s:.3f}", *(f"{side:.1f}" for side in xyxy))
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


_MANY_TOO_LOW = 0.1  # of all people found: a camera's few that are far away are what the limit is for


def _warnings(camera: str, seen: int, found: int, crops: int, too_low: int) -> tuple[str, ...]:
    low = f"{too_low} of {found + too_low} detections were lower than min_height_px and left out; lower it for more"
    if crops:
        return (f"camera {camera}: {low}",) if too_low > _MANY_TOO_LOW * (found + too_low) else ()
    if not seen:
        return (f"camera {camera}: the footage held no frames, so there are no crops; check its url",)
    if too_low and not found:
        return (f"camera {camera}: {low} people, there are no crops",)
    if not found:
        reason = "nobody was found"
        advice = "check the detector, min_height_px and min_score in its camera file"
    else:
        reason = f"{found} detections never lasted long enough to be a person"
        advice = "raise fps or check the detector"
    return (f"camera {camera}: {reason} in {seen} frames, so there are no crops; {advice}",)


def _finished(target: Path, settings: Mapping[str, Any]) -> HarvestReport:
    """The report of the harvest that stands in ``target``, if it was made with ``settings``."""
    card = target / _REPORT
    try:
        there = json.loads(card.read_text(encoding="utf-8"))
        report = HarvestReport(**{**there["report"], "warnings": tuple(there["report"]["warnings"])})
        before = dict(there["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{target}: stands there, but is no finished harvest (no readable {_REPORT}); "
            "choose another folder, or remove this one"
        ) from None
    before, wanted = _flat(before), _flat(json.loads(json.dumps(settings, default=str)))
    differences = [
        f"{key}: got {wanted.get(key, 'none')}, expected {before.get(key, 'none')}"
        for key in sorted(before.keys() | wanted.keys())
        if before.get(key) != wanted.get(key)
    ]
    if differences:
        raise DataError(
            f"{target}: was harvested with other settings ({'; '.join(differences)}); remove it to harvest anew, or "
            "take those settings"
        )
    return report


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by the path of their key, ``camera.fps``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat
