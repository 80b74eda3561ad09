"""The detector of a camera as its file asks for it; ``auto`` is the best person network at hand, else motion."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from reid_mtda.camera_settings import AUTO, MOTION, Camera
from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.site import Site, resolve_detector
from reid_mtda.types import Detect
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.motion_gate import motion_gated
from reid_mtda.zoo.folder import Installed, installed_models
from reid_mtda.zoo.table import ZooEntry, load_table

log = logging.getLogger(__name__)

BY_MOTION = (
    "people are found by motion alone, for there is no person detector in the models folder: what moves is taken for "
    "people, and who sits is missed; run 'reid-mtda models pull', then start anew"
)
"""What is said where ``auto`` had to be motion."""


@dataclass(frozen=True)
class Chosen:
    """A detector's name, and why it was taken, for people."""

    name: str
    reason: str


def choose_detector(folder: Path | None = None) -> Chosen:
    """Choose the detector that ``auto`` stands for.

    Of the sound person detectors of the models folder, the one with the best IDF1 in our measurements comes first;
    networks of a user's own, which nobody measured here, come after those, by name. A file is known by its content,
    whatever it is called. Without any: motion.

    Args:
        folder: the models folder; None takes ``models_folder()``.
    """
    table = {name: entry for name, entry in load_table().items() if entry.task == "detector"}
    found = []
    for name, installed in installed_models(folder).items():
        if installed.origin is not None and installed.origin.task == "detector" and not installed.fault:
            found.append((-_measured(installed, table), name, installed))
    for order, name, installed in sorted(found, key=lambda row: row[:2]):
        try:
            load_detector(str(installed.weights), threads=1)
        except (ConfigError, ModelError):  # a runtime that is missing, a card that does not fit: the next one may work
            continue
        why = f"IDF1 {-order:.2f} in our measurements" if order else "not measured by us"
        return Chosen(name, f"{why}, the first of {len(found)} person detectors in the models folder")
    return Chosen(MOTION, BY_MOTION)


def _measured(installed: Installed, table: dict[str, ZooEntry]) -> float:
    """IDF1 of a network of the table, known by its files' content; 0 of others."""
    for entry in table.values():
        if all((installed.folder / file).is_file() for file in entry.files) and all(
            expected.is_in(installed.folder / file) for file, expected in entry.files.items()
        ):
            return entry.idf1 or 0.0
    return 0.0


def named_detector(detector: str) -> str:
    """The name or path that ``detector`` of a camera file stands for: ``auto`` is chosen, others are as they are."""
    return choose_detector().name if detector == AUTO else detector


def with_named_detectors(site: Site) -> Site:
    """``site`` with the detector in place of ``auto``, so that records say which network found its people."""
    if all(camera.detector != AUTO for camera in site.cameras.values()):
        return site
    name = choose_detector().name
    if name == MOTION:
        log.warning("%s", BY_MOTION)
    return replace(
        site,
        cameras={
            each: camera.model_copy(update={"detector": name}) if camera.detector == AUTO else camera
            for each, camera in site.cameras.items()
        },
    )


def load_camera_detector(
    site: Site, camera: Camera, *, threads: int | None = None, gated: bool = False
) -> tuple[str, Detect]:
    """Make a camera's own detector: a motion detector remembers what it saw.

    Args:
        site: whose camera; relative paths start from its folder.
        camera: its settings.
        threads: CPU threads of a network; None takes all this process may use.
        gated: a network is spared frames in which nothing can have changed; motion sees every frame, to learn the
            background.

    Returns:
        The detector's name, never ``auto``, and the detector.

    Raises:
        ReidError: as ``vision.detect.load_detector``.
    """
    name = named_detector(camera.detector)
    detect = load_detector(
        resolve_detector(site, name),
        min_score=camera.min_score,
        min_height_px=camera.min_height_px,
        threads=threads,
        device="auto" if name == MOTION and camera.detector == AUTO else camera.device,
    )
    return name, motion_gated(detect) if gated and name != MOTION else detect
