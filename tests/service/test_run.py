"""The service as a process: ready, searched through the client, told to stop, killed; and never a torch in it."""

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from builders import reid_mtda
from service_fixtures import REASON

from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.service.audit import Audit, verify_audit
from reid_mtda.service.certificate import self_made_certificate
from reid_mtda.service.client import Client, ServerError
from reid_mtda.service.run import ServeOptions, running_service, serve
from reid_mtda.site import Site

SCRIPT = """
import logging
import sys
from pathlib import Path
from reid_mtda.service.run import ServeOptions, serve
site, model, gallery, tls, config = sys.argv[1:]
shut = []
handler = logging.NullHandler()
handler.close = lambda: shut.append(handler)
serve(
    Path(site), Path(model), Path(gallery),
    ServeOptions(port=0, tls=tls == "tls", config=Path(config) if config else None),
    tell=lambda line: print(line, flush=True),
)
print("torch" in sys.modules, bool(shut), flush=True)
"""


class Process:
    def __init__(self, folder: Path, model: Path, tls: bool = False, config: Path | None = None) -> None:
        self.folder = folder
        command = [sys.executable, "-c", SCRIPT, str(folder / "site"), str(model), str(folder / "gallery")]
        command += ["tls" if tls else "", str(config or "")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.token = ""
        for line in self.process.stdout:
            self.address = self.address or next(iter(re.findall(r"https?://\S+", line)), "")
            self.token = self.token or next(iter(re.findall(r"rmt_\S+", line)), "")
            if line.startswith("stop with"):
                break

    def client(self, token: str = "") -> Client:
        certificate = self.folder / "gallery-service" / "certificate.pem"
        return Client(self.address, token or self.token, certificate=certificate if certificate.exists() else None)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    for camera in ("gate", "tunnel"):
        text = f"url: synthetic://street?camera={camera}&duration=60\nfps: 8\ndetector: motion\n"
        (tmp_path / "site" / f"{camera}.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for one in started:
        one.process.kill()
        one.process.wait(5)


def sightings_of(process: Process, count: int) -> list[dict]:
    with process.client() as client:
        deadline = time.monotonic() + 60
        while len(found := list(client.sightings())) < count:
            assert time.monotonic() < deadline, "nobody was seen"
            time.sleep(0.2)
    return found


def test_killed_searched_and_stopped(site: Path, model_folder: Path, processes: list[Process], tmp_path: Path) -> None:
    first = Process(site, model_folder)
    processes.append(first)
    told = {row["sighting_id"] for row in sightings_of(first, 2)}
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(5)
    with Gallery.open(site / "gallery") as gallery:
        assert told <= set(gallery.sightings())

    second = Process(site, model_folder)
    processes.append(second)
    assert second.token == ""  # the first admin token still holds
    with second.client(first.token) as client:
        picture = tmp_path / "person.jpg"
        number = min(told)
        picture.write_bytes(client.thumbnail(number))
        answer = client.search_picture(picture, **REASON, k=5)
        assert answer["hits"][0]["sighting_id"] == number
        asked = reid_mtda(
            "search", picture, "--server", second.address, "--token", first.token, "--purpose", REASON["purpose"],
            "--case", REASON["case_reference"], "--json",
        )  # fmt: skip
        assert json.loads(asked.stdout)["hits"][0]["sighting_id"] == number, asked.stderr
        assert {camera["name"] for camera in client.cameras()} == {"gate", "tunnel"}
        with pytest.raises(ServerError, match="purpose") as refused:
            client.search_sighting(number, purpose="", case_reference="x-1")
        assert refused.value.status == 422
        began = time.monotonic()
        second.process.send_signal(signal.SIGTERM)
        rest = second.process.stdout.read()
        assert second.process.wait(10) == 0
        assert time.monotonic() - began < 10
        with pytest.raises(ServerError, match="cannot be reached"):
            client.cameras()
    # It ran to its end, torch was never there, and no handler of the process was shut by the server's own logging.
    assert rest.split() == ["False", "False"]
    with contextlib.closing(Audit(site / "gallery-service")) as audit:
        actions = [entry.action for entry in audit.entries(limit=5)]
    assert actions == ["stopped", "search", "search", "picture_opened", "started"]
    report = verify_audit(site / "gallery-service")
    assert report.is_sound and report.entries >= 4
    assert first.token not in (site / "gallery-service" / "access.sqlite").read_text(errors="replace")


def test_over_tls_with_a_certificate_of_its_own(site: Path, model_folder: Path, processes: list[Process]) -> None:
    process = Process(site, model_folder, tls=True)
    processes.append(process)
    assert process.address.startswith("https://")
    with process.client() as client:
        assert len(client.cameras()) == 2
    with Client(process.address, process.token) as negative, pytest.raises(ServerError, match="cannot be reached"):
        negative.cameras()
    assert (site / "gallery-service" / "key.pem").stat().st_mode & 0o077 == 0


def test_another_forwarded_address_for_each_guess_escapes_no_throttle(
    site: Path, model_folder: Path, processes: list[Process]
) -> None:
    process = Process(site, model_folder)
    processes.append(process)
    guesses = [
        httpx.get(
            process.address + "api/v1/me", headers={"Authorization": "Bearer wrong", "X-Forwarded-For": f"10.0.0.{n}"}
        )
        for n in range(6)
    ]
    assert [answer.status_code for answer in guesses] == [401] * 5 + [429]


def test_behind_a_trusted_proxy_clients_are_throttled_one_by_one(
    site: Path, model_folder: Path, processes: list[Process]
) -> None:
    """The address that the proxy added counts; what a client wrote before it does not."""
    config = site / "live.yaml"
    config.write_text("trusted_proxies: [127.0.0.1]\n")
    process = Process(site, model_folder, config=config)
    processes.append(process)

    def guess(forwarded: str) -> int:
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": forwarded}
        return httpx.get(process.address + "api/v1/me", headers=headers).status_code

    assert [guess(f"10.0.0.{n}, 192.0.2.1") for n in range(6)] == [401] * 5 + [429]
    assert guess("192.0.2.2") == 401


def test_a_taken_port_and_odd_arguments_are_named(site: Path, model_folder: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StorageError, match="choose another port"):
            serve(site / "site", model_folder, site / "gallery", ServeOptions(port=taken.getsockname()[1]))
    with pytest.raises(ConfigError, match="expected both"):
        serve(site / "site", model_folder, site / "gallery", ServeOptions(certificate=site / "x.pem"))
    with pytest.raises(ConfigError, match="port"):
        serve(site / "site", model_folder, site / "gallery", ServeOptions(port=70_000))
    with pytest.raises(ConfigError, match=r"model\.onnx: got device 'npu', expected one that ONNX Runtime has"):
        serve(site / "site", model_folder, site / "gallery", ServeOptions(port=0, device="npu"))
    with pytest.raises(ServerError, match="not an address"):
        Client("127.0.0.1:8080", "x")


HOLD = (
    "import sys, time; from pathlib import Path; from reid_mtda.files import lock_folder;"
    "lock_folder(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)


def test_one_service_has_a_state_folder_and_nobody_else_reads_it(model_folder: Path, tmp_path: Path) -> None:
    site, state = Site("running", tmp_path, {}), tmp_path / "new" / "state"
    with running_service(site, model_folder, tmp_path / "gallery", state):
        assert state.stat().st_mode & 0o077 == 0
    held = tmp_path / "held"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(held)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            with (
                pytest.raises(ConfigError, match=f"{held}: another process works in this folder"),
                running_service(site, model_folder, tmp_path / "gallery", held),
            ):
                pass
        finally:
            other.kill()


def test_without_openssl_tls_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="install openssl, or give certificate and key"):
        self_made_certificate(tmp_path, ["127.0.0.1"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("content", "message"), [("", "cannot be used"), (None, "no such file")])
def test_a_certificate_that_cannot_be_used_is_named_before_a_token_is_made(
    tmp_path: Path, content: str | None, message: str
) -> None:
    files = tmp_path / "c.pem", tmp_path / "k.pem"
    for path in files if content is not None else ():
        path.write_text(content or "", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"TLS: .*c\.pem.* {message}"):
        serve(
            tmp_path / "site",
            tmp_path / "m",
            tmp_path / "gallery",
            ServeOptions(certificate=files[0], key=files[1]),
            tell=print,
        )
    assert sorted(tmp_path.iterdir()) == [path for path in files if path.exists()]


def test_a_certificate_of_our_own_is_made_anew_for_other_names_and_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*hosts: str) -> bytes:
        certificate, key = self_made_certificate(tmp_path, hosts)
        ssl.create_default_context().load_cert_chain(certificate, key)  # they belong together
        assert sorted(tmp_path.iterdir()) == [certificate, key] and key.stat().st_mode & 0o077 == 0
        return certificate.read_bytes()

    first = made("0.0.0.0", "::1", "Cam.Example")
    assert made("::1", "0.0.0.0", "cam.example", "localhost") == first
    context = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
    names = dict.fromkeys(name for _, name in context.get_ca_certs()[0]["subjectAltName"])
    assert names.keys() == {"0.0.0.0", "0:0:0:0:0:0:0:1", "cam.example", "localhost"}
    second = made("127.0.0.1", "cam.example")
    assert second != first
    now = time.time()
    monkeypatch.setattr("reid_mtda.service.certificate.time.time", lambda: now + 366 * 86400)
    assert made("127.0.0.1", "cam.example") == second
    monkeypatch.setattr("reid_mtda.service.certificate.time.time", lambda: now + 368 * 86400)
    third = made("127.0.0.1", "cam.example")
    assert third != second
    (tmp_path / "certificate.pem").write_text("no certificate")
    monkeypatch.undo()
    assert made("127.0.0.1", "cam.example") != third
