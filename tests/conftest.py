"""What every test shares: two threads at most, and small things that are made once."""

import itertools
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def few_threads():
    """Several people share the machine that runs the tests, and sums are the same on any number of cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_ready_made_networks(tmp_path_factory):
    """Whatever this machine's user has in the models folder, ``detector: auto`` is motion here."""
    os.environ["REID_MTDA_MODELS"] = str(tmp_path_factory.mktemp("no_models"))


@pytest.fixture
def steps_as_seconds(monkeypatch):
    """Let the loops' clock go on by a second at each look: a state is saved every ``checkpoint_seconds`` steps."""
    from reid_mtda.train import resume

    monkeypatch.setattr(resume, "now", itertools.count().__next__)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of development data; skips where it is absent."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("REID_MTDA_DATA") or root / ".." / "shared" / "data")
    if not (folder / "weights").is_dir():
        pytest.skip(f"no development data at {folder}: set REID_MTDA_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def small_street(tmp_path_factory):
    """One adapted street for the whole session: see ``builders.adapt_street``."""
    import builders

    return builders.adapt_street(tmp_path_factory.mktemp("street"))
