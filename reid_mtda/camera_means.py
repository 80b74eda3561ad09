"""What each camera looked like to a model when it was adapted to it: mean embeddings beside the model's weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from reid_mtda.centring import CameraMeans, Centred, shrunk_means
from reid_mtda.errors import ConfigError
from reid_mtda.files import write_json
from reid_mtda.model_folder import CAMERAS
from reid_mtda.schema import Strict, parse
from reid_mtda.types import FloatArray, ModelManifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CountedMean:
    """A plain mean embedding float32 (D,), and about how many people it is of; None: nobody counted them."""

    mean: FloatArray
    people: int | None


@dataclass(frozen=True)
class LearntFrom:
    """What of one camera a model learnt from: whoever is in it is no evidence of how well the model tells others apart.

    ``spans``: POSIX seconds (start, end) of its tracklets; ``footage``: its recording's fingerprint.
    """

    spans: tuple[tuple[float, float], ...] = ()
    footage: str | None = None


class _Camera(Strict):
    crops: int = Field(ge=1)
    people: int | None = Field(default=None, ge=1)
    mean: tuple[float, ...]
    learnt_s: tuple[tuple[float, float], ...] = ()
    footage: str | None = None


class _Cameras(Strict):
    """``cameras.json`` as it is written."""

    kind: Literal["reid-mtda cameras"]
    model_id: str
    cameras: dict[str, _Camera]


def write_cameras(
    folder: Path,
    manifest: ModelManifest,
    embeddings: Mapping[str, FloatArray],
    people: Mapping[str, int] | None = None,
    learnt: Mapping[str, LearntFrom] | None = None,
) -> None:
    """Write down how many crops of each camera were adapted to, and the mean of their embeddings.

    Args:
        folder: the model folder.
        manifest: its card: means of one model say nothing about another one's embeddings.
        embeddings: float32 (N, D) of this model, by camera; one without crops is left out.
        people: about how many people those crops show, by camera, 1 or more. None: not known, and searches with this
            model cannot be centred.
        learnt: what of each camera it learnt from, as far as that is known.

    Raises:
        StorageError: the disk refused; what stood there before is untouched.
    """
    cameras = {}
    for name, rows in embeddings.items():
        if len(rows):
            of = (learnt or {}).get(name, LearntFrom())
            counted = None if people is None else people[name]
            known = {"crops": len(rows), "people": counted, "mean": rows.mean(axis=0)}
            cameras[name] = known | {"learnt_s": of.spans, "footage": of.footage}
    write_json(Path(folder) / CAMERAS, {"kind": "reid-mtda cameras", "model_id": manifest.model_id, "cameras": cameras})


def read_cameras(folder: Path, manifest: ModelManifest) -> dict[str, FloatArray]:
    """The mean embedding float32 (D,) of each camera that the model in ``folder`` was adapted to.

    Empty for a model folder without them; so it is, with a warning, where they are damaged or another model's: a model
    answers all the same.
    """
    return {name: np.asarray(one.mean, np.float32) for name, one in _read(folder, manifest).items()}


def read_counted(folder: Path, manifest: ModelManifest) -> dict[str, CountedMean]:
    """As `read_cameras`, each mean with the number of people it is of."""
    cameras = _read(folder, manifest)
    return {name: CountedMean(np.asarray(one.mean, np.float32), one.people) for name, one in cameras.items()}


def read_learnt(folder: Path, manifest: ModelManifest) -> dict[str, LearntFrom]:
    """What of each camera the model in ``folder`` learnt from, as far as its folder says."""
    return {name: LearntFrom(one.learnt_s, one.footage) for name, one in _read(folder, manifest).items()}


def read_centring(folder: Path, manifest: ModelManifest) -> CameraMeans | None:
    """What is subtracted from embeddings of the model in ``folder`` before they are compared.

    None, with a warning that says why, where nothing usable is known of its cameras, or not how many people they saw.
    """
    cameras = _read(folder, manifest)
    people = {name: one.people for name, one in cameras.items() if one.people is not None}
    if not cameras or len(people) < len(cameras):
        lacking = ", ".join(sorted(cameras.keys() - people.keys()))
        what = f"says nothing of how many people were seen at {lacking}" if cameras else "no means of cameras there"
        log.warning("%s: %s; embeddings are compared uncentred, adapt again", Path(folder) / CAMERAS, what)
        return None
    return shrunk_means({name: np.asarray(one.mean, np.float32) for name, one in cameras.items()}, people)


def need_centring(folder: Path, manifest: ModelManifest) -> CameraMeans:
    """As `read_centring`, for those who asked for it.

    Raises:
        ConfigError: the model's folder does not say enough of its cameras.
    """
    found = read_centring(folder, manifest)
    if found is None:
        raise ConfigError(
            f"{folder}: {CAMERAS} says too little to centre embeddings by camera, expected means and numbers of people "
            "as 'reid-mtda adapt' writes them; adapt again, or compare uncentred"
        )
    return found


def choose_centring(folder: Path | None, manifest: ModelManifest, centred: Centred) -> CameraMeans | None:
    """What embeddings of a model are centred with where ``centred`` is asked for; None where they are not.

    Args:
        folder: the model folder; None, a model that lies in none, has no means.
        manifest: its card.
        centred: ``auto``: a warning says why not where too little is known of its cameras; ``on``: that is refused.

    Raises:
        ConfigError: ``on``, and the model's folder does not say enough of its cameras.
    """
    if centred == "off" or folder is None:
        return None
    return (need_centring if centred == "on" else read_centring)(folder, manifest)


def _read(folder: Path, manifest: ModelManifest) -> dict[str, _Camera]:
    path = Path(folder) / CAMERAS
    try:
        card = parse(_Cameras, json.loads(path.read_text(encoding="utf-8")), where=str(path))
        if card.model_id != manifest.model_id:
            raise ValueError(f"of model {card.model_id}, expected {manifest.model_id}")
        for name, camera in card.cameras.items():
            mean = np.asarray(camera.mean, np.float32)
            if mean.shape != (manifest.embedding_dim,) or not (np.isfinite(mean).all() and mean.any()):
                raise ValueError(f"{name}: got a mean of shape {mean.shape}, expected {manifest.embedding_dim} numbers")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        advice = "drift is measured against the first sightings; adapt again"
        log.warning("%s: not usable (%s); %s", path, error, advice)
        return {}
    return card.cameras
