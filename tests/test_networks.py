"""The one opener of networks: devices, threads, parity, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reid_mtda import networks
from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.networks import check_parity, devices_of, open_network


def write_linear(path: Path, *, scale: float = 1.0, side: int | str = 4) -> Path:
    """A network (B, 3, 4, 4) -> rows (B, 5) and their sum (B,)."""
    weights = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32) * np.float32(scale)
    nodes = [
        helper.make_node("Flatten", ["crops"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["sum"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["batch", 3, side, side])],
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 5]),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch"]),
        ],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_ir(path: Path) -> Path:
    openvino = pytest.importorskip("openvino")
    source = write_linear(path.with_suffix(".onnx"))
    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)
    return path


def test_both_runtimes_give_all_outputs_alike(tmp_path: Path) -> None:
    crops = np.random.default_rng(1).normal(size=(3, 3, 4, 4)).astype(np.float32)
    first = open_network(write_linear(tmp_path / "a.onnx"), threads=1)
    second = open_network(write_ir(tmp_path / "b.xml"), any_batch=True)
    assert first.inputs == second.inputs == ((None, 3, 4, 4),)
    rows, total = first.run(crops)
    assert rows.shape == (3, 5) and total.shape == (3,)
    for one, other in zip(first.run(crops), second.run(crops), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    check_parity(second, first)


def test_auto_takes_what_is_there_and_the_cpu_is_always_there(tmp_path: Path) -> None:
    for path in (write_linear(tmp_path / "a.onnx"), write_ir(tmp_path / "b.xml")):
        there = devices_of(path)
        assert there[-1] == "cpu"
        assert open_network(path, device="auto").device == there[0]


@pytest.mark.parametrize("device", ["warp", "npu", "", "CPU"])
def test_a_device_that_is_not_there_is_one_line_with_those_that_are(tmp_path: Path, device: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        open_network(write_linear(tmp_path / "a.onnx"), device=device)
    message = str(refusal.value)
    assert f"a.onnx: got device {device!r}, expected one that ONNX Runtime has on this machine: " in message
    assert message.endswith("cpu, or auto") and "\n" not in message


def test_a_missing_nvidia_card_says_what_to_install(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "a.onnx")
    if "cuda" in devices_of(path):
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError, match=r"got device 'cuda'.*install onnxruntime-gpu in place of onnxruntime"):
        open_network(path, device="cuda")
    with pytest.raises(ConfigError, match=r"got device 'cuda', expected one that OpenVINO has on this machine: .*cpu"):
        open_network(write_ir(tmp_path / "b.xml"), device="cuda")


def test_results_other_than_the_cpus_are_refused(tmp_path: Path) -> None:
    good = open_network(write_linear(tmp_path / "a.onnx"))
    check_parity(good, good)
    check_parity(open_network(write_linear(tmp_path / "near.onnx", scale=1.005)), good)
    off = replace(open_network(write_linear(tmp_path / "off.onnx", scale=1.05)), device="cuda")
    message = r"off\.onnx: device cuda does not give what the CPU gives, output 0 differs by 0\.05 of its length"
    with pytest.raises(ModelError, match=message):
        check_parity(off, good)
    for outputs in (
        (np.full((1, 5), np.nan, np.float32), np.zeros(1, np.float32)),
        (np.zeros((2, 5), np.float32), np.zeros(1, np.float32)),
    ):
        with pytest.raises(ModelError, match="does not give what the CPU gives"):
            check_parity(replace(good, device="gpu", run=lambda crops, outputs=outputs: outputs), good)

    def broken(crops: np.ndarray) -> tuple[np.ndarray, ...]:
        raise RuntimeError("out of memory\nat line 3")

    with pytest.raises(ModelError, match=r"device gpu cannot run it \(out of memory\); use device cpu"):
        check_parity(replace(good, device="gpu", run=broken), good)


def test_another_device_is_compared_when_a_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No accelerator stands here: what the device would be is the same file with other weights."""
    path = write_linear(tmp_path / "a.onnx")
    other = write_linear(tmp_path / "other.onnx", scale=2)
    opened = networks._open_onnx
    monkeypatch.setattr(networks, "devices_of", lambda path: ("cuda", "cpu"))
    monkeypatch.setattr(
        networks,
        "_open_onnx",
        lambda path, device, threads: replace(
            opened(other if device == "cuda" else path, "cpu", threads), path=path, device=device
        ),
    )
    assert open_network(path).device == "cpu"
    for device in ("cuda", "auto"):
        with pytest.raises(ModelError, match=r"a\.onnx: device cuda does not give what the CPU gives"):
            open_network(path, device=device)


def test_open_sides_are_tried_at_some_size(tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["crops"], ["mean"])],
        "mean",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3, 1, 1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    network = open_network(path)
    assert network.inputs == ((None, 3, None, None),)
    check_parity(network, network)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.onnx", r"none\.onnx: no such file; check the path"),
        ("net.pt", r"net\.pt: not a network, expected a file ending in \.onnx, \.xml"),
        ("alone.xml", r"alone\.xml: its weights are missing, expected alone\.bin beside it"),
        ("broken.onnx", r"broken\.onnx: ONNX Runtime cannot open it \(.*\); get it, or export it, again"),
        ("broken.xml", r"broken\.xml: OpenVINO cannot open it \(.*\); get it, or export it, again"),
    ],
)
def test_files_that_are_no_networks_are_refused(tmp_path: Path, name: str, message: str) -> None:
    for file in ("net.pt", "broken.onnx", "broken.bin"):
        (tmp_path / file).write_bytes(b"not a network")
    for file in ("alone.xml", "broken.xml"):
        (tmp_path / file).write_text("<net/>")
    with pytest.raises(ModelError, match=message):
        open_network(tmp_path / name)
