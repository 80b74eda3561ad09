"""Networks that tell people apart, as their files are: which input they take, which output counts, and whether they
give one crop one embedding, whatever else is embedded with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from reid_mtda.errors import ModelError
from reid_mtda.networks import Network, first_line, open_network
from reid_mtda.types import Embed, FloatArray, ImageArray, Preprocess
from reid_mtda.vision.preprocess import to_model_input

# More rows at once bring no more crops a second on a CPU, only more memory.
BATCH = 32
"""Crops that go through a network at once."""

MIN_AGREEMENT = 0.999
"""Lowest cosine between two embeddings of one crop by one network; half precision stays above."""

_TRIED = 4
_FLOATS = ("float32", "float16", "float64")


def crop_size(path: Path) -> tuple[int, int] | None:
    """The (height, width) that a network's file says its crops have; None where it leaves one of them open.

    Raises:
        ModelError: it cannot be opened, or takes no crops.
    """
    height, width, _ = _input(open_network(path, threads=1))
    return None if height is None or width is None else (height, width)


def open_crop_network(
    path: Path,
    preprocess: Preprocess,
    *,
    output: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> tuple[Embed, str]:
    """Open a network of crops.

    Args:
        path: an ONNX file, or an OpenVINO ``.xml`` with its ``.bin`` beside it. Its batch size may be fixed, its
            channels may come last, and its numbers may be half as long.
        preprocess: what its crops are made by.
        output: name of the output that is the embedding; None where there is one alone.
        device: as of ``open_network``.
        threads: as of ``open_network``.

    Returns:
        float32 (B, 3, h, w), B > 0 -> float32 (B, D), rows of any length; and the device.

    Raises:
        ModelError: it cannot be opened, takes something else than such crops, or has no such output, or several and
            none is named.
        ConfigError: a device that is not there.
    """
    network = open_network(path, device=device, threads=threads, any_batch=True)
    height, width, is_last = _input(network)
    wanted = (preprocess.height, preprocess.width)
    if any(got not in (None, want) for got, want in zip((height, width), wanted, strict=True)):
        shown = "x".join(str(side or "any") for side in (height, width))
        raise ModelError(
            f"{path}: takes crops of {shown} px (height x width), got {wanted[0]}x{wanted[1]}; state its own height "
            "and width"
        )
    number = _output(network, output)
    fixed = network.inputs[0][0]

    def run(crops: FloatArray) -> FloatArray:
        return np.concatenate([part(crops[at : at + (fixed or BATCH)]) for at in range(0, len(crops), fixed or BATCH)])

    def part(crops: FloatArray) -> FloatArray:
        count = len(crops)
        if fixed and count < fixed:  # a fixed batch is filled up, and what fills it is left out of the answer
            crops = np.concatenate([crops, np.repeat(crops[-1:], fixed - count, axis=0)])
        fed = np.ascontiguousarray(crops.transpose(0, 2, 3, 1) if is_last else crops)
        found = np.asarray(network.run(fed)[number], np.float32)
        if found.ndim < 2 or any(side != 1 for side in found.shape[2:]):
            raise ModelError(
                f"{path}: gives an array of shape {found.shape}, expected a vector for each crop; export it with its "
                "pooling"
            )
        if len(found) != len(crops):
            raise ModelError(
                f"{path}: gives {len(found)} rows for {len(crops)} crops, so its batch size is fixed within; export it "
                "with a free batch size (dynamic axes)"
            )
        return found.reshape(len(found), -1)[:count]

    return run, network.device


def _input(network: Network) -> tuple[int | None, int | None, bool]:
    """Height and width that a network's file states, None where open, and whether its channels come last."""
    where, shapes = network.path, network.inputs
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelError(f"{where}: got inputs of shape {list(shapes)}, expected one (B, 3, h, w) or (B, h, w, 3)")
    if network.types and network.types[0] not in _FLOATS:
        raise ModelError(
            f"{where}: takes numbers of type {network.types[0]}, expected {', '.join(_FLOATS)}; export it for float32"
        )
    _, first, second, third = shapes[0]
    if third == 3 and first != 3:
        return first, second, True
    if first not in (3, None):
        raise ModelError(f"{where}: takes {first} channels, expected 3; got an input of shape {shapes[0]}")
    return second, third, False


def _output(network: Network, name: str | None) -> int:
    """The number of the output that is the embedding."""
    names = [output for output, _ in network.outputs]
    shown = ", ".join(f"{output} {shape}".replace("None", "B", 1) for output, shape in network.outputs)
    if name is not None:
        if name not in names:
            raise ModelError(f"{network.path}: has no output {name!r}, got {shown}")
        return names.index(name)
    if len(names) > 1:
        raise ModelError(
            f"{network.path}: has {len(names)} outputs, {shown}; say which is the embedding, not class scores "
            "(--output NAME), or export it with that one alone"
        )
    return 0


def try_network(where: Path | str, network: Embed, preprocess: Preprocess, crops: Sequence[ImageArray] = ()) -> int:
    """Embed several crops, alone, together and twice.

    Args:
        where: how messages name the network.
        network: float32 (B, 3, h, w), B > 0 -> rows (B, D) of any length.
        preprocess: what its crops are made by.
        crops: real ones; without them noise of many colours.

    Returns:
        D, the length of an embedding.

    Raises:
        ModelError: it fails, or an embedding has no direction, or depends on chance or on the other crops; the message
            says what it may come from.
    """
    inputs = to_model_input(list(crops[:_TRIED]) or trial_crops(_TRIED), preprocess)
    alone = [_directions(where, _run(where, network, inputs[n : n + 1])) for n in range(2 if len(inputs) > 1 else 1)]
    together, again = (_directions(where, _run(where, network, inputs)) for _ in range(2))
    for other in (*alone, together, again):
        if other.shape[1] != alone[0].shape[1]:
            raise ModelError(
                f"{where}: gave {alone[0].shape[1]} numbers for a crop, then {other.shape[1]}; export it again"
            )
    if (lowest := _lowest(together, again)) < MIN_AGREEMENT:
        raise ModelError(
            f"{where}: the same crops twice give two embeddings (cosine {lowest:.3f}), so dropout or other chance is "
            "in it; export it in eval mode"
        )
    if (lowest := _lowest(np.concatenate(alone), together[: len(alone)])) < MIN_AGREEMENT:
        raise ModelError(
            f"{where}: a crop alone and the same crop among others give two embeddings (cosine {lowest:.3f}), as a "
            "network does that was left in training mode; export it in eval mode"
        )
    return int(together.shape[1])


def looks_like_probabilities(network: Embed, preprocess: Preprocess) -> bool:
    """Whether every row is a share for each class, none negative, 1 in all: what a classifier ends with."""
    rows = network(to_model_input(trial_crops(_TRIED), preprocess))
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3))


def trial_crops(count: int) -> list[ImageArray]:
    """Pictures uint8 (h, w, 3) of differing sizes with patches of many colours, the same at every call."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        patches = rng.integers(0, 256, (8, 4, 3)).astype(np.uint8)
        size = (64 + 8 * number, 160 + 16 * number)
        found.append(np.asarray(cv2.resize(patches, size, interpolation=cv2.INTER_LINEAR), np.uint8))
    return found


def _run(where: Path | str, network: Embed, crops: FloatArray) -> FloatArray:
    try:
        return network(crops)
    except ModelError:
        raise
    except Exception as error:
        alone = "a crop" if len(crops) == 1 else f"{len(crops)} crops at once"
        cause = (
            "its height and width may be others, or its batch size is fixed within"
            if len(crops) == 1
            else "its batch size may be fixed within: export it with a free one (dynamic axes)"
        )
        raise ModelError(
            f"{where}: the model refused {alone} of shape {crops.shape[1:]} ({first_line(error)}); {cause}"
        ) from None


def _directions(where: Path | str, rows: FloatArray) -> FloatArray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(length).all() and length.min() > 0):
        raise ModelError(f"{where}: the model gave numbers without a direction (zero or not finite); export it again")
    return np.asarray(rows / length, np.float32)


def _lowest(one: FloatArray, other: FloatArray) -> float:
    return float(np.sum(one * other, axis=1).min())
