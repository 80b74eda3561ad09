"""Ranking and scoring of people: NumPy in, numbers out; no torch, no training.

Called, ``reid_mtda.evaluate`` is the front door's function of that name: a package and a function cannot share one
otherwise, for Python puts a package that was imported in the place of the function.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from reid_mtda.types import RetrievalScores


class _CallableModule(ModuleType):
    def __call__(self, model: Any, data: str = "market1501", *, root: Path | str, **how: Any) -> RetrievalScores:
        """Score a model on a labelled data set, as ``workflow.front_door.evaluate`` says."""
        scores: RetrievalScores = import_module("reid_mtda.workflow.front_door").evaluate(model, data, root=root, **how)
        return scores


sys.modules[__name__].__class__ = _CallableModule
