"""Every loop computes where its run says: a step of each on ``meta``, where a tensor left behind raises.

On a machine with an accelerator ``pytest -m gpu`` runs the loops there, and the two are compared.
"""

import json

import pytest
import test_closed_methods as closed
import test_reid_training as reid
import torch
from builders import source_set, target_set
from one_device import Left, OneDevice

from reid_mtda.data.batches import Pictures, load_pictures
from reid_mtda.losses.cluster_memory import memory_loss
from reid_mtda.models.device import choose_device, placed
from reid_mtda.models.embedder import EmbedderOutput, build_embedder
from reid_mtda.runs import Compute, Run
from reid_mtda.train import cluster_contrast, source
from reid_mtda.train.common import embed_pictures

LOOPS = {
    **{name: (lambda run, sets, loop=loop: loop(run, *sets)) for name, loop in reid.LOOPS.items()},
    **{
        f"closed {name}": (lambda run, sets, method=method, settings=settings: method(run, **settings))
        for name, (method, settings) in closed.METHODS.items()
    },
}
every_loop = pytest.mark.parametrize("name", LOOPS)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coats")
    tints = {"gate": (0.7, 0.9, 1.1), "plaza": (1.2, 1.0, 0.7), "tunnel": (1.1, 0.6, 0.4)}
    return source_set(folder), {camera: target_set(folder, camera, tint) for camera, tint in tints.items()}


def on_meta(name, sets, folder):
    with OneDevice():
        return LOOPS[name](Run(folder, 0, Compute(device="meta")), sets)


@every_loop
def test_no_tensor_is_left_behind(name, sets, tmp_path):
    on_meta(name, sets, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines, "no step was taken"


def pictures_that_stay(monkeypatch):
    unit = Pictures.unit
    monkeypatch.setattr(Pictures, "unit", lambda self, rows, device=None: unit(self, rows))


def memory_that_stays(monkeypatch):
    """A product of matrices: torch's own meta tensors would let it pass."""
    monkeypatch.setattr(
        cluster_contrast, "memory_loss", lambda **roles: memory_loss(**{**roles, "memory": torch.rand(4, 16)})
    )


def teacher_outputs_that_stay(monkeypatch):
    monkeypatch.setattr(EmbedderOutput, "to", lambda self, device: self)


def labels_that_stay(monkeypatch):
    loss = source.identity_loss
    monkeypatch.setattr(
        source, "identity_loss", lambda **roles: loss(**{**roles, "labels": torch.zeros(6, dtype=torch.int64)})
    )


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        (pictures_that_stay, "dmmd"),
        (memory_that_stays, "cluster"),
        (teacher_outputs_that_stay, "distil"),
        (labels_that_stay, "source"),
        (pictures_that_stay, "closed progressive dann"),
    ],
)
def test_a_tensor_left_behind_is_caught(mutant, name, sets, tmp_path, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(Left, match=r"on the host, .* on the device"):
        on_meta(name, sets, tmp_path)


@pytest.fixture(scope="module")
def accelerator():
    chosen = choose_device("auto")
    if chosen.type == "cpu":
        pytest.skip("no accelerator here")
    return str(chosen)


@pytest.mark.gpu
@every_loop
def test_every_loop_runs_on_an_accelerator_and_comes_back(name, sets, tmp_path, accelerator):
    found = LOOPS[name](Run(tmp_path, 0, Compute(device=accelerator)), sets)
    for model in found if isinstance(found, list) else [found]:
        state = model.state_dict()
        assert all(not value.is_cuda and bool(value.isfinite().all()) for value in state.values())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["source", "dmmd", "KD-ReID", "closed mcc"])
def test_an_accelerator_learns_what_the_cpu_learns(name, sets, tmp_path, accelerator):
    """The first step's loss parts agree to rounding: data order, weights and augmentation parameters are the same."""
    parts = []
    for device in ("cpu", accelerator):
        folder = tmp_path / device.replace(":", "")
        folder.mkdir()
        LOOPS[name](Run(folder, 0, Compute(device=device)), sets)
        first = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
        parts.append({key: value for key, value in first.items() if key not in ("time_s", "part")})
    assert parts[0] == pytest.approx(parts[1], rel=2e-2, abs=2e-2)


@pytest.mark.gpu
def test_one_network_embeds_alike_on_both(sets, accelerator):
    model = build_embedder(reid.SPEC, seed=0)
    pictures = load_pictures(sets[0].paths, reid.PREPROCESS)
    host = embed_pictures(model, pictures).embedding
    there = embed_pictures(placed(model, Compute(device=accelerator)), pictures).embedding
    torch.testing.assert_close(host, there, atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.slow
def test_the_demo_runs_on_an_accelerator(tmp_path, accelerator):
    from reid_mtda.bench.demo import demo

    report = demo(tmp_path / "demo", compute=Compute(device=accelerator))
    by_name = {row["method"]: row["mAP"] for row in report["results"]}
    assert by_name["distilled student"] > by_name["source only"] + 0.1
