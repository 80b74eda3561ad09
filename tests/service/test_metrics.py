"""Dashboard and alerts name only what the service exports; recall is measured, not claimed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from service_fixtures import RunningService

from reid_mtda.schema import load_yaml, read_yaml
from reid_mtda.service.metrics import SampledRecall
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.types import SearchAnswer

CONFIGS = Path(__file__).parents[2] / "configs" / "live"


def fill(running: RunningService, count: int = 60) -> None:
    rng, dim = np.random.default_rng(0), running.service.system.model.manifest.embedding_dim
    for n in range(count):
        vector = rng.normal(size=dim).astype(np.float32)
        vector /= np.linalg.norm(vector)
        running.service.system.gallery.add(vector, "gate", 1000 + n, n, n + 1, np.zeros((16, 8, 3), np.uint8))


def exported(running: RunningService) -> set[str]:
    fill(running)
    for number in running.numbers.values():
        vector = running.service.system.gallery.vector(number)
        for _ in range(3):
            running.service.system.model_server.drift_monitor.sighting("gate", vector, np.stack([vector, vector]))
    running.service.metrics.searched(0.01)
    running.service.metrics.answered(200)
    running.service.system.alerts.put("camera gate", "its file is broken")
    running.service.calibration.renew()
    return set(re.findall(r"^(reid_\w+)", running.service.metrics.text().decode(), re.MULTILINE))


def test_dashboard_and_alerts_ask_only_for_what_is_exported(running: RunningService) -> None:
    names = exported(running)
    dashboard = json.loads((CONFIGS / "grafana.json").read_text())
    asked = {
        name for panel in dashboard["panels"] for t in panel["targets"] for name in re.findall(r"reid_\w+", t["expr"])
    }
    rules = [rule for group in read_yaml(CONFIGS / "alerts.yaml")["groups"] for rule in group["rules"]]
    asked |= {name for rule in rules for name in re.findall(r"reid_\w+", rule["expr"])}
    # Thresholds appear once calibrated, which this town's few people are not enough for.
    assert asked - names <= {"reid_match_threshold"}
    (down,) = (rule for rule in rules if rule["alert"] == "CameraDown")
    assert "reid_camera_silent_seconds" in down["expr"] and "for" not in down  # no state that a retry could reset
    assert len(asked) > 20 and all("summary" in rule["annotations"] for rule in rules)


def test_the_presets_load() -> None:
    for path in CONFIGS.glob("*.yaml"):
        if path.name != "alerts.yaml":
            load_yaml(path, ServiceSettings)


def test_sampled_recall_is_one_for_exact_and_less_for_a_poor_index(
    running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SampledRecall(running.service.system).now() is None  # too few to say
    fill(running)
    assert SampledRecall(running.service.system).now() == 1
    gallery = running.service.system.gallery
    search = type(gallery).search

    def poor(self, vector, k, **filters) -> SearchAnswer:
        answer = search(self, vector, 2 * k, **filters)
        return SearchAnswer(answer.model_id, answer.gallery_size, answer.hits[::2])

    monkeypatch.setattr(type(gallery), "search", poor)
    recall = SampledRecall(running.service.system).now()
    assert recall is not None and 0.4 < recall < 0.7
