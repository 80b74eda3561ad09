"""What ``import reid_mtda as rm`` offers beside models and galleries: scores, crops and adaptation in one call each."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from reid_mtda.camera_means import need_centring
from reid_mtda.data.datasets import load_dataset
from reid_mtda.data.reid import load_folder
from reid_mtda.errors import ConfigError, ReidError
from reid_mtda.evaluation.evaluate import evaluate_split
from reid_mtda.files import as_path
from reid_mtda.model import Model, load_model
from reid_mtda.progress import Progress, silent
from reid_mtda.scores import RetrievalScores
from reid_mtda.types import UnlabelledSet

_CALL = TypeVar("_CALL", bound=Callable[..., Any])


def _in_python(call: _CALL) -> _CALL:
    """Let refusals of ``call`` speak of parameters where the command line has options: ``root``, not ``--root``."""

    @functools.wraps(call)
    def spoken(*args: Any, **named: Any) -> Any:
        try:
            return call(*args, **named)
        except ReidError as error:
            text = re.sub(r"(?<![\w-])--([a-z][a-z0-9-]*)", lambda found: found[1].replace("-", "_"), str(error))
            error.args = (text, *error.args[1:])
            raise

    return spoken  # type: ignore[return-value]


Targets = Mapping[str, UnlabelledSet] | UnlabelledSet | Path | str


@_in_python
def evaluate(
    model: Model,
    data: str = "market1501",
    *,
    root: Path | str,
    rerank: bool = False,
    centred: bool = False,
    progress: Progress = silent,
) -> RetrievalScores:
    """Score a model on a labelled data set: query against gallery, the same person of the same camera left out.

    Args:
        model: of ``load_model``, or any other ``Model``.
        data: name of the data set's layout: ``market1501``, ``msmt17``, ``cuhk03np``, or ``torchreid:NAME``.
        root: its folder.
        rerank: re-rank by k-reciprocal neighbours.
        centred: subtract each camera's mean, of the model's folder, before comparing.
        progress: told ("embed", pictures done, pictures in all).

    Returns:
        mAP, mINP and CMC as fractions; by camera and by pair of cameras, too.

    Raises:
        ConfigError: an unknown name, or ``centred`` with a model whose folder says too little of its cameras.
        DataError: no such data set at ``root``, or no query has a right answer in another camera.
        ImageError: a file that is no picture.
    """
    if not isinstance(model, Model):
        raise ConfigError(f"evaluate: got {type(model).__name__}, expected a model, as load_model gives it")
    if not isinstance(data, str):
        raise ConfigError(f"evaluate: data: got {type(data).__name__}, expected the name of a data set's layout")
    root = as_path("evaluate: root", root)
    if centred and model.folder is None:
        raise ConfigError(f"evaluate: centred: model {model.model_id} lies in no folder; load it from one")
    centring = need_centring(model.folder, model.manifest) if centred and model.folder is not None else None
    _, split = load_dataset(data, root, where="evaluate", half="test")
    return evaluate_split(model, split, rerank=rerank, centring=centring, progress=progress)


@_in_python
def load_crops(place: Path | str) -> dict[str, UnlabelledSet]:
    """Read unlabelled crops: by camera, from a folder with one folder of pictures for each camera.

    An optional ``crops.csv`` in a camera's folder groups the crops of one track, as ``reid-mtda harvest`` writes it.

    Raises:
        DataError: no such folder, or one without folders of cameras. An archive's crops are learnt from with
            ``reid-mtda adapt --data archive``: it is unpacked into a run folder.
    """
    return load_folder(as_path("load_crops", place))


@_in_python
def adapt(
    targets: Targets,
    *,
    out: Path | str,
    source: str | None = None,
    source_root: Path | str | None = None,
    teacher: Model | Path | str | None = None,
    student: str = "osnet_x0_25",
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Model:
    """Adapt one student to every camera, without labels of them: teachers are distilled into it.

    The job leaves each step under ``out`` and goes on there after a stop. This is the one function here that imports
    torch.

    Args:
        targets: unlabelled crops by camera, as ``load_crops`` reads them; one set; or the folder of ``load_crops``.
        out: run folder; its ``student`` is the model that is returned.
        source: labelled data set that networks learn first: a name as in ``evaluate``, or ``lab``, which is drawn;
            None: their weights are all there is of it.
        source_root: its folder.
        teacher: a model that teaches at every camera: of ``load_model``, or what that takes; None: a teacher is
            trained on the source and adapted to each camera.
        student: the student's network.
        device: where torch computes: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        settings: more keys of a preset as in ``configs/adapt``, e.g. ``{"distil": {"steps": 500}, "seed": 1}``.
        progress: told (step, done, in all).

    Raises:
        ConfigError: a key or value that no preset has, a teacher that lies in no folder, no source and no teacher, a
            device that is not there, or ``out`` holds another run.
        DataError: nothing to learn from.
    """
    out = as_path("adapt: out", out)
    if not isinstance(targets, str | Path | Mapping | UnlabelledSet):
        raise ConfigError(f"adapt: targets: got {type(targets).__name__}, expected crops by camera, or their folder")
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"adapt: settings: got {type(settings).__name__}, expected keys and values of a preset")
    if teacher is None and source is None:
        raise ConfigError("adapt: got neither source nor teacher, expected one at least; name a model as teacher")
    from reid_mtda.models.device import choose_compute
    from reid_mtda.presets import load_config
    from reid_mtda.workflow.adapt import adapt_crops

    values: dict[str, Any] = {"source": {"name": source or "none"}, "student": {"arch": student}}
    if source_root is not None:
        values["source"]["root"] = str(source_root)
    if teacher is not None:
        model = teacher if isinstance(teacher, Model) else load_model(teacher)
        if model.folder is None:
            raise ConfigError(f"adapt: teacher {model.model_id} lies in no folder; export it and load it from there")
        values["ready_made"] = {"*": str(model.folder)}
    for part, value in (settings or {}).items():
        both = isinstance(value, Mapping) and isinstance(values.get(part), dict)
        values[part] = {**values[part], **value} if both else value
    config = load_config(None, given=values)
    if isinstance(targets, str | Path):
        targets = load_crops(targets)
    sets = {targets.domain: targets} if isinstance(targets, UnlabelledSet) else targets
    adapted = adapt_crops(config, Path(out), progress, crops=sets, compute=choose_compute(device))
    return load_model(adapted.model_folder)
