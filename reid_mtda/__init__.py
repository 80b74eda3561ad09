"""Person re-identification that adapts itself, without labels, to every camera of a site.

Importing does nothing; each name is loaded when it is first asked for, and torch with ``adapt`` alone. Type checkers
read ``__init__.pyi``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_PLACES = {
    "Filter": "reid_mtda.gallery.filter",
    "Gallery": "reid_mtda.gallery.gallery",
    "Model": "reid_mtda.model",
    "adapt": "reid_mtda.workflow.front_door",
    "evaluate": "reid_mtda.workflow.front_door",
    "load_crops": "reid_mtda.workflow.front_door",
    "load_detector": "reid_mtda.vision.detect",
    "load_model": "reid_mtda.model",
}

__all__ = ["Filter", "Gallery", "Model", "adapt", "evaluate", "load_crops", "load_detector", "load_model"]


def __getattr__(name: str) -> Any:
    """Load a name on first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'reid_mtda' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
