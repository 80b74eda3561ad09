"""Finding people in a frame: by motion, or with a detector network in a file and the card beside it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import cv2
import numpy as np

from reid_mtda import plugins
from reid_mtda.errors import ConfigError, ModelError
from reid_mtda.networks import SUFFIXES, Network, first_line, open_network
from reid_mtda.types import Detect, Detections, FloatArray, ImageArray
from reid_mtda.vision.detector_card import DetectorCard, card_path, read_card
from reid_mtda.vision.detector_layouts import Layout, choose_layout
from reid_mtda.vision.motion import motion_detector
from reid_mtda.zoo.folder import NAME, find_installed

log = logging.getLogger(__name__)

_NMS_IOU = 0.5
_CONTAINED = 0.8  # of a box's area; with so much of it in a better box it is a part of that person
_WATCHED_PICTURES = 200
_WATCHED_BOXES = 20
_DEFAULT_SIDE_PX = 640  # where a graph leaves its input size open


def load_detector(
    name_or_path: str | Path,
    *,
    min_score: float = 0.4,
    min_height_px: float = 48,
    threads: int | None = None,
    device: str = "cpu",
) -> Detect:
    """Make a detector: uint8 (H, W, 3) RGB -> the people in it, boxes within the frame.

    Args:
        name_or_path: ``motion`` (fixed cameras, no weights; every score is 1), the name of a detector of the models
            folder, one of your own (an entry point of ``reid_mtda.detectors``, or ``module:function``, which is called
            without arguments and gives a ``Detect``), or the path of a network in ONNX (``.onnx``) or OpenVINO IR
            (``.xml`` beside its ``.bin``), with a card where it needs one.
        min_score: people scored lower are left out.
        min_height_px: people lower in the frame are left out and counted; of ``motion``, whose low blobs are noise,
            not counted.
        threads: CPU threads of a network; None takes all this process may use.
        device: where a network runs, as in ``networks.open_network``; what is no network runs on the CPU.

    Returns:
        The detector. A motion detector remembers what it saw: make one per camera, and use it on one thread.

    Raises:
        ConfigError: a number out of range, an unknown name, a device that is not there, or a card with a mistake in
            it.
        ModelError: a file that is missing, no network, or one whose output layout is not known; a device whose results
            differ from the CPU's.
    """
    if isinstance(name_or_path, os.PathLike):
        name_or_path = os.fsdecode(name_or_path)
    if not isinstance(name_or_path, str):
        raise ConfigError(f"load_detector: got {type(name_or_path).__name__}, expected a name, or a path as text")
    if not isinstance(min_score, int | float) or not 0 <= min_score <= 1:
        raise ConfigError(f"detector {name_or_path}: min_score must be 0..1, got {min_score}")
    if name_or_path == "hog":
        raise ConfigError(
            "detector hog: OpenCV has none any more since version 5; use 'motion', or the path of an ONNX or OpenVINO "
            "person detector"
        )
    if name_or_path == "motion" and device not in ("cpu", "auto"):
        raise ConfigError(
            f"detector {name_or_path}: got device {device!r}, expected 'cpu': it is no network; leave device out"
        )
    if name_or_path == "motion":
        return _kept(motion_detector(min_height_px), 0.0, min_height_px)
    if plugins.is_part(plugins.DETECTORS, name_or_path):
        if device not in ("cpu", "auto"):
            raise ConfigError(f"detector {name_or_path}: got device {device!r}; it chooses its own, leave device out")
        return _kept(_own(name_or_path), min_score, min_height_px)
    path = Path(name_or_path).expanduser()
    if NAME.match(name_or_path):  # a network's file has an ending
        path = find_installed(name_or_path, "detector").weights
    found = _network(path, threads, device, min_score)
    return _kept(found, min_score, min_height_px)


def _own(name: str) -> Detect:
    """A user's detector: an entry point or ``module:function`` that is called once a camera and gives a ``Detect``."""
    make = plugins.find_part(plugins.DETECTORS, name, where="detector")
    try:
        detect = make()
    except Exception as error:
        raise ConfigError(f"detector {name}: raised {plugins.describe(error)}; mend it or use another") from error
    if not callable(detect):
        raise ConfigError(f"detector {name}: gave {type(detect).__name__}, expected a function of a picture; mend it")
    found: Detect = detect

    def find(image: ImageArray) -> Detections:
        try:
            people = found(image)
        except Exception as error:
            raise ModelError(f"detector {name}: raised {plugins.describe(error)}; mend it or use another") from error
        if not isinstance(people, Detections):
            raise ModelError(f"detector {name}: returned {type(people).__name__}, expected Detections; mend it")
        return people

    return find


def _kept(detect: Detect, min_score: float, min_height_px: float) -> Detect:
    """``detect`` with boxes clipped to the frame, and without those too low, which are counted, too weak or empty."""

    def find(image: ImageArray) -> Detections:
        found = detect(image)
        height, width = image.shape[:2]
        xyxy = np.clip(found.xyxy, 0, np.array([width, height, width, height], np.float32))
        sides = xyxy[:, 2:] - xyxy[:, :2]
        seen = (found.score >= min_score) & (sides >= 1).all(axis=1)
        keep = seen & (sides[:, 1] >= min_height_px)
        return Detections(xyxy[keep], found.score[keep], too_low=int((seen & ~keep).sum()))

    return find


# ------------------------------------------------------------------------------------------------ networks in files


def _network(path: Path, threads: int | None, device: str, min_score: float) -> Detect:
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(
            f"{path}: not a detector, expected 'motion', a name of 'reid-mtda models list' or a file ending in "
            f"{', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such detector file; check the path")
    network = open_network(path, device=device, threads=threads)
    card = _with_own_input(read_card(path), network)
    side, by_pixel = _input_side(network)

    def infer(tensor: FloatArray) -> list[FloatArray]:
        fed = tensor.transpose(0, 2, 3, 1) if by_pixel else tensor
        try:
            # A card may name other numbers than the ones that most detectors take.
            outputs = network.run(np.ascontiguousarray(fed.astype(card.input_type)))
        except Exception as error:  # a runtime's, which has no base in common with ours: it is this detector's alone
            raise ModelError(
                f"{path}: the network fails on a picture ({first_line(error)}); "
                f"state input_type in {card_path(path).name} where it takes other numbers than float32"
            ) from None
        return [np.asarray(output, np.float32) for output in outputs]

    # Noise tells more than black: of pixels and of offsets within cells, zeros look alike.
    trial = np.random.default_rng(0).uniform(0, 1, (1, 3, *side)).astype(np.float32)
    outputs = infer(trial * (255 if card.input_type == "uint8" else 1))
    _check_again(path, outputs, infer(trial * (255 if card.input_type == "uint8" else 1)))
    layout = choose_layout(path, outputs, *side, card)

    def find(image: ImageArray) -> Detections:
        tensor, scale = _prepare(image, *side, layout, card)
        try:
            xyxy, score = layout.decode(infer(tensor))
        except (IndexError, ValueError) as error:
            raise ModelError(f"{path}: its output changed its shape ({error}); export it with a fixed size") from None
        likely = (score >= max(min_score, 0.01)) & np.isfinite(xyxy).all(axis=1)
        return suppressed(xyxy[likely] / scale, score[likely])

    return checked(find, path)


def _with_own_input(card: DetectorCard, network: Network) -> DetectorCard:
    """The card, with the numbers of the input as the file itself states them where the card does not."""
    if "input_type" in card.model_fields_set or network.types[:1] != ("uint8",):
        return card
    return card.model_copy(update={"input_type": "uint8", "input_max": card.input_max or 255})


def _check_again(path: Path, first: list[FloatArray], second: list[FloatArray]) -> None:
    """Refuse a network that gives something else when it is given the same.

    Raises:
        ModelError: it does.
    """
    for one, other in zip(first, second, strict=True):
        if one.shape != other.shape or not np.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise ModelError(
                f"{path}: the same picture twice gives two outputs, so dropout or other chance is in it; export it in "
                "eval mode"
            )


def _prepare(
    image: ImageArray, height: int, width: int, layout: Layout, card: DetectorCard
) -> tuple[FloatArray, FloatArray]:
    """The network's input (1, 3, height, width), and input pixels per picture pixel as (4,) for xyxy."""
    scale = np.array([width / image.shape[1], height / image.shape[0]])
    if layout.letterbox:
        scale[:] = scale.min()
    inner = np.maximum(1, np.rint(scale * (image.shape[1], image.shape[0]))).astype(int)
    canvas = np.full((height, width, 3), 114, np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(image, (int(inner[0]), int(inner[1])), interpolation=cv2.INTER_LINEAR)
    ordered = canvas if layout.rgb else canvas[..., ::-1]
    tensor = np.ascontiguousarray(ordered.transpose(2, 0, 1)[None], np.float32)
    if layout.unit:
        tensor /= 255
    for numbers, apply in ((card.mean, np.subtract), (card.std, np.divide)):
        if numbers is not None:
            apply(tensor, np.asarray(numbers, np.float32).reshape(1, 3, 1, 1), out=tensor)
    return tensor, np.tile(scale, 2).astype(np.float32)


def _input_side(network: Network) -> tuple[tuple[int, int], bool]:
    """(height, width) of the one picture that a detector takes, and whether its channels come last."""
    shapes = network.inputs
    if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][0] not in (1, None):
        raise ModelError(
            f"{network.path}: takes {shapes[0][0]} pictures at once, expected one; export it with batch size 1, or "
            "a free one"
        )
    if len(shapes) == 1 and len(shapes[0]) == 4:
        if shapes[0][3] == 3 and shapes[0][1] != 3:
            return (shapes[0][1] or _DEFAULT_SIDE_PX, shapes[0][2] or _DEFAULT_SIDE_PX), True
        if shapes[0][1] in (3, None):
            return (shapes[0][2] or _DEFAULT_SIDE_PX, shapes[0][3] or _DEFAULT_SIDE_PX), False
    raise ModelError(f"{network.path}: not a detector, got inputs of shape {shapes}, expected one 1x3xHxW")


# --------------------------------------------------------------------------------------------------- what it finds


def suppressed(xyxy: FloatArray, score: FloatArray) -> Detections:
    """Of boxes float32 (N, 4) that overlap much, or of which one lies in a better one, the best; score (N,)."""
    if not len(xyxy):
        return Detections.empty()
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    keep = np.asarray(cv2.dnn.NMSBoxes(xywh.tolist(), score.tolist(), 0.0, _NMS_IOU), np.int64).reshape(-1)
    keep = keep[np.argsort(-score[keep], kind="stable")]
    boxes = xyxy[keep]
    sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=2)
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-6)
    # Row by row against better ones only: a half or a torso in a person, not the person around it.
    inside = np.tril(shared / area[:, None] >= _CONTAINED, k=-1).any(axis=1)
    keep = keep[~inside]
    return Detections(np.ascontiguousarray(xyxy[keep], np.float32), np.ascontiguousarray(score[keep], np.float32))


def checked(detect: Detect, path: Path) -> Detect:
    """``detect``, watched over its first pictures: what is read wrongly finds nobody, or everything everywhere.

    Raises, when called:
        ModelError: every box so far is the whole picture.
    """
    pictures = boxes = whole = people = 0
    best = 0.0

    def find(image: ImageArray) -> Detections:
        nonlocal pictures, boxes, whole, people, best
        found = detect(image)
        if pictures > _WATCHED_PICTURES:
            return found
        pictures += 1
        height, width = image.shape[:2]
        sides = np.minimum(found.xyxy[:, 2:], (width, height)) - np.maximum(found.xyxy[:, :2], 0)
        boxes += len(found)
        whole += int(np.sum((sides >= np.multiply(0.95, (width, height))).all(axis=1)))
        if boxes >= _WATCHED_BOXES and whole == boxes:
            pictures = 0  # goes on being looked at
            raise ModelError(
                f"{path}: each of its {boxes} boxes is the whole picture, so its output is read wrongly; state layout, "
                f"and for yolox decoded, in {card_path(path).name} beside it"
            )
        if pictures == _WATCHED_PICTURES and not boxes:
            log.warning(
                "%s: nobody in its first %d pictures; where people are in them its output is read wrongly: state "
                "layout, person_class, channels and input_max in %s beside it, or lower min_score",
                path,
                pictures,
                card_path(path).name,
            )
        return found

    return find
