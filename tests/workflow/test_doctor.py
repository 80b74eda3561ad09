"""The doctor: each thing that needs doing is named with its remedy, and nothing else is."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import environment, write_site
from colour_model import write_colour_model

from reid_mtda.workflow.doctor import Finding, Wanted, examine


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """An empty models folder."""
    monkeypatch.setenv("REID_MTDA_MODELS", str(tmp_path / "models"))


def findings(wanted, **more):
    return {(one.part, one.name): one for one in examine(wanted, **more)}


def faults(wanted, **more):
    return {key: one.text for key, one in findings(wanted, **more).items() if one.state == "fault"}


def test_a_sound_site_has_no_faults(tmp_path):
    write_colour_model(tmp_path / "model")
    site = write_site(tmp_path / "town", ("gate", "plaza"), duration=2)
    (site / "site.yaml").write_text("timezone: Europe/Berlin\n")
    found = findings(Wanted(site, tmp_path / "model", tmp_path / "gallery", timeout_s=60))
    assert not [one for one in found.values() if one.state == "fault"], found
    assert found["camera", "gate"].text.startswith("recording, 640x360, first frame after ")
    assert found["clock", "time zone"].text == "Europe/Berlin"
    assert "no ready-made networks" in found["networks", "models folder"].text
    assert "finds what moves" in found["detector", "auto (gate, plaza)"].text
    assert "CPU" in found["device", "ONNX Runtime"].text
    assert {name for part, name in found if part == "disk"} == {"models", "gallery", "state"}
    assert found["disk", "gallery"].state == "ok" and not (tmp_path / "gallery").exists()


def test_cameras_are_asked_at_once_and_none_for_long(tmp_path):
    """A silent peer, a refused port, a missing file: each says what it is, and they do not wait for one another."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as taken:
        silent_port, port = silent.getsockname()[1], taken.getsockname()[1]
        taken.close()
        site = write_site(
            tmp_path / "town", (), duration=2,
            **{f"silent{n}": f"url: rtsp://ann:secret@127.0.0.1:{silent_port}/live\n" for n in range(5)},
            refused=f"url: rtsp://127.0.0.1:{port}/live\n", missing="url: none.mp4\n",
        )  # fmt: skip
        began = time.monotonic()
        found = faults(Wanted(site, timeout_s=1.5))
    assert time.monotonic() - began < 8  # one after the other they would take five times as long
    assert found.keys() == {("camera", name) for name in (*(f"silent{n}" for n in range(5)), "refused", "missing")}
    assert "no frame within 1.5 s" in found["camera", "silent0"] and "secret" not in found["camera", "silent0"]
    assert "refused" in found["camera", "refused"] and "none.mp4: no such video file" in found["camera", "missing"]


def test_what_is_not_there_is_named(tmp_path):
    site = write_site(
        tmp_path / "town", (), gate="url: synthetic://street?camera=gate&duration=2\ndetector: yolox-nano\n"
    )
    (tmp_path / "c.yaml").write_text("fals_match_rate: 1\n")
    found = faults(Wanted(site, Path("retail-0287"), config=tmp_path / "c.yaml", timeout_s=60))
    assert "run 'reid-mtda models pull yolox-nano'" in found["detector", "yolox-nano (gate)"]
    assert "run 'reid-mtda models pull retail-0287'" in found["networks", "retail-0287"]
    assert "did you mean 'false_match_rate'" in found["settings", str(tmp_path / "c.yaml")]
    assert len(found) == 3
    assert "no such folder, expected a site" in faults(Wanted(tmp_path / "no"))["site", str(tmp_path / "no")]


def test_a_full_disk_is_measured_where_the_folder_will_be(tmp_path):
    (tmp_path / "c.yaml").write_text("live: {min_free_mb: 1e12, min_free_pictures_mb: 1e12}\n")
    found = faults(Wanted(gallery=tmp_path / "not" / "made" / "yet", config=tmp_path / "c.yaml"))
    assert set(found) == {("disk", "gallery"), ("disk", "state")}
    assert "MB free, below 1000000000000 MB sightings are not kept; free some" in found["disk", "gallery"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_clock_behind_what_the_service_saw_is_named(tmp_path, kept):
    """By the time that the service noted, else by its files."""
    state = tmp_path / "state"
    state.mkdir()
    if kept:
        (state / "clock.json").write_text('{"wall_s": 5000000000, "doubted_s": 0}')
    else:
        (state / "audit.sqlite").touch()
        os.utime(state / "audit.sqlite", (5000000000, 5000000000))
    found = faults(Wanted(state=state), wall=lambda: 5000000000 - 7200.0)
    assert "is 2.0 hours before what the service saw last; set it" in found["clock", "wall clock"]
    assert ("clock", "wall clock") not in faults(Wanted(state=state), wall=lambda: 5000000000 + 7200.0)


def test_the_verb_exits_with_1_and_loads_no_torch(tmp_path):
    code = (
        "import sys; sys.argv[0] = 'reid-mtda'\nfrom reid_mtda.cli import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    site = write_site(tmp_path / "town", ("gate",), duration=2, broken="url: none.mp4\n")

    def run(*args):
        command = [sys.executable, "-c", code, "doctor", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120, check=False)

    done = run(site, "--json", "--timeout", 60)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr.strip() == "False" and not report["is_sound"]
    bad = [Finding(**one) for one in report["findings"] if one["state"] == "fault"]
    assert [one.name for one in bad] == ["broken"]
    lines = run(site, "--timeout", 60).stdout.splitlines()
    assert [line for line in lines if line.startswith("TODO")] == [f"TODO  camera    broken: {bad[0].text}"]
    assert lines[-1].startswith("1 of ") and lines[-1].endswith("need doing, marked TODO")
