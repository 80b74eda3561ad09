"""Frames of one camera from a video file, a folder of pictures, a device, a network stream or the drawn street.

Colours become RGB here, once; everything behind works in RGB.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from reid_mtda.errors import ConfigError, ImageError, VideoError
from reid_mtda.synthetic.street import NATIVE_FPS, START_TIME_S, film, parse_url
from reid_mtda.types import Frame, ImageArray
from reid_mtda.vision.preprocess import check_image_size, read_image

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https")
_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")
_ASSUMED_FPS = 25.0
_PICTURE_FPS = 5.0
_STREAM_TIMEOUT_MS = 10_000


def read_frames(
    url: str, *, camera: str, fps: float | None = None, start_time_s: float | None = None
) -> Iterator[Frame]:
    """Yield the frames of one camera, in order, RGB.

    Args:
        url: a video file, a folder of pictures (in natural order of their names), ``device:N``, an ``rtsp://`` or
            ``http(s)://`` stream, or ``synthetic://street?camera=...``.
        camera: name that the frames carry.
        fps: frames analysed per second; None takes all. A folder's pictures have no rate of their own: all are
            taken, ``fps`` (5 when None) apart.
        start_time_s: POSIX time of frame 0 of recorded footage; None takes the file's own date. Live sources
            (devices and streams) carry the wall clock.

    Yields:
        Frames; ``index`` counts the source's own frames from 0 and ``time_s = start_time_s + index / native fps``.
        A recording that breaks in the middle ends there, with a warning in the log; so does a live stream, which
        the caller may open again.

    Raises:
        VideoError: nothing there, nothing in it, or not one frame that can be decoded.
        ConfigError: ``fps`` is not above 0, or a synthetic address with a mistake in it.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"camera {camera!r}: fps must be > 0, got {fps}")
    scheme = _scheme(url)
    if scheme == "synthetic":
        return _synthetic(url, camera, fps, start_time_s)
    if scheme in STREAM_SCHEMES:
        return _live(url, redact_url(url), camera, fps)
    if scheme == "device":
        return _live(_device(url), url, camera, fps)
    path = _existing(url)
    start = path.stat().st_mtime if start_time_s is None else start_time_s
    if path.is_dir():
        return _folder(path, _pictures(path), camera, fps or _PICTURE_FPS, start)
    return _recording(path, camera, fps, start)


def frame_count_estimate(url: str, fps: float | None) -> int | None:
    """About how many frames ``read_frames`` will yield; None for live sources and where the file does not say.

    Raises:
        VideoError, ConfigError: as ``read_frames``.
    """
    scheme = _scheme(url)
    if scheme == "synthetic":
        return math.ceil(parse_url(url).duration_s * min(fps or NATIVE_FPS, NATIVE_FPS) - 1e-6)
    if scheme in STREAM_SCHEMES or scheme == "device":
        return None
    path = _existing(url)
    if path.is_dir():
        return len(_pictures(path))
    capture = _open_recording(path)
    try:
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        native = _native_fps(capture, path)
    finally:
        capture.release()
    if not (math.isfinite(count) and 0 < count < 1e9):
        return None
    return max(1, round(count * min(1.0, (fps or native) / native)))


def redact_url(url: str) -> str:
    """An address that may be shown: without user name, password and query, any of which can hold a secret.

    What has an ``@`` and is no file that is there is taken for a mistyped address: nothing before it is shown.

    >>> redact_url("rtsp://admin:s3cret@10.0.0.5:554/ch1?token=abc")
    'rtsp://***@10.0.0.5:554/ch1?***'
    >>> redact_url("rtsp:/admin:s3cret@10.0.0.5/ch1")
    '***@10.0.0.5/ch1'
    >>> redact_url("synthetic://street?camera=gate")
    'synthetic://street?camera=gate'
    """
    scheme = _scheme(url)
    # For Path some of the texts that people type are an error.
    is_file = "@" not in url or os.path.exists(os.path.expanduser(url))  # noqa: PTH110, PTH111
    if scheme in ("", "device", "synthetic") and is_file:
        return url
    start, rest = ("", url) if scheme in ("", "device") else url.split("://", 1)
    _, at, shown = rest.rpartition("@")  # the last one: a password can hold '@', '/' and '?'
    shown, question, _ = shown.partition("?")
    return f"{start}{'://' if start else ''}{'***@' if at else ''}{shown}{'?***' if question else ''}"


def _scheme(url: str) -> str:
    if url.startswith("device:"):
        return "device"
    found = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return found.group(1).lower() if found else ""


def _device(url: str) -> int:
    number = url.removeprefix("device:")
    if not number.isascii() or not number.isdigit() or int(number) > 99:
        raise VideoError(f"{redact_url(url)}: not a device, expected device:0 to device:99")
    return int(number)


def _existing(url: str) -> Path:
    if scheme := _scheme(url):
        known = ", ".join(f"{name}://" for name in (*STREAM_SCHEMES, "synthetic"))
        raise VideoError(f"{redact_url(url)}: cannot read {scheme}://, expected a file, a folder, device:N or {known}")
    path = Path(url).expanduser()
    if not path.exists():
        raise VideoError(f"{redact_url(str(path))}: no such video file or folder of pictures; check the path")
    if not path.is_dir() and not path.is_file():
        raise VideoError(f"{path}: neither a file nor a folder; expected a video or a folder of pictures")
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty; expected a video")
    return path


def _due(count: int | None, native: float, fps: float | None) -> Iterator[int]:
    """Indices 0..count-1 (without end for None) of the source's frames that fall due at ``fps``, evenly spread."""
    step = 1.0 if fps is None or fps >= native else native / fps
    number = 0
    while count is None or round(number * step) < count:
        yield round(number * step)
        number += 1


# ---------------------------------------------------------------------------------------------------- recordings


def _recording(path: Path, camera: str, fps: float | None, start: float) -> Iterator[Frame]:
    capture = _open_recording(path)
    taken = index = 0
    try:
        native = _native_fps(capture, path)
        promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        for due in _due(None, native, fps):
            while index < due and capture.grab():  # skipped frames are not converted, only decoded
                index += 1
            picture = _next_picture(capture) if index == due else None
            if picture is None:
                break
            yield Frame(camera, index, start + index / native, picture)
            index, taken = index + 1, taken + 1
    finally:
        capture.release()
    if not taken:
        raise VideoError(
            f"{path}: not one frame could be decoded; the file is damaged or not a video, check or convert it"
        )
    if math.isfinite(promised) and promised < 1e9 and index < 0.95 * promised - 1:
        log.warning("%s: breaks off at frame %d, expected %d; the rest is lost", path, index, int(promised))


def _open_recording(path: Path) -> cv2.VideoCapture:
    _quieten()
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from None
    # FFmpeg would decode a picture as a video of one frame, whatever its size.
    if path.suffix.lower() not in (".mjpg", ".mjpeg") and (start.startswith(_PICTURE_STARTS) or start[8:] == b"WEBP"):
        raise VideoError(f"{path}: a picture, expected a video; put pictures in a folder and name the folder")
    # The backend is named, and the path made absolute, so that no file name is taken for a pattern, an address or a
    # protocol of FFmpeg's.
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise VideoError(f"{path}: not a video that can be opened, expected e.g. MP4, AVI or MKV; check or convert it")
    _check_size(capture, str(path))
    return capture


def _native_fps(capture: cv2.VideoCapture, path: Path) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    if math.isfinite(fps) and 0.1 <= fps <= 240:
        return float(fps)
    log.warning("%s: states %s frames per second, taken as %g", path, fps, _ASSUMED_FPS)
    return _ASSUMED_FPS


def _next_picture(capture: cv2.VideoCapture) -> ImageArray | None:
    """The next frame, RGB; None when there is none or it cannot be decoded."""
    try:
        there, picture = capture.read()
        if not there or picture is None or picture.size == 0:
            return None
        if picture.ndim == 2:
            return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
    except cv2.error:
        return None


def _check_size(capture: cv2.VideoCapture, where: str) -> None:
    height, width = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if height > 0 and width > 0:
        try:
            check_image_size(where, height, width)
        except ImageError as error:
            capture.release()
            raise VideoError(str(error)) from None


def _quieten() -> None:
    """Keep FFmpeg and OpenCV off the terminal: what matters is said in our own errors and log."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


# -------------------------------------------------------------------------------------------- folders of pictures


def _pictures(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read ({error.strerror}); check the folder's permissions") from None
    if not found:
        raise VideoError(
            f"{folder}: no pictures in this folder, expected files ending in {', '.join(PICTURE_SUFFIXES)}"
        )
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which frame 9 comes before frame 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _folder(folder: Path, pictures: list[Path], camera: str, fps: float, start: float) -> Iterator[Frame]:
    for index, path in enumerate(pictures):
        try:
            picture = read_image(path)
        except ImageError as error:
            raise VideoError(f"{error}; mend or remove this frame") from None
        yield Frame(camera, index, start + index / fps, picture)


# --------------------------------------------------------------------------------------- live sources, drawn street


def _live(source: str | int, shown: str, camera: str, fps: float | None) -> Iterator[Frame]:
    """Frames of a device or stream with the wall clock; between those that fall due, frames are taken and dropped."""
    _quieten()
    began = time.monotonic()
    if isinstance(source, int):
        capture = cv2.VideoCapture(source)
    else:
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            _STREAM_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            _STREAM_TIMEOUT_MS,
        ]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
    index = taken = 0
    due = time.monotonic()
    waited_s = due - began
    try:
        if not capture.isOpened():
            patience_s = _STREAM_TIMEOUT_MS / 1000
            why = f"no answer within {patience_s:g} s" if waited_s > 0.9 * patience_s else "refused or not there"
            raise VideoError(f"{shown}: cannot be opened, {why}; check address and access")
        _check_size(capture, shown)
        while capture.grab():
            now = time.monotonic()
            if now >= due:
                there, picture = capture.retrieve()
                if not there:
                    break
                yield Frame(camera, index, time.time(), np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))
                taken += 1
                due = max(due + 1 / fps, now - 1 / fps) if fps else now
            index += 1
    finally:
        capture.release()
    if not taken:
        waited_s = time.monotonic() - began
        raise VideoError(f"{shown}: opened, but not one frame came in {waited_s:.0f} s; check the camera")
    log.warning("camera %s: %s ended after %d frames", camera, shown, index)


def _synthetic(url: str, camera: str, fps: float | None, start_time_s: float | None) -> Iterator[Frame]:
    street = parse_url(url)
    shift = 0.0 if start_time_s is None else start_time_s - START_TIME_S
    for frame in film(street, fps):
        yield Frame(camera, frame.index, frame.time_s + shift, frame.image)
