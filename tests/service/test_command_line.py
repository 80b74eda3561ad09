"""What the command line asks of a service: searches over the network, and the audit of a state folder."""

import contextlib
import json
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import uvicorn
from PIL import Image
from service_fixtures import PEOPLE, REASON, RunningService, crop_of, png_of

from reid_mtda import cli
from reid_mtda.service.app import create_app
from reid_mtda.service.audit import FILE, Audit
from reid_mtda.service.roles import Role

WHY = ("--purpose", REASON["purpose"], "--case", REASON["case_reference"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Run ``reid-mtda ARGS`` in this process; returns (exit code, standard output, standard error)."""

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reid-mtda", *map(str, args)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def address(running: RunningService) -> Iterator[str]:
    """The town's service on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(running.service), log_config=None, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.service.closing.set()
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "who.png"
    cv2.imwrite(str(path), crop_of(2)[..., ::-1])
    return path


def refused(result: tuple[int, str, str], *named: str) -> None:
    code, _, err = result
    assert code == 2 and len(err.strip().splitlines()) == 1 and err.startswith("reid-mtda: "), err
    assert all(part in err for part in named), err


def columns(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_service_and_its_gallery_on_disk_give_one_table(
    run, running: RunningService, address: str, picture: Path, model_folder: Path
) -> None:
    code, online, err = run(
        "search",
        picture,
        "--server",
        address,
        "--token",
        running.token("operator"),
        *WHY,
        "-k",
        "3",
        "--camera",
        "plaza",
    )
    assert code == 0 and "reach the threshold" in err
    code, offline, _ = run(
        "search",
        picture,
        "--model",
        model_folder,
        "--gallery",
        running.folder / "gallery",
        "-k",
        "3",
        "--camera",
        "plaza",
    )
    assert code == 0 and columns(online) == columns(offline) and len(columns(online)) == 4
    assert columns(online)[1][0] == "1" and columns(online)[1][2] == "plaza"
    (entry, *_) = running.service.audit.entries(action="search")
    assert entry.detail["purpose"] == REASON["purpose"] and entry.detail["cameras"] == ["plaza"]


def test_the_token_comes_from_the_environment_and_json_is_the_services(
    run, running: RunningService, address: str, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_MTDA_TOKEN", running.token("operator"))
    since = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(running.began + 500))
    code, out, _ = run("search", picture, "--server", address, *WHY, "--since", since, "--min-score", "0.9", "--json")
    found = json.loads(out)
    assert code == 0 and [hit["sighting_id"] for hit in found["hits"]] == [running.numbers[2, "plaza"]]
    code, out, err = run("search", picture, "--server", address, *WHY, "--camera", "plazza")
    assert code == 0 and "nobody found among 12" in err and "camera 'plazza' is not among those" in err


def test_a_sheet_of_what_a_service_found_is_drawn_from_its_thumbnails(
    run, running: RunningService, address: str, picture: Path, tmp_path: Path
) -> None:
    sheet, asked = tmp_path / "answers.png", ("search", picture, "--server", address, *WHY, "-k", "3")
    code, _, err = run(*asked, "--token", running.token("operator"), "--sheet", sheet)
    assert code == 0 and str(sheet) in err.replace("\n", "")
    drawn = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    coat = np.abs(drawn - PEOPLE[2]).sum(axis=2) < 60  # of the query and the three found
    assert coat.mean() > 0.01
    assert len(running.service.audit.entries(action="picture_opened")) == 3
    refused(run(*asked, "--token", running.token("operator"), "--sheet", "a.txt"), "a.txt: got the suffix")


def test_a_wall_is_refused_by_the_service_in_one_line(
    run, running: RunningService, address: str, tmp_path: Path
) -> None:
    wall = tmp_path / "wall.png"
    wall.write_bytes(png_of(np.full((200, 200, 3), 90, np.uint8)))
    asked = ("search", wall, "--server", address, *WHY, "--token", running.token("operator"))
    refused(run(*asked), "no person found in this picture")
    code, _, err = run(*asked, "--whole-picture")
    assert code == 0 and "No person was found in the picture" in err
    refused(
        run("search", wall, "--model", "m", "--gallery", "g", "--whole-picture"), "--whole-picture without --server"
    )


def test_refusals_of_the_service_and_of_wrong_options_are_one_line(
    run, running: RunningService, address: str, picture: Path, tmp_path: Path
) -> None:
    online = ("search", picture, "--server", address)
    token = ("--token", running.token("operator"))
    refused(run(*online, "--token", "rmt_wrong_wrong", *WHY), "token")
    refused(run(*online, "--token", "rmt\n", *WHY), "token: holds letters")
    refused(run(*online, "--token", running.token("viewer"), *WHY), "operator")
    refused(run(*online, *WHY), "Missing option '--token'", "reid-mtda search --help")
    refused(run(*online, *token, "--case", "x-1"), "Missing option '--purpose'")
    refused(run(*online, *token, "--purpose", "x", "--case", "x-1"), "say why you search")
    refused(run(*online, *token, *WHY, "--gallery", "g"), "got --gallery with --server")
    refused(run(*online, *token, *WHY, "-k", "1000"), "k")
    refused(run(*online, *token, *WHY, "--certificate", tmp_path / "no.pem"), "no.pem", "PEM")
    refused(run("search", picture, "--server", "127.0.0.1:80", *token, *WHY), "not an address of a service")
    refused(run("search", picture, "--server", "http://host:port", *token, *WHY), "not an address of a service")
    refused(run("search", tmp_path / "no.png", "--server", address, *token, *WHY), "no.png")
    refused(run("search", picture, "--model", "m", "--gallery", "g", *WHY), "got --purpose without --server")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused(run("search", picture, "--server", f"http://127.0.0.1:{port}", *token, *WHY), "cannot be reached")


def test_an_intact_audit_is_said_with_count_and_head(run, running: RunningService) -> None:
    for _ in range(3):
        running.service.audit.add("ann", "search", case="x-1")
    last = running.service.audit.entries(limit=1)[0]
    code, out, err = run("audit", "verify", running.folder / "state")  # beside the running service
    assert code == 0 and out == f"intact: {last.number} entries, head {last.number}:{last.hash}\n" and not err
    assert run("audit", "verify", running.folder / "state", "--head", f"{last.number}:{last.hash}")[0] == 0


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit SET detail = '{}' WHERE number = 2", "entry 2: its content does not match"),
        ("UPDATE audit SET user = x'00ff' WHERE number = 2", "entry 2: its content does not match"),
        ("UPDATE audit SET time_s = 'noon' WHERE number = 1", "entry 1: its content does not match"),
        ("DELETE FROM audit WHERE number = 2", "entry 3: expected number 2"),
        ("UPDATE audit SET user = CAST(x'ff' AS TEXT) WHERE number = 2", "could not be used"),
        ("DROP TABLE audit", "ends at entry 0, but 3 was noted; the end was cut off"),
    ],
)
def test_a_changed_audit_is_an_error_that_names_the_first_broken_entry(
    run, tmp_path: Path, statement: str, fault: str
) -> None:
    with contextlib.closing(Audit(tmp_path)) as audit:
        heads = [audit.add("ann", "search", case=f"x-{number}") for number in range(3)]
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute("DROP TRIGGER no_delete")
        connection.execute(statement)
    refused(run("audit", "verify", tmp_path, "--head", f"3:{heads[-1].hash}"), FILE, fault)


def test_what_is_no_audit_and_no_head_is_said(run, tmp_path: Path) -> None:
    refused(run("audit", "verify", tmp_path), f"holds no {FILE}")
    refused(run("audit", "verify", tmp_path, "--head", "last"), "--head: got 'last', expected NUMBER:HASH")
    (tmp_path / FILE).write_bytes(b"no database " * 100)
    refused(run("audit", "verify", tmp_path), FILE, "is damaged or of another kind")
    assert "verify" in run("audit", "--help")[1]


def test_a_lost_token_is_made_anew_from_the_state_folder(
    run, running: RunningService, address: str, picture: Path
) -> None:
    state = running.folder / "state"
    code, out, _ = run("token", state, "--user", "ann", "--role", "operator", "--days", "2")
    assert code == 0 and running.service.auth.identify(out.strip()).role is Role.OPERATOR
    code, _, err = run("search", picture, "--server", address, "--token", out.strip(), *WHY)
    assert code == 0
    (entry, *_) = running.service.audit.entries(action="token_created")
    assert (entry.user, entry.detail["for_user"], entry.detail["role"]) == ("command line", "ann", "operator")
    for arguments, message in (
        (("token", state, "--user", "ann", "--role", "king"), "--role: got 'king', expected one of viewer, operator"),
        (("token", running.folder, "--user", "ann"), "expected the state folder of a service"),
        (("token", state, "--user", "ann", "--days", "0"), "days: got 0, expected more than 0"),
    ):
        code, out, err = run(*arguments)
        assert code == 2 and message in err and out == ""
