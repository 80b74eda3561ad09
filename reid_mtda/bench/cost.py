"""What a network costs: weights, multiply-accumulates, milliseconds of one crop in its exported form."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reid_mtda.export import export_student
from reid_mtda.model import Model, load_model
from reid_mtda.models.cost import count_macs, median_ms
from reid_mtda.models.embedder import Embedder
from reid_mtda.types import Preprocess
from reid_mtda.vision.preprocess import read_image


def measure_cost(model: Embedder, preprocess: Preprocess, check: Sequence[Path]) -> dict[str, float]:
    """Weights, multiply-accumulates of one crop, and milliseconds of one crop in the exported form on this CPU.

    Args:
        model: the network.
        preprocess: size and colours of the input.
        check: pictures that the export is compared with torch on.
    """
    body = [p for name, p in model.named_parameters() if not name.startswith("classifier.")]
    with tempfile.TemporaryDirectory() as folder:
        export_student(
            model,
            Path(folder) / "model",
            arch=model.spec.arch,
            preprocess=preprocess,
            trained_on="cost",
            check_crops=[read_image(path) for path in check],
        )
        ms = milliseconds(load_model(Path(folder) / "model"))
    classes = model.classifier.weight.numel() if model.classifier is not None else 0
    return {
        "params": float(sum(p.numel() for p in body)),
        "macs": float(count_macs(model.eval(), (preprocess.height, preprocess.width)) - classes),
        "ms": ms,
    }


def milliseconds(model: Model, *, rounds: int = 30) -> float:
    """Measure the median time of one preprocessed crop, in milliseconds."""
    preprocess = model.manifest.preprocess
    crop = np.zeros((1, 3, preprocess.height, preprocess.width), np.float32)
    return median_ms(lambda: model.network(crop), rounds=rounds)
