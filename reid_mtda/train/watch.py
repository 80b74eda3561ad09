"""The one hook of the closed-set loops: who wants another selection rule than "last" watches the epochs."""

from __future__ import annotations

from typing import Protocol

from reid_mtda.models.classifier import Classifier


class EpochCallback(Protocol):
    """Called with the epoch's number (1..N) and the network being trained; gives nothing back to the loop."""

    def __call__(self, epoch: int, model: Classifier) -> None:
        """Look at the network, e.g. keep a copy."""


def keep_last(epoch: int, model: Classifier) -> None:
    """The default rule: nothing is kept, the last weights are the result."""
