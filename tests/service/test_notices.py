"""Files that go wrong while the service runs: said on the page, in the API, the metrics and the audit, and survived."""

import shutil
import time
from pathlib import Path

from service_fixtures import REASON, RunningService

from reid_mtda.live.settings import LiveSettings
from reid_mtda.service.run import running_service
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import load_site

API = "/api/v1"


def test_shown_to_operators_of_that_camera(running: RunningService) -> None:
    alerts = running.service.system.alerts
    running.service.system.periodic_checks.clear()  # they would find that nothing is wrong
    alerts.put("camera gate", "gate.yaml: is broken")
    alerts.put("site", "the folder is gone")
    assert running.client("operator").get(f"{API}/alerts").json() == alerts.all()
    assert running.client("viewer").get(f"{API}/alerts").status_code == 403
    assert running.client("operator", cameras=["plaza"]).get(f"{API}/alerts").json() == {"site": "the folder is gone"}
    for path in ("/", "/status"):
        text = running.signed_in("operator")[0].get(path).text
        assert "gate.yaml: is broken" in text and "the folder is gone" in text
        assert "the folder is gone" not in running.signed_in("viewer")[0].get(path).text
    assert 'reid_alert{subject="camera gate"} 1.0' in running.service.metrics.text().decode()
    alerts.put("camera gate", "")
    assert alerts.all() == {"site": "the folder is gone"}


def test_a_model_folder_that_vanishes_is_named_and_survived(running: RunningService, tmp_path: Path) -> None:
    models, alerts = running.service.models, running.service.system.alerts
    models.poll()
    assert alerts.all() == {}
    model = tmp_path / "model"
    shutil.copytree(models._now.model, model)
    models._now = type(models._now)(model, models._now.gallery)
    shutil.rmtree(model)
    models.poll()
    assert "its folder" in alerts.of("model") and "could not be started again; put it back" in alerts.of("model")
    admin = running.client("admin")
    found = admin.post(f"{API}/search", json={"sighting_id": running.numbers[1, "gate"], "k": 2, **REASON})
    assert len(found.json()["hits"]) == 2  # answers go on
    shutil.rmtree(running.folder / "candidates")
    assert admin.get(f"{API}/model/candidates").json()["candidates"] == []
    assert admin.post(f"{API}/model/promotions", json={"name": "turned"}).status_code == 404
    model.mkdir()
    (model / "manifest.json").touch()
    models.poll()
    assert alerts.of("model")  # the weights are still missing
    (model / "model.onnx").touch()
    models.poll()
    assert alerts.all() == {}


def test_a_camera_whose_file_goes_still_lets_its_sightings_grow_old_after_a_restart(
    tmp_path: Path, model_folder: Path
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    for name, days in (("gate", 7), ("market", 30)):
        (folder / f"{name}.yaml").write_text(f"url: synthetic://street?camera={name}\nretention_days: {days}\n")
    settings = ServiceSettings(live=LiveSettings(site_every_s=0.05))
    where = (model_folder, tmp_path / "gallery", tmp_path / "state", settings)

    def until(true) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with running_service(load_site(folder), *where) as service:
        (folder / "market.yaml").write_text("url: synthetic://street?camera=market\nfps: 0\n")
        until(lambda: "fps: got 0" in service.system.alerts.of("camera market"))
        (folder / "gate.yaml").unlink()
        until(lambda: service.audit.entries(action="site_file_removed"))
        assert list(service.system.pool.states()) == ["market"]
    (folder / "market.yaml").write_text("url: synthetic://street?camera=market\n")
    with running_service(load_site(folder), *where) as service:
        assert service.system.pool.former == {"gate": 7}
        (folder / "gate.yaml").write_text("url: synthetic://street?camera=gate\nretention_days: 3\n")
        until(lambda: "gate" in service.system.pool.states())
        assert service.system.pool.former == {}
    with running_service(load_site(folder), *where) as service:
        assert service.system.pool.state("gate").settings.retention_days == 3
