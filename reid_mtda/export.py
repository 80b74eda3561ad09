"""Write the deployable model, reload it as the service would, and refuse it when it differs from torch."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_mtda.errors import ModelError
from reid_mtda.model import finish_folder, load_model
from reid_mtda.model_folder import ONNX, new_model_folder
from reid_mtda.models.device import on_host
from reid_mtda.types import FloatArray, ImageArray, ModelManifest, Preprocess
from reid_mtda.vision.preprocess import to_model_input

log = logging.getLogger(__name__)

MIN_COSINE = 0.9999
_CHECK_BATCH = 32


def export_student(
    embedder: nn.Module,
    folder: Path,
    *,
    arch: str,
    preprocess: Preprocess,
    trained_on: str,
    check_crops: Sequence[ImageArray],
) -> ModelManifest:
    """Export ``embedder`` as a model folder that runs without torch.

    Args:
        embedder: called with float32 (B, 3, h, w) in eval mode, gives a result whose ``embedding`` is (B, D) with
            rows of length 1; left as it is, mode included.
        folder: the model folder to make; a model folder that stands there is replaced once the new one has passed.
        arch: name of the network, for people.
        preprocess: what turns crops into its input; travels in the manifest.
        trained_on: on what it was trained, for people.
        check_crops: real crops uint8 (h_i, w_i, 3) on which both models must agree.

    Returns:
        The manifest written.

    Raises:
        ModelError: there are no crops to check with, the network cannot be exported, or a crop's two embeddings have
            a cosine below 0.9999; nothing new is left behind.
    """
    folder = Path(folder)
    if not check_crops:
        raise ModelError(f"{folder}: got no crops to compare the export with torch on, expected at least one")
    model = _EmbeddingOnly(on_host(copy.deepcopy(embedder)).float()).eval()
    crops = to_model_input(check_crops, preprocess)
    wanted = _embed_with_torch(model, crops)
    with new_model_folder(folder) as part:
        _write_onnx(model, crops[:1], part / ONNX)
        manifest = finish_folder(part, arch=arch, preprocess=preprocess, trained_on=trained_on)
        embed = load_model(part).network
        # All at once and one alone: a graph that fixed its batch size would pass only one of the two.
        cosine = np.sum(wanted * embed(crops), axis=1)
        lowest = min(float(cosine.min()), float(wanted[0] @ embed(crops[:1])[0]))
        if not lowest >= MIN_COSINE:
            raise ModelError(
                f"{folder}: the exported model differs from torch, got cosine {lowest:.6f}, "
                f"expected >= {MIN_COSINE} on {len(crops)} crops; nothing was written"
            )
    log.info("exported %s as %s: lowest cosine to torch %.7f", arch, folder, lowest)
    return manifest


class _EmbeddingOnly(nn.Module):
    """The graph that is exported: crops in, rows of length 1 out, no classifier."""

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, crops: Tensor) -> Tensor:
        return nn.functional.normalize(self.embedder(crops).embedding, dim=1)


def _embed_with_torch(model: nn.Module, crops: FloatArray) -> FloatArray:
    with torch.inference_mode():
        rows = [
            model(torch.from_numpy(crops[start : start + _CHECK_BATCH])).numpy()
            for start in range(0, len(crops), _CHECK_BATCH)
        ]
    return np.concatenate(rows)


def _write_onnx(model: nn.Module, example: FloatArray, path: Path) -> None:
    """Write ``model`` as one ONNX file with a free batch size.

    The tracing exporter comes first: for OSNet x0.25 it takes 0.7 s against 7.4 s and writes half the bytes, and
    ONNX Runtime runs both graphs at the same speed. What it does not know the newer exporter may.
    """
    crops = torch.from_numpy(np.repeat(example, 2, axis=0))
    names: dict[str, Any] = {"input_names": ["crops"], "output_names": ["embeddings"]}
    free = {"crops": {0: "batch"}, "embeddings": {0: "batch"}}
    shapes = {"crops": {0: torch.export.Dim("batch", min=1, max=65536)}}
    try:
        # The exporters talk on standard output and warn about each other.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    model, (crops,), str(path), dynamo=False, opset_version=17, dynamic_axes=free, **names
                )
            except torch.onnx.errors.OnnxExporterError:
                torch.onnx.export(
                    model, (crops,), str(path), dynamo=True, external_data=False, dynamic_shapes=shapes, **names
                )
    except OSError:
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:300]
        raise ModelError(f"{path.parent}: torch cannot export this network ({detail}); use another") from error
