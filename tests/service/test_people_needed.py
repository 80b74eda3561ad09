"""The status page says whether a camera that keeps crops showed enough people to adapt to."""

from __future__ import annotations

import numpy as np
from service_fixtures import RunningService

from reid_mtda.data.enough_people import LEAST_PEOPLE


def test_few_people_are_told_before_anybody_adapts(running: RunningService) -> None:
    system, calibration = running.service.system, running.service.calibration
    state = system.pool.states()["gate"]
    opted_in = state.settings.model_copy(update={"keep_for_adaptation": True})
    system.pool.remove("gate")
    system.pool.add("gate", opted_in)
    system.pool.pause("gate")
    calibration.renew()
    assert calibration.people.keys() == {"gate"} and calibration.people["gate"] < LEAST_PEOPLE
    client, _ = running.signed_in("admin")
    assert f"{LEAST_PEOPLE} are needed" in client.get("/status").text
    rng, dim = np.random.default_rng(0), system.gallery.dim
    people = rng.normal(size=(90, 1, dim)) + 0.05 * rng.normal(size=(90, 3, dim))  # three near sightings each
    vectors = (people / np.linalg.norm(people, axis=2, keepdims=True)).reshape(-1, dim)
    system.gallery.add_many(vectors.astype(np.float32), "gate")
    calibration.renew()
    assert calibration.people["gate"] >= LEAST_PEOPLE
    page = client.get("/status").text
    assert "are needed" not in page and f"about {calibration.people['gate']} people" in page
