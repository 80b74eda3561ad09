"""Crops of drawn people: the lab, a labelled data set in Market-1501's layout, and the street's own."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from reid_mtda.errors import StorageError
from reid_mtda.synthetic.camera import camera_model
from reid_mtda.synthetic.street import CAMERAS, LAB_CAMERAS, Street, film
from reid_mtda.types import FloatArray, ImageArray


def draw_lab(folder: Path, seed: int = 7, identities: int = 100, *, per_camera: int = 4) -> int:
    """Write the labelled source: other people before four mild cameras, in Market-1501's layout and names.

    Returns how many crops now lie in ``folder/bounding_box_train``.

    Args:
        folder: the run folder.
        seed: of what is drawn.
        identities: how many people.
        per_camera: pictures of each person.
    """
    crops = _cut(LAB_CAMERAS, seed, "lab", identities, per_camera)
    return _write(Path(folder) / "bounding_box_train", crops)


def draw_crops(
    folder: Path, seed: int = 7, part: str = "train", *, people: int = 40, per_camera: int = 8
) -> dict[str, int]:
    """Write crops of the target cameras cut at the true boxes, in Market-1501's layout and names.

    ``part='train'`` fills ``bounding_box_train``; ``part='test'`` fills ``query`` (one crop per person and camera) and
    ``bounding_box_test`` (the others). Both parts may share a folder. Returns crops per subfolder.

    Args:
        folder: the run folder.
        seed: of what is drawn.
        part: ``train`` or ``test`` people.
        people: how many.
        per_camera: pictures of each person.
    """
    crops = _cut(CAMERAS, seed, part, people, per_camera)
    if part != "test":
        return {"bounding_box_train": _write(Path(folder) / "bounding_box_train", crops)}
    first: dict[str, ImageArray] = {}
    others: dict[str, ImageArray] = {}
    asked: set[str] = set()
    for name, crop in crops.items():
        sort = name[:7]  # pid and camera
        (others if sort in asked else first)[name] = crop
        asked.add(sort)
    gallery = _write(Path(folder) / "bounding_box_test", others)
    (Path(folder) / "cameras.txt").write_text("\n".join(CAMERAS) + "\n", encoding="utf-8")
    return {"bounding_box_test": gallery, "query": _write(Path(folder) / "query", first)}


def _cut(cameras: tuple[str, ...], seed: int, part: str, number: int, per_camera: int) -> dict[str, ImageArray]:
    """File name -> crop: up to ``per_camera`` well visible moments of every person in every camera."""
    crops = {}
    for camera in cameras:
        model = camera_model(camera)
        moments: dict[int, list[tuple[int, ImageArray]]] = defaultdict(list)
        for frame in film(Street(camera, seed, part, number), fps=max(1.0, per_camera / 4)):
            rng = np.random.default_rng((seed, frame.index, 0xC20))
            for box, pid, visible in zip(frame.xyxy, frame.pid, frame.visible, strict=True):
                jitter = rng.uniform(-0.05, 0.07, 4)
                if visible >= 0.75:
                    moments[int(pid)].append((frame.index, _crop(frame.image, box, jitter)))
        for pid, seen in sorted(moments.items()):
            for turn in sorted({round(spot) for spot in np.linspace(0, len(seen) - 1, min(per_camera, len(seen)))}):
                index, crop = seen[turn]
                crops[f"{pid:04d}_c{model.camid}s1_{index:06d}_00.jpg"] = crop
    return dict(sorted(crops.items()))


def _crop(image: ImageArray, box: FloatArray, jitter: np.ndarray) -> ImageArray:
    wide, high = box[2] - box[0], box[3] - box[1]
    grow = np.array([-wide, -high, wide, high]) * jitter
    x0, y0 = np.floor(np.maximum(box[:2] + grow[:2], 0)).astype(int)
    x1, y1 = np.ceil(box[2:] + grow[2:]).astype(int)
    return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].copy()


def _write(folder: Path, crops: dict[str, ImageArray]) -> int:
    """Write ``crops`` as JPEG into a new ``folder``, whole or not at all; an older one is replaced."""
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, crop in crops.items():
            _, packed = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
            (part / name).write_bytes(packed.tobytes())
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(
            f"{folder}: crops could not be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    return len(crops)
