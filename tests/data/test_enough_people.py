from pathlib import Path

import numpy as np
import pytest

from reid_mtda.data.enough_people import LEAST_PEOPLE, PeopleSeen, people_seen, too_few_people
from reid_mtda.types import UnlabelledSet


def target(tracklets=None, cameras=None, count=None) -> UnlabelledSet:
    count = len(tracklets) if tracklets is not None else count
    return UnlabelledSet(tuple(Path(f"{n}.jpg") for n in range(count)), "gate", tracklets, cameras)


def drawn(people: int, crops: int = 6):
    rng = np.random.default_rng(people)
    pids = np.repeat(np.arange(people), crops)
    rows = rng.standard_normal((people, 32))[pids] + 0.4 * rng.standard_normal((len(pids), 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_what_a_camera_showed_is_counted():
    rows, tracklets = drawn(60), np.repeat(np.arange(120), 3)
    found = people_seen({"gate": rows}, {"gate": target(tracklets)})["gate"]
    assert (found.crops, found.tracklets) == (360, 120) and 40 <= found.people <= 75
    without = people_seen({"gate": rows}, {"gate": target(count=360)})["gate"]
    assert without.tracklets == 0 and without.people <= 75


def test_a_set_of_several_cameras_is_counted_camera_by_camera():
    rows, cameras = drawn(20), np.tile([0, 1, 1], 40)
    found = people_seen({"set": rows}, {"set": target(np.repeat(np.arange(40), 3), cameras)})
    assert [(name, seen.crops) for name, seen in found.items()] == [("set, camera 0", 40), ("set, camera 1", 80)]


def test_who_has_too_few_is_told_and_what_follows():
    seen = {"gate": PeopleSeen(40, 14, 12), "yard": PeopleSeen(900, 200, 150), "hall": PeopleSeen(9, 0, 5)}
    lines = too_few_people(seen)
    assert list(lines) == ["gate", "hall"]
    assert lines["gate"] == (
        "camera gate: about 12 people in 14 tracklets, expected 20 or more to adapt to; its own mean counts 38 % where "
        "it is subtracted; film longer, or keep the model before"
    )
    assert "about 5 people in 9 crops without tracklets" in lines["hall"]
    assert too_few_people(seen, 5) == {}
    assert too_few_people({"gate": PeopleSeen(99, 30, LEAST_PEOPLE)}) == {}


def market(data_folder: Path, cameras, people=None):
    """Embeddings and targets of Market-1501's adapt part, tracklets given."""
    import cv2

    from reid_mtda.model import Model
    from reid_mtda.networks import open_network
    from reid_mtda.types import ModelManifest, Preprocess

    with np.load(data_folder / "reid" / "market1501_six_cameras.npz", allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files}
    ours = kept["split"] == "adapt"
    ids = np.unique(kept["pid"][ours])
    chosen = ids if people is None else np.random.default_rng(0).choice(ids, people, replace=False)
    network = open_network(data_folder / "weights" / "osnet_x0_25_msmt17_from_pth.onnx", threads=1)
    embedder = Model(ModelManifest("m" * 12, "osnet", 512, Preprocess(), "MSMT17"), lambda batch: network.run(batch)[0])
    rows, targets = {}, {}
    for camera in cameras:
        crops = np.flatnonzero(ours & (kept["cam"] == camera) & np.isin(kept["pid"], chosen))
        pictures = [cv2.imdecode(kept["buf"][kept["off"][n] : kept["off"][n + 1]], 1)[..., ::-1] for n in crops]
        found = embedder.embed(pictures)
        name = f"camera {camera}"
        rows[name] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
        targets[name] = target(kept["tracklet"][crops])
    return rows, targets


def without_tracklets(targets):
    return {name: target(count=len(one)) for name, one in targets.items()}


@pytest.mark.data
def test_sixteen_people_over_six_real_cameras_are_too_few(data_folder):
    """More tracklets than people in all six, up to 21 of 15: their number alone would let most of them pass."""
    rows, targets = market(data_folder, range(1, 7), people=16)
    assert len(too_few_people(people_seen(rows, targets))) == 6
    assert len(too_few_people(people_seen(rows, without_tracklets(targets)))) == 6


@pytest.mark.data
def test_the_smallest_of_six_real_cameras_of_501_people_has_enough(data_folder):
    rows, targets = market(data_folder, [4])
    assert too_few_people(people_seen(rows, targets)) == {}
    assert too_few_people(people_seen(rows, without_tracklets(targets))) == {}


@pytest.mark.data
@pytest.mark.slow
def test_501_people_over_six_real_cameras_are_enough(data_folder):
    rows, targets = market(data_folder, range(1, 7))
    seen = people_seen(rows, targets)
    assert len(seen) == 6 and too_few_people(seen) == {}
