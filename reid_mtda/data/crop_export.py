"""Crops and tracks of a harvest, or of those that a service keeps, written as other programs read them.

A crop's tracklet is of one camera: nobody is known across cameras, so identities in the export are tracklets. Label
them elsewhere, and read them back.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from reid_mtda.data.crop_table import TABLE, Row, read_crop_table
from reid_mtda.errors import DataError, StorageError


@dataclass(frozen=True)
class ExportReport:
    """What was written: crops, tracklets, cameras."""

    crops: int
    tracklets: int
    cameras: int


@dataclass(frozen=True)
class _Crop:
    camera: str
    path: Path
    track: int
    frame: int
    box: tuple[float, float, float, float]

    @classmethod
    def of(cls, camera: str, folder: Path, row: Row) -> _Crop:
        try:
            box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
            return cls(camera, folder / row["file"], int(row["tracklet"]), int(row["frame"]), box)
        except ValueError as error:
            raise DataError(
                f"{folder / TABLE}: {row['file']}: not a number ({error}); harvest the footage again"
            ) from None


def export_crops(source: Path, out: Path, layout: str) -> ExportReport:
    """Write the crops below ``source`` in another layout; ``out`` appears whole or not at all.

    Args:
        source: a folder with one folder for each camera, each with ``crops.csv``.
        out: nothing may be there.
        layout: ``market1501`` (pictures named by identity and camera), ``mot`` (``CAMERA/gt/gt.txt``, boxes of the
            crops kept in the frame), or ``coco`` (pictures with ``annotations.json``).

    Raises:
        DataError: no crops, a damaged table, a crop that is gone, or another layout.
        StorageError: ``out`` is there already, or the disk refuses; nothing is left.
    """
    source, out = Path(source), Path(out)
    if layout not in LAYOUTS:
        raise DataError(f"layout: got {layout!r}, expected {', '.join(sorted(LAYOUTS))}")
    crops = list(_crops(source))
    if not crops:
        raise DataError(f"{source}: no crops; expected one folder for each camera, each with {TABLE}")
    if out.exists():
        raise StorageError(f"{out}: is there already; name another folder, or remove it")
    part = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        LAYOUTS[layout](crops, part)
        part.replace(out)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: is gone, though {TABLE} names it; harvest the footage again") from None
    except OSError as error:
        raise StorageError(f"{out}: could not be written ({error.strerror or error}); free space") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(part, ignore_errors=True)
    return ExportReport(len(crops), len({(c.camera, c.track) for c in crops}), len({c.camera for c in crops}))


def _crops(source: Path) -> Iterator[_Crop]:
    """All crops: cameras by name, within one by track and frame."""
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; name one of 'reid-mtda harvest', or 'crops' of a service's state")
    for folder in sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != "."):
        rows = [_Crop.of(folder.name, folder, row) for row in read_crop_table(folder)]
        yield from sorted(rows, key=lambda crop: (crop.track, crop.frame))


def _identities(crops: list[_Crop]) -> dict[tuple[str, int], int]:
    """A number from 1 on for each tracklet, over all cameras."""
    return {key: n for n, key in enumerate(dict.fromkeys((crop.camera, crop.track) for crop in crops), start=1)}


def _write_market1501(crops: list[_Crop], out: Path) -> None:
    cameras = sorted({crop.camera for crop in crops})
    pids, folder = _identities(crops), out / "bounding_box_train"
    folder.mkdir()
    with (folder / "tracklets.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "tracklet"))
        for n, crop in enumerate(crops):
            pid = pids[crop.camera, crop.track]
            name = f"{pid:04d}_c{cameras.index(crop.camera) + 1}s1_{crop.frame:06d}_{n:02d}.jpg"
            shutil.copyfile(crop.path, folder / name)
            table.writerow((name, pid))
    (out / "cameras.txt").write_text("".join(f"{name}\n" for name in cameras), encoding="utf-8")


def _write_mot(crops: list[_Crop], out: Path) -> None:
    """Frames and tracks count from 1, boxes are left, top, width, height; 1 for: counts, is a pedestrian, is seen."""
    pids = _identities(crops)
    for camera in sorted({crop.camera for crop in crops}):
        of_camera = sorted((c for c in crops if c.camera == camera), key=lambda crop: (crop.frame, crop.track))
        folder = out / camera
        (folder / "gt").mkdir(parents=True)
        lines = []
        for crop in of_camera:
            x0, y0, x1, y1 = crop.box
            numbers = f"{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f}"
            lines.append(f"{crop.frame + 1},{pids[crop.camera, crop.track]},{numbers},1,1,1\n")
        (folder / "gt" / "gt.txt").write_text("".join(lines), encoding="utf-8")
        (folder / "gt" / "labels.txt").write_text("pedestrian\n", encoding="utf-8")
        length = max(crop.frame for crop in of_camera) + 1
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={camera}\nseqLength={length}\n", encoding="utf-8")


def _write_coco(crops: list[_Crop], out: Path) -> None:
    """Each crop is a picture whose one annotation is all of it, with its tracklet, camera, frame and box there."""
    pids = _identities(crops)
    images, annotations = [], []
    for number, crop in enumerate(crops, start=1):
        name = f"images/{crop.camera}/{crop.path.name}"
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(crop.path, out / name)
        with Image.open(crop.path) as picture:
            width, height = picture.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [0, 0, width, height],
                "area": width * height,
                "iscrowd": 0,
                "track_id": pids[crop.camera, crop.track],
                "attributes": {"camera": crop.camera, "frame": crop.frame, "box_in_frame": crop.box},
            }
        )
    card = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (out / "annotations.json").write_text(json.dumps(card, indent=1), encoding="utf-8")


LAYOUTS: dict[str, Callable[[list[_Crop], Path], None]] = {
    "market1501": _write_market1501,
    "mot": _write_mot,
    "coco": _write_coco,
}
