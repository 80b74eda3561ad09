"""Data sets by name: those of ``data.reid``, and torchreid's own as ``torchreid:NAME``.

Apart from ``data.reid``, which live code reads too: torchreid brings torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_mtda.data.reid import DATASETS, Half
from reid_mtda.errors import ConfigError
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
        name: one of ``data.reid.DATASETS``, or ``torchreid:NAME``.
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
    if name not in DATASETS:
        raise ConfigError(f"{where}: got {name!r}, expected one of {', '.join(DATASETS)}, or torchreid:NAME")
    return DATASETS[name](Path(root), half=half)
