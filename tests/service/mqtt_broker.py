"""A real Mosquitto on a port of its own, and one who listens to it."""

import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

PROGRAM = shutil.which("mosquitto") or next(
    (path for path in ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto") if Path(path).exists()), ""
)


class Broker:
    """Starts, kills and starts again; ``lines`` go to its configuration."""

    def __init__(self, folder: Path, *lines: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        given = lines or ("allow_anonymous true",)
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", "user root", *given]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it takes connections."""
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline and self._process.poll() is None, "mosquitto did not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """No farewell to anybody; what it kept is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Listener:
    """Hears all topics; retained ones first."""

    def __init__(self, broker: Broker, *topics: str, client_id: str = "", **arguments: object) -> None:
        self.heard: list[MQTTMessage] = []
        self._ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, **arguments)
        self.client.on_message = lambda client, data, message: self.heard.append(message)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_connect = lambda *_: self.client.subscribe([(topic, 1) for topic in topics or ("#",)])
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self._ready.wait(10)

    def of(self, topic: str) -> list[bytes]:
        """What was heard on a topic."""
        return [message.payload for message in self.heard if message.topic == topic]

    def close(self) -> None:
        """Hear no more."""
        self.client.loop_stop()
        self.client.disconnect()
