"""What each camera of a running site looks like now: the model's own means, and those made anew from sightings.

Embeddings are stored as they were added and centred when they are compared, so a mean may change at any time; the
index is then made anew, and thresholds are measured anew, for scores are on another scale.

A mean is made anew, of a camera's newest sightings,
- where the model was not adapted to the camera: from 20 sightings on, and again whenever there are twice as many, up to
  1,000. Few people count little, as everywhere (`centring.SHRINKAGE`); a camera without any has the common mean;
- where a camera drifted: the mean of its last 200 sightings has turned away from the one in use by three times what
  other people under the same light and angle would turn it, e.g. because the camera was moved.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from reid_mtda.camera_means import CountedMean, choose_centring, read_counted
from reid_mtda.centring import CameraMeans, Centred, share_of, shrunk_means
from reid_mtda.data.enough_people import people_in_sightings
from reid_mtda.errors import ConfigError
from reid_mtda.files import write_json
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import Model
from reid_mtda.schema import Strict, parse
from reid_mtda.types import FloatArray, ModelManifest

log = logging.getLogger(__name__)

_DRIFTED = 3.0
_FIRST, _MOST, _RECENT = 20, 1000, 200


class _Mean(Strict):
    mean: tuple[float, ...]
    people: int = Field(ge=1)
    sightings: int = Field(ge=1)
    made_s: float
    because: Literal["new", "drifted"]


class _Means(Strict):
    """``means-MODEL.json`` as it is written."""

    kind: Literal["reid-mtda site means"]
    model_id: str
    cameras: dict[str, _Mean]


@dataclass(frozen=True)
class MeanOfCamera:
    """Where a camera's mean comes from: the model's adaptation, sightings made anew, or none of its own (common).

    ``people``: about how many it is of; ``share``: how much it counts beside the common mean, 0 to 1; ``made_s``: POSIX
    seconds when it was made from sightings, None otherwise.
    """

    origin: Literal["adaptation", "sightings", "common"]
    people: int
    share: float
    made_s: float | None = None


class SiteMeans:
    """Means of a site's cameras, by model; what was made anew is kept in the service's folder.

    Args:
        state: the service's folder, ``means-MODEL.json`` in it.
        centred: ``auto``: where the model was adapted to one of the site's cameras at least; ``on``: refused where it
            says nothing of cameras; ``off``: never.
    """

    def __init__(self, state: Path, centred: Centred) -> None:
        self._state, self.centred = Path(state), centred

    def of(self, model: Model, cameras: Collection[str]) -> CameraMeans | None:
        """What embeddings of ``model`` are centred with at a site of ``cameras``; None: they are compared as they are.

        Raises:
            ConfigError: ``on``, and the model's folder says too little of its cameras.
        """
        means = choose_centring(model.folder, model.manifest, self.centred)
        if means is None or model.folder is None:
            return None
        if self.centred == "auto" and not means.by_camera.keys() & set(cameras):
            log.info(
                "model %s knows the means of %s and of no camera here; embeddings are compared as they are",
                model.model_id,
                ", ".join(means.by_camera),
            )
            return None
        found = read_counted(model.folder, model.manifest) | self._renewed(model.manifest)
        return shrunk_means(
            {name: one.mean for name, one in found.items()}, {name: one.people or 1 for name, one in found.items()}
        )

    def renew(self, gallery: Gallery, model: Model, note: Callable[[Mapping[str, str]], object]) -> CameraMeans | None:
        """Make means anew where it is time, and give what is to be compared with from now on.

        Args:
            gallery: of ``model``; whoever asks recentres it.
            model: the model that answers.
            note: told which cameras get another mean and why, in words, before anything is written.

        Raises:
            ConfigError: as in ``of``.
            StorageError: the disk refused; the means before hold.
        """
        if self.of(model, gallery.cameras()) is None or model.folder is None:
            return None
        of_model, before = read_counted(model.folder, model.manifest), self._kept(model.manifest)
        there = set(gallery.cameras())
        kept = {name: one for name, one in before.items() if name in there}
        made: dict[str, _Mean] = {}
        why: dict[str, str] = {}
        for camera in sorted(there):
            found = _made_anew(gallery, camera, of_model.get(camera), kept.get(camera))
            if found is not None:
                made[camera], why[camera] = found
        if made or kept.keys() != before.keys():
            if made:
                note(why)
            self._write(model.manifest, kept | made)
        return self.of(model, there)

    def tell(self, model: Model, cameras: Collection[str]) -> dict[str, MeanOfCamera]:
        """Where the mean of each of ``cameras`` comes from."""
        of_model = {} if model.folder is None else read_counted(model.folder, model.manifest)
        kept, told = self._kept(model.manifest), {}
        for name in cameras:
            if (renewed := kept.get(name)) is not None:
                told[name] = MeanOfCamera("sightings", renewed.people, share_of(renewed.people), renewed.made_s)
            elif name in of_model:
                people = of_model[name].people or 1
                told[name] = MeanOfCamera("adaptation", people, share_of(people))
            else:
                told[name] = MeanOfCamera("common", 0, 0.0)
        return told

    def _renewed(self, manifest: ModelManifest) -> dict[str, CountedMean]:
        kept = self._kept(manifest)
        return {name: CountedMean(np.asarray(one.mean, np.float32), one.people) for name, one in kept.items()}

    def _kept(self, manifest: ModelManifest) -> dict[str, _Mean]:
        path = self._path(manifest)
        try:
            card = parse(_Means, json.loads(path.read_text(encoding="utf-8")), where=str(path))
            if card.model_id != manifest.model_id:
                raise ValueError(f"of model {card.model_id}, expected {manifest.model_id}")
            for name, one in card.cameras.items():
                if len(one.mean) != manifest.embedding_dim or not np.isfinite(one.mean).all():
                    raise ValueError(f"{name}: got {len(one.mean)} numbers, expected {manifest.embedding_dim}")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            log.warning("%s: not usable (%s); means are made anew", path, error)
            return {}
        return card.cameras

    def _write(self, manifest: ModelManifest, cameras: Mapping[str, _Mean]) -> None:
        rows = {name: one.model_dump() for name, one in cameras.items()}
        card = {"kind": "reid-mtda site means", "model_id": manifest.model_id, "cameras": rows}
        write_json(self._path(manifest), card)

    def _path(self, manifest: ModelManifest) -> Path:
        return self._state / f"means-{manifest.model_id}.json"


def _made_anew(
    gallery: Gallery, camera: str, of_model: CountedMean | None, kept: _Mean | None
) -> tuple[_Mean, str] | None:
    """A camera's new mean and why, None while the one in use holds."""
    grows = of_model is None and (kept is None or kept.because == "new")
    rows = newest_vectors(gallery, camera, _MOST if grows else _RECENT)
    there = kept.sightings if kept else 0
    if grows and there < _MOST and len(rows) >= max(_FIRST, min(_MOST, 2 * there)):
        return _mean(rows, "new"), f"made of {len(rows)} sightings, for the model does not know this camera"
    in_use = CountedMean(np.asarray(kept.mean, np.float32), kept.people) if kept else of_model
    if in_use is None or len(rows) < _RECENT:
        return None
    now = _mean(rows[:_RECENT], "drifted")
    drift, by_chance = _drift(now, in_use)
    if drift <= _DRIFTED * by_chance:
        return None
    return now, f"made of its last {_RECENT} sightings, for it drifted by {drift:.3f}, by chance about {by_chance:.3f}"


def _drift(now: _Mean, before: CountedMean) -> tuple[float, float]:
    """1 - cosine of two means, and what it would be on average for other people of one and the same camera.

    On Market-1501's six cameras, seen by OSNet x0.25 of MSMT17, the mean of other people of the same camera was 0.8 to
    1.5 times as far as expected by chance, that of another camera 1.1 to 7.8 times, 3 or more in 20 of 30 pairs.
    """
    mean = np.asarray(now.mean, np.float32)
    spread = max(0.0, 1 / max(float(mean @ mean), 1e-6) - 1)
    return 1 - _cosine(mean, before.mean), spread / 2 * (1 / now.people + 1 / (before.people or 1))


def newest_vectors(gallery: Gallery, camera: str, most: int) -> FloatArray:
    """The newest vectors of a camera as they were added, float32 (N, D), newest first.

    Args:
        gallery: where they stand.
        camera: its name.
        most: how many at most.
    """
    found = gallery.vectors(gallery.newest(most, where=Filter([camera])))
    newest_first = [found[number] for number in sorted(found, reverse=True)]
    return np.stack(newest_first) if newest_first else np.zeros((0, gallery.dim), np.float32)


def _mean(rows: FloatArray, because: Literal["new", "drifted"]) -> _Mean:
    mean = tuple(rows.mean(axis=0).tolist())
    return _Mean(mean=mean, people=people_in_sightings(rows), sightings=len(rows), made_s=time.time(), because=because)


def _cosine(left: FloatArray, right: FloatArray) -> float:
    return float(left @ right / max(float(np.linalg.norm(left) * np.linalg.norm(right)), 1e-12))
