"""Neither thresholds nor the gate look at whom a model learnt from, and they say so."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from service_fixtures import RunningService
from test_camera_means import Start, rows_of, start
from test_model_registry import watch

from reid_mtda.camera_means import LearntFrom, write_cameras
from reid_mtda.model_folder import read_manifest

__all__ = ["start"]
API = "/api/v1"


def test_they_are_left_out_counted_and_told(start: Start, tmp_path: Path, model_folder: Path) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "model"))
    began = time.time() - 3600
    learnt = {"gate": LearntFrom(((began - 1, began + 60.5),)), "market": LearntFrom(footage="f" * 32)}
    means = {name: rows_of(name, 60) for name in learnt}
    write_cameras(model, read_manifest(model), means, dict.fromkeys(means, 40), learnt)
    with start(model, false_match_rate=0.05) as (service, client):
        gallery = service.system.gallery
        for camera in learnt:
            starts = (began + 2.0 * np.arange(60)).tolist()
            gallery.add_many(rows_of(camera, 60), camera, start_s=starts, end_s=[one + 9 for one in starts])
        client.post(f"{API}/model/calibration")
        of_gate = client.get(f"{API}/model").json()["learnt_from"]
        assert of_gate == 31
        within_gate = service.calibration.current().of("gate", "gate")
        gallery.note_footage("market", "f" * 32, began, began + 3000)
        client.post(f"{API}/model/calibration")
        told = client.get(f"{API}/model").json()
        assert told["learnt_from"] == of_gate + 60
        now = service.calibration.current().pairs
        assert {camera for pair in now for camera in pair} <= {"gate", ""} and now[
            "gate", "gate"
        ].threshold == within_gate
        client.headers["Accept"] = "text/html"
        assert f"{of_gate + 60} sightings do not count, for the model learnt from them" in client.get("/status").text


def test_the_gate_looks_at_new_people_alone(start: Start, tmp_path: Path, model_folder: Path) -> None:
    candidate = Path(shutil.copytree(model_folder, tmp_path / "candidates" / "again"))
    learnt = {name: LearntFrom(((0.0, 1000.0),)) for name in ("gate", "market", "plaza")}
    write_cameras(candidate, read_manifest(candidate), {name: rows_of(name, 30) for name in learnt}, None, learnt)
    with start(model_folder) as (service, client):
        watch(RunningService(service, tmp_path, {}, 0.0))
        judged = client.post(f"{API}/model/comparisons", json={"name": "again"}).json()
        assert not judged["passes"] and judged["reason"] == (
            "no camera saw enough people yet to judge; 180 tracklets do not count, for a model learnt from them"
        )
