"""Data sets by name: those of ``data.reid``, and torchreid's own as ``torchreid:NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reid_mtda.data.reid import DATASETS
from reid_mtda.errors import ConfigError
from reid_mtda.types import LabelledSet, RetrievalSplit


def load_named(name: str, root: str | Path | None, *, where: str, **options: Any) -> tuple[LabelledSet, RetrievalSplit]:
    """Load the data set ``name`` from ``root``; ``where`` (a config key or an option) opens the message of a refusal.

    ``options`` are for torchreid's classes alone.

    Raises:
        ConfigError: an unknown name, or no root.
        DataError: nothing of the kind at ``root``.
    """
    if root is None:
        raise ConfigError(f"{where}: no root given, expected the folder that holds {name!r}")
    if name.startswith("torchreid:"):
        from reid_mtda.data.torchreid_sets import load_torchreid  # torch only where it is asked for

        return load_torchreid(name.removeprefix("torchreid:"), Path(root), **options)
    if name not in DATASETS:
        raise ConfigError(f"{where}: got {name!r}, expected one of {', '.join(DATASETS)}, or torchreid:NAME")
    return DATASETS[name](Path(root))
