"""Crops that a running service kept, taken as they are now: the service goes on adding and deleting meanwhile."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from reid_mtda.data.crop_table import read_crop_table, write_crop_table
from reid_mtda.data.footage import HarvestReport
from reid_mtda.errors import DataError, StorageError
from reid_mtda.files import not_a_folder
from reid_mtda.service.cameras import added_and_opted_in
from reid_mtda.site import Site

log = logging.getLogger(__name__)


def import_stored_crops(site: Site, crops: Path, out: Path) -> tuple[dict[str, HarvestReport], dict[str, str]]:
    """Copy the kept crops of the cameras of ``site`` into ``out``; a camera without any is reported.

    What stands in ``out`` already stays as it is, but for crops that were deleted from ``crops`` since: a person who
    was erased is not learnt from by a job that goes on.

    Args:
        site: cameras whose files say ``keep_for_adaptation: true``; the crops of its others are left alone.
        crops: folder that a service keeps crops in, ``STATE/crops``; STATE knows which cameras were added, and opted
            in, while the service ran.
        out: gets one folder per camera, as a harvest writes it.

    Returns:
        Reports by camera (nothing is known of frames and detections), and the message of each camera without crops.

    Raises:
        DataError: ``crops`` is not there, or no camera of the site is opted in.
        StorageError: the disk refused.
    """
    if not crops.is_dir():
        raise DataError(f"{crops}: {not_a_folder(crops)}, expected the crops that a service kept: STATE/crops")
    wanted = [name for name, camera in site.cameras.items() if camera.keep_for_adaptation]
    wanted += [name for name in added_and_opted_in(crops.parent) if name not in site.cameras]
    if not wanted:
        raise DataError(f"{site.folder}: no camera is opted in; write 'keep_for_adaptation: true' into its file")
    reports, failures = {}, {}
    for name in wanted:
        try:
            reports[name] = _take(name, crops / name, out / name)
        except DataError as error:
            log.info("camera %s: %s", name, error)
            failures[name] = str(error)
    return reports, failures


def _take(name: str, there: Path, here: Path) -> HarvestReport:
    kept = read_crop_table(there)
    if (here / "crops.csv").is_file():
        files = {row["file"] for row in kept}
        rows = [row for row in read_crop_table(here) if row["file"] in files]
    else:
        rows = kept
    taken = []
    try:
        here.mkdir(parents=True, exist_ok=True)
        for row in rows:
            if (here / row["file"]).is_file() or _copied(there / row["file"], here / row["file"]):
                taken.append(row)
        write_crop_table(here, taken)
        listed = {row["file"] for row in taken}
        for path in here.glob("*.jpg"):
            if path.name not in listed:
                path.unlink()
    except OSError as error:
        raise StorageError(f"{here}: crops could not be copied ({error.strerror or error}); free space") from error
    tracks = len({row["tracklet"] for row in taken})
    return HarvestReport(name, frames=0, detections=0, tracklets=tracks, crops=len(taken))


def _copied(source: Path, target: Path) -> bool:
    """Copy a crop; False when the service deleted it a moment ago."""
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return False
    return True


def drop_stored_crops(out: Path) -> None:
    """Remove the copies as soon as nothing learns from them any more: retention and erasure do not reach them."""
    try:
        shutil.rmtree(out)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.error("%s: copies of crops could not be removed (%s); remove them", out, error.strerror or error)
