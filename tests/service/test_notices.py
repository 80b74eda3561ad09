"""Files that go wrong while the service runs: said on the page, in the API, the metrics and the audit, and survived."""

import shutil
import time
from pathlib import Path

from town import REASON, Town

from reid_mtda.live.settings import LiveSettings
from reid_mtda.service.run import running_service
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.site import load_site

API = "/api/v1"


def test_shown_to_operators_of_that_camera(town: Town) -> None:
    notices = town.service.system.notices
    town.service.system.lookouts.clear()  # they would find that nothing is wrong
    notices.put("camera gate", "gate.yaml: is broken")
    notices.put("site", "the folder is gone")
    assert town.client("operator").get(f"{API}/notices").json() == notices.all()
    assert town.client("viewer").get(f"{API}/notices").status_code == 403
    assert town.client("operator", cameras=["plaza"]).get(f"{API}/notices").json() == {"site": "the folder is gone"}
    for path in ("/", "/status"):
        text = town.signed_in("operator")[0].get(path).text
        assert "gate.yaml: is broken" in text and "the folder is gone" in text
        assert "the folder is gone" not in town.signed_in("viewer")[0].get(path).text
    assert 'reid_notice{subject="camera gate"} 1.0' in town.service.metrics.text().decode()
    notices.put("camera gate", "")
    assert notices.all() == {"site": "the folder is gone"}


def test_a_model_folder_that_vanishes_is_named_and_survived(town: Town, tmp_path: Path) -> None:
    models, notices = town.service.models, town.service.system.notices
    models.look()
    assert notices.all() == {}
    model = tmp_path / "model"
    shutil.copytree(models._now.model, model)
    models._now = type(models._now)(model, models._now.gallery)
    shutil.rmtree(model)
    models.look()
    assert "its folder" in notices.of("model") and "could not be started again; put it back" in notices.of("model")
    admin = town.client("admin")
    found = admin.post(f"{API}/search", json={"sighting_id": town.numbers[1, "gate"], "k": 2, **REASON})
    assert len(found.json()["hits"]) == 2  # answers go on
    shutil.rmtree(town.folder / "candidates")
    assert admin.get(f"{API}/model/candidates").json()["candidates"] == []
    assert admin.post(f"{API}/model/promotions", json={"name": "turned"}).status_code == 404
    model.mkdir()
    (model / "manifest.json").touch()
    models.look()
    assert notices.of("model")  # the weights are still missing
    (model / "model.onnx").touch()
    models.look()
    assert notices.all() == {}


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
        until(lambda: "fps: got 0" in service.system.notices.of("camera market"))
        (folder / "gate.yaml").unlink()
        until(lambda: service.audit.entries(action="site_file_removed"))
        assert list(service.system.cameras()) == ["market"]
    (folder / "market.yaml").write_text("url: synthetic://street?camera=market\n")
    with running_service(load_site(folder), *where) as service:
        assert service.system.roster.former == {"gate": 7}
        (folder / "gate.yaml").write_text("url: synthetic://street?camera=gate\nretention_days: 3\n")
        until(lambda: "gate" in service.system.cameras())
        assert service.system.roster.former == {}
    with running_service(load_site(folder), *where) as service:
        assert service.system.camera("gate").settings.retention_days == 3
