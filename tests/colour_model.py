"""A model folder without training or torch: the colours of a 6x2 grid of the crop. It tells drawn people apart well."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reid_mtda.model import write_manifest
from reid_mtda.types import ModelManifest, Preprocess

SIZE = Preprocess(height=48, width=24, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
DIM = 36


def write_colour_model(folder: Path, *, turn: int = 0) -> ModelManifest:
    """Write the model; another ``turn`` is another model with the same answers."""
    rotation = np.linalg.qr(np.random.default_rng(turn).normal(size=(DIM, DIM)))[0].astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["crops"], ["cells"], kernel_shape=[8, 12], strides=[8, 12]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "rotation"], ["rows"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["batch", 3, SIZE.height, SIZE.width])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(rotation, "rotation")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    folder.parent.mkdir(parents=True, exist_ok=True)
    weights = folder.with_suffix(".onnx")
    onnx.save(model, str(weights))
    return write_manifest(weights, folder, arch="colours", preprocess=SIZE, trained_on="nothing")
