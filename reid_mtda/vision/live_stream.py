"""Live sources: network streams and devices. Their frames carry the wall clock, and none is waited for long."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from reid_mtda.errors import ImageError, VideoError
from reid_mtda.types import Frame
from reid_mtda.vision.address import address_scheme, check_credentials, redact_url
from reid_mtda.vision.container import RgbConverter, decoded_frames, open_container
from reid_mtda.vision.hls import OPTIONS as HLS_OPTIONS
from reid_mtda.vision.hls import SameHost, ask, is_playlist
from reid_mtda.vision.preprocess import check_image_size
from reid_mtda.vision.rtsp_probe import connect_rtsp, probe_rtsp
from reid_mtda.vision.rtsp_relay import RtspRelay

log = logging.getLogger(__name__)

TIMEOUT_S = 8.0
"""Seconds that a stream is given to connect, to say what it is, and for each read."""

_OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,tcp"},
    "http": {
        "max_redirects": "0",
        "protocol_whitelist": "http,https,tcp,tls,crypto,data,httpproxy",
        # What holds its pictures itself. Playlists and manifests name other addresses, which FFmpeg would open.
        "format_whitelist": "mpegts,mpeg,mpegvideo,mov,mp4,matroska,webm,flv,live_flv,avi,asf,ogg,mxf,nut,mpjpeg,mjpeg,"
        "h264,hevc,m4v,obu,ivf,jpeg_pipe,png_pipe,image2,tty",
    },
}
_MOST_BREAKS = 25  # in a row, without a frame between them


def open_stream(url: str) -> tuple[InputContainer, VideoStream]:
    """Open a network stream; each step of it ends within ``TIMEOUT_S``, and nothing else waits meanwhile.

    Nothing that the other side says leads to another host: redirections and playlists of other hosts are refused.

    Raises:
        VideoError: with its cause, and no password.
    """
    shown, scheme = redact_url(url), address_scheme(url)
    check_credentials(url)
    # FFmpeg knows schemes in small letters only. What a stream is must be told by its first seconds.
    address = scheme + url[len(scheme) :]
    options = {**_OPTIONS[scheme.rstrip("s")], "analyzeduration": "3000000"}
    if scheme.startswith("rtsp"):
        return _open_rtsp(address, shown, options)
    try:
        return open_container(address, shown, options=options, timeout_s=TIMEOUT_S)
    except VideoError:
        if location := _redirection(address):
            raise VideoError(_sent(shown, location)) from None
        if not is_playlist(address, TIMEOUT_S):
            raise
    place = SameHost(address, TIMEOUT_S)
    try:
        return open_container(
            address, shown, options={**options, **HLS_OPTIONS}, timeout_s=TIMEOUT_S, io_open=place.open
        )
    except VideoError:
        if place.elsewhere:
            raise VideoError(_sent(shown, place.elsewhere)) from None
        raise


def _open_rtsp(address: str, shown: str, options: dict[str, str]) -> tuple[InputContainer, VideoStream]:
    probe_rtsp(address, TIMEOUT_S)
    relay = RtspRelay(connect_rtsp(address, shown, TIMEOUT_S), TIMEOUT_S)
    try:
        return open_container(relay.address(address), shown, options=options, timeout_s=TIMEOUT_S)
    except VideoError:
        if relay.was_sent_elsewhere():
            raise VideoError(_sent(shown, relay.location)) from None
        raise


def _sent(shown: str, location: str) -> str:
    return (
        f"{shown}: cannot be opened, it sends us to {redact_url(location)}, which is not followed; "
        "give that address as url where it may be trusted"
    )


def _redirection(address: str) -> str:
    """Where an HTTP address that FFmpeg could not open sends whoever asks; empty when nowhere."""
    try:
        with contextlib.closing(ask(urlsplit(address), TIMEOUT_S, {})) as answer:
            return answer.headers.get("Location", "nowhere") if 300 <= answer.status < 400 else ""
    except (OSError, http.client.HTTPException):
        return ""


def stream_frames(
    container: InputContainer, stream: VideoStream, shown: str, *, camera: str, fps: float | None
) -> Iterator[Frame]:
    """Yield the frames of an open live stream that fall due at ``fps``, and close it in the end.

    Args:
        container: the opened source.
        stream: the picture track.
        shown: the address as it may be shown, without a password.
        camera: the camera's name.
        fps: frames per second; None: all.

    Raises:
        VideoError: it ends without a single frame.
    """
    began, convert = time.monotonic(), RgbConverter()
    index = taken = damaged = breaks = 0
    due, reason = began, ""
    try:
        for picture in decoded_frames(container, stream):
            if isinstance(picture, FFmpegError):
                reason, breaks = (picture.strerror or type(picture).__name__).lower(), breaks + 1
                if not isinstance(picture, ValueError) or breaks > _MOST_BREAKS:
                    break  # not damaged data, which may pass, but the connection
                continue
            breaks, damaged, index = 0, damaged + (picture is None), index + 1
            now = time.monotonic()
            if picture is not None and now >= due:
                yield Frame(camera, index - 1, time.time(), convert(picture))
                taken += 1
                due = max(due + 1 / fps, now - 1 / fps) if fps else now
    finally:
        container.close()
    _tell_of_end(shown, camera, taken, index, began, damaged, reason)


def device_frames(number: int, shown: str, *, camera: str, fps: float | None) -> Iterator[Frame]:
    """Yield the frames of a device, e.g. a USB camera, that fall due at ``fps``.

    Args:
        number: its number.
        shown: the address as it may be shown, without a password.
        camera: the camera's name.
        fps: frames per second; None: all.

    Raises:
        VideoError: it cannot be opened, or gives no frame.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    began = due = time.monotonic()
    capture = cv2.VideoCapture(number)
    index = taken = 0
    try:
        if not capture.isOpened():
            raise VideoError(f"{shown}: cannot be opened, refused or not there; check the device and who may use it")
        height, width = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        if height > 0 and width > 0:
            try:
                check_image_size(shown, height, width)
            except ImageError as error:
                raise VideoError(str(error)) from None
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
    _tell_of_end(shown, camera, taken, index, began)


def _tell_of_end(
    shown: str, camera: str, taken: int, index: int, began: float, damaged: int = 0, reason: str = ""
) -> None:
    why = f" ({reason})" if reason else ""
    if not taken:
        waited_s = time.monotonic() - began
        raise VideoError(f"{shown}: opened, but not one frame came in {waited_s:.0f} s{why}; check the camera")
    log.warning("camera %s: %s ended after %d frames, %d of them damaged%s", camera, shown, index, damaged, why)
