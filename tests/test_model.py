"""Model folders: what opens, what is refused and how the refusal reads."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reid_mtda.camera_means import read_cameras, write_cameras
from reid_mtda.errors import ConfigError, ImageError, ModelError, ShapeError
from reid_mtda.model import Model, load_model, write_manifest
from reid_mtda.model_folder import read_manifest
from reid_mtda.types import ModelManifest, Preprocess
from reid_mtda.vision.preprocess import to_model_input

SMALL = Preprocess(height=16, width=8)
DIM = 6


def write_onnx(path: Path, *, scale: float = 1.0, batch: str | int = "batch", seed: int = 0) -> np.ndarray:
    """A linear network of crops (B, 3, 16, 8) -> (B, 6); returns its weights (384, 6)."""
    weights = (np.random.default_rng(seed).normal(size=(3 * 16 * 8, DIM)) * scale).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["crops"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["rows"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [batch, 3, 16, 8])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [batch, DIM])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return weights


@pytest.fixture
def weights(tmp_path: Path) -> np.ndarray:
    return write_onnx(tmp_path / "linear.onnx")


@pytest.fixture
def folder(tmp_path: Path, weights: np.ndarray) -> Path:
    write_manifest(tmp_path / "linear.onnx", tmp_path / "model", arch="linear", preprocess=SMALL, trained_on="nothing")
    return tmp_path / "model"


def crops(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 16, 8)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 33, 70])
def test_rows_are_the_networks_scaled_to_length_one(folder: Path, weights: np.ndarray, count: int) -> None:
    model = load_model(folder)
    embed, manifest = model.network, model.manifest
    batch = crops(count)
    expected = batch.reshape(count, -1) @ weights
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    rows = embed(batch)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    assert manifest.embedding_dim == DIM
    assert manifest.preprocess == SMALL
    assert (manifest.arch, manifest.trained_on) == ("linear", "nothing")


def test_no_crops_give_no_rows(folder: Path) -> None:
    embed = load_model(folder).network
    assert embed(crops(0)).shape == (0, DIM)


def test_threads_change_nothing(folder: Path) -> None:
    one = load_model(folder, threads=1).network
    many = load_model(folder).network
    np.testing.assert_array_equal(one(crops(5)), many(crops(5)))


def test_a_network_for_one_crop_at_a_time_serves_batches(tmp_path: Path) -> None:
    weights = write_onnx(tmp_path / "one.onnx", batch=1)
    write_manifest(tmp_path / "one.onnx", tmp_path / "model", arch="linear", preprocess=SMALL, trained_on="nothing")
    embed = load_model(tmp_path / "model").network
    expected = crops(5).reshape(5, -1) @ weights
    np.testing.assert_allclose(embed(crops(5)), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_crops_of_another_size_are_refused(folder: Path) -> None:
    embed = load_model(folder).network
    with pytest.raises(ShapeError, match=r"crops: got float32 \(1, 3, 8, 8\), expected float32 \(any, 3, 16, 8\)"):
        embed(np.zeros((1, 3, 8, 8), np.float32))


def test_input_that_is_not_finite_is_refused(folder: Path) -> None:
    embed = load_model(folder).network
    with pytest.raises(ModelError, match="numbers without a direction"):
        embed(np.full((1, 3, 16, 8), np.nan, np.float32))


def test_other_weights_have_another_id(tmp_path: Path, folder: Path) -> None:
    write_onnx(tmp_path / "other.onnx", seed=1)
    other = write_manifest(tmp_path / "other.onnx", tmp_path / "b", arch="linear", preprocess=SMALL, trained_on="x")
    assert len(other.model_id) >= 12
    assert other.model_id != read_manifest(folder).model_id


def edit(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**card, **changes}))


def drop_weights(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(bytes(data))


def swap_weights(folder: Path) -> None:
    write_onnx(folder / "model.onnx", seed=9)


def cut_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def other_dim(folder: Path) -> None:
    edit(folder, embedding_dim=7)


def other_size(folder: Path) -> None:
    card = json.loads((folder / "manifest.json").read_text())
    edit(folder, preprocess={**card["preprocess"], "height": 32})


def bad_size(folder: Path) -> None:
    card = json.loads((folder / "manifest.json").read_text())
    edit(folder, preprocess={**card["preprocess"], "height": 0})


def bad_channels(folder: Path) -> None:
    card = json.loads((folder / "manifest.json").read_text())
    edit(folder, preprocess={**card["preprocess"], "channels": "GBR"})


def not_onnx(folder: Path) -> None:
    import hashlib

    (folder / "model.onnx").write_bytes(b"not a network")
    edit(folder, model_id=hashlib.sha256(b"not a network").hexdigest()[:16])


DAMAGES = [
    (lambda folder: shutil.rmtree(folder), "no such model folder"),
    (lambda folder: (folder / "manifest.json").unlink(), "not a model folder, manifest.json is missing"),
    (drop_weights, "weights are missing, expected model.onnx, or model.xml and model.bin"),
    (flip_a_byte, "weights and card are not those of its model_id"),
    (swap_weights, "weights and card are not those of its model_id"),
    (cut_manifest, "damaged .* expected JSON"),
    (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00"), "damaged"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), "not the manifest of a model"),
    (lambda folder: (folder / "manifest.json").write_text('{"config": {}, "seed": 1}'), "not the manifest of a model"),
    (lambda folder: edit(folder, embeding_dim=6), "unknown key 'embeding_dim'; did you mean 'embedding_dim'"),
    (lambda folder: edit(folder, model_id="xyz"), "model_id: got 'xyz'"),
    (lambda folder: edit(folder, embedding_dim="6"), "embedding_dim: got '6'"),
    (other_dim, r"weights and card are not those of its model_id"),
    (other_size, "weights and card are not those of its model_id"),
    (bad_size, "expected 8..2048"),
    (bad_channels, "preprocess.channels: got 'GBR'"),
    (not_onnx, "ONNX Runtime cannot open it"),
]


def colours(crops: np.ndarray) -> np.ndarray:
    rows = crops.mean(axis=(2, 3)) + np.float32(3)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


COLOURS = Model(ModelManifest("c" * 12, "colours", 3, SMALL, "nothing"), colours)


def pictures(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 255, (20 + n, 10, 3), np.uint8) for n in range(count)]


def test_crops_and_paths_one_or_many_are_embedded_in_order(tmp_path: Path) -> None:
    crops, told = pictures(40), []
    paths = [tmp_path / f"{n}.png" for n in range(40)]
    for crop, path in zip(crops, paths, strict=True):
        cv2.imwrite(str(path), crop[..., ::-1])
    wanted = np.concatenate([colours(to_model_input([crop], SMALL)) for crop in crops])
    rows = COLOURS.embed(crops, progress=lambda *what: told.append(what))
    assert rows.dtype == np.float32 and told == [("embed", 32, 40), ("embed", 40, 40)]
    for given in (crops, tuple(crops), paths, [str(path) for path in paths], [*paths[:20], *crops[20:]]):
        np.testing.assert_allclose(COLOURS.embed(given), wanted, atol=1e-6)
    for one in (crops[3], paths[3], str(paths[3]), np.stack([crops[3]])):
        np.testing.assert_allclose(COLOURS.embed(one), wanted[3:4], atol=1e-6)
    assert COLOURS.embed([]).shape == (0, 3)
    assert (COLOURS.model_id, COLOURS.embedding_dim, COLOURS.device) == ("c" * 12, 3, "cpu")


def test_what_is_no_picture_and_a_network_that_breaks_its_promise_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        COLOURS.embed([*pictures(2), tmp_path / "bad.jpg"])
    with pytest.raises(ShapeError, match=r"got float64 \(20, 10, 3\), expected uint8"):
        COLOURS.embed(pictures(1)[0] / 255)
    for broken in (lambda crops: colours(crops)[1:], lambda crops: colours(crops)[:, :1]):
        with pytest.raises(ShapeError, match=r"model c+: got \(.*\) for 4 crops, expected \(4, 3\); export it again"):
            replace(COLOURS, network=broken).embed(pictures(4))


def test_a_model_opens_on_the_device_asked_for(folder: Path) -> None:
    assert load_model(str(folder), device="auto").device in ("cpu", "cuda", "tensorrt", "coreml")
    with pytest.raises(ConfigError, match=r"got device 'gpu', expected one that ONNX Runtime has .*cpu"):
        load_model(folder, device="gpu")


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_folder_is_refused(folder: Path, damage: object, message: str) -> None:
    damage(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_file_is_not_a_model_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file, expected a model folder"):
        load_model(folder / "model.onnx")


def test_making_a_folder_replaces_a_model_but_nothing_else(tmp_path: Path, folder: Path) -> None:
    before = read_manifest(folder).model_id
    write_onnx(tmp_path / "other.onnx", seed=5)
    after = write_manifest(tmp_path / "other.onnx", folder, arch="linear", preprocess=SMALL, trained_on="x")
    assert read_manifest(folder) == after != before
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"holds notes\.txt, which is not part of a model folder"):
        write_manifest(tmp_path / "other.onnx", folder, arch="linear", preprocess=SMALL, trained_on="x")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_failed_replacement_leaves_the_old_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_manifest(folder)
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(ModelError, match="not an ONNX file, or cut short"):
        write_manifest(tmp_path / "bad.onnx", folder, arch="linear", preprocess=SMALL, trained_on="x")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise KeyboardInterrupt
        return rename(self, target)

    write_onnx(tmp_path / "other.onnx", seed=5)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_manifest(tmp_path / "other.onnx", folder, arch="linear", preprocess=SMALL, trained_on="x")
    assert load_model(folder).manifest == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.onnx", "linear.onnx", "model", "other.onnx"]


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone.onnx: no such file"):
        write_manifest(tmp_path / "gone.onnx", tmp_path / "m", arch="a", preprocess=SMALL, trained_on="x")
    assert not (tmp_path / "m").exists()


def test_openvino_weights_serve_alike(tmp_path: Path, folder: Path, weights: np.ndarray) -> None:
    openvino = pytest.importorskip("openvino")
    openvino.save_model(
        openvino.convert_model(tmp_path / "linear.onnx"), tmp_path / "linear.xml", compress_to_fp16=False
    )
    manifest = write_manifest(tmp_path / "linear.xml", tmp_path / "ir", arch="linear", preprocess=SMALL, trained_on="x")
    loaded = load_model(tmp_path / "ir")
    embed = loaded.network
    assert loaded.manifest == manifest
    np.testing.assert_allclose(embed(crops(40)), load_model(folder).network(crops(40)), atol=1e-5)
    assert embed(crops(0)).shape == (0, DIM)
    (tmp_path / "ir" / "model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="weights and card are not those"):
        load_model(tmp_path / "ir")


@pytest.mark.data
def test_a_ready_made_bgr_network_tells_people_apart(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    data = Path(os.environ.get("REID_MTDA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"{data} is absent; set REID_MTDA_DATA")
    bgr = Preprocess(256, 128, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255), channels="BGR")
    write_manifest(
        data / "weights" / "person-reidentification-retail-0288.FP32.xml",
        tmp_path / "m",
        arch="retail-0288",
        preprocess=bgr,
        trained_on="ready-made",
    )
    model = load_model(tmp_path / "m")
    assert model.embedding_dim == 256
    with np.load(data / "reid" / "pku_two_cameras.npz", allow_pickle=False) as arrays:
        pictures, pid, cam = arrays["x"], arrays["pid"], arrays["cam"]
    chosen = np.isin(pid, np.unique(pid)[:8])
    rows = model.embed(list(pictures[chosen]))
    score = rows[cam[chosen] == cam.min()] @ rows[cam[chosen] != cam.min()].T
    right = pid[chosen][cam[chosen] != cam.min()][score.argmax(axis=1)] == pid[chosen][cam[chosen] == cam.min()]
    assert right.mean() > 0.85


def test_what_cameras_looked_like_travels_with_the_model(folder: Path, tmp_path: Path, weights: np.ndarray) -> None:
    model = load_model(folder)
    embed, manifest = model.network, model.manifest
    assert read_cameras(folder, manifest) == {}
    rows = embed(crops(5))
    write_cameras(folder, manifest, {"gate": rows, "plaza": rows[:1], "empty": rows[:0]})
    found = read_cameras(folder, manifest)
    assert found.keys() == {"gate", "plaza"} and found["gate"].dtype == np.float32
    np.testing.assert_allclose(found["gate"], rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found["plaza"], rows[0], atol=1e-6)
    assert json.loads((folder / "cameras.json").read_text())["cameras"]["gate"]["crops"] == 5
    # The folder is the same model, and may be replaced as any other; the new one knows nothing of cameras.
    assert load_model(folder).manifest == manifest
    write_manifest(tmp_path / "linear.onnx", folder, arch="linear", preprocess=SMALL, trained_on="nothing")
    assert read_cameras(folder, manifest) == {}


GATE = {"crops": 3, "mean": [0.5] * DIM}
CARD = {"kind": "reid-mtda cameras", "cameras": {"gate": GATE}}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "Expecting"),
        ("null", "cameras.json: "),
        ("[" * 100_000, "recursion"),
        (json.dumps({**CARD, "model_id": "0" * 16}), "of model 0000000000000000"),
        (json.dumps({**CARD, "kind": "a cat", "model_id": "MODEL"}), "kind"),
        (json.dumps({**CARD, "model_id": "MODEL", "cameras": {"gate": {**GATE, "mean": [1.0]}}}), "gate: got a mean"),
        (
            json.dumps({**CARD, "model_id": "MODEL", "cameras": {"gate": {**GATE, "mean": [float("nan")] * DIM}}}),
            "gate",
        ),
        (json.dumps({**CARD, "model_id": "MODEL", "cameras": {"gate": {**GATE, "mean": [0.0] * DIM}}}), "gate"),
        (json.dumps({**CARD, "model_id": "MODEL", "cameras": {"gate": {**GATE, "mean": ["x"] * DIM}}}), "mean"),
    ],
)
def test_damaged_means_of_cameras_are_named_and_left_out(
    folder: Path, text: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = read_manifest(folder)
    (folder / "cameras.json").write_text(text.replace("MODEL", manifest.model_id))
    assert read_cameras(folder, manifest) == {}
    assert str(folder / "cameras.json") in caplog.text and complaint in caplog.text
    assert load_model(folder).manifest == manifest
