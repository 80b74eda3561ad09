"""Small films of every kind that recorders write, made with FFmpeg's own encoders; frame i is grey level 20 + 8 i."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLI = Fraction(1, 1000)


def grey(index: int) -> int:
    """The level of frame ``index``, 0..27."""
    return 20 + 8 * index


def shown(image: np.ndarray) -> int:
    """The number of the frame that ``image`` is."""
    return round((float(image[8:-8, 8:-8].mean()) - 20) / 8)


def film(
    path: Path,
    *,
    codec: str = "libx264",
    kind: str | None = None,
    pts_ms: Sequence[int] = tuple(range(0, 2000, 100)),
    rate: int = 10,
    size: tuple[int, int] = (48, 64),
    pix: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    rotation: float = 0,
    created: str = "",
    audio_ms: int | None = None,
    base: Fraction = MILLI,
    first: int = 0,
) -> Path:
    """Write a film; ``pts_ms`` are its frames' times, ``audio_ms`` when its sound begins (None: silent)."""
    with av.open(str(path), "w", format=kind, options=muxer or {}) as out:
        if created:
            out.metadata["creation_time"] = created
        sound = None if audio_ms is None else out.add_stream("aac", rate=8000)
        stream = out.add_stream(codec, rate=rate, options={"threads": "1", **(options or {})})
        stream.height, stream.width = size
        stream.pix_fmt = pix
        stream.codec_context.time_base = base
        stream.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        if sound is not None:
            for start in range(0, 8000, 1024):
                tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                tone.sample_rate, tone.time_base = 8000, Fraction(1, 8000)
                tone.pts = start + audio_ms * 8
                out.mux(sound.encode(tone))
            out.mux(sound.encode(None))
        for index, moment in enumerate(pts_ms, first):
            picture = np.full((*size, 3), grey(index), np.uint8)
            picture[:6, :6] = (255, 0, 0)  # which corner is up
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(Fraction(moment, 1000) / base), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def scramble(path: Path, start: float, length: int = 400) -> Path:
    """Overwrite bytes behind the part ``start`` of a file."""
    data = bytearray(path.read_bytes())
    at = int(len(data) * start)
    data[at : at + length] = np.random.default_rng(0).bytes(min(length, len(data) - at))
    path.write_bytes(data)
    return path


def cut(path: Path, part: float) -> Path:
    """Keep the first ``part`` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def patch(path: Path, marker: bytes, offset: int, value: int) -> Path:
    """Write a little-endian 32-bit number ``offset`` bytes behind ``marker``."""
    data = bytearray(path.read_bytes())
    at = data.index(marker) + offset
    data[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(data)
    return path
