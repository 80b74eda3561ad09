"""Video containers opened with FFmpeg: their picture stream, and why one cannot be opened, in words."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from reid_mtda.errors import ImageError, VideoError
from reid_mtda.types import ImageArray
from reid_mtda.vision.preprocess import check_image_size

_PLAYLISTS = ("concat", "hls", "dash", "sdp", "rtsp", "mpegts_playlist", "imf", "webvtt")
_NO_VIDEO = ("image2", "tty", "_pipe")
_ONE_PICTURE_A_PACKET = ("h264", "hevc", "mjpeg", "mpeg2video")
_LONGEST_REORDERING = 20
_MOST_BREAKS = 1000  # places in one file that the reader gets over; beyond, there is no video in it any more


def open_container(
    address: str,
    shown: str,
    *,
    options: dict[str, str] | None = None,
    timeout_s: float | None = None,
    io_open: Callable[[str, int, dict[str, Any]], Any] | None = None,
) -> tuple[InputContainer, VideoStream]:
    """Open an address of FFmpeg's and find its picture stream.

    Args:
        address: ``file:...`` or an address of a network stream.
        shown: how errors name it; no password.
        options: of FFmpeg's demuxer and protocols.
        timeout_s: seconds for opening, and for each read afterwards; None waits for ever.
        io_open: opens every address in FFmpeg's place: (address, flags, options) -> what can be read.

    Returns:
        The container, to be closed by the caller, and its largest stream of pictures.

    Raises:
        VideoError: the cause: nothing there, refused, no answer, no video in it, a codec without a decoder.
    """
    try:
        container = av.open(
            address, "r", options=dict(options or {}), timeout=timeout_s, metadata_errors="replace", io_open=io_open
        )
    except FFmpegError as error:
        raise VideoError(f"{shown}: {failure_in_words(error, address, timeout_s)}") from None
    except (ValueError, UnicodeError) as error:
        raise VideoError(f"{shown}: cannot be opened ({error}); check the address") from None
    except OSError as error:  # of ``io_open``
        raise VideoError(f"{shown}: cannot be opened, {error.strerror or error}; check the address") from None
    try:
        return container, _picture_stream(container, shown)
    except BaseException:
        container.close()
        raise


def _picture_stream(container: InputContainer, shown: str) -> VideoStream:
    name = container.format.name
    if any(part in _PLAYLISTS for part in name.split(",")) and container.name.startswith("file:"):
        raise VideoError(f"{shown}: a playlist ({name}), expected a video; name the videos themselves")
    if any(name.endswith(ending) for ending in _NO_VIDEO):
        what = "a text" if name == "tty" else "a picture"
        raise VideoError(f"{shown}: {what}, expected a video; put pictures in a folder and name the folder")
    videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not videos:
        held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"{shown}: holds no video (got {held}); check the file or the address")
    stream = max(videos, key=lambda s: 0 if s.codec_context is None else s.width * s.height)
    # A stream without a decoder has no codec context, whatever the stubs say.
    context: object = stream.codec_context
    if context is None:
        raise VideoError(
            f"{shown}: its video is coded as {stream.codec_tag!r}, for which this FFmpeg has no decoder; "
            "convert it to H.264"
        )
    if stream.height > 0 and stream.width > 0:
        try:
            check_image_size(shown, stream.height, stream.width)
        except ImageError as error:
            raise VideoError(str(error)) from None
    # Threads that work on several frames at once tell of damage late, and lose what is under way with it.
    stream.thread_type = "SLICE"
    return stream


def decoded_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | FFmpegError | None]:
    """Yield the pictures of ``stream`` in the order of their showing.

    Yields:
        A picture; None for one that is there but damaged; the error where the container itself cannot be read, after
        which reading goes on behind that place. The end of this iterator is the end of the file.
    """
    breaks, awaited = 0, _Awaited(stream)
    while breaks < _MOST_BREAKS:
        try:
            for packet in container.demux(stream):
                try:
                    frames = awaited.decode(packet)
                except FFmpegError:
                    if packet.size:  # the last packet is empty and only empties the decoder
                        yield None
                    continue
                for frame in frames:
                    yield from (None for _ in range(awaited.lost_before(frame)))
                    yield None if frame.is_corrupt else frame
            yield from (None for _ in range(awaited.lost_in_the_end()))
            return
        except FFmpegError as error:
            breaks += 1
            yield error


class _Awaited:
    """Packets that a decoder was given and that no picture has come of: some decoders drop damaged ones in silence."""

    def __init__(self, stream: VideoStream) -> None:
        # With other codecs, or with fields in packets of their own, not every packet makes a picture.
        self._counts = stream.codec_context.name in _ONE_PICTURE_A_PACKET and stream.codec_context.field_order < 2
        self._sent = 0
        self._pending: dict[int, int] = {}  # timestamp -> number of its packet

    def decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        """The pictures that come out when ``packet`` goes in."""
        frames = packet.decode()
        if self._counts and packet.size and packet.pts is not None and not packet.is_discard:
            self._sent += 1
            self._pending[packet.pts] = self._sent
        return frames

    def lost_before(self, frame: VideoFrame) -> int:
        """How many pictures can no longer come, now that ``frame`` has: they would have been shown before it."""
        number = self._pending.pop(frame.pts, None) if frame.pts is not None else None
        if number is None or frame.pts is None:
            return 0
        # What was sent later may be shown earlier, but not by much; where times begin anew it only seems so.
        late = [
            pts
            for pts, sent in self._pending.items()
            if pts < frame.pts and (sent < number or sent < self._sent - _LONGEST_REORDERING)
        ]
        for pts in late:
            del self._pending[pts]
        return len(late)

    def lost_in_the_end(self) -> int:
        """How many never came."""
        return len(self._pending)


class RgbConverter:
    """Turns decoded pictures into uint8 (H, W, 3) RGB, upright; keeps its tables from picture to picture."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> ImageArray:
        """The picture as it is to be looked at: turned by quarter turns where the container says so."""
        picture = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        quarters = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(picture, quarters) if quarters else picture, np.uint8)


def codec_name(stream: VideoStream) -> str:
    """The name of a stream's codec, e.g. ``h264``."""
    return str(stream.codec_context.name)


def failure_in_words(error: FFmpegError, address: str, timeout_s: float | None) -> str:
    """Why opening failed: what was wrong, and what to do; without the address.

    Args:
        error: what FFmpeg said.
        address: where it is, without passwords in what is said of it.
        timeout_s: how long was waited; None: for ever.
    """
    parts = urlsplit(address) if "://" in address else None
    if isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        given = f"{timeout_s:g} s" if timeout_s else "its time"
        return f"cannot be opened, no answer within {given}; check address and network"
    if isinstance(error, av.error.ConnectionRefusedError):
        return "cannot be opened, connection refused; check the port and whether the camera serves streams"
    if isinstance(error, av.error.HTTPUnauthorizedError):
        return UNAUTHORISED
    if isinstance(error, av.error.HTTPForbiddenError):
        return "cannot be opened, access denied (403); check what this user may see"
    if isinstance(error, av.error.HTTPNotFoundError):
        return "cannot be opened, no such stream there (404); check the path of the address"
    if parts is not None and parts.hostname and not isinstance(error, av.error.InvalidDataError):
        try:
            socket.getaddrinfo(parts.hostname, None)
        except OSError:
            return f"cannot be opened, no host of that name ({parts.hostname}); check the address"
    if parts is None and isinstance(error, (av.error.InvalidDataError, av.error.EOFError)):
        if _lacks_index(Path(address.removeprefix("file:"))):
            return (
                "not a video that can be opened: its index (moov) is missing, the recording was not finished; repair it"
            )
        return "not a video that can be opened, expected e.g. MP4, AVI or MKV; check or convert it"
    what = (error.strerror or type(error).__name__).lower()
    return f"cannot be opened, {what}; check {'address and access' if parts else 'or convert it'}"


def _lacks_index(path: Path) -> bool:
    """Whether a file begins like an MP4 and ends without the box that says where its frames are."""
    with path.open("rb") as file:
        kinds: list[bytes] = []
        size = path.stat().st_size
        while file.tell() + 8 <= size and len(kinds) < 100:
            start, head = file.tell(), file.read(16)
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length
            kinds.append(head[4:8])
            if length < 8:
                break
            file.seek(start + length)
    return kinds[0] == b"ftyp" and b"moov" not in kinds


UNAUTHORISED = (
    "cannot be opened, user name or password refused (401); check them, and write # / ? @ in them as %23 %2F %3F %40"
)
