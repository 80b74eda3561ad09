"""Drift is measured against the first sightings of a camera with this model, however often the service starts."""

from pathlib import Path

import numpy as np
import pytest

from reid_mtda.live.drift import DriftMonitor

DIM = 8


def see(drift_monitor: DriftMonitor, count: int, *, turned: float, camera: str = "gate") -> None:
    """Somebody, as seen ``turned`` (radians) away from the first."""
    vector = np.zeros(DIM, np.float32)
    vector[:2] = np.cos(turned), np.sin(turned)
    for _ in range(count):
        drift_monitor.sighting(camera, vector, np.stack([vector, vector]))


def test_a_restart_goes_on_with_the_reference(tmp_path: Path) -> None:
    file = tmp_path / "references-m.json"
    drift_monitor = DriftMonitor(file, DIM)
    see(drift_monitor, 199, turned=0.0)
    assert not file.exists()  # of fewer people nothing is kept
    see(drift_monitor, 1, turned=0.0)
    see(drift_monitor, 30, turned=0.0, camera="plaza")
    again = DriftMonitor(file, DIM)
    see(again, 20, turned=1.0)
    see(again, 20, turned=1.0, camera="plaza")
    assert again.drift() == pytest.approx({"gate": 1 - np.cos(1.0), "plaza": 0.0}, abs=1e-6)
    see(again, 200, turned=0.0)  # the reference stands, whatever comes
    assert again.drift()["gate"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"gate": "x"}', '{"gate": [1, 2]}', '{"gate": [NaN]}'])
def test_a_damaged_reference_is_made_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "references-m.json"
    file.write_text(text)
    drift_monitor = DriftMonitor(file, DIM)
    see(drift_monitor, 200, turned=0.0)
    assert drift_monitor.drift() == pytest.approx({"gate": 0.0}, abs=1e-6)
    assert DriftMonitor(file, DIM)._cameras.keys() == {"gate"}


def test_a_disk_that_refuses_costs_no_sighting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    see(drift_monitor := DriftMonitor(tmp_path / "file" / "references-m.json", DIM), 200, turned=0.0)
    assert drift_monitor.drift()


def test_a_camera_that_was_adapted_to_is_compared_with_what_it_looked_like_then(tmp_path: Path) -> None:
    file, then = tmp_path / "references-m.json", np.eye(DIM, dtype=np.float32)[0]
    drift_monitor = DriftMonitor(file, DIM, {"gate": 0.7 * then})
    for camera in ("gate", "plaza"):
        see(drift_monitor, 220, turned=1.0, camera=camera)
    assert drift_monitor.drift() == pytest.approx({"gate": 1 - np.cos(1.0), "plaza": 0.0}, abs=1e-5)
    assert DriftMonitor(file, DIM)._cameras.keys() == {"plaza"}  # what the model says of itself is not kept twice
    # One that is adapted to now is no longer compared with its first sightings.
    again = DriftMonitor(file, DIM, {"plaza": then})
    see(again, 20, turned=1.0, camera="plaza")
    assert again.drift() == pytest.approx({"plaza": 1 - np.cos(1.0)}, abs=1e-5)


def test_no_drift_is_never_less_than_none() -> None:
    """Rounding made it -0.000."""
    monitor, rng = DriftMonitor(), np.random.default_rng(0)
    for _ in range(40):
        row = rng.normal(size=64).astype(np.float32)
        for _ in range(200):
            monitor.sighting("gate", row, row[None])
        assert monitor.drift()["gate"] >= 0.0
        monitor = DriftMonitor()
