"""The loop closed: a running service keeps crops, an adaptation learns from them, the service lists what it made."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import write_config, write_site

from reid_mtda.camera_means import read_cameras
from reid_mtda.errors import DataError
from reid_mtda.live.settings import LiveSettings
from reid_mtda.live.streams import StreamSettings
from reid_mtda.presets import load_config
from reid_mtda.service.cameras import _SCHEMA, FILE
from reid_mtda.service.database import Database
from reid_mtda.service.run import running_service
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import Site, load_site
from reid_mtda.types import Frame
from reid_mtda.vision.video import read_frames
from reid_mtda.workflow.adapt import adapt_cameras
from reid_mtda.workflow.stored_crops import import_stored_crops

SETTINGS = ServiceSettings(live=LiveSettings(streams=StreamSettings(retry_s=0.2, restarts_per_minute=200)))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two cameras, one of them opted in."""
    write_site(tmp_path / "running", duration=40)
    with (tmp_path / "running" / "gate.yaml").open("a", encoding="utf-8") as file:
        file.write("keep_for_adaptation: true\n")
    return load_site(tmp_path / "running")


def raising(error: BaseException | type[BaseException], crops: Path):
    """A step that is stopped while the copies are there."""

    def step(*arguments: object) -> None:
        assert any(crops.glob("*.jpg"))
        raise error

    return step


def hurried(url: str, *, camera: str, fps: float) -> Iterator[Frame]:
    for frame in read_frames(url, camera=camera, fps=fps):
        time.sleep(0.002)
        yield frame


def test_from_kept_crops_to_a_candidate(
    site: Site, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid_mtda.live.streams.is_live", lambda url: True)  # as fast as it can be drawn
    monkeypatch.setattr("reid_mtda.live.streams.read_frames", hurried)
    state = tmp_path / "state"
    with running_service(site, model_folder, tmp_path / "gallery", state, SETTINGS) as service:
        deadline = time.monotonic() + 60
        while not all(camera.counts.sightings >= 4 for camera in service.system.pool.states().values()):
            assert time.monotonic() < deadline, "too few people were seen"
            time.sleep(0.1)
        for name in site.cameras:  # spare the processor
            service.system.pool.pause(name)
        assert [folder.name for folder in (state / "crops").iterdir()] == ["gate"]
        assert service.models.candidates() == []

        out = state / "candidates" / "first"
        config = load_config(write_config(tmp_path / "tiny.yaml"))
        state_of_teacher = "teachers_gate/checkpoints/resume.pt"
        for error in (KeyboardInterrupt, DataError("no disk")):  # neither when it is stopped nor when it fails
            with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, DataError)):
                patch.setattr("reid_mtda.workflow.training.adapt_teachers", raising(error, out / "crops" / "gate"))
                (out / state_of_teacher).parent.mkdir(parents=True, exist_ok=True)
                (out / state_of_teacher).write_bytes(b"of other crops")
                adapt_cameras(site, config, out, crops=state / "crops")
            assert not (out / "crops").exists() and not (out / state_of_teacher).exists()
        adapted = adapt_cameras(site, config, out, crops=state / "crops")
        assert list(adapted.harvests) == ["gate"] and adapted.harvests["gate"].tracklets >= 2
        assert service.models.candidates() == ["first"]
        seen = json.loads((adapted.model_folder / "cameras.json").read_text())["cameras"]
        assert {name: camera["crops"] for name, camera in seen.items()} == {"gate": adapted.harvests["gate"].crops}
        assert read_cameras(adapted.model_folder, adapted.manifest)["gate"].shape == (adapted.manifest.embedding_dim,)
        # Copies that no erasure would reach do not stay.
        assert not (out / "crops").exists() and not (out / "teacher_outputs").exists()
        again = adapt_cameras(site, config, out, crops=state / "crops")
        assert again.manifest == adapted.manifest and not (out / "crops").exists()

        report = service.models.compare_models("admin", "first")
        (entry,) = service.audit.entries(action="candidate_judged")
        assert entry.detail["model_id"] == adapted.manifest.model_id and entry.detail["passes"] == report.passes


def test_whoever_was_erased_is_not_learnt_from_by_a_job_that_goes_on(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "crops" / "gate"
    gate.mkdir(parents=True)
    table = ["file,tracklet,frame,time_s,x0,y0,x1,y1"]
    for track in range(3):
        (gate / f"{track}.jpg").write_bytes(b"a crop")
        table.append(f"{track}.jpg,{track},0,0,0,0,1,1")
    (gate / "crops.csv").write_text("\n".join(table) + "\n")
    reports, failures = import_stored_crops(site, tmp_path / "crops", tmp_path / "run")
    assert (reports["gate"].tracklets, reports["gate"].crops, failures) == (3, 3, {})
    (gate / "1.jpg").unlink()
    (gate / "crops.csv").write_text("\n".join([*table[:2], table[3], "3.jpg,3,0,0,0,0,1,1"]) + "\n")
    (gate / "3.jpg").write_bytes(b"a new one")
    reports, _ = import_stored_crops(site, tmp_path / "crops", tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "gate").glob("*.jpg")) == ["0.jpg", "2.jpg"]
    assert reports["gate"].crops == 2
    (gate / "crops.csv").write_text("file\n")
    _, failures = import_stored_crops(site, tmp_path / "crops", tmp_path / "run")
    assert "got other columns" in failures["gate"]


def test_a_camera_added_while_running_is_learnt_from_where_it_was_opted_in(site: Site, tmp_path: Path) -> None:
    """A camera whose file does not say so is none of those, and neither is one whose file went or that was removed."""
    database = Database(tmp_path / FILE, _SCHEMA)
    with database.write() as connection:
        for name, keeps, is_removed in (("added", True, 0), ("shy", False, 0), ("removed", True, 1)):
            settings = json.dumps({"url": "synthetic://street", "keep_for_adaptation": keeps})
            connection.execute("INSERT INTO cameras VALUES (?, ?, 30, ?, 0)", (name, settings, is_removed))
    database.close()
    for name in ("gate", "plaza", "added", "shy", "removed", "went"):
        (tmp_path / "crops" / name).mkdir(parents=True)
        (tmp_path / "crops" / name / "1.jpg").write_bytes(b"a crop")
        (tmp_path / "crops" / name / "crops.csv").write_text(
            "file,tracklet,frame,time_s,x0,y0,x1,y1\n1.jpg,1,0,0,0,0,1,1\n"
        )
    reports, failures = import_stored_crops(site, tmp_path / "crops", tmp_path / "run")
    assert sorted(reports) == ["added", "gate"] and not failures
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["added", "gate"]


def test_without_crops_or_consent_there_is_nothing_to_learn_from(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder, expected the crops that a service kept"):
        import_stored_crops(site, tmp_path / "nowhere", tmp_path / "run")
    (tmp_path / "running" / "gate.yaml").unlink()
    (tmp_path / "crops").mkdir()
    with pytest.raises(DataError, match="no camera is opted in; write 'keep_for_adaptation: true'"):
        import_stored_crops(load_site(tmp_path / "running"), tmp_path / "crops", tmp_path / "run")
