import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid_mtda.errors import ImageError, ShapeError
from reid_mtda.types import Preprocess
from reid_mtda.vision.preprocess import check_image_size, decode_image, read_image, resize_crop, to_model_input


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG header of that size before a body that would fail to decode."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"no pixels") + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------------------------ model input


def test_model_input_equals_the_formula_written_out() -> None:
    rng = np.random.default_rng(0)
    preprocess = Preprocess(height=24, width=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    crop = rng.integers(0, 256, (20, 12, 3), dtype=np.uint8)
    got = to_model_input([crop], preprocess)
    assert got.shape == (1, 3, 24, 16) and got.dtype == np.float32 and got.flags.c_contiguous
    resized = cv2.resize(crop, (16, 24), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    for channel in range(3):
        expected = (resized[..., channel] / 255 - preprocess.mean[channel]) / preprocess.std[channel]
        np.testing.assert_allclose(got[0, channel], expected, atol=1e-5)


def test_model_input_of_no_crops_is_empty() -> None:
    assert to_model_input([], Preprocess()).shape == (0, 3, 256, 128)


def test_model_input_of_a_crop_does_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(1)
    crops = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((300, 90), (17, 9), (256, 128))]
    together = to_model_input(crops, Preprocess())
    for row, crop in enumerate(crops):
        np.testing.assert_array_equal(together[row], to_model_input([crop], Preprocess())[0])


def test_shrinking_averages_all_pixels() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::4] = 255  # every fourth row: interpolation between two rows would see all or nothing
    small = resize_crop(stripes, 16, 16)
    assert np.all(np.abs(small.astype(int) - 64) <= 1)


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"crop: got uint8 \(4, 4\), expected uint8 \(h, w, 3\)"),
        (np.zeros((4, 4, 3), np.float32), r"crop: got float32 \(4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "crop: got 0x4 pixels"),
        ([[1]], "crop: got list"),
    ],
)
def test_model_input_refuses_what_is_no_crop(crop: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        to_model_input([crop], Preprocess())  # type: ignore[list-item]


# --------------------------------------------------------------------------------------------------------- pictures


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (20, 30), (200, 10, 20))
    pictures = {
        "plain.png": red,
        "alpha.png": red.convert("RGBA"),
        "palette.png": red.convert("P", palette=Image.Palette.ADAPTIVE),
        "plain.bmp": red,
        "plain.webp": red,
        "plain.jpg": red,
        "cmyk.jpg": red.convert("CMYK"),
        "plain.tif": red,
        "plain.gif": red,
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        got = read_image(tmp_path / name)
        assert got.shape == (30, 20, 3) and got.dtype == np.uint8, name
        assert np.all(np.abs(got.astype(int) - (200, 10, 20)) <= 12), name


def test_grey_pictures_keep_their_levels() -> None:
    levels = np.linspace(0, 255, 256).reshape(16, 16)
    eight = decode_image(encoded(Image.fromarray(levels.astype(np.uint8))))
    sixteen = decode_image(encoded(Image.fromarray((levels * 257).astype(np.uint16))))
    np.testing.assert_array_equal(eight[..., 1], levels.astype(np.uint8))
    assert np.all(np.abs(sixteen[..., 0].astype(int) - levels.astype(int)) <= 1)
    assert decode_image(encoded(Image.new("1", (9, 9), 1))).min() == 255


def test_transparent_pixels_become_white() -> None:
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    assert decode_image(encoded(clear)).min() == 255


def test_exif_turns_the_picture_upright() -> None:
    lying = Image.new("RGB", (40, 20))
    lying.paste((255, 255, 255), (0, 0, 20, 20))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees: left becomes top
    upright = decode_image(encoded(lying, "JPEG", exif=exif, quality=95))
    assert upright.shape == (40, 20, 3)
    assert upright[:15].min() > 200 and upright[25:].max() < 50


def test_a_damaged_exif_does_not_spoil_the_picture() -> None:
    data = encoded(Image.new("RGB", (20, 20), "white"), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(data).shape == (20, 20, 3)


def test_huge_pictures_are_refused_by_their_header() -> None:
    limit = "expected at most 40 million pixels; scale it down first"
    for side, got in (  # around the sizes at which pillow itself warns, then refuses
        (7_000, "7000x7000 px"), (10_000, "10000x10000 px"), (30_000, "900 million pixels")
    ):  # fmt: skip
        with pytest.raises(ImageError) as refused:
            decode_image(png_claiming(side, side), where="upload")
        assert str(refused.value) == f"upload: too large, got {got}, {limit}"
    with pytest.raises(ImageError, match="damaged or cut short"):
        decode_image(png_claiming(1_000, 1_000))  # the same body in bounds does get as far as decoding


def test_tiny_pictures_are_refused() -> None:
    with pytest.raises(ImageError, match="picture: too small, got 1x1 px, expected at least 8 px each side"):
        decode_image(encoded(Image.new("RGB", (1, 1))))
    with pytest.raises(ImageError, match="too small, got 100x7 px"):
        decode_image(encoded(Image.new("RGB", (100, 7))))
    check_image_size("x", 8, 8)


def test_ribbons_are_refused() -> None:
    with pytest.raises(ImageError, match="x: too large, got 30000x50 px, expected at most 16384 px each side"):
        check_image_size("x", 50, 30_000)
    with pytest.raises(ImageError, match="x: too narrow, got 8x801 px, expected sides of at most 100 to 1; cut it"):
        check_image_size("x", 801, 8)
    check_image_size("x", 800, 8), check_image_size("x", 16_384, 2_000)


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    whole = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name, message in (
        ("none.jpg", r"none\.jpg: no such file; expected a JPEG"),
        ("empty.jpg", r"empty\.jpg: the file is empty"),
        ("text.jpg", r"text\.jpg: not a picture \(unknown format\); expected a JPEG, PNG"),
        ("cut.jpg", r"cut\.jpg: damaged or cut short \(.*truncated.*\); get the file again"),
        ("", "is not a file"),
    ):
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="upload: got no bytes"):
        decode_image(b"", where="upload")


def test_formats_beyond_the_list_are_refused() -> None:
    with pytest.raises(ImageError, match="not a picture"):
        decode_image(encoded(Image.new("RGB", (20, 20)), "ICO"))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_give_a_picture_or_an_image_error(form: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(Image.linear_gradient("L").resize((24, 24)).convert("RGB"), form))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        got = decode_image(bytes(data))
    except ImageError:
        return
    assert got.dtype == np.uint8 and got.ndim == 3
