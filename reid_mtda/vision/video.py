"""Frames of one camera, whatever it is: a video file, a folder of pictures, a device, a stream or the drawn street.

Colours become RGB where frames are decoded; everything behind works in RGB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from reid_mtda.errors import ConfigError, VideoError
from reid_mtda.synthetic.street import NATIVE_FPS, START_TIME_S, Street, film, parse_url
from reid_mtda.types import Frame
from reid_mtda.vision.address import STREAM_SCHEMES, address_scheme, redact_url
from reid_mtda.vision.capture_time import recording_start_s
from reid_mtda.vision.live_stream import device_frames, open_stream, stream_frames
from reid_mtda.vision.picture_folder import folder_frames, folder_pictures
from reid_mtda.vision.recording import (
    expected_frames,
    open_recording,
    recording_frames,
    stated_duration_s,
)

_PICTURE_FPS = 5.0


class FrameSource(Iterator[Frame]):
    """The frames of one camera, one after the other, and what their source is; ``close`` it when done early.

    Args:
        frames: the frames.
        is_live: they are shown as they happen and carry the wall clock; False: a recording, with times of its own.
        expected: about how many there will be; None: not known.
        start_s: POSIX seconds of a recording's first frame.
        release: lets go of the source.
    """

    def __init__(
        self,
        frames: Iterator[Frame],
        *,
        is_live: bool,
        expected: int | None = None,
        start_s: float | None = None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_live, self.expected, self.start_s = is_live, expected, start_s
        self._frames, self._release = frames, release

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Let go of the file, the connection or the device."""
        if close := getattr(self._frames, "close", None):
            close()
        self._release()


def frames_to_come(frames: Iterable[Frame]) -> int:
    """About how many frames there will be; 0 where that is not known."""
    return (frames.expected or 0) if isinstance(frames, FrameSource) else 0


def read_frames(url: str, *, camera: str, fps: float | None = None, start_time_s: float | None = None) -> FrameSource:
    """Open one camera and give its frames, in order, RGB.

    Args:
        url: a video file, a folder of pictures (in natural order of their names), ``device:N``, an ``rtsp://`` or
            ``http(s)://`` address, or ``synthetic://street?camera=...``. Whether an address is a live stream or a
            recording is told by what is there: a recording has a duration.
        camera: name that the frames carry.
        fps: frames analysed per second; None takes all. A folder's pictures have no rate of their own: all are
            taken, ``fps`` (5 when None) apart.
        start_time_s: POSIX time of the first frame of a recording; None takes what its container states, else the
            file's date less its duration. Live sources carry the wall clock.

    Returns:
        The frames; ``index`` counts the source's own frames from 0. A recording's times follow its timestamps; what
        cannot be decoded is passed over, with a warning in the log. A live stream ends when its connection does, and
        the caller may open it again.

    Raises:
        VideoError: nothing there, nothing in it, or (with the first frame) not one that can be decoded.
        ConfigError: ``fps`` is not above 0, or a synthetic address with a mistake in it.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"camera {camera!r}: fps must be > 0, got {fps}")
    scheme = address_scheme(url)
    if scheme == "synthetic":
        street = parse_url(url)
        expected = math.ceil(street.duration_s * min(fps or NATIVE_FPS, NATIVE_FPS) - 1e-6)
        return FrameSource(_drawn(street, camera, fps, start_time_s), is_live=False, expected=expected)
    if scheme == "device":
        return FrameSource(device_frames(_device(url), url, camera=camera, fps=fps), is_live=True)
    if scheme in STREAM_SCHEMES:
        return _from_network(url, camera, fps, start_time_s)
    path = _existing(url)
    if path.is_dir():
        pictures, rate = folder_pictures(path), fps or _PICTURE_FPS
        start_s = path.stat().st_mtime if start_time_s is None else start_time_s
        frames = folder_frames(pictures, camera=camera, fps=rate, start_s=start_s)
        return FrameSource(frames, is_live=False, expected=len(pictures), start_s=start_s)
    container, stream = open_recording(path)
    if start_time_s is None:
        start_time_s = recording_start_s(container, stream, str(path), modified_s=path.stat().st_mtime)
    return FrameSource(
        recording_frames(container, stream, str(path), camera=camera, fps=fps, start_s=start_time_s, path=path),
        is_live=False,
        expected=expected_frames(container, stream, fps),
        start_s=start_time_s,
        release=container.close,
    )


def frame_count_estimate(url: str, fps: float | None) -> int | None:
    """About how many frames ``read_frames`` will yield; None for live sources and where the file does not say.

    Raises:
        VideoError, ConfigError: as ``read_frames``.
    """
    if address_scheme(url) in (*STREAM_SCHEMES, "device"):
        return None
    source = read_frames(url, camera="", fps=fps, start_time_s=0.0)
    source.close()
    return source.expected


def _from_network(url: str, camera: str, fps: float | None, start_time_s: float | None) -> FrameSource:
    """A live stream, or a recording behind an address: one that has an end."""
    shown = redact_url(url)
    container, stream = open_stream(url)
    if stated_duration_s(container, stream) is None:
        frames = stream_frames(container, stream, shown, camera=camera, fps=fps)
        return FrameSource(frames, is_live=True, release=container.close)
    if start_time_s is None:
        start_time_s = recording_start_s(container, stream, shown, modified_s=None)
    return FrameSource(
        recording_frames(container, stream, shown, camera=camera, fps=fps, start_s=start_time_s),
        is_live=False,
        expected=expected_frames(container, stream, fps),
        start_s=start_time_s,
        release=container.close,
    )


def _device(url: str) -> int:
    number = url.removeprefix("device:")
    if not number.isascii() or not number.isdigit() or int(number) > 99:
        raise VideoError(f"{redact_url(url)}: not a device, expected device:0 to device:99")
    return int(number)


def _existing(url: str) -> Path:
    if scheme := address_scheme(url):
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


def _drawn(street: Street, camera: str, fps: float | None, start_time_s: float | None) -> Iterator[Frame]:
    shift = 0.0 if start_time_s is None else start_time_s - START_TIME_S
    for frame in film(street, fps):
        yield Frame(camera, frame.index, frame.time_s + shift, frame.image)
