"""Pictures in, model input out: the one implementation, used offline, live, for training and for the export check."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from reid_mtda.errors import ImageError, ShapeError
from reid_mtda.types import FloatArray, ImageArray, Preprocess

MIN_SIDE_PX = 8
MAX_SIDE_PX = 16_384
MAX_ASPECT = 100
MAX_PIXELS = 40_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""
_ONE_AT_A_TIME = threading.Lock()
_AT_MOST = f"expected at most {MAX_PIXELS // 1_000_000} million pixels; scale it down first"
_EXPECTED = "expected a JPEG, PNG, WebP, BMP, TIFF, GIF or PPM picture"


def to_model_input(crops: Sequence[ImageArray], preprocess: Preprocess) -> FloatArray:
    """Turn crops into model input: resize, scale to [0, 1], subtract the mean, divide by the standard deviation.

    Args:
        crops: B pictures uint8 (h_i, w_i, 3) RGB of any size; B = 0 gives an empty array.
        preprocess: size and numbers of the model at hand.

    Returns:
        float32 (B, 3, height, width), contiguous.

    Raises:
        ShapeError: a crop that is not uint8 (h, w, 3) or has no pixels.

    >>> white = np.full((10, 5, 3), 255, np.uint8)
    >>> to_model_input([white], Preprocess(height=16, width=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))[0, :, 0, 0]
    array([1., 1., 1.], dtype=float32)
    """
    batch = np.empty((len(crops), 3, preprocess.height, preprocess.width), np.float32)
    mean = np.asarray(preprocess.mean, np.float32)
    std = np.asarray(preprocess.std, np.float32)
    for row, crop in enumerate(crops):
        resized = resize_crop(crop, preprocess.height, preprocess.width)
        if preprocess.channels == "BGR":
            resized = resized[..., ::-1]
        batch[row] = ((resized.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    return batch


def resize_crop(crop: ImageArray, height: int, width: int) -> ImageArray:
    """Resize one crop uint8 (h, w, 3) to (height, width, 3).

    Pixels are averaged (INTER_AREA) when both sides shrink, else interpolated (INTER_LINEAR): plain interpolation
    would skip pixels of a large crop, and its result would flicker with the box by a pixel.

    Args:
        crop: (h, w, 3) RGB uint8.
        height: px.
        width: px.
    """
    if not isinstance(crop, np.ndarray) or crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3:
        got = f"{crop.dtype} {crop.shape}" if isinstance(crop, np.ndarray) else type(crop).__name__
        raise ShapeError(f"crop: got {got}, expected uint8 (h, w, 3)")
    if crop.size == 0:
        raise ShapeError(f"crop: got {crop.shape[0]}x{crop.shape[1]} pixels, expected at least 1x1")
    shrinks = crop.shape[0] >= height and crop.shape[1] >= width
    resized = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def read_image(path: Path) -> ImageArray:
    """Read a picture file as RGB uint8 (H, W, 3), turned upright as its EXIF says.

    The header is checked before anything is decoded, so a small file that unfolds to gigabytes is refused unread.

    Raises:
        ImageError: missing, empty, no picture, damaged, or of a size out of bounds.
    """
    path = Path(path)
    try:
        if not path.is_file():
            state = "is not a file" if path.exists() else "no such file"
            raise ImageError(f"{path}: {state}; {_EXPECTED}")
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty; {_EXPECTED}")
        with path.open("rb") as file:
            return _decode(file, str(path))
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); check the file's permissions") from None


def decode_image(data: bytes, *, where: str = "picture") -> ImageArray:
    """Decode the bytes of a picture file like ``read_image``; ``where`` opens the message of a refusal."""
    if not data:
        raise ImageError(f"{where}: got no bytes; {_EXPECTED}")
    return _decode(io.BytesIO(data), where)


def is_picture(path: Path) -> bool:
    """Whether the first bytes of a file are those of a picture that `read_image` reads, whatever its name."""
    try:
        with Path(path).open("rb") as file, _silence(), Image.open(file, formats=_FORMATS):
            return True
    except Exception:  # foreign bytes make decoders raise nearly anything
        return False


def check_image_size(where: str, height: int, width: int) -> None:
    """Refuse a picture size out of bounds.

    Args:
        where: opens the message.
        height: px.
        width: px.

    Raises:
        ImageError: a side below 8 px or above 16384 px, sides of more than 100 to 1, more than 40 million pixels.
    """
    got, short, long = f"got {width}x{height} px", min(height, width), max(height, width)
    if short < MIN_SIDE_PX:
        raise ImageError(f"{where}: too small, {got}, expected at least {MIN_SIDE_PX} px each side")
    if height * width > MAX_PIXELS:
        raise ImageError(f"{where}: too large, {got}, {_AT_MOST}")
    if long > MAX_SIDE_PX:
        raise ImageError(f"{where}: too large, {got}, expected at most {MAX_SIDE_PX} px each side; scale it down first")
    if long > MAX_ASPECT * short:
        raise ImageError(
            f"{where}: too narrow, {got}, expected sides of at most {MAX_ASPECT} to 1; cut it to the person"
        )


def _decode(file: IO[bytes], where: str) -> ImageArray:
    try:
        with _silence():
            picture: Image.Image = Image.open(file, formats=_FORMATS)  # reads the header alone
    except Image.DecompressionBombError as error:  # its message alone holds the size
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        got = f"got {int(pixels[1]) // 1_000_000} million pixels, " if pixels else ""
        raise ImageError(f"{where}: too large, {got}{_AT_MOST}") from None
    except Exception as error:  # foreign bytes make decoders raise nearly anything
        raise ImageError(f"{where}: not a picture ({_short(error)}); {_EXPECTED}") from None
    with picture:
        check_image_size(where, picture.height, picture.width)
        is_deep = ";16" in str(
            getattr(picture, "tile", "")
        )  # 16-bit colours, of which pillow keeps the upper byte alone
        try:
            picture.load()
        except Exception as error:
            raise ImageError(f"{where}: damaged or cut short ({_short(error)}); get the file again") from None
        if is_deep and picture.mode != "I;16":
            file.seek(0)
            deep = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
            if deep is not None and deep.dtype == np.uint16 and deep.ndim == 3:
                parts = [_to_8_bits(deep[..., [2, 1, 0]]), _to_8_bits(deep[..., 3:])]  # BGR, then any alpha
                colours = Image.fromarray(np.concatenate(parts, axis=2))
                return _to_rgb(_upright(colours, picture), where)
        return _to_rgb(_upright(picture, picture), where)


def _upright(picture: Image.Image, tagged: Image.Image) -> Image.Image:
    """Turn ``picture`` as the EXIF data of ``tagged`` say; damaged EXIF data do not spoil the pixels."""
    try:
        with _silence():
            turn = _TURNS.get(tagged.getexif().get(ExifTags.Base.Orientation, 1))
        return picture if turn is None else picture.transpose(turn)
    except Exception:
        return picture


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep pillow's warnings (damaged EXIF) to itself; their filters belong to the whole process: one at a time."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_rgb(picture: Image.Image, where: str) -> ImageArray:
    if picture.mode.startswith("I"):  # 16-bit grey, which pillow would clip at 255
        grey = np.clip(np.asarray(picture, np.int64), 0, 65535)
        return np.ascontiguousarray(np.repeat(_to_8_bits(grey)[..., None], 3, axis=2))
    if picture.mode == "F":
        raise ImageError(f"{where}: floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if picture.has_transparency_data:
        on_top = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", on_top.size, "white"), on_top)
    return np.array(picture.convert("RGB"), np.uint8)


def _to_8_bits(pixels: npt.NDArray[np.integer[Any]]) -> ImageArray:
    """Scale pixels of a 16-bit file to 8 bits by the depth they were taken with.

    Cameras of 10, 12 or 14 bits store their numbers as they are: the smallest usual depth that holds the brightest
    pixel is taken for theirs.
    """
    brightest = int(pixels.max(initial=0))
    most = next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if brightest < 2**bits)
    return (pixels.astype(np.int64) * 255 // most).astype(np.uint8)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return "unknown format" if text.startswith("cannot identify") else text[:120]
