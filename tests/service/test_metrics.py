"""Dashboard and alerts name only what the service exports; recall is measured, not claimed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from town import Town

from reid_mtda.schema import load_yaml, read_yaml
from reid_mtda.service.metrics import SampledRecall
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.types import SearchAnswer

CONFIGS = Path(__file__).parents[2] / "configs" / "live"


def fill(town: Town, count: int = 60) -> None:
    rng, dim = np.random.default_rng(0), town.service.system.manifest.embedding_dim
    for n in range(count):
        vector = rng.normal(size=dim).astype(np.float32)
        vector /= np.linalg.norm(vector)
        town.service.system.gallery.add(vector, "gate", 1000 + n, n, n + 1, np.zeros((16, 8, 3), np.uint8))


def exported(town: Town) -> set[str]:
    fill(town)
    for number in town.numbers.values():
        vector = town.service.system.gallery.vector(number)
        for _ in range(3):
            town.service.system.observed.sighting("gate", vector, np.stack([vector, vector]))
    town.service.metrics.searched(0.01)
    town.service.metrics.answered(200)
    town.service.system.notices.put("camera gate", "its file is broken")
    town.service.calibration.renew()
    return set(re.findall(r"^(reid_\w+)", town.service.metrics.text().decode(), re.MULTILINE))


def test_dashboard_and_alerts_ask_only_for_what_is_exported(town: Town) -> None:
    names = exported(town)
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


def test_sampled_recall_is_one_for_exact_and_less_for_a_poor_index(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SampledRecall(town.service.system).now() is None  # too few to say
    fill(town)
    assert SampledRecall(town.service.system).now() == 1
    gallery = town.service.system.gallery
    search = type(gallery).search

    def poor(self, vector, k, **filters) -> SearchAnswer:
        answer = search(self, vector, 2 * k, **filters)
        return SearchAnswer(answer.model_id, answer.gallery_size, answer.hits[::2])

    monkeypatch.setattr(type(gallery), "search", poor)
    recall = SampledRecall(town.service.system).now()
    assert recall is not None and 0.4 < recall < 0.7
