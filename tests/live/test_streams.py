"""Streams: which state follows which, how retries are paced, what is shown of an address."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from reid_mtda.errors import ConfigError, VideoError
from reid_mtda.live.playback import play_realtime
from reid_mtda.live.streams import Backoff, CameraStream, LatestFrame, StreamSettings, StreamState
from reid_mtda.live.url_policy import UrlPolicy, hide_secrets
from reid_mtda.types import Frame
from reid_mtda.vision.video import FrameSource


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def frame(index: int = 0, size: tuple[int, int] = (12, 16)) -> Frame:
    return Frame("gate", index, float(index), np.zeros((*size, 3), np.uint8))


def stream(open_frames, clock: Clock, url: str = "rtsp://user:pa55word@cam/1", **settings) -> CameraStream:
    return CameraStream("gate", url, 5.0, StreamSettings(**settings), open_frames=open_frames, clock=clock)


def reads(source: CameraStream) -> bool:
    """Let a reader work until it returns, when one is due."""
    number = source.needs_reader()
    if number is not None:
        source.read(number)
    return number is not None


def test_newest_frame_wins_and_the_lost_one_is_counted() -> None:
    box = LatestFrame()
    box.put(frame(0))
    box.put(frame(1))
    taken = box.take(0)
    assert taken is not None and taken.index == 1
    assert box.dropped == 1
    assert box.take(0.01) is None


def test_a_waiting_taker_is_woken() -> None:
    box = LatestFrame()
    timer = threading.Timer(0.05, lambda: box.put(frame(3)))
    timer.start()
    taken = box.take(5)
    assert taken is not None and taken.index == 3


def test_retries_back_off_and_start_over_once_frames_flow() -> None:
    plan = Backoff(StreamSettings(retry_s=10, retry_max_s=60))
    assert [plan.failed(now) for now in (0, 10, 30, 70, 130)] == [10, 20, 40, 60, 60]
    plan.proved()
    assert plan.failed(200) == 10


def test_no_more_than_five_restarts_a_minute_however_short_the_retry() -> None:
    plan = Backoff(StreamSettings(retry_s=0.5, retry_max_s=1))
    now, opened = 0.0, []
    while now < 300:
        plan.opened(now)
        opened.append(now)
        plan.proved()
        now += plan.failed(now)
    for start in range(240):
        assert sum(start <= record < start + 60 for record in opened) <= 5
    assert len(opened) >= 20


def test_a_refused_stream_is_tried_again_and_comes_back() -> None:
    clock, attempts = Clock(), []

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        attempts.append(clock.now)
        if len(attempts) < 4:
            raise VideoError(f"{url}: cannot be opened")
        return iter([frame(0), frame(1)])

    source = stream(open_frames, clock)
    for _ in range(4000):
        reads(source)
        clock.now += 0.25
        if source.status.frames:
            break
    assert np.diff(attempts).tolist() == [10, 20, 40]
    assert (source.status.frames, source.status.restarts) == (2, 3)


def test_no_password_in_any_status() -> None:
    clock = Clock()

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        raise VideoError(f"{url}: cannot be opened by user with pa55word")

    source = stream(open_frames, clock)
    reads(source)
    status = source.status
    assert status.state is StreamState.WAITING
    assert "cannot be opened" in status.message and "pa55word" not in status.message
    assert "pa55word" not in source.shown_url


def test_a_stalled_reader_is_given_up_and_what_it_brings_later_is_ignored() -> None:
    clock, go_on = Clock(), threading.Event()

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        yield frame(0)
        go_on.wait(10)
        yield frame(1)

    source = stream(open_frames, clock)
    number = source.needs_reader()
    reader = threading.Thread(target=lambda: source.read(number))
    reader.start()
    while source.status.frames == 0:
        pass
    clock.now += 19.9
    assert source.needs_reader() is None and source.status.state is StreamState.RUNNING
    clock.now += 0.2
    assert source.needs_reader() is None and source.status.state is StreamState.STALLED
    go_on.set()
    reader.join(5)
    status = source.status
    assert (status.frames, status.stalls) == (1, 1)
    clock.now += 9.9
    assert source.needs_reader() is None
    clock.now += 0.2
    assert source.needs_reader() is not None


def test_a_camera_of_a_frame_every_minute_does_not_stall() -> None:
    clock = Clock()

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        for index in range(5):
            clock.now += 60
            assert source.needs_reader() is None
            yield frame(index)
        clock.now += 181
        assert source.needs_reader() is None

    source = CameraStream("gate", "rtsp://cam/1", 1 / 60, StreamSettings(), open_frames=open_frames, clock=clock)
    reads(source)
    status = source.status
    assert (status.frames, status.stalls, status.state) == (5, 1, StreamState.STALLED)
    assert "no frame for 180 s" in status.message


def test_opening_that_never_returns_is_a_stall_too() -> None:
    clock = Clock()
    source = stream(lambda *_: iter(()), clock)
    assert source.needs_reader() is not None
    clock.now += 21
    source.needs_reader()
    assert source.status.state is StreamState.STALLED


def test_after_an_hour_without_a_server_the_stream_is_back_within_a_minute() -> None:
    clock = Clock()
    back_at = clock.now + 3600

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        if clock.now < back_at:
            raise VideoError("refused")
        return iter([frame()])

    source = stream(open_frames, clock)
    while not source.status.frames:
        reads(source)
        clock.now += 0.5
    assert clock.now - back_at <= 61


def test_silence_lasts_through_stalls_and_retries_and_ends_with_a_frame_or_a_pause() -> None:
    """An address that takes the call and sends nothing: connecting, stalled, connecting again."""
    clock = Clock()
    source, states = stream(lambda *_: iter([frame()]), clock), set()
    for _ in range(40 * 60):
        source.needs_reader()  # its reader hangs
        states.add(source.status.state)
        clock.now += 0.25
    assert states == {StreamState.CONNECTING, StreamState.STALLED} and source.status.silent_s == 600
    source.pause()
    assert source.status.silent_s == 0
    clock.now += 3600
    source.resume()
    clock.now += 5
    assert source.status.silent_s == 5
    reads(source)
    assert source.status.silent_s == 0
    source.stop()
    clock.now += 5
    assert source.status.silent_s == 0


def test_a_live_stream_that_ends_is_a_failure_and_a_recording_is_over() -> None:
    clock = Clock()
    live = stream(lambda *_: iter([frame()]), clock)
    reads(live)
    assert live.status.state is StreamState.WAITING
    once = stream(lambda *_: iter([frame()]), clock, url="clip.mp4", loop_recordings=False)
    reads(once)
    assert once.status.state is StreamState.ENDED
    clock.now += 1000
    assert once.needs_reader() is None
    once.resume()
    assert once.needs_reader() is not None


def test_a_recording_loops_without_counting_as_a_restart() -> None:
    clock, passes = Clock(), []

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        passes.append(1)
        if len(passes) == 3:
            source.stop()
        return iter([frame()])

    source = stream(open_frames, clock, url="clip.mp4")
    reads(source)
    assert len(passes) == 3
    assert source.status.restarts == 0 and source.status.state is StreamState.STOPPED


def test_a_recording_of_one_frame_is_played_at_its_pace() -> None:
    waits, passes = [], []

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        passes.append(1)
        if len(passes) == 10:
            source.stop()
        return iter([frame()])

    source = stream(open_frames, Clock(), url="picture")
    number = source.needs_reader()
    source._wake.wait = lambda seconds: bool(waits.append(seconds))
    source.read(number)
    assert waits == [1 / 5] * 9


def test_pause_lets_go_and_resume_opens_again() -> None:
    clock = Clock()
    source = stream(lambda *_: iter([frame()]), clock)
    source.pause()
    clock.now += 4000
    assert source.needs_reader() is None and source.status.state is StreamState.PAUSED
    source.resume()
    assert reads(source)


def test_an_unknown_fault_of_a_decoder_is_contained_and_named() -> None:
    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        raise RuntimeError(f"boom at {url}")

    source = stream(open_frames, Clock())
    reads(source)
    assert "RuntimeError" in source.status.message and "pa55word" not in source.status.message


def test_another_resolution_is_taken_and_shown() -> None:
    source = stream(lambda *_: iter([frame(0), frame(1, (24, 32))]), Clock())
    reads(source)
    assert (source.status.height_px, source.status.width_px) == (24, 32)


def test_recordings_play_at_their_own_pace_with_the_time_of_now() -> None:
    clock = Clock()

    def wait(seconds: float) -> bool:
        clock.now += seconds
        return False

    frames = (Frame("gate", n, 50.0 + n / 5, np.zeros((12, 16, 3), np.uint8)) for n in range(6))
    played = [(f.index, f.time_s, clock.now) for f in play_realtime(frames, wait=wait, clock=clock, wall=lambda: 9e8)]
    assert [index for index, _, _ in played] == list(range(6))
    np.testing.assert_allclose([record for _, record, _ in played], 9e8 + np.arange(6) / 5)
    np.testing.assert_allclose([now for _, _, now in played], 1000 + np.arange(6) / 5)


def test_a_long_gap_of_a_recording_is_played_as_a_short_one() -> None:
    """A recorder that only records movement leaves hours out: they would pass for a stall, again and again."""
    clock, waits = Clock(), []
    times = (0.0, 0.2, 5400.2, 5400.4)

    def open_frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        return (Frame("gate", n, moment, np.zeros((12, 16, 3), np.uint8)) for n, moment in enumerate(times))

    source = stream(open_frames, clock, url="clip.mp4", loop_recordings=False)
    number = source.needs_reader()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        clock.now += seconds
        assert source.needs_reader() is None and source.status.state is StreamState.RUNNING
        return False

    source._wake.wait = wait
    source.read(number)
    assert waits == pytest.approx([0.2, 10, 0.2]) and source.status.frames == 4
    assert source.status.state is StreamState.ENDED and source.status.stalls == 0


def test_what_a_source_says_of_itself_decides_whether_it_is_played() -> None:
    recorded = stream(lambda *_: FrameSource(iter([frame()]), is_live=False), Clock(), loop_recordings=False)
    reads(recorded)
    assert recorded.status.state is StreamState.ENDED  # whatever its address looks like
    live = stream(lambda *_: FrameSource(iter([frame()]), is_live=True), Clock(), url="clip.mp4")
    reads(live)
    assert live.status.state is StreamState.WAITING


def test_no_reader_is_opened_beside_too_many_that_hang() -> None:
    clock = Clock()
    source = stream(lambda *_: iter(()), clock)
    assert source.needs_reader(may_open=True) is not None
    clock.now += 100
    assert source.needs_reader(may_open=False) is None and source.status.state is StreamState.STALLED
    clock.now += 100
    assert source.needs_reader(may_open=False) is None
    assert source.needs_reader(may_open=True) is not None


def test_playing_stops_at_once_when_told() -> None:
    frames = (frame(n) for n in range(5))
    assert len(list(play_realtime(frames, wait=lambda _: True, clock=Clock()))) == 1


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("/etc/passwd", "scheme 'file' is not allowed"),
        ("file:///etc/passwd", "scheme 'file' is not allowed"),
        ("device:0", "scheme 'device' is not allowed"),
        ("http://cam.example/x", "scheme 'http' is not allowed"),
        ("rtsp://other.example/x", "host 'other.example' is not allowed"),
        ("rtsp://cam.example@other.example/x", "host 'other.example' is not allowed"),
        ("rtsp://cam.example\\@other.example/x", "holds blanks"),
        ("rtsp://cam.example:99999999/x", "not an address"),
        ("rtsp://cam.example/x y", "holds blanks"),
        ("", "scheme 'file' is not allowed"),
        ("rtsp://user:pa#ss@cam.example/x", "the host cannot be told from the password; .* # as %23"),
        ("synthetic://street?camera=nowhere", "camera"),
        ("synthetic://house?camera=gate", "street"),
    ],
)
def test_foreign_addresses_are_refused(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        UrlPolicy(hosts=("cam.example",)).check(url)


def test_listed_addresses_pass() -> None:
    policy = UrlPolicy(hosts=("cam.example",))
    policy.check("rtsp://u:p@cam.example:554/live")
    policy.check("rtsp://CAM.example./live")
    policy.check("synthetic://street?camera=gate")
    UrlPolicy(hosts=("Cam1.Local",)).check("rtsp://cam1.local/live")


def test_secrets_are_hidden_wherever_a_message_repeats_them() -> None:
    url = "rtsp://admin:s3cret@cam/1?token=abcdef"
    shown = hide_secrets(f"{url}: 401 for admin:s3cret (token=abcdef)", url)
    assert "s3cret" not in shown and "abcdef" not in shown and "401" in shown


@pytest.mark.parametrize("url", ["rtsp:/user:pa55word@cam/1", "user:pa55word@cam:554/1", "rtsp//user:pa55word@cam/1"])
def test_a_mistyped_address_shows_no_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = UrlPolicy(hosts=("cam",))
    with pytest.raises(ConfigError, match=r"\*\*\*@cam\S*: not an address, expected e\.g\. rtsp://") as refused:
        policy.check(url)
    assert "pa55word" not in str(refused.value) and "'user'" not in str(refused.value)
    source = CameraStream("gate", f"/site/{url}", 5.0, StreamSettings(), clock=Clock())  # as a path it is resolved
    reads(source)
    assert "no such video file" in source.status.message
    told = hide_secrets(f"{url}: 401 for user with pa55word", f"/site/{url}")
    for text in (source.status.message, source.shown_url, caplog.text, told):
        assert text and "pa55word" not in text
    assert "401" in told


def test_a_stopped_stream_gets_no_reader_from_a_supervisor_that_has_not_heard() -> None:
    source = stream(lambda *_: iter([frame()]), Clock())
    assert reads(source)
    source.stop()
    assert not reads(source)
    source.pause()
    source.resume()
    assert not reads(source)
