"""Files as recorders, phones, converters and accidents leave them: what comes out, when, and what is said."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import cut, film, patch, scramble, shown
from PIL import Image

from reid_mtda.errors import VideoError
from reid_mtda.vision.video import read_frames

STEADY = tuple(range(0, 2000, 100))
TENTH = Fraction(1, 10)
MJPEG = {"codec": "mjpeg", "pix": "yuvj420p"}
HEVC = {"codec": "libx265", "options": {"x265-params": "log-level=none"}}
AVI = {**MJPEG, "base": TENTH}
VPX = {"options": {"deadline": "realtime", "cpu-used": "8"}}


def joined(path: Path) -> Path:
    first = film(path.with_name("a.ts"), pts_ms=STEADY[:10])
    second = film(path.with_name("b.ts"), pts_ms=STEADY[:10], first=10)
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 8000
        out.mux(sound.encode(tone))
        out.mux(sound.encode(None))
    return path


def holding(data: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def made(**how: object) -> Callable[[Path], Path]:
    return lambda path: film(path, **how)


def lying_count(path: Path) -> Path:
    return patch(patch(film(path, **AVI), b"avih", 24, 1000), b"strh", 40, 1000)


def damaged_mkv(path: Path) -> Path:
    film(path, options={"g": "5"}, size=(96, 128), muxer={"cluster_time_limit": "400"})
    return scramble(path, 0.66, 40)


@dataclass
class Case:
    """A file and what must come of it: the frames by number, their times in ms, what the log says (None: nothing)."""

    name: str
    make: Callable[[Path], Path]
    numbers: tuple[int, ...] | None = tuple(range(20))  # None: looked at apart
    times_ms: tuple[int, ...] = STEADY
    said: str | None = None


CASES = [
    Case("steady.mp4", made()),
    Case("vfr.mp4", made(pts_ms=(0, 40, 300, 330, 1000, 1010, 1900, 5000)), tuple(range(8)),
         (0, 40, 300, 330, 1000, 1010, 1900, 5000)),
    Case("vfr.mkv", made(pts_ms=(0, 40, 300, 330, 1000, 1010, 1900, 5000)), tuple(range(8)),
         (0, 40, 300, 330, 1000, 1010, 1900, 5000)),
    Case("gap.mp4", made(pts_ms=(0, 100, 200, 5_400_200, 5_400_300)), tuple(range(5)),
         (0, 100, 200, 5_400_200, 5_400_300), r"missing in 1 places, 5400\.0 s in all; the times"),
    Case("short_gap.ts", made(pts_ms=(*STEADY[:15], *(t + 3000 for t in STEADY[15:]))), tuple(range(20)),
         (*STEADY[:15], *(t + 3000 for t in STEADY[15:])), r"missing in 1 places, 3\.1 s in all"),
    Case("every_30_s.mp4", made(pts_ms=tuple(range(0, 180_000, 30_000))), tuple(range(6)),
         tuple(range(0, 180_000, 30_000))),
    Case("damaged.mp4", lambda path: scramble(film(path, **MJPEG), 0.4, 700), None, (),
         r"could not be decoded and were passed over, the first 0\.\d s from its start; 1\d frames could be decoded"),
    Case("damaged.ts", lambda path: scramble(film(path, options={"g": "5"}), 0.4, 1200), None, (),
         r"frames are missing in \d places|could not be decoded"),
    Case("damaged.mkv", damaged_mkv, None, (), r"frames are missing in \d places|could not be decoded"),
    Case("interlaced.mp4", made(options={"x264-params": "interlaced=1:tff=1"}, size=(64, 64))),
    Case("ten_bit.mp4", made(**{**HEVC, "pix": "yuv420p10le"})),
    Case("h265.mkv", made(**HEVC)),
    Case("av1.mp4", made(codec="libsvtav1", size=(64, 64), options={"preset": "11", "svtav1-params": "lp=1"})),
    Case("vp9.webm", made(codec="libvpx-vp9", **VPX)),
    Case("vp8.webm", made(codec="libvpx", **VPX)),
    Case("prores.mov", made(codec="prores_ks", pix="yuv422p10le", size=(64, 64))),
    Case("lossless.mkv", made(codec="ffv1", pix="bgr0")),
    Case("grey.mkv", made(codec="ffv1", pix="gray")),
    Case("odd_sides.mkv", made(codec="mjpeg", pix="yuvj444p", size=(47, 63))),
    Case("mpeg2.mpg", made(codec="mpeg2video", rate=25, pts_ms=tuple(range(0, 800, 40)), kind="mpeg",
                           base=Fraction(1, 25)), tuple(range(20)), tuple(range(0, 800, 40))),
    Case("flash.flv", made(codec="flv")),
    Case("motion.avi", made(**AVI)),
    Case("lying_count.avi", lying_count),
    Case("lying_rate.avi", lambda path: patch(film(path, **AVI), b"strh", 32, 90_000), tuple(range(20)),
         tuple(range(0, 800, 40)), "states 90000 frames per second, taken as 25"),
    Case("b_frames.mp4", made(options={"bf": "3", "g": "12"})),
    Case("b_frames.ts", made(options={"bf": "3", "g": "12"})),
    Case("b_frames.avi", made(codec="mpeg4", options={"bf": "2", "g": "12", "qmin": "1", "qmax": "2"}, base=TENTH)),
    Case("bare.h264", made(kind="h264"), tuple(range(20)), tuple(range(0, 800, 40)),
         r"20 frames carry no timestamp; taken to be 1/25 s apart"),
    Case("bare.hevc", made(kind="hevc", **HEVC), tuple(range(20)), STEADY,
         r"20 frames carry no timestamp; taken to be 1/10 s apart"),
    Case("joined.ts", joined, tuple(range(20)), STEADY, "timestamps go back 1 times"),
    Case("sound_first.mp4", made(audio_ms=0, pts_ms=tuple(t + 2000 for t in STEADY))),
    Case("late.mkv", made(pts_ms=tuple(t + 5000 for t in STEADY))),
    Case("negative.mkv", made(pts_ms=tuple(t - 300 for t in STEADY))),
    Case("edit_list.mp4", made(pts_ms=tuple(t - 300 for t in STEADY)), tuple(range(3, 20)), STEADY[:17]),
    Case("moving.gif", made(codec="gif", pix="rgb8", base=Fraction(1, 100))),
    Case("fragments.mp4", made(muxer={"movflags": "frag_keyframe+empty_moov"}, options={"g": "5"})),
    Case("cut_fragments.mp4", lambda path: cut(film(path, muxer={"movflags": "frag_keyframe+empty_moov"},
                                                    options={"g": "5"}), 0.6), None, (), ""),
    Case("cut_index_first.mp4", lambda path: cut(film(path, **MJPEG, muxer={"movflags": "faststart"}), 0.5), None, (),
         r"ends after \d+ frames \(0\.\d s\), its header says 20; the header is wrong or the rest is missing"),
    Case("cut.ts", lambda path: cut(film(path), 0.7), None, (), ""),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_comes_out_of_a_file(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = case.make(tmp_path / case.name)
    with caplog.at_level(logging.WARNING):
        frames = list(read_frames(str(path), camera="c", start_time_s=1000.0))
    times_ms = [round(1000 * (frame.time_s - 1000)) for frame in frames]
    assert times_ms == sorted(times_ms) and times_ms[0] == 0
    if case.said is None:
        assert caplog.text == ""
    else:
        assert re.search(case.said, caplog.text)
    if case.numbers is None:
        assert 5 <= len(frames) < 20
        whole = [frame for frame in frames if shown(frame.image) == frame.time_s * 10 - 10_000]
        assert len(whole) >= 0.6 * len(frames)  # and each at its own time
        return
    assert tuple(shown(frame.image) for frame in frames) == case.numbers
    assert times_ms == pytest.approx(case.times_ms, abs=1)
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_the_frames_behind_a_damaged_place_are_not_lost(tmp_path: Path) -> None:
    for path in (
        scramble(film(tmp_path / "a.mp4", **MJPEG), 0.4, 700),
        damaged_mkv(tmp_path / "b.mkv"),
        scramble(film(tmp_path / "c.ts", options={"g": "5"}), 0.4, 1200),
    ):
        frames = list(read_frames(str(path), camera="c", start_time_s=0))
        assert frames[-1].time_s == pytest.approx(1.9) and shown(frames[-1].image) == 19


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("empty.mp4", holding(b""), "the file is empty; expected a video"),
        ("noise.mp4", holding(np.random.default_rng(0).bytes(20_000)), "not a video that can be opened, expected"),
        ("cut.mp4", lambda path: cut(film(path), 0.5), r"its index \(moov\) is missing, the recording was not"),
        ("sound.mp4", sound_only, r"holds no video \(got audio\)"),
        ("text.mp4", holding(b"hello world\n" * 50), "not a video that can be opened"),
        ("list.mp4", holding(b"#EXTM3U\n#EXTINF:2,\n/etc/hosts\n#EXT-X-ENDLIST\n"), "a playlist, expected a video"),
        ("concat.mp4", holding(b"ffconcat version 1.0\nfile steady.mp4\n"), "a playlist, expected a video"),
        ("session.mp4", holding(b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                                b"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"), "not a video|a playlist"),
        ("portable.mp4", holding(b"P6\n4 4\n255\n" + bytes(48)), "a picture, expected a video"),
    ],
)  # fmt: skip
def test_what_is_no_video_is_named(name: str, make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    path = make(tmp_path / name)
    with pytest.raises(VideoError, match=message) as caught:
        list(read_frames(str(path), camera="c"))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_picture_is_no_video_whatever_its_name(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "film.mp4", kind)
    with pytest.raises(VideoError, match=r"film\.mp4: a picture, expected a video; put pictures in a folder"):
        read_frames(str(tmp_path / "film.mp4"), camera="c")


@pytest.mark.parametrize(("angle", "corner"), [(90, "bottom left"), (180, "bottom right"), (270, "top right")])
def test_a_film_that_is_to_be_turned_is_turned(angle: int, corner: str, tmp_path: Path) -> None:
    """The red corner, top left in the coded picture, is where a player shows it."""
    path = film(tmp_path / "turned.mp4", codec="mjpeg", pix="yuvj444p", rotation=angle)
    image = next(read_frames(str(path), camera="c", start_time_s=0)).image
    assert image.shape[:2] == ((48, 64) if angle == 180 else (64, 48))
    corners = {
        "top left": image[:3, :3], "top right": image[:3, -3:],
        "bottom left": image[-3:, :3], "bottom right": image[-3:, -3:],
    }  # fmt: skip
    assert [name for name, part in corners.items() if part[..., 0].mean() > 2 * part[..., 1].mean() + 60] == [corner]


# ---------------------------------------------------------------------------------------------- when it was taken


def test_what_the_container_says_of_its_date_is_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = film(tmp_path / "dated.mp4", created="2026-03-01T08:00:00.000000Z")
    frames = list(read_frames(str(path), camera="c"))
    assert frames[0].time_s == 1_772_352_000 and frames[-1].time_s == pytest.approx(1_772_352_001.9)
    assert caplog.text == ""
    assert next(read_frames(str(path), camera="c", start_time_s=5.0)).time_s == 5.0  # but who states it knows better


@pytest.mark.parametrize(
    "created", ["", "1904-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2199-01-01T00:00:00Z", "soon"]
)
def test_a_files_date_is_that_of_its_end(created: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = film(tmp_path / "plain.mkv", created=created)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert next(read_frames(str(path), camera="c")).time_s == pytest.approx(1_699_999_998)
    assert "nothing says when it was taken; from the file's date it began 2023-11-14T22:13:18" in caplog.text


def test_the_rate_asked_for_is_one_of_time(tmp_path: Path) -> None:
    path = film(tmp_path / "vfr.mp4", pts_ms=(0, 40, 300, 330, 500, 540, 1000, 5000, 9000, 9100), rate=25)
    frames = list(read_frames(str(path), camera="c", fps=2.0, start_time_s=0))
    assert [shown(frame.image) for frame in frames] == [0, 2, 6, 7, 8]  # a gap is not made up for
