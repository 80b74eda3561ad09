"""Data sets by name: those of ``data.reid``, and torchreid's own as ``torchreid:NAME``.

Apart from ``data.reid``, which live code reads too: torchreid brings torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_mtda import plugins
from reid_mtda.data.reid import DATASETS, Half
from reid_mtda.errors import ConfigError, DataError, ReidError
from reid_mtda.types import LabelledSet, RetrievalSplit


def load_dataset(
    name: str,
    root: str | Path | None,
    *,
    where: str,
    half: Half = "both",
    options: Mapping[str, Any] | None = None,
) -> tuple[LabelledSet, RetrievalSplit]:
    """Load a data set by name.

    Args:
        name: one of ``data.reid.DATASETS``, ``torchreid:NAME``, or one of your own: an entry point of
            ``reid_mtda.datasets`` or ``module:function``, called as a ``data.reid.Loader``.
        root: the folder that holds it.
        where: a config key or an option; opens the message of a refusal.
        half: what is needed; a fault of the other half is nobody's concern.
        options: for torchreid's classes alone.

    Raises:
        ConfigError: an unknown name, or no root.
        DataError: nothing of the kind at ``root``, or a half that is needed is damaged.
    """
    if root is None:
        raise ConfigError(f"{where}: no root given, expected the folder that holds {name!r}")
    if name.startswith("torchreid:"):
        from reid_mtda.data.torchreid_sets import load_torchreid  # torch only where it is asked for

        return load_torchreid(name.removeprefix("torchreid:"), Path(root), half=half, **(options or {}))
    if name not in DATASETS and plugins.is_part(plugins.DATASETS, name):
        return _own(name, Path(root), half, where)
    if name not in DATASETS:
        raise ConfigError(f"{where}: got {name!r}, expected one of {', '.join(DATASETS)}, or torchreid:NAME")
    return DATASETS[name](Path(root), half=half)


def _own(name: str, root: Path, half: Half, where: str) -> tuple[LabelledSet, RetrievalSplit]:
    read = plugins.find_part(plugins.DATASETS, name, where=where, known=DATASETS)
    try:
        found = read(root, half=half)
    except ReidError:
        raise
    except Exception as error:
        raise DataError(f"{where}: data set {name!r} raised {plugins.describe(error)}; mend it") from error
    if not (isinstance(found, tuple) and [type(part) for part in found] == [LabelledSet, RetrievalSplit]):
        got = type(found).__name__
        raise DataError(f"{where}: data set {name!r} returned {got}, expected (LabelledSet, RetrievalSplit); mend it")
    return found[0], found[1]
