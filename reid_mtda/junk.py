"""What identity numbers mean, wherever they come from: names and lists, archives, files of embeddings, ground truth.

A negative number is *junk*: no person. It is left out, counted and said. A *distractor* is an identity that no query
has, such as Market-1501's 0: it stays in the gallery as a wrong answer. Any other number is a person.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)


def is_person(pids: npt.NDArray[np.integer[Any]], *, where: str | Path) -> npt.NDArray[np.bool_]:
    """Tell which of ``pids`` (N,) are no junk; how many are is logged with ``where``, which they come from."""
    kept = np.asarray(pids >= 0, bool)
    if not kept.all():
        log.warning(
            "%s: left out %d of %d entries whose identity number is negative: junk, no person",
            where,
            int((~kept).sum()),
            len(kept),
        )
    return kept
