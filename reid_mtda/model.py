"""A model at work: its card and its network in one; model folders opened, and made of ready-made weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from reid_mtda.crop_network import BATCH, looks_like_probabilities, open_crop_network, try_network
from reid_mtda.errors import ModelError, ShapeError
from reid_mtda.files import as_path, write_json
from reid_mtda.model_folder import (
    ID_DIGITS,
    MANIFEST,
    ONNX,
    check_model_id,
    hash_model,
    new_model_folder,
    read_manifest,
    weight_files,
)
from reid_mtda.networks import first_line
from reid_mtda.onnx_file import whole_onnx
from reid_mtda.progress import Progress, silent
from reid_mtda.types import Embed, FloatArray, ImageArray, ModelManifest, Preprocess, check_array
from reid_mtda.vision.preprocess import read_image, to_model_input
from reid_mtda.zoo.folder import resolve_model

Crop = ImageArray | Path | str
"""A picture of one person: uint8 (h, w, 3) RGB, or the path of a picture file."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network that tells people apart, and its card.

    ``network`` takes preprocessed crops float32 (B, 3, h, w) and gives rows (B, D) of length 1; with a function of
    one's own in its place, any network is a model. ``folder``: where it was loaded from.
    """

    manifest: ModelManifest
    network: Embed
    device: str = "cpu"
    folder: Path | None = None

    @property
    def model_id(self) -> str:
        """What binds a gallery to it."""
        return self.manifest.model_id

    @property
    def embedding_dim(self) -> int:
        """Length D of an embedding."""
        return self.manifest.embedding_dim

    def embed(self, crops: Crop | Sequence[Crop], *, progress: Progress = silent) -> FloatArray:
        """Embed crops, a batch at a time.

        Args:
            crops: B pictures uint8 (h, w, 3) RGB of any size, or paths of picture files, or both; one of them is
                taken as B = 1.
            progress: told ("embed", crops done, B) after each batch.

        Returns:
            float32 (B, D), rows of length 1 in the order of ``crops``; B = 0 gives (0, D).

        Raises:
            ImageError: a file that is no picture; its message names it.
            ShapeError: an array that is no picture, or a network that gave another number of rows than it got.
            ModelError: the network failed.

        >>> mean = lambda crops: crops.mean(axis=(2, 3)) / np.linalg.norm(crops.mean(axis=(2, 3)), axis=1)[:, None]
        >>> card = ModelManifest("0" * 12, "mean colour", 3, Preprocess(8, 8, (0, 0, 0), (1, 1, 1)), "nothing")
        >>> Model(card, mean).embed(np.full((20, 10, 3), 255, np.uint8)).round(2)
        array([[0.58, 0.58, 0.58]], dtype=float32)
        """
        if isinstance(crops, str | os.PathLike) or (isinstance(crops, np.ndarray) and crops.ndim == 3):
            crops = [crops]
        if not isinstance(crops, Sequence | np.ndarray):
            raise ShapeError(f"embed: got {type(crops).__name__}, expected pictures or paths of pictures")
        rows = [np.zeros((0, self.embedding_dim), np.float32)]
        for start in range(0, len(crops), BATCH):
            part = crops[start : start + BATCH]
            pictures = [read_image(Path(crop)) if isinstance(crop, str | os.PathLike) else crop for crop in part]
            found = np.asarray(self.network(to_model_input(pictures, self.manifest.preprocess)), np.float32)
            if found.shape != (len(part), self.embedding_dim):
                expected = (len(part), self.embedding_dim)
                raise ShapeError(
                    f"model {self.model_id}: got {found.shape} for {len(part)} crops, expected {expected}; "
                    "export it again"
                )
            rows.append(found)
            progress("embed", start + len(part), len(crops))
        return np.concatenate(rows)


def load_model(folder: Path | str, *, device: str = "cpu", threads: int | None = None) -> Model:
    """Open a model folder.

    Args:
        folder: holds ``manifest.json`` and ``model.onnx``, or ``model.xml`` and ``model.bin``; or the name of a
            ready-made network, e.g. ``retail-0287``.
        device: where it runs: ``cpu``; for ONNX also ``cuda``, ``tensorrt`` or ``coreml``, for OpenVINO ``gpu`` or
            ``npu``; ``auto``: the first of these that is there.
        threads: CPU threads of one call; None takes all this process may use.

    Returns:
        The model; it may be called from several threads.

    Raises:
        ModelError: the folder is missing, damaged, of another kind, its weights are not those of its manifest, or
            the device gives other results than the CPU, or crops alone, together and twice do not give the same.
        ConfigError: a device that is not there; the message names those that are.
    """
    if not isinstance(folder, str | os.PathLike):
        raise ModelError(f"load_model: got {type(folder).__name__}, expected the path of a model folder, or a name")
    folder = resolve_model(as_path("load_model", folder))
    manifest = read_manifest(folder)
    check_model_id(folder, manifest)
    network, device = open_crop_network(
        weight_files(folder)[0], manifest.preprocess, output=manifest.output, device=device, threads=threads
    )
    model = Model(manifest, _checked_embed(folder, network, manifest), device, folder)
    try_network(folder, model.network, manifest.preprocess)
    return model


def write_manifest(
    weights: Path,
    folder: Path,
    *,
    arch: str,
    preprocess: Preprocess,
    trained_on: str,
    output: str | None = None,
    crops: Sequence[ImageArray] = (),
) -> ModelManifest:
    """Make a model folder out of a ready-made ONNX or OpenVINO IR file, e.g. to use it as a teacher.

    Args:
        weights: ``*.onnx``, with the file of its weights beside it where it has one, or ``*.xml`` with its ``*.bin``;
            one input (B, 3, h, w) or (B, h, w, 3), an output (B, D).
        folder: the model folder to make; a model folder that stands there is replaced once the new one is complete.
        arch: name of the network, for people.
        preprocess: what the network expects; for BGR 0-255 that is ``mean=(0, 0, 0), std=(1/255,) * 3,
            channels="BGR"``.
        trained_on: where the weights come from, for people.
        output: name of the output that is the embedding; needed where there are several.
        crops: real crops to try it on; without them drawn ones are taken.

    Raises:
        ModelError: the weights cannot be opened or do not turn crops into vectors; ``folder`` is as it was.
    """
    weights = Path(weights)
    is_onnx = weights.suffix.lower() == ".onnx"
    sources = [weights] if is_onnx else [weights.with_suffix(".xml"), weights.with_suffix(".bin")]
    for source in sources:
        if not source.is_file():
            raise ModelError(f"{source}: no such file, expected an ONNX file or an OpenVINO .xml with its .bin")
    with new_model_folder(folder) as part:
        if is_onnx:
            (part / ONNX).write_bytes(whole_onnx(weights))
        else:
            for source in sources:
                shutil.copyfile(source, part / f"model{source.suffix.lower()}")
        return finish_folder(part, arch=arch, preprocess=preprocess, trained_on=trained_on, output=output, crops=crops)


def finish_folder(
    part: Path,
    *,
    arch: str,
    preprocess: Preprocess,
    trained_on: str,
    output: str | None = None,
    crops: Sequence[ImageArray] = (),
) -> ModelManifest:
    """Write the manifest of the weights that lie in ``part``, after trial crops gave vectors that can be relied on.

    Args:
        part: an unfinished model folder, of ``new_model_folder``.
        arch: name of the network, for people.
        preprocess: what the network expects.
        trained_on: where the weights come from, for people.
        output: name of the output that is the embedding; needed where there are several.
        crops: real crops to try it on; without them drawn ones are taken.

    Raises:
        ModelError: the weights cannot be opened, do not turn crops into vectors, or into others the second time, or
            among other crops; or what comes out are shares of classes.
    """
    network, _ = open_crop_network(weight_files(part)[0], preprocess, output=output, threads=1)
    dim = try_network(part, network, preprocess, crops)
    if output is None and looks_like_probabilities(network, preprocess):
        raise ModelError(
            f"{part}: gives {dim} shares that are 1 in all, so these are class scores, not an embedding; export it "
            "without its classifier, or name its output where it is one all the same (--output NAME)"
        )
    manifest = ModelManifest(
        model_id=hash_model(weight_files(part), preprocess, dim, output)[:ID_DIGITS],
        arch=arch,
        embedding_dim=dim,
        preprocess=preprocess,
        trained_on=trained_on,
        output=output,
    )
    write_json(part / MANIFEST, {"kind": "reid-mtda model", **asdict(manifest)})
    return manifest


def _checked_embed(folder: Path, network: Embed, manifest: ModelManifest) -> Embed:
    """Wrap ``network`` as an Embed whose input and output are what the manifest promises."""
    height, width, dim = manifest.preprocess.height, manifest.preprocess.width, manifest.embedding_dim

    def embed(crops: FloatArray) -> FloatArray:
        check_array(f"model {manifest.model_id}, crops", crops, np.float32, (None, 3, height, width))
        if len(crops) == 0:
            return np.zeros((0, dim), np.float32)
        rows = _run(folder, network, crops)
        if rows.shape != (len(crops), dim):
            raise ModelError(
                f"{folder}: the model gave {rows.shape}, expected {(len(crops), dim)}; {MANIFEST} is of another model"
            )
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(length).all() and length.min() > 0):
            raise ModelError(f"{folder}: the model gave numbers without a direction (zero or not finite); export again")
        return np.asarray(rows / length, np.float32)

    return embed


def _run(folder: Path, network: Embed, crops: FloatArray) -> FloatArray:
    """Call ``network``; a refusal names ``folder``."""
    try:
        return network(crops)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{folder}: the model refused crops {crops.shape} ({first_line(error)}); "
            "its manifest's height and width may be wrong"
        ) from None
