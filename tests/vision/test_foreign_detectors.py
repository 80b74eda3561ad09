"""Detectors as people have them, real files: half precision, whole numbers, weights beside, chance, fixed batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reid_mtda.errors import ModelError
from reid_mtda.vision.detect import load_detector
from reid_mtda.workflow.add_model import add_model

ROWS = np.array([[[[0, 1, 0.9, 0.1, 0.2, 0.3, 0.9], [0, 1, 0.8, 0.6, 0.2, 0.8, 0.9]]]])
PICTURE = np.full((100, 200, 3), 200, np.uint8)


def detector(
    path: Path,
    *,
    kind: int = TensorProto.FLOAT,
    batch: int | str = 1,
    beside: bool = False,
    noise: bool = False,
    last: bool = False,
) -> Path:
    """An SSD that finds two people in every picture that is bright, where white is 255."""
    dtype = helper.tensor_dtype_to_np_dtype(kind if kind != TensorProto.UINT8 else TensorProto.FLOAT)
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["picture"], ["pixels"], to=to),
        helper.make_node("ReduceMean", ["pixels"], ["bright"], keepdims=0),
        helper.make_node("Div", ["bright", "usual"], ["share"]),
        helper.make_node("Min", ["share", "one"], ["most"]),
        helper.make_node("Mul", ["known", "most"], ["rows" if not noise else "sure"]),
    ]
    if noise:
        nodes += [
            helper.make_node("RandomUniformLike", ["sure"], ["chance"], high=0.5),
            helper.make_node("Add", ["sure", "chance"], ["rows"]),
        ]
    graph = helper.make_graph(
        nodes,
        "ssd",
        [helper.make_tensor_value_info("picture", kind, [batch, 64, 96, 3] if last else [batch, 3, 64, 96])],
        [helper.make_tensor_value_info("rows", to, [1, 1, 2, 7])],
        [
            numpy_helper.from_array(ROWS.astype(dtype), "known"),
            numpy_helper.from_array(np.array(100, dtype), "usual"),
            numpy_helper.from_array(np.array(1, dtype), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path), **({"save_as_external_data": True, "size_threshold": 0} if beside else {}))
    return path


@pytest.mark.parametrize(
    "how",
    [
        {}, {"kind": TensorProto.FLOAT16}, {"kind": TensorProto.UINT8}, {"batch": "n"}, {"last": True},
        {"kind": TensorProto.UINT8, "last": True}, {"beside": True},
    ],
)  # fmt: skip
def test_they_find_the_same_people(tmp_path: Path, how: dict[str, object]) -> None:
    found = load_detector(str(detector(tmp_path / "net.onnx", **how)), min_height_px=10)(PICTURE)
    np.testing.assert_allclose(found.xyxy, [[20, 20, 60, 90], [120, 20, 160, 90]], atol=0.2)
    np.testing.assert_allclose(found.score, [0.9, 0.8], atol=1e-3)


def test_weights_beside_are_taken_into_the_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REID_MTDA_MODELS", str(tmp_path / "models"))
    path = detector(tmp_path / "net.onnx", beside=True)
    add_model(path, "mine", task="detector")
    for file in tmp_path.glob("net*"):
        file.unlink()
    assert len(load_detector("mine", min_height_px=10)(PICTURE)) == 2


def test_chance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"net\.onnx: the same picture twice gives two outputs.*eval mode"):
        load_detector(str(detector(tmp_path / "net.onnx", noise=True)))


def test_a_batch_of_several_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"net\.onnx: takes 4 pictures at once, expected one; export it with batch size 1"
    ):
        load_detector(str(detector(tmp_path / "net.onnx", batch=4)))
