"""What each camera looked like to a model when it was adapted to it: mean embeddings beside the model's weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from reid_mtda.errors import ConfigError
from reid_mtda.model_folder import CAMERAS
from reid_mtda.runs import write_json
from reid_mtda.schema import Strict, parse
from reid_mtda.types import FloatArray, ModelManifest

log = logging.getLogger(__name__)


class _Camera(Strict):
    crops: int = Field(ge=1)
    mean: tuple[float, ...]


class _Cameras(Strict):
    """``cameras.json`` as it is written."""

    kind: Literal["reid-mtda cameras"]
    model_id: str
    cameras: dict[str, _Camera]


def write_cameras(folder: Path, manifest: ModelManifest, embeddings: Mapping[str, FloatArray]) -> None:
    """Write down how many crops of each camera were adapted to, and the mean of their embeddings.

    Args:
        folder: the model folder.
        manifest: its card: means of one model say nothing about another one's embeddings.
        embeddings: float32 (N, D) of this model, by camera; one without crops is left out.

    Raises:
        StorageError: the disk refused; what stood there before is untouched.
    """
    cameras = {name: {"crops": len(rows), "mean": rows.mean(axis=0)} for name, rows in embeddings.items() if len(rows)}
    write_json(Path(folder) / CAMERAS, {"kind": "reid-mtda cameras", "model_id": manifest.model_id, "cameras": cameras})


def read_cameras(folder: Path, manifest: ModelManifest) -> dict[str, FloatArray]:
    """The mean embedding float32 (D,) of each camera that the model in ``folder`` was adapted to.

    Empty for a model folder without them; so it is, with a warning, where they are damaged or another model's: a model
    answers all the same.
    """
    path = Path(folder) / CAMERAS
    try:
        card = parse(_Cameras, json.loads(path.read_text(encoding="utf-8")), where=str(path))
        if card.model_id != manifest.model_id:
            raise ValueError(f"of model {card.model_id}, expected {manifest.model_id}")
        means = {name: np.asarray(camera.mean, np.float32) for name, camera in card.cameras.items()}
        for name, mean in means.items():
            if mean.shape != (manifest.embedding_dim,) or not (np.isfinite(mean).all() and mean.any()):
                raise ValueError(f"{name}: got a mean of shape {mean.shape}, expected {manifest.embedding_dim} numbers")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        advice = "drift is measured against the first sightings; adapt again"
        log.warning("%s: not usable (%s); %s", path, error, advice)
        return {}
    return means
