"""Weights as other programs save them: read without running anything, or refused with what is the matter."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from builders import reid_mtda
from torch import Tensor

from reid_mtda.crop_network import trial_crops
from reid_mtda.errors import ConfigError, DataError, ModelError
from reid_mtda.model import load_model
from reid_mtda.models.embedder import Embedder, EmbedderSpec, build_embedder
from reid_mtda.models.foreign_weights import load_zoo_weights
from reid_mtda.workflow.export import GivenNetwork, export_weights

ARCH = "osnet_x0_25"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A network's weights in torchreid's names, its classifier among them."""
    state = build_embedder(EmbedderSpec(arch=ARCH, neck=False), seed=1).backbone.model.state_dict()
    return {**state, "classifier.weight": torch.zeros(7, 512), "classifier.bias": torch.zeros(7)}


MODEL: list[Embedder] = []  # built once: it takes a second


def filled(path: Path) -> Embedder:
    if not MODEL:
        MODEL.append(build_embedder(EmbedderSpec(arch=ARCH, neck=False), seed=0))
    for tensor in MODEL[0].state_dict().values():
        tensor.zero_()
    load_zoo_weights(MODEL[0], path)
    return MODEL[0]


def same(model: Embedder, weights: dict[str, Tensor], atol: float = 0) -> bool:
    found = model.backbone.model.state_dict()
    return all(torch.allclose(found[name].float(), weights[name].float(), atol=atol, rtol=atol) for name in found)


def test_torchreids_checkpoint_is_read(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """As torchreid.utils.save_checkpoint writes it, a rank-1 as NumPy's scalar and an optimiser among it."""
    under = {f"module.{name}": value for name, value in weights.items()}
    rank1 = np.float64(0.93)
    held = {"state_dict": under, "epoch": 60, "rank1": rank1, "optimizer": {"state": {}}, "scheduler": {"last": 3}}
    torch.save(held, tmp_path / "model.pth.tar-60.pth.tar")
    assert same(filled(tmp_path / "model.pth.tar-60.pth.tar"), weights)


@pytest.mark.parametrize(
    ("prefix", "ending"), [("", ".pth"), ("module.", ".pth.tar"), ("module.model.", ".pt"), ("ema.net.", ".ckpt")]
)
def test_weights_are_found_under_any_prefix(
    tmp_path: Path, weights: dict[str, Tensor], prefix: str, ending: str
) -> None:
    torch.save({prefix + name: value for name, value in weights.items()}, tmp_path / f"w{ending}")
    assert same(filled(tmp_path / f"w{ending}"), weights)


def test_the_old_form_of_files_and_halves_and_parameters_are_read(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(filled(tmp_path / "old.pth"), weights)
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    torch.save({"model": half}, tmp_path / "half.pth")
    assert same(filled(tmp_path / "half.pth"), weights, atol=1e-3)
    torch.save({n: torch.nn.Parameter(v, requires_grad=False) for n, v in weights.items()}, tmp_path / "p.pth")
    assert same(filled(tmp_path / "p.pth"), weights)


def test_prefixes_go_from_arrays_too(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    np.savez(tmp_path / "w.npz", **{f"module.{name}": value.numpy() for name, value in weights.items()})
    assert same(filled(tmp_path / "w.npz"), weights)


class Evil:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (Path("evil"), "ran"))


def test_what_would_run_is_refused_unrun(
    tmp_path: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": weights, "x": Evil()}, "evil.pth")
    with pytest.raises(ModelError, match=r"evil\.pth: holds Python objects \([\w.]+\), not weights alone"):
        filled(Path("evil.pth"))
    Path("plain.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match=r"plain\.pkl: "):
        filled(Path("plain.pkl"))
    assert not Path("evil").exists()


def test_settings_of_a_training_script_are_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"state_dict": weights, "args": argparse.Namespace(lr=1)}, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"holds Python objects \(argparse\.Namespace\).*torch\.save\(model\.state_dict"
    ):
        filled(tmp_path / "w.pth")


def test_a_whole_network_is_not_weights(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"holds Python objects \(torch\.nn\.modules\.linear\.Linear\)"):
        filled(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({}, "holds no weights by name"),
        ([1, 2], "holds no weights by name"),
        (torch.zeros(3), "holds no weights by name"),
        ({"epoch": 3}, "holds no weights by name"),
        ({"model": {"a": torch.zeros(1)}, "net": {"a": torch.zeros(1)}}, "holds weights under model and net"),
        ({"a": torch.zeros(1)}, f"does not fit {ARCH}: missing"),
    ],
)
def test_what_holds_no_weights_is_told(tmp_path: Path, held: object, message: str) -> None:
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=message):
        filled(tmp_path / "w.pth")


def test_two_networks_in_one_file_are_told(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({f"{who}.{n}": v for who in ("student", "teacher") for n, v in weights.items()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"several networks that fit, under student\., teacher\.; save the one"):
        filled(tmp_path / "w.pth")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, weights: dict[str, Tensor], number: float) -> None:
    name = "conv1.conv.weight"
    torch.save({**weights, name: torch.full_like(weights[name], number)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"conv1\.conv\.weight holds numbers that are not finite"):
        filled(tmp_path / "w.pth")
    torch.save({**weights, name: weights[name].to(torch.int8)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"conv1\.conv\.weight holds torch\.int8, expected floats"):
        filled(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", b"\x80\x02}q\x00", b"\x00" * 100])
def test_files_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.pth: damaged, or not a file of torch\.save"):
        filled(tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("a/b", "c")
    with pytest.raises(ModelError, match=r"zip\.pth: damaged, or not a file of torch\.save"):
        filled(tmp_path / "zip.pth")


def test_a_pth_becomes_a_model_folder_and_says_what_it_lacks(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"state_dict": {f"module.{n}": v for n, v in weights.items()}}, tmp_path / "w.pth.tar")
    (tmp_path / "crops").mkdir()
    for number, crop in enumerate(trial_crops(3)):
        cv2.imwrite(str(tmp_path / f"crops/{number}.png"), crop)
    size = {"height": 64, "width": 32}
    manifest = export_weights(tmp_path / "w.pth.tar", tmp_path / "m", GivenNetwork(tmp_path / "crops", ARCH, **size))
    assert load_model(tmp_path / "m").model_id == manifest.model_id
    with pytest.raises(
        ModelError, match=r"w\.pth\.tar: not a checkpoint of this program; .*name their network with --arch"
    ):
        export_weights(tmp_path / "w.pth.tar", tmp_path / "n", GivenNetwork(tmp_path / "crops"))
    with pytest.raises(DataError, match=r"got no real crops to compare the export with torch on; .* --crops"):
        export_weights(tmp_path / "w.pth.tar", tmp_path / "n", GivenNetwork(arch=ARCH))
    with pytest.raises(DataError, match=r"--crops .*w\.pth\.tar: is a file, expected a folder of real crops"):
        export_weights(tmp_path / "w.pth.tar", tmp_path / "n", GivenNetwork(tmp_path / "w.pth.tar", ARCH))
    with pytest.raises(ConfigError, match=r"--output: is for a network in a file ending in \.onnx or \.xml"):
        export_weights(tmp_path / "w.pth.tar", tmp_path / "n", GivenNetwork(tmp_path / "crops", ARCH, output="x"))


def test_the_command_line_says_it_in_a_line(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "w.pth")
    done = reid_mtda("export", tmp_path / "w.pth", "--out", tmp_path / "m")
    assert done.returncode == 2 and "name their network with --arch" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
