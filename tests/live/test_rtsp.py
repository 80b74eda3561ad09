"""Streams against a real RTSP server on loopback: it refuses, stops, stalls, talks garbage, changes, comes back."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import is_required
from colour_model import write_colour_model

from reid_mtda.camera_settings import Camera
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.settings import LiveSettings
from reid_mtda.live.streams import StreamSettings
from reid_mtda.live.system import LiveSystem
from reid_mtda.model import load_model
from reid_mtda.site import Site

PYTHON = "/usr/bin/python3"
PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
SETTINGS = LiveSettings(streams=StreamSettings(stall_s=4.5, retry_s=0.5, retry_max_s=0.5, restarts_per_minute=100))


def has_server() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        return subprocess.run([PYTHON, "-c", probe], capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(
    not (is_required("rtsp") or has_server()),
    reason=f"no RTSP server; run: apt-get update && apt-get install -y {PACKAGES}",
)


def until(true: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


class Server:
    """Starts, stalls and kills the server on one port."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def start(self, width: int = 160, height: int = 128) -> None:
        script = str(Path(__file__).with_name("rtsp_server.py"))
        command = [PYTHON, script, str(self.port), str(width), str(height)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def stall(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)
            self.process = None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.kill()


@pytest.fixture
def system(tmp_path: Path, server: Server) -> Iterator[LiveSystem]:
    write_colour_model(tmp_path / "model")
    model = load_model(tmp_path / "model", threads=1)
    cameras = {
        "far": Camera(url=server.url, fps=10),
        "near": Camera(url="synthetic://street?camera=gate&duration=60", fps=10),
    }
    made = LiveSystem(Site("site", tmp_path, cameras), model, Gallery.open(tmp_path / "gallery", model), SETTINGS)
    yield made
    made.stop(3)


def flows(system: LiveSystem, camera: str, count: int = 5) -> None:
    before = system.pool.states()[camera].counts.frames
    until(lambda: system.pool.states()[camera].counts.frames >= before + count)


def test_a_server_that_refuses_dies_stalls_changes_and_comes_back(system: LiveSystem, server: Server) -> None:
    state = lambda: system.pool.states()["far"].stream  # noqa: E731
    system.start()
    until(lambda: state().state == "waiting" and state().restarts >= 1)  # nobody listens: refused
    server.start()
    flows(system, "far")
    assert (state().height_px, state().width_px) == (128, 160)

    server.kill()  # dies
    until(lambda: state().state in ("waiting", "stalled"))
    server.start(width=320, height=240)  # and is back with another resolution
    until(lambda: (state().height_px, state().width_px) == (240, 320))
    flows(system, "far")

    stalls = state().stalls
    server.stall()  # its sockets stay open and no frame comes
    until(lambda: state().stalls == stalls + 1, 15)
    server.kill()
    server.start()
    until(lambda: state().state == "running" and state().width_px == 160)
    flows(system, "far")

    near = system.pool.states()["near"]
    elapsed = time.time() - system.started_s
    assert near.stream.state == "running" and near.stream.restarts == 0 and near.stream.stalls == 0
    assert near.counts.frames > 0.7 * 10 * (elapsed - 1.5), "the other camera stopped meanwhile"


def test_garbage_instead_of_rtsp_is_a_failure_that_is_retried(system: LiveSystem, server: Server) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", server.port)) as listener:
        listener.settimeout(0.2)

        def babble() -> None:
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(b"\xff\xd8" + os.urandom(2000) + b"\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        try:
            system.start()
            until(lambda: system.pool.states()["far"].stream.restarts >= 2)
            assert system.pool.states()["far"].counts.frames == 0
            flows(system, "near")
        finally:
            done.set()
            thread.join(5)
    server.start()
    flows(system, "far")


def relay_slowly(listener: socket.socket, port: int, delay_s: float) -> None:
    """Let visitors of ``listener`` talk with ``port``, each of their words ``delay_s`` late."""

    def pump(source: socket.socket, sink: socket.socket, wait_s: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(wait_s)
                sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    with contextlib.suppress(OSError):
        while True:
            visitor, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for source, sink, wait_s in ((visitor, server, delay_s), (server, visitor, 0.0)):
                threading.Thread(target=pump, args=(source, sink, wait_s), daemon=True).start()


def test_cameras_that_keep_silent_or_refuse_keep_no_other_from_opening(tmp_path: Path, server: Server) -> None:
    server.start()
    write_colour_model(tmp_path / "model")
    model = load_model(tmp_path / "model", threads=1)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=100) as silent,  # the kernel takes the calls, nobody answers
        socket.create_server(("127.0.0.1", 0), backlog=100) as slow,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        closed = probe.getsockname()[1]
        probe.close()
        threading.Thread(target=relay_slowly, args=(slow, server.port, 0.7), daemon=True).start()
        addresses = {f"silent{n}": silent.getsockname()[1] for n in range(20)}
        addresses |= {f"slow{n}": slow.getsockname()[1] for n in range(5)}
        addresses |= {f"refusing{n}": closed for n in range(5)}
        addresses |= {f"good{n}": server.port for n in range(5)}
        cameras = {name: Camera(url=f"rtsp://127.0.0.1:{port}/live", fps=5) for name, port in addresses.items()}
        gallery = Gallery.open(tmp_path / "gallery", model)
        system = LiveSystem(Site("site", tmp_path, cameras), model, gallery, LiveSettings())
        began = time.monotonic()
        try:
            system.start()
            first: dict[str, float] = {}
            while time.monotonic() - began < 60:  # the slow ones may take longer on a busy machine
                for name, state in system.pool.states().items():
                    if state.stream.frames:
                        first.setdefault(name, time.monotonic() - began)
                time.sleep(0.1)
                if sum(name.startswith(("good", "slow")) for name in first) == 10 and time.monotonic() - began > 10:
                    break
            states = system.pool.states()
        finally:
            system.stop(8)
        good = {name for name, took_s in first.items() if name.startswith("good") and took_s < 15}
        assert good == {f"good{n}" for n in range(5)}, first
        assert {name for name in first if name.startswith("slow")} == {f"slow{n}" for n in range(5)}, first
        assert "connection refused" in states["refusing0"].stream.message
        assert all("no answer within 8 s" in states[f"silent{n}"].stream.message for n in range(20))
        assert all(state.hung_readers == 0 for state in states.values())
