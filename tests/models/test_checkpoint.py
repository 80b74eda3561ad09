"""Checkpoints are whole, typed and free of pickles; foreign weights fit entirely or not at all."""

import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from builders import same_weights
from safetensors.torch import save_file

from reid_mtda.errors import ModelError, StorageError
from reid_mtda.models.checkpoint import load_embedder, load_tensors, save_embedder, save_tensors
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.models.foreign_weights import load_zoo_weights
from reid_mtda.runs import Run, open_run

SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=3, embedding_dim=8)


def test_a_saved_embedder_is_the_same_network(tmp_path):
    model = build_embedder(SPEC, seed=4)
    model.train()(torch.randn(4, 3, 32, 16))  # buffers of its own
    save_embedder(tmp_path / "m.safetensors", model, input=(32, 16))
    again = load_embedder(tmp_path / "m.safetensors")
    assert again.spec == SPEC and not again.training and same_weights(model, again)
    assert load_tensors(tmp_path / "m.safetensors", kind="embedder")[1]["input"] == [32, 16]


def test_strides_do_not_matter(tmp_path):
    model = build_embedder(SPEC, seed=4).to(memory_format=torch.channels_last)
    save_embedder(tmp_path / "m.safetensors", model)
    assert same_weights(model, load_embedder(tmp_path / "m.safetensors"))


def damaged(path, how):
    data = path.read_bytes()
    half = {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello", "head": data[:9], "grown": data + b"x"}
    path.write_bytes(half[how])


@pytest.mark.parametrize("how", ["cut", "empty", "text", "head", "grown"])
def test_a_damaged_file_is_refused(tmp_path, how):
    path = tmp_path / "m.safetensors"
    save_embedder(path, build_embedder(SPEC, seed=0))
    damaged(path, how)
    with pytest.raises(ModelError, match=r"m\.safetensors: not a readable checkpoint .*expected a \.safetensors file"):
        load_embedder(path)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"none\.safetensors: no such checkpoint; check the path"):
        load_embedder(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"got 'a file of another program', expected a checkpoint of kind 'embedder'"):
        load_embedder(tmp_path / "other.safetensors")
    save_tensors(tmp_path / "resume.safetensors", {"x": torch.zeros(1)}, kind="resume", card={})
    with pytest.raises(ModelError, match=r"got 'resume', expected a checkpoint of kind 'embedder'"):
        load_embedder(tmp_path / "resume.safetensors")


def test_a_run_knows_its_own_files_again(tmp_path):
    run, other = (open_run(tmp_path / name, seed=0, config={"steps": name}) for name in ("a", "b"))
    model = build_embedder(SPEC, seed=0)
    save_embedder(run.folder / "teachers/gate.safetensors", model, run=run, input=(32, 16))
    assert same_weights(model, load_embedder(run.folder / "teachers/gate.safetensors", run=run))
    moved = run.folder.rename(tmp_path / "moved")
    assert same_weights(model, load_embedder(moved / "teachers/gate.safetensors", run=Run(moved, 0)))
    for foreign in (other.folder / "gate.safetensors", moved / "teachers/plaza.safetensors"):
        shutil.copy(moved / "teachers/gate.safetensors", foreign)
        owner = Run(foreign.parent if foreign.parent == other.folder else moved, 0)
        with pytest.raises(
            ModelError, match=rf"{foreign}: was written by another run, or as another file.*; delete it"
        ):
            load_embedder(foreign, run=owner)
        assert same_weights(model, load_embedder(foreign)), "outside a run a checkpoint is a checkpoint"


def test_a_same_place_in_another_run_is_refused(tmp_path):
    run, other = (open_run(tmp_path / name, seed=0, config={"steps": name}) for name in ("a", "b"))
    save_embedder(run.folder / "m.safetensors", build_embedder(SPEC, seed=0), run=run)
    shutil.copy(run.folder / "m.safetensors", other.folder)
    with pytest.raises(ModelError, match="was written by another run"):
        load_embedder(other.folder / "m.safetensors", run=other)
    save_embedder(other.folder / "m.safetensors", build_embedder(SPEC, seed=0))
    load_embedder(other.folder / "m.safetensors", run=other)  # without a mark: written before there were any


@pytest.mark.parametrize("how", ["cut", "text"])
def test_a_damaged_file_of_a_run_is_to_be_deleted(tmp_path, how):
    run, path = Run(tmp_path, 0), tmp_path / "m.safetensors"
    save_embedder(path, build_embedder(SPEC, seed=0), run=run)
    damaged(path, how)
    with pytest.raises(ModelError, match=r"m\.safetensors: not a readable .*; delete it and run the same command"):
        load_embedder(path, run=run)


def test_weights_that_do_not_fit_their_spec_are_refused(tmp_path):
    model = build_embedder(SPEC, seed=0)
    card = {"spec": {**SPEC.model_dump(), "arch": "resnet10_w8"}}
    save_tensors(tmp_path / "m.safetensors", model.state_dict(), kind="embedder", card=card)
    with pytest.raises(ModelError, match=r"m\.safetensors: weights do not fit the stored spec"):
        load_embedder(tmp_path / "m.safetensors")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_embedder(path, build_embedder(SPEC, seed=0))
    before = path.read_bytes()

    def full(*_, **__):
        from safetensors import SafetensorError

        raise SafetensorError("Error while serializing: IoError(Os { code: 28, message: No space left on device })")

    monkeypatch.setattr("reid_mtda.models.checkpoint.save_file", full)
    with pytest.raises(StorageError, match=r"m\.safetensors: could not be written .*No space left on device"):
        save_embedder(path, build_embedder(SPEC, seed=1))
    assert path.read_bytes() == before and [found.name for found in tmp_path.iterdir()] == ["m.safetensors"]


def zoo_arrays(arch="osnet_x0_25", seed=1):
    state = build_embedder(EmbedderSpec(arch=arch, neck=False), seed=seed).backbone.model.state_dict()
    return {name: value.numpy() for name, value in state.items()}


def test_zoo_weights_fill_the_backbone_and_classifiers_stay_out(tmp_path):
    arrays = {name: value for name, value in zoo_arrays().items() if not name.endswith("num_batches_tracked")}
    np.savez(tmp_path / "w.npz", **arrays, **{"classifier.weight": np.zeros((7, 512), np.float32)})
    model = build_embedder(EmbedderSpec(arch="osnet_x0_25", num_classes=3), seed=0)
    head = model.classifier.weight.clone()
    load_zoo_weights(model, tmp_path / "w.npz")
    found = model.backbone.model.state_dict()
    assert all(np.array_equal(found[name].numpy(), value) for name, value in arrays.items())
    assert torch.equal(model.classifier.weight, head)


def test_zoo_weights_from_safetensors(tmp_path):
    arrays = zoo_arrays()
    save_file({name: torch.from_numpy(value.copy()) for name, value in arrays.items()}, tmp_path / "w.safetensors")
    model = build_embedder(EmbedderSpec(arch="osnet_x0_25"), seed=0)
    load_zoo_weights(model, tmp_path / "w.safetensors")
    name = "conv1.conv.weight"
    assert np.array_equal(model.backbone.model.state_dict()[name].numpy(), arrays[name])


def test_zoo_weights_that_do_not_fit_change_nothing(tmp_path):
    model = build_embedder(EmbedderSpec(arch="osnet_x0_25"), seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    missing, shaped = zoo_arrays(), zoo_arrays()
    del missing["conv1.conv.weight"]
    shaped["conv1.conv.weight"] = shaped["conv1.conv.weight"][:, :1]
    for arrays, message in (
        (missing, r"missing \['conv1\.conv\.weight'\]"),
        (shaped, r"shape \['conv1\.conv\.weight'"),
    ):
        np.savez(tmp_path / "w.npz", **arrays)
        with pytest.raises(ModelError, match=rf"does not fit osnet_x0_25: .*{message}.*; choose the arch"):
            load_zoo_weights(model, tmp_path / "w.npz")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive", b"\x93NUMPY"])
def test_unreadable_zoo_weights_are_refused(tmp_path, content):
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.npz: not readable weights .*expected \.npz, \.safetensors"):
        load_zoo_weights(build_embedder(SPEC, seed=0), tmp_path / "w.npz")


def test_other_arrays_are_refused(tmp_path):
    model = build_embedder(SPEC, seed=0)
    with pytest.raises(ModelError, match=r"none\.npz: no such weights file"):
        load_zoo_weights(model, tmp_path / "none.npz")
    np.savez(tmp_path / "text.npz", x=np.array(["a"]))
    with pytest.raises(ModelError, match=r"text\.npz: not readable weights"):
        load_zoo_weights(model, tmp_path / "text.npz")
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ModelError, match=r"single\.npz: not readable weights"):
        load_zoo_weights(model, tmp_path / "single.npz")


@pytest.mark.data
@pytest.mark.parametrize("trained_on", ["market1501", "msmt17"])
def test_osnets_weights_give_the_embedding_of_the_given_onnx(data_folder, trained_on):
    weights = data_folder / "weights"
    model = build_embedder(EmbedderSpec(arch="osnet_x0_25", neck=False), seed=0).eval()
    load_zoo_weights(model, weights / f"osnet_x0_25_{trained_on}_state.npz")
    found = sorted(weights.glob(f"*{trained_on}*_from_pth.onnx"))
    if not found:
        pytest.skip(f"no ONNX of {trained_on} there")
    session = onnxruntime.InferenceSession(str(found[0]))
    crops = torch.randn(3, 3, 256, 128, generator=torch.Generator().manual_seed(0))
    name = session.get_inputs()[0].name
    given = np.concatenate([session.run(None, {name: crop[None].numpy()})[0] for crop in crops])
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    with torch.no_grad():
        ours = model(crops).embedding.numpy()
    assert (given * ours).sum(1).min() > 0.9999
