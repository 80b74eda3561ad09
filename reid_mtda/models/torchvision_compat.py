"""Make ``import torchvision`` work where its wheel was built for CUDA and torch was not.

torchreid imports torchvision's transforms. The registry's torchvision wheel is a CUDA build; beside a CPU torch its
compiled operators cannot be loaded and its import stops at the first operator it wants to describe. Nothing here
calls those operators, so declaring the two schemas in question is enough for the rest of torchvision.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING

from reid_mtda.errors import ModelError

if TYPE_CHECKING:
    from torch.library import Library

_MISSING_OPERATOR = "operator torchvision::"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def ensure_torchvision() -> bool:
    """Import torchvision; declare its operators first where it does not import by itself.

    Call it before importing torchreid. Cheap when called again.

    Returns:
        True where operators had to be declared, False where torchvision imports natively.

    Raises:
        ModelError: torchvision or torch is not installed, or torchvision does not import for another reason.
    """
    if "torchvision" not in sys.modules:
        try:
            importlib.import_module("torchvision")
        except ModuleNotFoundError as error:
            raise ModelError(
                f"torchvision: {error.name} is not installed; run pip install 'reid-mtda[train]'"
            ) from None
        except (ImportError, OSError) as error:
            raise ModelError(f"torchvision: does not import ({error}); reinstall 'reid-mtda[train]'") from error
        except RuntimeError as error:
            if _MISSING_OPERATOR not in str(error):
                raise ModelError(f"torchvision: does not import ({error}); reinstall 'reid-mtda[train]'") from error
            _declare_operators()
            _forget_half_import()
            importlib.import_module("torchvision")
    return _declare_operators.cache_info().currsize > 0


@functools.cache
def _declare_operators() -> Library:
    """The library object must live as long as the process: its end takes the schemas with it, hence the cache."""
    from torch.library import Library

    library = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _forget_half_import() -> None:
    """What a failed import leaves behind would be taken for the finished modules."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
