"""Recordings: their frames, with the times that their container gives them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from reid_mtda.errors import VideoError
from reid_mtda.types import Frame
from reid_mtda.vision.container import RgbConverter, decoded_frames, open_container

log = logging.getLogger(__name__)

_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")
_PLAYLIST_STARTS = (b"ffconcat", b"#EXTM3U", b"\xef\xbb\xbf#EXTM3U")
_RATE_IS_TIME = ("avi", "h264", "hevc", "m4v", "mjpeg", "mpegvideo", "obu", "vvc", "yuv4mpegpipe")  # no timestamps
_ASSUMED_FPS = 25.0
_SLACK_S = 0.5  # timestamps that step back by less are jitter, by more the seam of two files
_WIDE_GAP_S = 3600.0
_FEW = 0.15  # with a larger part of uneven steps a recording has no pace that a gap would stand out from


def open_recording(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a video file.

    Raises:
        VideoError: it cannot be read, or is no video, with the cause.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}); check the file's permissions") from None
    # FFmpeg would decode a picture as a video of one frame, whatever its size.
    if path.suffix.lower() not in (".mjpg", ".mjpeg") and (start.startswith(_PICTURE_STARTS) or start[8:12] == b"WEBP"):
        raise VideoError(f"{path}: a picture, expected a video; put pictures in a folder and name the folder")
    if start.startswith(_PLAYLIST_STARTS):
        raise VideoError(f"{path}: a playlist, expected a video; name the videos themselves")
    # Named as a file, and allowed nothing else, so that no name is taken for a pattern, an address or a protocol of
    # FFmpeg's, and no playlist in it leads elsewhere.
    return open_container(f"file:{path.resolve()}", str(path), options={"protocol_whitelist": "file"})


def _stated_fps(container: InputContainer, stream: VideoStream) -> float:
    """Frames a second as the container states them, or its codec; whatever that is."""
    rates = (stream.average_rate, stream.guessed_rate)
    return float(next((rate for rate in (rates[::-1] if _has_no_times(container) else rates) if rate), 0))


def _nominal_fps(container: InputContainer, stream: VideoStream) -> float:
    """Frames a second as stated; 25 where that cannot be."""
    fps = _stated_fps(container, stream)
    return fps if math.isfinite(fps) and 0 < fps <= 240 else _ASSUMED_FPS


def _has_no_times(container: InputContainer) -> bool:
    return container.format.name in _RATE_IS_TIME


def stated_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds of the recording as its container states them; None where it does not (live streams, bare codecs)."""
    if stream.duration and stream.time_base and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        # Matroska states when the last frame ends, which is not how long it lasts where the first begins late.
        late = container.start_time if "matroska" in container.format.name else 0
        return max(0.0, (container.duration - (late or 0)) / 1e6) or None
    return None


def expected_frames(container: InputContainer, stream: VideoStream, fps: float | None) -> int | None:
    """About how many frames ``recording_frames`` yields; None where the container does not say.

    Args:
        container: the opened source.
        stream: the picture track.
        fps: frames per second; None: all.
    """
    lasts_s, native = stated_duration_s(container, stream), _nominal_fps(container, stream)
    count = _stated_frames(container, stream) or (round(lasts_s * native) if lasts_s else 0)
    if not 0 < count < 1e9:
        return None
    # As many slots of 1 / fps as the last frame's time has reached.
    return count if fps is None or fps >= native else math.floor((count - 0.5) / native * fps + 1e-6) + 1


def recording_frames(
    container: InputContainer,
    stream: VideoStream,
    shown: str,
    *,
    camera: str,
    fps: float | None,
    start_s: float,
    path: Path | None = None,
) -> Iterator[Frame]:
    """Yield the frames of an open recording, and close it in the end.

    Args:
        container: as ``open_container`` gave it.
        stream: its pictures.
        shown: how errors and the log name it.
        camera: name that the frames carry.
        fps: frames a second at most, evenly spread over *time*; None takes all.
        start_s: POSIX seconds of its first frame.
        path: of a file.

    Yields:
        Frames; ``index`` counts all of the recording's, ``time_s`` follows their timestamps: gaps stay gaps.

    Raises:
        VideoError: not one frame can be decoded.
    """
    coded, told, told_s = (
        stream.codec_context.name,
        _stated_frames(container, stream),
        stated_duration_s(container, stream),
    )
    native, stated = _nominal_fps(container, stream), _stated_fps(container, stream)
    has_times = not _has_no_times(container) or stated == native
    if stated != native and not has_times:
        log.warning("%s: states %g frames per second, taken as %g", shown, stated, native)
    clock = _Clock(stream.time_base or Fraction(1, 1000), 1 / native, has_times)
    convert, damage = RgbConverter(), _Damage()
    index = taken = 0
    slot, now_s = -1, 0.0
    try:
        for picture in decoded_frames(container, stream):
            if picture is None or isinstance(picture, FFmpegError):
                damage.note(now_s, picture)
                if picture is None:
                    index += 1
                    clock.skip()
                continue
            now_s = clock.at(picture.pts)
            index += 1
            # Half a frame early, so that rounding decides nothing about which frame falls due.
            due = index if fps is None else math.floor((now_s + 0.5 / max(native, fps)) * fps + 1e-6)
            if due > slot:
                slot, taken = due, taken + 1
                yield Frame(camera, index - 1, start_s + now_s, convert(picture))
    finally:
        container.close()
    if not taken:
        raise VideoError(
            f"{shown}: not one frame of its video ({coded}) could be decoded{damage.reason}; the file is damaged "
            "or not a video, check or convert it"
        )
    if damage.places:
        log.warning(
            "%s: %d frames or places could not be decoded and were passed over, the first %.1f s from its start; "
            "%d frames could be decoded",
            shown,
            damage.places,
            damage.first_s,
            taken if fps is None else index,
        )
    if clock.seams:
        log.warning(
            "%s: its timestamps go back %d times (joined files?); what follows is taken to go on at once",
            shown,
            clock.seams,
        )
    if gaps := clock.gaps_s:
        log.warning(
            "%s: frames are missing in %d places, %.1f s in all; the times of the others are kept",
            shown,
            len(gaps),
            sum(gaps),
        )
    if clock.guessed:
        log.warning("%s: %d frames carry no timestamp; taken to be 1/%g s apart", shown, clock.guessed, native)
    promised = told or round((told_s or 0) * native)
    if index < 0.95 * promised - 1 and (told_s is None or now_s + 1 / native < 0.95 * told_s - 1 / native):
        if path is not None and _is_cut(path):
            log.warning("%s: breaks off at frame %d, expected %d; the rest is lost", shown, index, promised)
        else:
            log.warning(
                "%s: ends after %d frames (%.1f s), its header says %d; the header is wrong or the rest is missing",
                shown,
                index,
                now_s,
                promised,
            )


class _Clock:
    """Seconds since a recording's first frame, from the frames' timestamps; never steps back.

    Args:
        time_base: seconds of one tick.
        period_s: seconds that a frame without timestamp lasts.
        has_times: timestamps mean something; False: every frame lasts ``period_s``.
    """

    def __init__(self, time_base: Fraction, period_s: float, has_times: bool) -> None:
        self._time_base, self._period_s, self._has_times = time_base, period_s, has_times
        self._origin: int | None = None
        self._shift_s, self._last_s = 0.0, -period_s
        self._steps, self._gaps = 0, list[float]()
        self.seams = self.guessed = 0

    def at(self, pts: int | None) -> float:
        """The time of the next frame, which carries ``pts`` ticks."""
        if pts is None or not self._has_times:
            self.guessed += self._has_times
            self._last_s += self._period_s
            return self._last_s
        if self._origin is None:
            self._origin = pts
            self._shift_s = self._last_s + self._period_s  # 0 for the first frame
        now_s = float((pts - self._origin) * self._time_base) + self._shift_s
        if now_s < self._last_s - _SLACK_S:
            self.seams += 1
            self._shift_s += self._last_s + self._period_s - now_s
            now_s = self._last_s + self._period_s
        self._note_step(max(now_s, self._last_s) - self._last_s)
        self._last_s = max(now_s, self._last_s)
        return self._last_s

    def _note_step(self, step_s: float) -> None:
        self._steps += 1
        if step_s > 1.5 * self._period_s:
            self._gaps.append(step_s)

    @property
    def gaps_s(self) -> list[float]:
        """Seconds without frames: where a recording has an even pace, or for more than an hour."""
        even = len(self._gaps) <= _FEW * self._steps
        return [gap for gap in self._gaps if even or gap > _WIDE_GAP_S]

    def skip(self) -> None:
        """A frame was lost; where there are no timestamps the next one comes later all the same."""
        self._last_s += self._period_s


@dataclass
class _Damage:
    """What could not be decoded: how many places, where the first, what FFmpeg called the last."""

    places: int = 0
    first_s: float = 0.0
    errors: list[str] = field(default_factory=list)

    def note(self, now_s: float, error: FFmpegError | None) -> None:
        if not self.places:
            self.first_s = now_s
        self.places += 1
        if error is not None and error.strerror:
            self.errors = [error.strerror]

    @property
    def reason(self) -> str:
        return f" ({self.errors[0]})" if self.errors else ""


def _stated_frames(container: InputContainer, stream: VideoStream) -> int:
    """How many frames the container states; 0 where it does not. The index of an AVI is nearer the truth."""
    entries = stream.index_entries
    indexed = len(entries) if container.format.name == "avi" and entries is not None else 0
    return indexed if indexed > 1 else max(0, stream.frames)


def _is_cut(path: Path) -> bool:
    """Whether a file is shorter than its own header says."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"RIFF":
        return int.from_bytes(head[4:8], "little") + 8 > path.stat().st_size
    return False
