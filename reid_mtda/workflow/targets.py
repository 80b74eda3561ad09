"""Targets that are no site's footage: the training halves of labelled data sets, their labels taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.config import TargetData, Tracklets
from reid_mtda.data.archive import names_split, unpack_archive
from reid_mtda.data.datasets import load_dataset
from reid_mtda.data.reid import Half
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.evaluation.evaluate import name_cameras
from reid_mtda.runs import Run
from reid_mtda.synthetic.crops import draw_crops
from reid_mtda.types import IntArray, LabelledSet, RetrievalSplit, UnlabelledSet

NOBODY = 1e-9
"""Share of an archive's people that rounds to none."""
STREET_SEED = 7
"""Of the street's footage, as in cameras/street; a run's own seed draws the lab and the weights."""


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What an experiment has of its targets: ``unlabelled`` is all that training may see.

    ``labelled`` is for the oracle alone, ``tests`` for scoring alone, both by name of the data set.
    """

    unlabelled: dict[str, UnlabelledSet]
    labelled: dict[str, LabelledSet]
    tests: dict[str, RetrievalSplit]


def load_benchmark(targets: tuple[TargetData, ...], run: Run) -> Benchmark:
    """Load every data set of ``targets``; drawn and packed ones are laid out below the run folder first.

    A set may lack a half: one to be tested on alone, or one to be learnt from alone.

    Raises:
        DataError: nothing of the kind at its root, or no set with training pictures, or none with test pictures.
    """
    found = Benchmark({}, {}, {})
    for target in targets:
        train, split = load_pictures_of(target, run)
        if len(split.query):
            found.tests[target.title] = split
        if len(train):
            found.labelled[target.title] = train
    for kind, half in (("training", found.labelled), ("test", found.tests)):
        if not half:
            titles = ", ".join(target.title for target in targets)
            raise DataError(f"targets: got no {kind} pictures in {titles}, expected some; complete that half")
    found.unlabelled.update(_unlabelled(found, targets))
    return found


def without_labels(
    train: LabelledSet, names: tuple[str, ...], target: TargetData, *, prefix: str = "", first: int = 0
) -> dict[str, UnlabelledSet]:
    """Take the labels away and split by camera where asked; what ``target.tracklets`` says stays as tracklets.

    ``names`` are those of the cameras by camid; ``prefix`` tells cameras of one name in several sets apart, ``first``
    is the number that its tracklets begin with. A set is a site: people of different sets are different people.

    Args:
        train: the training half.
        names: of the cameras, by camid.
        target: what the preset says of it.
        prefix: tells cameras of one name in several sets apart.
        first: the number that its tracklets begin with.
    """
    camids = train.camids if train.camids is not None else np.zeros(len(train), np.int64)
    tracklets = _tracklets(train, camids, target, first)
    if target.by == "set":
        return {target.title: UnlabelledSet(train.paths, target.title, tracklets, camids, site=target.title)}
    sets = {}
    for camid in np.unique(camids):
        rows = np.flatnonzero(camids == camid)
        name = prefix + (names[camid] if camid < len(names) else f"camera {camid + 1}")
        own = None if tracklets is None else tracklets[rows]
        sets[name] = UnlabelledSet(tuple(train.paths[row] for row in rows), name, own, site=target.title)
    return sets


def with_tracklets(
    benchmark: Benchmark, targets: tuple[TargetData, ...], tracklets: Tracklets
) -> dict[str, UnlabelledSet]:
    """The unlabelled targets again, with other tracklets.

    Args:
        benchmark: the labelled sets that they are the training halves of.
        targets: the preset's targets.
        tracklets: which tracklets they get.
    """
    return _unlabelled(benchmark, tuple(target.model_copy(update={"tracklets": tracklets}) for target in targets))


def _unlabelled(benchmark: Benchmark, targets: tuple[TargetData, ...]) -> dict[str, UnlabelledSet]:
    found: dict[str, UnlabelledSet] = {}
    first = 0
    for target in targets:
        if target.title in benchmark.labelled:
            split = benchmark.tests.get(target.title)
            names = name_cameras(split) if split else ()
            prefix = f"{target.title}-" if len(targets) > 1 else ""
            train = benchmark.labelled[target.title]
            found |= without_labels(train, names, target, prefix=prefix, first=first)
            first += train.num_classes
    return found


def concat_sets(sets: Sequence[LabelledSet]) -> LabelledSet:
    """Labelled sets as one; identities of different sets stay apart."""
    first = np.cumsum([0, *(each.num_classes for each in sets)])
    return LabelledSet(
        paths=tuple(path for each in sets for path in each.paths),
        labels=np.concatenate([each.labels + start for each, start in zip(sets, first, strict=False)]),
        num_classes=int(first[-1]),
        domain="+".join(each.domain for each in sets),
    )


def _tracklets(train: LabelledSet, camids: IntArray, target: TargetData, first: int) -> IntArray | None:
    """none: no grouping; given: the set's; camera: one track of a person in a camera; identity: the leak."""
    if target.tracklets == "none":
        return None
    if target.tracklets == "identity":
        return train.labels + first
    if target.tracklets == "camera":
        return np.unique(np.stack([train.labels, camids]), axis=1, return_inverse=True)[1].astype(np.int64)
    if train.tracklets is None:
        raise DataError(
            f"{target.title}: tracklets: given, but the data set tells none; expected a tracklets.csv beside its "
            "training pictures, or an array tracklet; use tracklets: none"
        )
    numbers = np.unique(np.stack([train.tracklets, camids]), axis=1, return_inverse=True)[1].astype(np.int64)
    return np.where(train.tracklets >= 0, numbers, -1)


def load_targets(targets: tuple[TargetData, ...], run: Run) -> dict[str, UnlabelledSet]:
    """Load the training halves of ``targets`` without their labels, by camera or set; test halves are not read.

    Raises:
        DataError: nothing of the kind at its root, or a set without training pictures.
    """
    found = Benchmark({}, {}, {})
    for target in targets:
        train, found.tests[target.title] = load_pictures_of(target, run, half="train")
        if not len(train):
            raise DataError(
                f"{target.root or target.title}: got no training pictures, expected some; complete that half"
            )
        found.labelled[target.title] = train
    return _unlabelled(found, targets)


def choose_target(name: str, root: Path, tracklets: str, split: str | None) -> dict[str, Any]:
    """Say in the words of a preset's ``targets`` which data set is adapted to.

    Args:
        name: ``archive``, or a data set's name.
        root: its folder, or the archive's file.
        tracklets: ``given`` or ``none``.
        split: of an archive: ``given``, ``validation`` or ``drawn``; without one its own test people are left out, or,
            where it names none, nobody.
    """
    target: dict[str, Any] = {"name": name, "root": str(root), "tracklets": tracklets}
    if name == "archive":
        is_named = split is None and root.is_file() and names_split(root)
        target |= {"split": split or ("given" if is_named else "drawn")}
        if split is None and not is_named:
            target["test_share"] = NOBODY
    elif split is not None:
        raise ConfigError(f"--split: got {split!r} for {name}, which has halves of its own; it is for an archive")
    return target


def load_pictures_of(target: TargetData, run: Run, *, half: Half = "both") -> tuple[LabelledSet, RetrievalSplit]:
    """Load one data set; a drawn or packed one is laid out below the run folder first.

    Args:
        target: which.
        run: whose folder.
        half: what is needed.
    """
    folder = run.folder / "data" / target.title
    if target.name == "street":
        if not (folder / "query").is_dir():  # the last that is drawn
            draw_crops(folder, seed=STREET_SEED, part="train", per_camera=8)
            draw_crops(folder, seed=STREET_SEED, part="test", people=target.people)
        return load_dataset("market1501", folder, where="targets", half=half)
    if target.name == "archive":
        if target.root is None:
            raise DataError("targets: archive without a root, expected the path of an .npz file")
        fields = target.model_dump(include={"test_share", "identity", "split"})
        unpack_archive(Path(target.root), folder, seed=run.seed, **fields)
        return load_dataset("market1501", folder, where="targets", half=half)
    return load_dataset(target.name, target.root, where="targets", half=half, options=target.options)
