"""The job of ``export``: a model folder from weights, by whatever program they were trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid_mtda.errors import DataError
from reid_mtda.model import write_manifest
from reid_mtda.types import ModelManifest, Preprocess
from reid_mtda.vision.picture_files import find_pictures
from reid_mtda.vision.preprocess import read_image

if TYPE_CHECKING:
    from reid_mtda.models.embedder import Embedder


def export_weights(
    weights: Path,
    out: Path,
    *,
    crops: Path | None = None,
    arch: str | None = None,
    height: int | None = None,
    width: int | None = None,
    bgr255: bool = False,
) -> ModelManifest:
    """Make a model folder from a run's checkpoint, weights in torchreid's names, or a ready-made ONNX / IR file.

    Raises:
        ModelError: unreadable or unfit weights, or an export that answers otherwise than torch.
        DataError: no crops to compare the export on; a ready-made file needs none.
    """
    if weights.suffix in (".onnx", ".xml"):
        preprocess = Preprocess(height=height or 256, width=width or 128)
        if bgr255:
            preprocess = replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), channels="BGR")
        return write_manifest(weights, out, arch=arch or weights.stem, preprocess=preprocess, trained_on=weights.name)
    from reid_mtda.export import export_student

    model = _build(weights, arch)
    default = Preprocess() if arch else _trained_size(weights)
    folder = Path("(none)") if crops is None else crops
    found = find_pictures(folder) if folder.is_dir() else ()
    if not found:
        raise DataError(f"--crops {folder}: no pictures there, expected real crops to compare the export with torch on")
    return export_student(
        model,
        out,
        arch=model.spec.arch,
        preprocess=Preprocess(height=height or default.height, width=width or default.width),
        trained_on=weights.name,
        check_crops=[read_image(path) for path in found[:32]],
    )


def _build(weights: Path, arch: str | None) -> Embedder:
    from reid_mtda.models.checkpoint import load_embedder, load_zoo_weights
    from reid_mtda.models.embedder import EmbedderSpec, build_embedder

    if arch is None:
        return load_embedder(weights)
    model = build_embedder(EmbedderSpec(arch=arch, neck=False), seed=0)
    load_zoo_weights(model, weights)
    return model.eval()


def _trained_size(weights: Path) -> Preprocess:
    """The crop size stored beside a checkpoint's weights."""
    from reid_mtda.models.checkpoint import load_tensors

    _, card = load_tensors(weights, kind="embedder")
    size = card.get("input")
    return Preprocess(height=size[0], width=size[1]) if size else Preprocess()
