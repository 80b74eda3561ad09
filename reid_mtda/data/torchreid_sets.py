"""torchreid's image data sets by name, read where they lie; nothing is ever downloaded."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

from reid_mtda.data.reid import Entries, Half, labelled, retrieval, without_junk
from reid_mtda.errors import DataError
from reid_mtda.files import not_a_folder
from reid_mtda.models.torchvision_compat import ensure_torchvision
from reid_mtda.types import LabelledSet, RetrievalSplit

WITHDRAWN = {
    "dukemtmcreid": "its authors withdrew it in 2019, since the people in it were filmed without their consent",
}


def torchreid_names() -> tuple[str, ...]:
    """Names of torchreid's image data sets."""
    return tuple(sorted(_classes()))


def load_torchreid(
    name: str, root: Path, *, allow_withdrawn: bool = False, half: Half = "both", **options: Any
) -> tuple[LabelledSet, RetrievalSplit]:
    """Read one of torchreid's image data sets with torchreid's own class.

    Some classes write their splits as JSON beside the pictures when they first read them. A half that torchreid
    fills with pictures of the other half, for sets that have one half only, is empty here.

    Args:
        name: one of `torchreid_names`.
        root: the folder that holds the data set's folder as torchreid names it, e.g. ``<root>/market1501``.
        allow_withdrawn: read a set even though its authors have withdrawn it.
        half: what is needed; the other half is empty.
        options: for the class, e.g. ``split_id=3`` for VIPeR.

    Raises:
        DataError: an unknown or withdrawn name; the folder is not there, or not laid out as torchreid expects.
    """
    classes = _classes()
    if name not in classes:
        raise DataError(f"data set: got {name!r}, expected one of torchreid's: {', '.join(sorted(classes))}")
    if name in WITHDRAWN and not allow_withdrawn:
        raise DataError(f"{name}: refused, {WITHDRAWN[name]}; use another data set such as market1501")
    kind = classes[name]
    folder = Path(root).expanduser() / kind.dataset_dir
    if not folder.is_dir():  # torchreid would try to download it
        raise DataError(
            f"{folder}: {not_a_folder(folder)}, expected {name}; get it from its authors and unpack it there"
        )
    found = _construct(kind, folder, options)
    train, query, gallery = (
        without_junk(folder, [(Path(path), int(pid), int(camid)) for path, pid, camid, *_ in part])
        for part in (found.train, found.query, found.gallery)
    )
    if kind._train_only:
        query, gallery = [], []
    elif _paths(train) <= _paths(query) | _paths(gallery):
        train = []
    if half == "test":
        train = []
    elif half == "train":
        query, gallery = [], []
    return labelled(folder, name, train, has_cameras=not kind._train_only), retrieval(folder, query, gallery)


def _classes() -> dict[str, Any]:
    ensure_torchvision()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Cython evaluation")
        from torchreid.reid.data import datasets
    classes: dict[str, Any] = dict(vars(datasets)["__image_datasets"])
    return classes


def _construct(kind: Any, folder: Path, options: dict[str, Any]) -> Any:
    """The data set as torchreid reads it; whatever it stumbles over is told as a fault of the folder."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(root=str(folder.parent), verbose=False, **options)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"{folder}: torchreid cannot read it ({reason}); lay it out as torchreid's documentation of data sets says"
        ) from error


def _paths(entries: Entries) -> set[Path]:
    return {path for path, *_ in entries}
