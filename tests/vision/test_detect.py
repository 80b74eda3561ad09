import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.networks import Network
from reid_mtda.types import Detections
from reid_mtda.vision import detect
from reid_mtda.vision.detect import load_detector, suppressed
from reid_mtda.vision.video import read_frames

RED_FRAME = np.zeros((100, 200, 3), np.uint8)
RED_FRAME[..., 0] = 250

UseNetwork = Callable[[np.ndarray, tuple[int, int]], list[np.ndarray]]


@pytest.fixture
def use_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> UseNetwork:
    """Make 'net.onnx' in the test's folder a network with this output and input size; returns what it is fed."""

    def use(output: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
        fed: list[np.ndarray] = []

        def run(tensor: np.ndarray) -> tuple[np.ndarray]:
            fed.append(tensor)
            return (output.astype(np.float32),)

        (tmp_path / "net.onnx").touch()
        network = Network(tmp_path / "net.onnx", "cpu", ((1, 3, *size),), run)
        monkeypatch.setattr(detect, "open_network", lambda path, **how: network)
        return fed

    return use


def cell_number(column: int, row: int, stride: int, side: int) -> int:
    """Row of the cell in an output that lists strides 8, 16, 32 of a square input, by counting."""
    before = sum((side // s) ** 2 for s in (8, 16, 32) if s < stride)
    return before + row * (side // stride) + column


# ---------------------------------------------------------------------------------------------------------- layouts


def test_ssd_boxes_are_fractions_of_the_picture(use_network: UseNetwork, tmp_path: Path) -> None:
    rows = np.array(
        [
            [0, 1, 0.9, 0.1, 0.2, 0.3, 0.9],
            [0, 2, 0.9, 0.5, 0.2, 0.6, 0.9],  # another class
            [0, 1, 0.3, 0.7, 0.2, 0.8, 0.9],  # too weak
            [-1, 1, 0.9, 0.4, 0.2, 0.5, 0.9],  # after the end
        ]
    )
    fed = use_network(rows[None, None], (64, 96))
    found = load_detector(str(tmp_path / "net.onnx"), min_score=0.4, min_height_px=10)(RED_FRAME)
    np.testing.assert_allclose(found.xyxy, [[20, 20, 60, 90]], atol=1e-3)
    np.testing.assert_allclose(found.score, [0.9])
    assert fed[-1].shape == (1, 3, 64, 96)
    np.testing.assert_array_equal(fed[-1][0, :, 32, 48], [0, 0, 250])  # BGR, 0..255, stretched over all of it
    assert fed[-1][0, 2].min() == 250


def test_yolox_is_decoded_from_cells(use_network: UseNetwork, tmp_path: Path) -> None:
    output = np.zeros((1, 84, 85))  # a 64x64 input: 64 + 16 + 4 cells
    row = cell_number(column=1, row=1, stride=16, side=64)
    output[0, row, :6] = [0.5, 0.25, np.log(1.0), np.log(1.5), 0.9, 0.8]
    other = cell_number(column=3, row=0, stride=8, side=64)
    output[0, other, [0, 1, 2, 3, 4, 6]] = [0, 0, 2, 2, 0.9, 0.9]  # a bicycle
    fed = use_network(output, (64, 64))
    found = load_detector(str(tmp_path / "net.onnx"), min_score=0.4, min_height_px=10)(RED_FRAME)
    # In the input: centre (24, 20), 16 wide, 24 high. 200x100 px are scaled by 0.32 into its upper half.
    np.testing.assert_allclose(found.xyxy, np.array([[16, 8, 32, 32]]) / 0.32, rtol=1e-5)
    np.testing.assert_allclose(found.score, [0.72], rtol=1e-5)
    np.testing.assert_array_equal(fed[-1][0, :, 10, 10], [0, 0, 250])
    np.testing.assert_array_equal(fed[-1][0, :, 60, 10], [114, 114, 114])  # letterboxed


def test_yolov8_columns_are_boxes_in_pixels(use_network: UseNetwork, tmp_path: Path) -> None:
    output = np.zeros((1, 5, 84))
    output[0, :, 7] = [32, 16, 10, 20, 0.7]
    fed = use_network(output, (64, 64))
    found = load_detector(str(tmp_path / "net.onnx"), min_height_px=10)(RED_FRAME)
    np.testing.assert_allclose(found.xyxy, np.array([[27, 6, 37, 26]]) / 0.32, rtol=1e-5)
    np.testing.assert_allclose(fed[-1][0, :, 10, 10], [250 / 255, 0, 0], rtol=1e-5)  # RGB, 0..1


def test_fastestdet_is_decoded_from_its_map(use_network: UseNetwork, tmp_path: Path) -> None:
    output = np.zeros((1, 85, 4, 4))
    output[0, :6, 2, 1] = [0.81, 0.0, np.arctanh(0.5), 0.0, 50.0, 0.64]  # half as wide as the input, as high as it
    fed = use_network(output, (64, 64))
    found = load_detector(str(tmp_path / "net.onnx"), min_height_px=10)(RED_FRAME)
    # Centre (16, 40), 32 x 64 in the input, stretched to 200x100 and clipped.
    np.testing.assert_allclose(found.xyxy, [[0, 12.5, 100, 100]], atol=1e-3)
    np.testing.assert_allclose(found.score, [0.81**0.6 * 0.64**0.4], rtol=1e-5)
    np.testing.assert_allclose(fed[-1][0, :, 10, 10], [0, 0, 250 / 255], rtol=1e-5)


def test_an_unknown_layout_is_named_with_its_shapes(use_network: UseNetwork, tmp_path: Path) -> None:
    use_network(np.zeros((1, 25200, 85)), (640, 640))
    message = r"net\.onnx: output layout not known, got output 1x25200x85 for input 1x3x640x640, which is of no layout"
    with pytest.raises(ModelError, match=message):
        load_detector(str(tmp_path / "net.onnx"))


def test_overlapping_boxes_are_one_person_and_all_lie_in_the_frame(use_network: UseNetwork, tmp_path: Path) -> None:
    rows = np.array(
        [
            [0, 1, 0.8, 0.10, 0.1, 0.30, 0.9],
            [0, 1, 0.9, 0.11, 0.1, 0.31, 0.9],  # the same person, better
            [0, 1, 0.7, 0.90, -0.2, 1.20, 1.3],  # beyond the edges
            [0, 1, 0.9, 0.50, 0.5, 0.60, 0.6],  # 10 px high
            [0, 1, 0.9, 1.20, 0.1, 1.40, 0.9],  # outside
        ]
    )
    use_network(rows[None, None], (64, 64))
    found = load_detector(str(tmp_path / "net.onnx"), min_height_px=48)(RED_FRAME)
    order = np.argsort(found.xyxy[:, 0])
    np.testing.assert_allclose(found.xyxy[order], [[22, 10, 62, 90], [180, 0, 200, 100]], atol=1e-3)
    np.testing.assert_allclose(found.score[order], [0.9, 0.7])
    assert found.too_low == 1, "10 px high; who is outside the frame is nobody"


def test_nobody_found_is_a_value(use_network: UseNetwork, tmp_path: Path) -> None:
    use_network(np.zeros((1, 84, 85)), (64, 64))
    found = load_detector(str(tmp_path / "net.onnx"))(RED_FRAME)
    assert isinstance(found, Detections) and len(found) == 0


# ------------------------------------------------------------------------- layouts that could be taken for others


def person_in(output: np.ndarray, row: int, *values: float) -> np.ndarray:
    output[0, row, : len(values)] = values
    return output


def found_with(use_network: UseNetwork, tmp_path: Path, output: np.ndarray, **card: object) -> Detections:
    """What a network with this output finds in a 64x64 picture, with a card of these keys."""
    (tmp_path / "net.json").unlink(missing_ok=True)
    if card:
        (tmp_path / "net.json").write_text(json.dumps(card))
    use_network(output, (64, 64))
    return load_detector(str(tmp_path / "net.onnx"), min_height_px=10)(np.zeros((64, 64, 3), np.uint8))


def test_yolov8_is_known_by_row_too(use_network: UseNetwork, tmp_path: Path) -> None:
    """A transposed export: 84 columns are a box and COCO's 80 classes, one more would be objectness."""
    output = np.zeros((1, 336, 84))
    output[0, 7, :5] = [64, 32, 20, 40, 0.7]
    fed = use_network(output, (128, 128))
    found = load_detector(str(tmp_path / "net.onnx"), min_height_px=10)(np.zeros((128, 128, 3), np.uint8))
    np.testing.assert_allclose(found.xyxy, [[54, 12, 74, 52]])
    assert fed[-1].max() <= 1


@pytest.mark.parametrize("columns", [6, 7, 20])
def test_where_two_layouts_fit_a_card_is_asked_for(use_network: UseNetwork, tmp_path: Path, columns: int) -> None:
    with pytest.raises(ModelError, match=r"fits yolox and yolov8; .*; state layout in net\.json beside it"):
        found_with(use_network, tmp_path, np.zeros((1, 84, columns)))
    boxes = person_in(np.zeros((1, 84, columns)), 7, 32, 16, 10, 20, 0.8, 0.6)
    assert found_with(use_network, tmp_path, boxes, layout="yolov8").score.tolist() == pytest.approx([0.8])
    both = found_with(use_network, tmp_path, boxes, layout="yolox", decoded=True)
    assert both.score.tolist() == pytest.approx([0.48])
    np.testing.assert_allclose(both.xyxy, [[27, 6, 37, 26]])


@pytest.mark.parametrize("columns", [7, 85])
def test_offsets_within_cells_are_proof_of_yolox(use_network: UseNetwork, tmp_path: Path, columns: int) -> None:
    offsets = np.full((1, 84, columns), 0.5)
    offsets[0, :, 4:] = 0
    offsets[0, 70, :6] = [0.5, 0.5, np.log(1.0), np.log(2.0), 0.9, 0.9]  # the second row of cells of 16 px
    found = found_with(use_network, tmp_path, offsets)
    assert len(found) == 1 and found.xyxy[0, 3] - found.xyxy[0, 1] == pytest.approx(32)


def test_yolox_that_decodes_its_boxes_itself_is_told_by_where_they_lie(use_network: UseNetwork, tmp_path: Path) -> None:
    place = [(s * (x + 0.5), s * (y + 0.5)) for s in (8, 16, 32) for y in range(64 // s) for x in range(64 // s)]
    output = np.zeros((1, 84, 85))
    output[0, :, :2], output[0, :, 2:4] = place, 16
    output[0, 27, :6] = [*place[27], 16, 32, 0.9, 0.9]
    x, y = place[27]
    np.testing.assert_allclose(found_with(use_network, tmp_path, output).xyxy, [[x - 8, y - 16, x + 8, y + 16]])


def ssd_rows(*rows: tuple[int, float]) -> np.ndarray:
    """One box beside the other, with these classes and scores."""
    return np.array([[[[0, c, s, 0.3 * n, 0.1, 0.3 * n + 0.2, 0.9] for n, (c, s) in enumerate(rows)]]])


def test_an_ssd_whose_only_class_is_0_finds_people(use_network: UseNetwork, tmp_path: Path) -> None:
    """As OMZ's person-detection-0200 to 0202 do; in others 0 is the background and 1 a person."""
    assert len(found_with(use_network, tmp_path, ssd_rows((0, 0.9), (0, 0.8)))) == 2
    assert len(found_with(use_network, tmp_path, ssd_rows((1, 0.9), (2, 0.8)))) == 1
    assert len(found_with(use_network, tmp_path, ssd_rows((1, 0.9), (0, 0.01)))) == 1  # padding


def test_an_ssd_that_could_mean_either_asks_for_a_card(use_network: UseNetwork, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="finds classes 0, 1 and nothing says which is a person; state person_class"):
        found_with(use_network, tmp_path, ssd_rows((0, 0.9), (1, 0.8)))
    assert found_with(use_network, tmp_path, ssd_rows((0, 0.9), (1, 0.8)), person_class=0).score.tolist() == [
        np.float32(0.9)
    ]
    assert found_with(use_network, tmp_path, ssd_rows((0, 0.9), (15, 0.8)), person_class=15).score.tolist() == [
        np.float32(0.8)
    ]


def test_boxes_with_a_list_of_classes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As OMZ's person-detection-0203 and later."""
    outputs = (np.array([[10, 5, 30, 60, 0.9], [0, 0, 0, 0, 0]], np.float32), np.array([0, 0], np.int64))
    (tmp_path / "net.onnx").touch()
    network = Network(tmp_path / "net.onnx", "cpu", ((1, 3, 64, 64),), lambda tensor: outputs)
    monkeypatch.setattr(detect, "open_network", lambda path, **how: network)
    found = load_detector(str(tmp_path / "net.onnx"))(np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_allclose(found.xyxy, [[10, 5, 30, 60]])


def test_other_layouts_are_read_where_a_card_names_them(use_network: UseNetwork, tmp_path: Path) -> None:
    anchors = person_in(np.zeros((1, 252, 85)), 9, 32, 16, 10, 20, 0.8, 0.5)
    assert found_with(use_network, tmp_path, anchors, layout="yolov5").score.tolist() == pytest.approx([0.4])
    chosen = person_in(np.zeros((1, 300, 6)), 3, 10, 10, 20, 50, 0.9, 0)
    np.testing.assert_allclose(found_with(use_network, tmp_path, chosen, layout="end2end").xyxy, [[10, 10, 20, 50]])
    with pytest.raises(ModelError, match=r"output 1x300x6 is not of layout ssd, which net\.json states; mend it"):
        found_with(use_network, tmp_path, chosen, layout="ssd")


def test_a_card_decides_over_the_input(use_network: UseNetwork, tmp_path: Path) -> None:
    card = {"layout": "yolov8", "channels": "bgr", "input_max": 255, "letterbox": False, "mean": [10, 20, 30],
            "std": [2, 2, 2], "input_type": "float16"}  # fmt: skip
    (tmp_path / "net.json").write_text(json.dumps(card))
    fed = use_network(np.zeros((1, 5, 84)), (64, 64))
    load_detector(str(tmp_path / "net.onnx"))(RED_FRAME)
    assert fed[-1].dtype == np.float16
    np.testing.assert_allclose(fed[-1][0, :, 60, 60], [-5, -10, 110])  # stretched, so red to its lower edge


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ('{"layuot": "ssd"}', r"net\.json.*layuot.*did you mean 'layout'"),
        ('{"layout": "yolo"}', r"net\.json.*layout"),
        ('{"person_class": -1}', r"net\.json.*person_class"),
        ("no card", r"net\.json"),
    ],
)
def test_a_card_with_a_mistake_is_named(card: str, message: str, use_network: UseNetwork, tmp_path: Path) -> None:
    use_network(np.zeros((1, 5, 84)), (64, 64))
    (tmp_path / "net.json").write_text(card)
    with pytest.raises(ConfigError, match=message):
        load_detector(str(tmp_path / "net.onnx"))


# ------------------------------------------------------------------------------------------ what is read wrongly


def test_boxes_that_are_all_the_whole_picture_are_refused_in_words(use_network: UseNetwork, tmp_path: Path) -> None:
    use_network(np.array([[[[0, 1, 0.9, 0, 0, 1, 1]]]]), (64, 64))
    find = load_detector(str(tmp_path / "net.onnx"))
    for _ in range(19):
        find(RED_FRAME)
    for _ in range(2):
        with pytest.raises(ModelError, match=r"net\.onnx: each of its 2\d boxes is the whole picture.*in net\.json"):
            find(RED_FRAME)


def test_nobody_in_200_pictures_is_said_once(
    use_network: UseNetwork, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    use_network(np.zeros((1, 5, 84)), (64, 64))
    find = load_detector(str(tmp_path / "net.onnx"))
    for _ in range(199):
        find(RED_FRAME)
    assert caplog.text == ""
    for _ in range(210):
        find(RED_FRAME)
    assert caplog.text.count("nobody in its first 200 pictures") == 1 and "person_class" in caplog.text


@pytest.mark.parametrize("failing_call", [1, 3])
def test_a_network_that_fails_is_a_fault_of_this_detector(
    failing_call: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def run(tensor: np.ndarray) -> tuple[np.ndarray]:
        calls.append(1)
        if len(calls) >= failing_call:
            raise RuntimeError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Unexpected input data type")
        return (np.zeros((1, 5, 84), np.float32),)

    (tmp_path / "net.onnx").touch()
    network = Network(tmp_path / "net.onnx", "cpu", ((1, 3, 64, 64),), run)
    monkeypatch.setattr(detect, "open_network", lambda path, **how: network)
    with pytest.raises(ModelError, match=r"net\.onnx: the network fails on a picture \(.*Unexpected input data type"):
        find = load_detector(str(tmp_path / "net.onnx"))
        find(RED_FRAME)
        find(RED_FRAME)


def test_numbers_that_are_none_are_left_out(use_network: UseNetwork, tmp_path: Path) -> None:
    output = np.full((1, 5, 84), np.nan)
    output[0, :, 3] = [32, 32, 20, 40, 0.9]
    assert len(found_with(use_network, tmp_path, output)) == 1


def test_a_half_inside_a_person_is_no_second_person() -> None:
    person, legs, beside, group = [10, 10, 50, 110], [12, 60, 48, 112], [45, 10, 85, 110], [0, 0, 95, 120]
    boxes = np.array([person, legs, beside, group], np.float32)
    found = suppressed(boxes, np.array([0.9, 0.6, 0.8, 0.5], np.float32))
    np.testing.assert_array_equal(found.xyxy, [person, beside, group])  # what is around better ones stays
    child = suppressed(np.array([person, legs], np.float32), np.array([0.6, 0.9], np.float32))
    assert len(child) == 2  # one in front of another, and better


# ------------------------------------------------------------------------------------------------------------ files


def onnx_file(path: Path, output_shape: list[int], input_shape: list[int | str]) -> Path:
    """A network that answers any picture with zeros."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    zeros = numpy_helper.from_array(np.zeros(output_shape, np.float32), "zeros")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["images"], ["total"], keepdims=0),
            helper.make_node("Mul", ["total", "zeros"], ["output"]),
        ],
        "net",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, output_shape)],
        [zeros],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_onnx_files_are_run(tmp_path: Path) -> None:
    fixed = onnx_file(tmp_path / "fixed.onnx", [1, 84, 84], [1, 3, 64, 64])
    assert len(load_detector(str(fixed))(RED_FRAME)) == 0
    open_size = onnx_file(tmp_path / "open.onnx", [1, 84, 8400], ["batch", 3, "height", "width"])
    assert len(load_detector(str(open_size), threads=1)(RED_FRAME)) == 0


def test_files_that_are_no_detector_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    (tmp_path / "alone.xml").write_text("<net/>")
    (tmp_path / "broken.xml").write_text("<net/>")
    (tmp_path / "broken.bin").touch()
    onnx_file(tmp_path / "vector.onnx", [1, 84, 84], [1, 128])
    onnx_file(tmp_path / "grey.onnx", [1, 84, 84], [1, 1, 64, 64])
    for name, message in (
        ("none.onnx", r"none\.onnx: no such detector file; check the path"),
        ("broken.onnx", r"broken\.onnx: ONNX Runtime cannot open it"),
        ("alone.xml", r"alone\.xml: its weights are missing, expected alone\.bin beside it"),
        ("broken.xml", r"broken\.xml: OpenVINO cannot open it"),
        ("vector.onnx", r"vector\.onnx: not a detector, got inputs of shape .*128.*, expected one 1x3xHxW"),
        ("grey.onnx", r"grey\.onnx: not a detector"),
        ("mobile.pt", r"mobile\.pt: not a detector, expected 'motion', .* or a file ending in \.onnx, \.xml"),
    ):
        with pytest.raises(ModelError, match=message):
            load_detector(str(tmp_path / name))


def test_openvino_missing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.xml").touch()
    (tmp_path / "net.bin").touch()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"needs the package openvino; run: pip install 'reid-mtda\[openvino\]'"):
        load_detector(str(tmp_path / "net.xml"))


def test_hog_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"detector hog: OpenCV has none any more since version 5; use 'motion', or"):
        load_detector("hog")


def test_a_score_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"detector motion: min_score must be 0\.\.1, got 40"):
        load_detector("motion", min_score=40)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    network = onnx_file(tmp_path / "net.onnx", [1, 84, 84], [1, 3, 64, 64])
    assert len(load_detector(str(network), device="auto")(RED_FRAME)) == 0
    with pytest.raises(ConfigError, match=r"net\.onnx: got device 'npu', expected one that ONNX Runtime has"):
        load_detector(str(network), device="npu")
    with pytest.raises(ConfigError, match="detector motion: got device 'cuda', expected 'cpu': it is no network"):
        load_detector("motion", device="cuda")


# -------------------------------------------------------------------------------------------------------- real clips


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (N, M) of boxes (N, 4) and (M, 4)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    both = np.prod(np.clip(sides, 0, None), axis=2)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b))
    return both / np.maximum(area_a[:, None] + area_b[None] - both, 1e-9)


@pytest.mark.data
@pytest.mark.parametrize(
    ("weights", "min_score", "precision", "recall"),
    [
        ("pedestrian-detection-adas-0002.FP16.xml", 0.5, 0.92, 0.66),
        ("person-detection-retail-0013.FP16.xml", 0.5, 0.92, 0.68),
        ("yolox_nano.onnx", 0.3, 0.75, 0.88),
    ],
)
def test_people_of_a_real_street_are_found(
    development_data: Path, weights: str, min_score: float, precision: float, recall: float
) -> None:
    if weights.endswith(".xml"):
        pytest.importorskip("openvino")
    folder = development_data / "video" / "pets_s2l1"
    rows = np.loadtxt(folder / "gt_mot_768x576.txt", delimiter=",")
    find = load_detector(str(development_data / "weights" / weights), min_score=min_score, min_height_px=8)
    hits = found = there = 0
    for frame in read_frames(str(folder / "vtest_480x360_795f_10fps.mp4"), camera="c", fps=0.5):
        boxes = rows[rows[:, 0] == frame.index + 1, 2:6] * 0.625  # 768x576 to 480x360
        truth = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        people = find(frame.image).xyxy
        hits += int(np.sum(overlap(people, truth).max(axis=1, initial=0) >= 0.5))
        found, there = found + len(people), there + len(truth)
    assert hits / found > precision
    assert hits / there > recall
