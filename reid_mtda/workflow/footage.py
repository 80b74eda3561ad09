"""Footage of a site: harvested into crops, indexed into a gallery, searched. No torch on this path."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from reid_mtda.camera_settings import MOTION, Camera
from reid_mtda.data.footage import HarvestReport, harvest_crops
from reid_mtda.errors import ConfigError, DataError, GalleryError, ImageError, ModelError, ReidError, VideoError
from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.search import search_picture
from reid_mtda.live.ingest import IngestReport, ingest_camera
from reid_mtda.model import load_model
from reid_mtda.progress import Progress, silent
from reid_mtda.site import Site, resolve
from reid_mtda.types import ImageArray, SearchAnswer
from reid_mtda.vision.address import redact_url
from reid_mtda.vision.camera_detector import load_camera_detector, named_detector, with_named_detectors
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.fingerprint import footage_fingerprint
from reid_mtda.vision.masks import masked_source
from reid_mtda.vision.preprocess import read_image
from reid_mtda.vision.tracklets import TrackletBuilder
from reid_mtda.vision.video import FrameSource, read_frames

log = logging.getLogger(__name__)


def _opened(site: Site, name: str, known_start_s: float | None = None) -> FrameSource:
    """One camera's frames as its file describes them; ``known_start_s`` is when they began, where that does not say."""
    camera = site.cameras[name]
    where = f"{site.folder / name}.yaml: start_time"
    start_s = known_start_s if camera.start_time is None else iso_time_s(camera.start_time, where=where)
    source = read_frames(resolve(site, camera.url), camera=name, fps=camera.fps, start_time_s=start_s)
    return masked_source(source, camera.masks)


class _Indexed:
    """One camera's footage on its way into a gallery, which remembers it by its content.

    A copy under another name and date has no other times than before. Where its camera's file states another start
    than last time, its sightings of then are replaced.
    """

    def __init__(self, site: Site, name: str, gallery: Gallery) -> None:
        self._name, self._fps, self._gallery = name, site.cameras[name].fps, gallery
        self._fingerprint = footage_fingerprint(resolve(site, site.cameras[name].url))
        known = gallery.footage() if self._fingerprint else {}
        for camera, fingerprint in known:
            if fingerprint == self._fingerprint and camera != name:
                log.warning("camera %s: this very footage stands in the gallery as camera %s, too", name, camera)
        last = known.get((name, self._fingerprint or ""))
        self.source = _opened(site, name, last[0] if last else None)
        self.report: IngestReport | None = None
        self._is_new = last is None
        others = [span for (camera, key), span in known.items() if camera == name and key != self._fingerprint]
        # Where other footage of this camera has the same times, nobody can tell whose the sightings are.
        moved = last is not None and self.source.start_s is not None and last[0] != self.source.start_s
        is_shared = last is not None and any(start < last[1] and last[0] < end for start, end in others)
        if moved and is_shared:
            log.warning("camera %s: its sightings of an earlier start_time stay, for other footage has that time", name)
        self.former = [last] if last is not None and moved and not is_shared else []

    def __enter__(self) -> _Indexed:
        if self._is_new and self.source.start_s is not None:
            # Before the first sighting, so that a pass that is stopped is known, too.
            self._note(self.source.start_s, self.source.start_s + (self.source.expected or 0) / self._fps)
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        if self.report is not None and self.report.frames:
            self._note(self.report.start_s, self.report.end_s)

    def _note(self, start_s: float, end_s: float) -> None:
        if self._fingerprint:
            self._gallery.note_footage(self._name, self._fingerprint, start_s, end_s)


def iso_time_s(text: str, *, where: str) -> float:
    """POSIX seconds of an ISO 8601 time with a zone.

    Raises:
        ConfigError: not such a time; ``where`` opens the message.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{where}: got {text!r}, expected e.g. 2026-03-01T08:00:00+00:00") from None
    if moment.tzinfo is None:
        raise ConfigError(
            f"{where}: got {text!r} without a time of day and a zone, expected e.g. 2026-03-01T08:00:00+00:00"
        )
    return moment.timestamp()


def harvest_site(
    site: Site, out: Path, max_crops: int = 8, progress: Progress = silent
) -> tuple[dict[str, HarvestReport], dict[str, str]]:
    """Harvest every camera of ``site`` into ``out``; a camera that fails is reported, the others go on.

    Args:
        site: the cameras.
        out: folder for what is made.
        max_crops: kept of each tracklet.
        progress: called as the work goes on.

    Returns:
        Reports by camera, and the message of each camera that failed.
    """
    reports, failures = {}, {}
    site = with_named_detectors(site)
    for name, camera in site.cameras.items():
        try:
            reports[name] = harvest_crops(
                _opened(site, name),
                load_camera_detector(site, camera)[1],
                TrackletBuilder(name, fps=camera.fps, max_crops=max_crops),
                out,
                made_from={"camera": redacted(camera)},
                progress=progress,
            )
        except ReidError as error:
            log.info("camera %s: %s", name, error)
            failures[name] = str(error)
    return reports, failures


def redacted(camera: Camera) -> dict[str, object]:
    """A camera's settings for a record: no password in its address."""
    return {**camera.for_footage(), "url": redact_url(camera.url)}


def index_site(
    site: Site, model_folder: Path, gallery_folder: Path, progress: Progress = silent, *, device: str = "cpu"
) -> tuple[dict[str, IngestReport], dict[str, str]]:
    """Fill a gallery with the sightings of every camera of ``site``; a camera that fails is reported.

    Args:
        site: the cameras.
        model_folder: an exported model's.
        gallery_folder: the gallery's; made when missing.
        progress: called as the work goes on.
        device: where the model runs, as for ``load_model``.

    Returns:
        Reports by camera, and the message of each camera that failed.
    """
    model = load_model(model_folder, device=device)
    reports, failures = {}, {}
    site = with_named_detectors(site)
    with Gallery.open(gallery_folder, model) as gallery:
        for name, camera in site.cameras.items():
            try:
                with _Indexed(site, name, gallery) as footage:
                    reports[name] = footage.report = ingest_camera(
                        footage.source,
                        load_camera_detector(site, camera)[1],
                        TrackletBuilder(name, fps=camera.fps),
                        model,
                        gallery,
                        former=footage.former,
                        progress=progress,
                    )
            except (ConfigError, DataError, ImageError, ModelError, VideoError) as error:
                log.info("camera %s: %s", name, error)
                failures[name] = str(error)
    return reports, failures


def search_gallery(
    picture: Path,
    model_folder: Path,
    gallery_folder: Path,
    *,
    detector: str | None = None,
    k: int = 10,
    where: Filter = EVERYTHING,
    device: str = "cpu",
    centred: bool = False,
    seen_camera: str | None = None,
    rerank: bool = False,
) -> tuple[ImageArray, SearchAnswer]:
    """Search a picture file in a gallery on disk.

    Args:
        picture: a picture file.
        model_folder: the model that the gallery was built with.
        gallery_folder: the gallery.
        detector: finds people in a picture that shows more than one, as in ``vision.detect.load_detector``.
        k: hits at most, >= 1.
        where: only sightings that pass.
        device: where the model runs, as in ``load_model``.
        centred: vectors are centred by camera before they are compared.
        seen_camera: the camera that took the picture, if known; of use with ``centred`` alone.
        rerank: order the nearest by the neighbours that they share with the picture, as in ``gallery.rerank``.

    Raises:
        ReidError: a picture, model, gallery or filter that cannot be used, a camera the gallery does not know, or a
            model that says too little of its cameras to centre with.
    """
    if seen_camera is not None and not centred:
        raise ConfigError(f"search: got the picture's camera {seen_camera!r} without centred; add --centred")
    if k < 1:
        raise ConfigError(f"k: got {k}, expected 1 or more")
    image = read_image(picture)
    # Opening makes a gallery where there is none: a search must not.
    truth = gallery_folder / "gallery.sqlite"
    if not truth.is_file() or truth.stat().st_size == 0:
        raise GalleryError(f"{gallery_folder}: no such gallery; build one with 'reid-mtda index'")
    model = load_model(model_folder, device=device)
    detector = named_detector(detector) if detector else None
    # Motion, where ``auto`` finds no network, sees nobody in a single picture.
    detect = load_detector(detector, min_height_px=16) if detector and detector != MOTION else None
    with Gallery.open(gallery_folder, model, centred="on" if centred else "off") as gallery:
        _check_cameras(where.cameras, gallery)
        _check_cameras(None if seen_camera is None else [seen_camera], gallery)
        return image, search_picture(image, model, gallery, detect, k, where=where, camera=seen_camera, rerank=rerank)


def _check_cameras(wanted: Sequence[str] | None, gallery: Gallery) -> None:
    known = gallery.cameras() if wanted else ()
    for name in wanted or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"camera {name!r}: {gallery.folder} holds no sightings of it; {hint}cameras there: "
                f"{', '.join(known) or 'none'}"
            )
