"""Networks as people have them: read as they are, or refused with what is the matter."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reid_mtda.crop_network import trial_crops
from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import load_model, write_manifest
from reid_mtda.model_folder import read_manifest
from reid_mtda.onnx_file import whole_onnx
from reid_mtda.types import ModelManifest, Preprocess
from reid_mtda.workflow.export import GivenNetwork, export_weights

SIZE = Preprocess(height=16, width=8)
DIM = 6
RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(3, DIM)).astype(np.float32)


def network(
    path: Path,
    *,
    before: list[onnx.NodeProto] | None = None,
    after: list[onnx.NodeProto] | None = None,
    outputs: tuple[str, ...] = ("rows",),
    shape: tuple[object, ...] = ("batch", 3, 16, 8),
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
    beside: bool = False,
) -> Path:
    """Mean colours through a matrix: crops -> rows (B, 6), with nodes before, from 'crops' to 'given', and after."""
    dtype = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.UINT8: np.float32}[kind]
    nodes = [
        *(before or [helper.make_node("Identity", ["crops"], ["given"])]),
        helper.make_node("ReduceMean", ["given"], ["colours"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["colours", "weights"], ["rows"]),
        *(after or []),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("crops", kind, shape)],
        [
            helper.make_tensor_value_info(name, kind if dtype != np.float32 else TensorProto.FLOAT, None)
            for name in outputs
        ],
        [numpy_helper.from_array(WEIGHTS.astype(dtype), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    if beside:
        location = f"{path.name}.data"
        onnx.save(model, str(path), save_as_external_data=True, location=location, size_threshold=0)
    else:
        onnx.save(model, str(path))
    return path


def make(path: Path, folder: Path, preprocess: Preprocess = SIZE, output: str | None = None) -> ModelManifest:
    return write_manifest(path, folder, arch="colours", preprocess=preprocess, trained_on="nothing", output=output)


@pytest.fixture
def rows(tmp_path: Path) -> np.ndarray:
    """What the plain network gives for five crops."""
    make(network(tmp_path / "plain.onnx"), tmp_path / "plain")
    return load_model(tmp_path / "plain").embed(trial_crops(5))


# ------------------------------------------------------------------------------------------------- read as they are


def test_weights_in_a_file_beside_are_taken_along(tmp_path: Path, rows: np.ndarray) -> None:
    path = network(tmp_path / "net.onnx", beside=True)
    assert (tmp_path / "net.onnx.data").stat().st_size
    make(path, tmp_path / "m")
    (tmp_path / "net.onnx.data").unlink()
    assert sorted(file.name for file in (tmp_path / "m").iterdir()) == ["manifest.json", "model.onnx"]
    np.testing.assert_array_equal(load_model(tmp_path / "m").embed(trial_crops(5)), rows)
    with pytest.raises(ModelError, match=r"net\.onnx: the file of its weights is missing, expected net\.onnx\.data"):
        make(path, tmp_path / "m")
    (tmp_path / "net.onnx.data").write_bytes(b"xy")
    with pytest.raises(ModelError, match=r"net\.onnx\.data: cut short, or of another network"):
        make(path, tmp_path / "m")
    assert load_model(tmp_path / "m"), "what stood there stays"


def test_weights_of_torchs_newer_exporter_are_taken_along(tmp_path: Path) -> None:
    import torch
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 600)
    ).eval()
    crops = torch.rand(4, 3, 16, 8)
    free = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (crops,), tmp_path / "net.onnx", dynamo=True, dynamic_shapes=free, verbose=False)
    assert (tmp_path / "net.onnx.data").is_file()
    make(tmp_path / "net.onnx", tmp_path / "m")
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(net(crops), dim=1).numpy()
    np.testing.assert_allclose(load_model(tmp_path / "m").network(crops.numpy()), wanted, atol=1e-5)


def test_weights_outside_of_the_folder_are_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = network(tmp_path / "in" / "net.onnx", beside=True)
    (tmp_path / "in" / "net.onnx.data").rename(tmp_path / "out.onnx.data")
    path.write_bytes(path.read_bytes().replace(b"net.onnx.data", b"../out.onnx.d"))
    with pytest.raises(ModelError, match=r"its weights lie in '../out.onnx.d', expected a file in its own folder"):
        make(path, tmp_path / "m")


def test_one_file_stays_byte_for_byte(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx")
    assert whole_onnx(path) == path.read_bytes()


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_cut_file_is_told_as_one(tmp_path: Path, cut: float) -> None:
    path = network(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(ModelError, match=r"net\.onnx: (not an ONNX file, or cut short|ONNX Runtime cannot open it)"):
        make(path, tmp_path / "m")


def test_half_precision_serves(tmp_path: Path, rows: np.ndarray) -> None:
    make(network(tmp_path / "half.onnx", kind=TensorProto.FLOAT16), tmp_path / "m")
    found = load_model(tmp_path / "m").embed(trial_crops(5))
    assert found.dtype == np.float32
    assert np.sum(found * rows, axis=1).min() > 0.999


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_fixed_batch_serves_any_number_of_crops(tmp_path: Path, rows: np.ndarray, batch: int) -> None:
    make(network(tmp_path / "fixed.onnx", shape=(batch, 3, 16, 8)), tmp_path / "m")
    np.testing.assert_allclose(load_model(tmp_path / "m").embed(trial_crops(5)), rows, atol=1e-6)
    assert load_model(tmp_path / "m").embed([]).shape == (0, DIM)


LAST = [helper.make_node("Transpose", ["crops"], ["given"], perm=[0, 3, 1, 2])]


@pytest.mark.parametrize("shape", [("batch", 16, 8, 3), (2, 16, 8, 3), ("batch", "h", "w", 3)])
def test_channels_that_come_last_serve(tmp_path: Path, rows: np.ndarray, shape: tuple[object, ...]) -> None:
    make(network(tmp_path / "last.onnx", before=LAST, shape=shape), tmp_path / "m")
    np.testing.assert_allclose(load_model(tmp_path / "m").embed(trial_crops(5)), rows, atol=1e-6)


def test_of_several_outputs_one_is_named(tmp_path: Path, rows: np.ndarray) -> None:
    scores = [helper.make_node("Softmax", ["rows"], ["scores"])]
    path = network(tmp_path / "two.onnx", after=scores, outputs=("scores", "rows"))
    with pytest.raises(ModelError, match=r"has 2 outputs, scores .*, rows .*; say which is the embedding.*--output"):
        make(path, tmp_path / "m")
    with pytest.raises(ModelError, match=r"has no output 'row', got scores"):
        make(path, tmp_path / "m", output="row")
    manifest = make(path, tmp_path / "m", output="rows")
    assert read_manifest(tmp_path / "m") == manifest and manifest.output == "rows"
    np.testing.assert_allclose(load_model(tmp_path / "m").embed(trial_crops(5)), rows, atol=1e-6)


def test_its_own_crop_size_is_taken_where_none_is_stated(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx")
    assert export_weights(path, tmp_path / "m").preprocess == SIZE
    with pytest.raises(ConfigError, match=r"net\.onnx: got device 'npu', expected one that ONNX Runtime has .*cpu"):
        export_weights(path, tmp_path / "n", device="npu")
    assert not (tmp_path / "n").exists()
    with pytest.raises(ModelError, match=r"takes crops of 16x8 px .*, got 256x8; state its own height and width"):
        export_weights(path, tmp_path / "m", GivenNetwork(height=256))


# -------------------------------------------------------------------------------------------------------- refused


def test_class_scores_are_no_embedding(tmp_path: Path, rows: np.ndarray) -> None:
    scores = [helper.make_node("Softmax", ["rows"], ["scores"])]
    path = network(tmp_path / "net.onnx", after=scores, outputs=("scores",))
    with pytest.raises(ModelError, match="gives 6 shares that are 1 in all, so these are class scores"):
        make(path, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def batch_mean(training: bool) -> list[onnx.NodeProto]:
    return [
        helper.make_node("ReduceMean", ["crops"], ["mean"], axes=[0] if training else [1, 2, 3], keepdims=1),
        helper.make_node("Sub", ["crops", "mean"], ["given"]),
    ]


def test_what_depends_on_the_other_crops_is_refused(tmp_path: Path) -> None:
    make(network(tmp_path / "eval.onnx", before=batch_mean(training=False)), tmp_path / "m")
    ones = [
        helper.make_node("ReduceMean", ["crops"], ["mean"], axes=[0, 2, 3], keepdims=1),
        helper.make_node("Mul", ["crops", "mean"], ["given"]),
    ]
    with pytest.raises(ModelError, match=r"a crop alone and the same crop among others give two .* training mode"):
        make(network(tmp_path / "train.onnx", before=ones), tmp_path / "n")


def test_batch_norm_in_training_mode_is_refused(tmp_path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    kept = {"dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    free = {"input_names": ["x"], "dynamic_axes": {"x": {0: "b"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(4, 3, 16, 8),), tmp_path / "train.onnx", **kept, **free)
    with pytest.raises(ModelError, match=r"has \d outputs|two embeddings|cannot open it"):
        make(tmp_path / "train.onnx", tmp_path / "m")


def test_chance_is_refused(tmp_path: Path) -> None:
    noise = [
        helper.make_node("RandomNormalLike", ["crops"], ["noise"], scale=3.0),
        helper.make_node("Add", ["crops", "noise"], ["noisy"]),
        helper.make_node("Mul", ["noisy", "noise"], ["given"]),
    ]
    with pytest.raises(ModelError, match=r"the same crops twice give two embeddings .* eval mode"):
        make(network(tmp_path / "net.onnx", before=noise), tmp_path / "m")


def test_a_batch_size_fixed_within_is_named(tmp_path: Path) -> None:
    first = [helper.make_node("Slice", ["crops", "from", "to"], ["given"])]
    path = network(tmp_path / "net.onnx", before=first)
    model = onnx.load(str(path))
    for name, number in (("from", 0), ("to", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), name))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"gives 1 rows for 4 crops, so its batch size is fixed within"):
        make(path, tmp_path / "m")


FILM = [helper.make_node("ReduceMean", ["crops"], ["given"], axes=[2], keepdims=0)]
GREY = [helper.make_node("Concat", ["crops", "crops", "crops"], ["given"], axis=1)]


@pytest.mark.parametrize(
    ("shape", "before", "message"),
    [
        (("batch", 1, 16, 8), GREY, "takes 1 channels, expected 3"),
        (("batch", 3, 32, 8), None, r"takes crops of 32x8 px \(height x width\), got 16x8"),
        (("batch", 8, 16, 3), LAST, r"takes crops of 8x16 px \(height x width\), got 16x8"),
        (("batch", 3, 4, 16, 8), FILM, r"expected one \(B, 3, h, w\) or \(B, h, w, 3\)"),
    ],
)
def test_another_input_is_named(
    tmp_path: Path, shape: tuple[object, ...], before: list[onnx.NodeProto] | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        make(network(tmp_path / "net.onnx", shape=shape, before=before), tmp_path / "m")


def test_pixels_as_whole_numbers_are_named(tmp_path: Path) -> None:
    cast = [helper.make_node("Cast", ["crops"], ["given"], to=TensorProto.FLOAT)]
    path = network(tmp_path / "net.onnx", before=cast, kind=TensorProto.UINT8)
    with pytest.raises(ModelError, match="takes numbers of type uint8, expected float32, float16, float64"):
        make(path, tmp_path / "m")


def test_maps_without_pooling_are_named(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", outputs=("given",))
    with pytest.raises(ModelError, match=r"gives an array of shape \(1, 3, 16, 8\), expected a vector for each crop"):
        make(path, tmp_path / "m")


# ------------------------------------------------------------------------------------------------------------ ids


def other_cards() -> list[Preprocess]:
    return [
        replace(SIZE, mean=(0.5, 0.5, 0.5)),
        replace(SIZE, std=(0.5, 0.5, 0.5)),
        replace(SIZE, channels="BGR"),
        replace(SIZE, mean=(0.485, 0.456, 0.4060001)),
    ]


def test_an_id_covers_all_that_changes_what_comes_out(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", shape=("batch", 3, "h", "w"))
    cards = [SIZE, *other_cards(), replace(SIZE, height=24), replace(SIZE, width=16)]
    ids = [make(path, tmp_path / str(n), card).model_id for n, card in enumerate(cards)]
    assert len(set(ids)) == len(cards)
    again = write_manifest(path, tmp_path / "again", arch="other name", preprocess=SIZE, trained_on="others")
    assert again.model_id == ids[0], "names are for people"
    with pytest.raises(Exception, match="was built with model"):
        Gallery.open(tmp_path / "gallery", load_model(tmp_path / "0")).close()
        Gallery.open(tmp_path / "gallery", load_model(tmp_path / "1"))


@pytest.mark.parametrize("card", other_cards())
def test_a_card_that_is_changed_afterwards_is_refused(tmp_path: Path, card: Preprocess) -> None:
    make(network(tmp_path / "net.onnx"), tmp_path / "m")
    manifest = json.loads((tmp_path / "m/manifest.json").read_text())
    (tmp_path / "m/manifest.json").write_text(json.dumps({**manifest, "preprocess": asdict(card)}))
    with pytest.raises(ModelError, match=r"weights and card are not those of its model_id.*manifest\.json was changed"):
        load_model(tmp_path / "m")


def test_whole_numbers_in_a_card_are_the_same_card(tmp_path: Path) -> None:
    make(network(tmp_path / "net.onnx"), tmp_path / "m", replace(SIZE, mean=(0, 0, 0), std=(1, 1, 1)))
    load_model(tmp_path / "m")


def test_folders_of_0_1_open_with_their_own_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import hashlib

    make(network(tmp_path / "net.onnx"), tmp_path / "m")
    manifest = json.loads((tmp_path / "m/manifest.json").read_text())
    del manifest["output"]
    old = hashlib.sha256((tmp_path / "m/model.onnx").read_bytes()).hexdigest()[:16]
    (tmp_path / "m/manifest.json").write_text(json.dumps({**manifest, "model_id": old}))
    assert load_model(tmp_path / "m").model_id == old
    assert "its model_id is of its weights alone" in caplog.text


@pytest.mark.parametrize("given", [None, 3, b"m"])
def test_what_is_no_path_is_refused_in_words(given: object) -> None:
    with pytest.raises(ModelError, match=r"load_model: got \w+, expected the path of a model folder, or a name"):
        load_model(given)  # type: ignore[arg-type]
