import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_mtda.errors import ConfigError, VideoError
from reid_mtda.synthetic.street import START_TIME_S, street_frames
from reid_mtda.vision import live_stream
from reid_mtda.vision.address import redact_url
from reid_mtda.vision.video import frame_count_estimate, read_frames

WriteVideo = Callable[..., Path]


def level(image: np.ndarray) -> int:
    """The number of the frame that ``write_video`` wrote as a grey level."""
    return round(float(image[:, -20:].mean()) / 4)


# ---------------------------------------------------------------------------------------------------- video files


def test_frames_are_rgb_in_order_and_timed(write_video: WriteVideo) -> None:
    frames = list(read_frames(str(write_video()), camera="gate", fps=None, start_time_s=1000.0))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.camera for frame in frames] == ["gate"] * 30
    np.testing.assert_allclose([frame.time_s for frame in frames], 1000 + np.arange(30) / 10)
    assert [level(frame.image) for frame in frames] == pytest.approx(list(range(30)), abs=1)
    red, green, blue = frames[3].image[:, 5:40].reshape(-1, 3).mean(axis=0)
    assert red > 200 and green < 40 and blue < 40


@pytest.mark.parametrize(
    ("fps", "indices"),
    [(10.0, range(30)), (99.0, range(30)), (5.0, range(0, 30, 2)), (1.0, range(0, 30, 10)), (4.0, None)],
)
def test_fps_chooses_evenly_spread_frames(write_video: WriteVideo, fps: float, indices: range | None) -> None:
    path = write_video()
    frames = list(read_frames(str(path), camera="c", fps=fps, start_time_s=0))
    got = [frame.index for frame in frames]
    assert got == (list(indices) if indices else [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27])
    assert [level(frame.image) for frame in frames] == pytest.approx(got, abs=1)  # the picture belongs to the index
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(got) / 10)
    assert frame_count_estimate(str(path), fps) == len(got)


def test_a_video_that_breaks_off_ends_with_a_warning(write_video: WriteVideo, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video("clip.avi", frames=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        frames = list(read_frames(str(path), camera="c", fps=None, start_time_s=0))
    assert 10 < len(frames) < 50
    # Half of the last one is there: it is counted, but cannot be decoded.
    assert f"clip.avi: breaks off at frame {len(frames) + 1}, expected 60; the rest is lost" in caplog.text


def test_a_whole_video_ends_without_a_warning(write_video: WriteVideo, caplog: pytest.LogCaptureFixture) -> None:
    list(read_frames(str(write_video()), camera="c", fps=3.0, start_time_s=0))
    assert caplog.text == ""


def test_what_cannot_be_read_is_named(write_video: WriteVideo, tmp_path: Path) -> None:
    (tmp_path / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    (tmp_path / "empty.mp4").touch()
    whole = write_video("cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # an MP4 has its index at the end
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.mp4", "PNG")
    (tmp_path / "nothing").mkdir()
    for name, message in (
        ("none.mp4", r"none\.mp4: no such video file or folder of pictures; check the path"),
        ("empty.mp4", r"empty\.mp4: the file is empty; expected a video"),
        ("garbage.mp4", r"garbage\.mp4: not a video that can be opened, expected e\.g\. MP4"),
        ("cut.mp4", r"cut\.mp4: not a video that can be opened"),
        ("picture.mp4", r"picture\.mp4: a picture, expected a video; put pictures in a folder"),
        ("nothing", r"nothing: no pictures in this folder, expected files ending in \.jpg"),
    ):
        with pytest.raises(VideoError, match=message):
            list(read_frames(str(tmp_path / name), camera="c", fps=5))
        with pytest.raises(VideoError, match=message):
            frame_count_estimate(str(tmp_path / name), 5)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused_at_once(fps: float) -> None:
    with pytest.raises(ConfigError, match="camera 'gate': fps must be > 0, got"):
        read_frames("anything.mp4", camera="gate", fps=fps)


def test_a_file_name_is_never_taken_for_a_pattern_or_protocol(write_video: WriteVideo, tmp_path: Path) -> None:
    plain = write_video(frames=4).read_bytes()
    for name in ("cam%02d.mp4", "concat:a.mp4", "-i.mp4", "a b's.mp4"):
        (tmp_path / name).write_bytes(plain)
        assert len(list(read_frames(str(tmp_path / name), camera="c", fps=None))) == 4


def test_ffmpeg_keeps_off_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "garbage.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(2000))
    code = (
        "from reid_mtda.vision.video import read_frames\n"
        "for url in (r'%s', 'device:77', 'rtsp://127.0.0.1:9/x'):\n"
        "    try: list(read_frames(url, camera='c', fps=1))\n"
        "    except Exception as error: print(type(error).__name__)\n"
    ) % (tmp_path / "garbage.mp4")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["VideoError"] * 3


# ---------------------------------------------------------------------------------------------- folders of pictures


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1, 2):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("nor this")
    frames = list(read_frames(str(tmp_path), camera="c", fps=2.0, start_time_s=100))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 9, 10]
    assert [frame.time_s for frame in frames] == [100, 100.5, 101, 101.5]
    assert frame_count_estimate(str(tmp_path), 2.0) == 4


def test_a_bad_frame_in_a_folder_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_text("broken")
    frames = read_frames(str(tmp_path), camera="c", fps=None)
    assert next(frames).index == 0
    with pytest.raises(VideoError, match=r"2\.png: not a picture .*; mend or remove this frame"):
        next(frames)


# ------------------------------------------------------------------------------------------- drawn street, live


def test_the_drawn_street_is_read_like_a_video() -> None:
    url = "synthetic://street?camera=gate&seed=3&duration=3"
    frames = list(read_frames(url, camera="entrance", fps=5.0))
    drawn = list(street_frames("gate", seed=3, duration_s=3.0, fps=5.0))
    assert len(frames) == len(drawn) == frame_count_estimate(url, 5.0) == 15
    for got, expected in zip(frames, drawn, strict=True):
        assert (got.camera, got.index, got.time_s) == ("entrance", expected.index, expected.time_s)
        np.testing.assert_array_equal(got.image, expected.image)
    moved = next(read_frames(url, camera="entrance", fps=5.0, start_time_s=50.0))
    assert moved.time_s == pytest.approx(frames[0].time_s - START_TIME_S + 50.0)
    assert frame_count_estimate(url, None) == 75


def test_live_sources_carry_the_wall_clock_and_take_what_falls_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Stream:
        """25 frames a second for four seconds."""

        def __init__(self, *args: object) -> None:
            self.released = False
            made.append(self)

        def isOpened(self) -> bool:
            return True

        def get(self, key: int) -> float:
            return 0.0

        def grab(self) -> bool:
            now[0] += 0.04
            return now[0] < 4

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, np.zeros((16, 16, 3), np.uint8)

        def release(self) -> None:
            self.released = True

    made: list[Stream] = []
    monkeypatch.setattr(live_stream.cv2, "VideoCapture", Stream)
    monkeypatch.setattr(live_stream.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live_stream.time, "time", lambda: 5000 + now[0])
    frames = list(read_frames("device:0", camera="c", fps=5.0))
    assert 19 <= len(frames) <= 21
    gaps = np.diff([frame.time_s for frame in frames])
    assert np.all((gaps > 0.15) & (gaps < 0.25))
    assert frames[0].time_s > 5000 and made[0].released


def test_a_stream_that_refuses_is_named_without_its_password() -> None:
    with pytest.raises(VideoError) as caught:
        list(read_frames("rtsp://admin:geheim@127.0.0.1:9/x?token=abc", camera="c", fps=5))
    assert str(caught.value).startswith(
        "rtsp://***@127.0.0.1:9/x?***: cannot be opened, connection refused; check the port 9"
    )
    assert "geheim" not in str(caught.value) and "abc" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_stream_that_never_answers_says_how_long_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(VideoError, match=r"cannot be opened, no answer within 0\.5 s"):
            list(read_frames(url, camera="c", fps=5))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("device:x", "device:x: not a device, expected device:0"),
        ("device:-1", "not a device"),
        ("device:97", "device:97: cannot be opened"),
        ("ftp://user:pw@host/clip.mp4", "cannot read ftp://, expected a file, a folder, device:N or rtsp://"),
        ("rtsp:/user:pw@cam/1", r"\*\*\*@cam/1: no such video file"),
        ("device:user:pw@cam", r"\*\*\*@cam: not a device"),
        ("synthetic://street?camera=gaet", "did you mean 'gate'"),
    ],
)
def test_addresses_with_a_mistake_are_named(url: str, message: str) -> None:
    with pytest.raises((VideoError, ConfigError), match=message) as caught:
        list(read_frames(url, camera="c", fps=5))
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.5/ch1", "rtsp://10.0.0.5/ch1"),
        ("rtsp://u:p@10.0.0.5:554/ch1", "rtsp://***@10.0.0.5:554/ch1"),
        ("RTSP://u:p@h/ch1", "RTSP://***@h/ch1"),
        ("https://u:p@ss/w?rd@h/x", "https://***@h/x"),
        ("http://h/x?user=u&password=p", "http://h/x?***"),
        ("http://h/x?mail=a@b.c", "http://***@b.c"),
        ("ftp://u:p@h/x", "ftp://***@h/x"),
        ("rtsp:/u:p@h:554/x?t=1", "***@h:554/x?***"),
        ("/site/rtsp:/u:p@h/x", "***@h/x"),
        ("rtsp//u:p@h/x", "***@h/x"),
        (" rtsp://u:p@h/x", "***@h/x"),
        ("u:p@h:554/x", "***@h:554/x"),
        ("device:u:p@h", "***@h"),
        ("synthetic://u:p@h", "synthetic://***@h"),
        ("u:p\0@h", "***@h"),
        ("clips/gate.mp4", "clips/gate.mp4"),
    ],
)
def test_secrets_in_addresses_are_not_shown(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_a_file_with_an_at_in_its_name_is_shown_where_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a@b.mp4"
    assert redact_url(str(path)) == "***@b.mp4"
    path.touch()
    assert redact_url(str(path)) == str(path)


@pytest.mark.data
def test_a_real_clip_is_read_at_the_rate_asked_for(development_data: Path) -> None:
    path = development_data / "video" / "pets_s2l1" / "vtest_480x360_795f_10fps.mp4"
    frames = [(frame.index, frame.image.shape) for frame in read_frames(str(path), camera="c", fps=1.0)]
    assert frames == [(index, (360, 480, 3)) for index in range(0, 795, 10)]
    assert frame_count_estimate(str(path), 1.0) == 80


def test_a_file_or_folder_without_permission_is_named(
    write_video: WriteVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(frames=3)

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    for url in (path, tmp_path):
        with pytest.raises(VideoError, match=r"cannot be read \(Permission denied\); check the"):
            list(read_frames(str(url), camera="c", fps=5))
