"""A model folder back to work: weights and their card in, an ``Embed`` out; and one made of ready-made weights."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reid_mtda.errors import ModelError
from reid_mtda.runs import write_json
from reid_mtda.runtime.folder import (
    ID_DIGITS,
    MANIFEST,
    hash_weights,
    new_model_folder,
    read_manifest,
    weight_files,
)
from reid_mtda.runtime.session import Session, open_session, run_session
from reid_mtda.types import Embed, FloatArray, ModelManifest, Preprocess, check_array


def load_exported(folder: Path, *, device: str = "cpu", threads: int | None = None) -> tuple[Embed, ModelManifest]:
    """Open a model folder.

    Args:
        folder: holds ``manifest.json`` and ``model.onnx``, or ``model.xml`` and ``model.bin``.
        device: where it runs, as in ``networks.open_network``.
        threads: CPU threads of one call; None takes all this process may use.

    Returns:
        ``embed``: float32 (B, 3, h, w), preprocessed -> float32 (B, D), rows of length 1, B = 0 included; may be
        called from several threads. And the manifest.

    Raises:
        ModelError: the folder is missing, damaged, of another kind, or its weights are not those of its manifest.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    found = hash_weights(weight_files(folder))
    if not found.startswith(manifest.model_id):
        raise ModelError(
            f"{folder}: weights are not those of {MANIFEST}, got {found[:ID_DIGITS]}, expected {manifest.model_id}; "
            "the folder is damaged or mixed: export again"
        )
    return _checked_embed(folder, open_session(folder, threads, device), manifest), manifest


def write_manifest(weights: Path, folder: Path, *, arch: str, preprocess: Preprocess, trained_on: str) -> ModelManifest:
    """Make a model folder out of a ready-made ONNX or OpenVINO IR file, e.g. to use it as a teacher.

    Args:
        weights: ``*.onnx``, or ``*.xml`` with its ``*.bin`` beside it; one input (B, 3, h, w), one output (B, D, ...).
        folder: the model folder to make; a model folder that stands there is replaced once the new one is complete.
        arch: name of the network, for people.
        preprocess: what the network expects; for BGR 0-255 that is ``mean=(0, 0, 0), std=(1/255,) * 3,
            channels="BGR"``.
        trained_on: where the weights come from, for people.

    Raises:
        ModelError: the weights cannot be opened or do not turn crops into vectors; ``folder`` is as it was.
    """
    weights = Path(weights)
    sources = [weights] if weights.suffix == ".onnx" else [weights.with_suffix(".xml"), weights.with_suffix(".bin")]
    for source in sources:
        if not source.is_file():
            raise ModelError(f"{source}: no such file, expected an ONNX file or an OpenVINO .xml with its .bin")
    with new_model_folder(folder) as part:
        for source in sources:
            shutil.copyfile(source, part / f"model{source.suffix}")
        return finish_folder(part, arch=arch, preprocess=preprocess, trained_on=trained_on)


def finish_folder(part: Path, *, arch: str, preprocess: Preprocess, trained_on: str) -> ModelManifest:
    """Write the manifest of the weights that lie in ``part``, after one trial crop gave a vector."""
    session = open_session(part, 1, "cpu")
    row = run_session(part, session, np.zeros((1, 3, preprocess.height, preprocess.width), np.float32))
    manifest = ModelManifest(
        model_id=hash_weights(weight_files(part))[:ID_DIGITS],
        arch=arch,
        embedding_dim=row.shape[1],
        preprocess=preprocess,
        trained_on=trained_on,
    )
    write_json(part / MANIFEST, {"kind": "reid-mtda model", **asdict(manifest)})
    return manifest


def _checked_embed(folder: Path, session: Session, manifest: ModelManifest) -> Embed:
    """Wrap ``session`` as an Embed whose input and output are what the manifest promises."""
    height, width, dim = manifest.preprocess.height, manifest.preprocess.width, manifest.embedding_dim

    def embed(crops: FloatArray) -> FloatArray:
        check_array(f"model {manifest.model_id}, crops", crops, np.float32, (None, 3, height, width))
        if len(crops) == 0:
            return np.zeros((0, dim), np.float32)
        rows = run_session(folder, session, np.ascontiguousarray(crops))
        if rows.shape != (len(crops), dim):
            raise ModelError(
                f"{folder}: the model gave {rows.shape}, expected {(len(crops), dim)}; {MANIFEST} is of another model"
            )
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(length).all() and length.min() > 0):
            raise ModelError(f"{folder}: the model gave numbers without a direction (zero or not finite); export again")
        return np.asarray(rows / length, np.float32)

    embed(np.full((1, 3, height, width), 0.5, np.float32))
    return embed
