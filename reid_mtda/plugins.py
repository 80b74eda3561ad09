"""Parts of a user's own, without a fork: found by an entry point's name or as ``module:function``, unfit ones refused.

A package offers parts in its ``pyproject.toml``::

    [project.entry-points."reid_mtda.methods"]
    my_method = "my_package.teachers:adapt"
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Collection
from importlib.metadata import entry_points
from typing import Any

from reid_mtda.errors import ConfigError, ReidError, TrainingError

METHODS, OBJECTIVES, BACKBONES = "reid_mtda.methods", "reid_mtda.objectives", "reid_mtda.backbones"
"""Groups of entry points: teacher methods, distillation objectives, backbones."""
DETECTORS, DATASETS = "reid_mtda.detectors", "reid_mtda.datasets"
"""Groups of entry points: detectors and data sets."""


def is_part(group: str, name: str) -> bool:
    """Tell whether ``name`` is an entry point of ``group``, or of the form ``module:function``."""
    is_path = re.match(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", name) is not None
    return is_path or name in {entry.name for entry in entry_points(group=group)}


def find_part(group: str, name: str, *, where: str, known: Collection[str] = (), modules: bool = True) -> Any:
    """Load a user's part.

    Args:
        group: of entry points, e.g. ``reid_mtda.methods``.
        name: an entry point's name, or ``module:function`` where ``modules`` allows it.
        where: what asks for it, as messages name it.
        known: built-in names, for the message.
        modules: whether modules may be imported by name; not where the name comes out of a file of weights.

    Returns:
        What the name stands for; a function, or a class that is called like one.

    Raises:
        ConfigError: no such part, one whose import raises, or one that cannot be called.
    """
    module, colon, attribute = name.partition(":")
    try:
        if colon and modules:
            part: Any = importlib.import_module(module)
            for step in attribute.split("."):
                part = getattr(part, step)
        else:
            offered = {entry.name: entry for entry in entry_points(group=group)}
            if name not in offered:
                names = ", ".join([*known, *sorted(offered)])
                other = " or module:function" if modules else ""
                raise ConfigError(f"{where}: got {name!r}, expected one of {names}{other}")
            part = offered[name].load()
    except ReidError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: {name!r} cannot be loaded ({describe(error)}); mend it or name another") from error
    if not callable(part):
        raise ConfigError(f"{where}: {name!r} is a {type(part).__name__}, expected a function; name another")
    return part


def guarded(part: Callable[..., Any], name: str, *, returns: type, what: str) -> Callable[..., Any]:
    """Have a user's part named in one line where it raises or returns something else than ``returns``.

    Refusals of the package itself pass through, and running out of memory, which the loops explain.

    Args:
        part: the user's function.
        name: how it is called.
        returns: the type that it must give.
        what: what it is, for the message.
    """

    @functools.wraps(part)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = part(*args, **kwargs)
        except (ReidError, MemoryError):
            raise
        except Exception as error:
            if "out of memory" in str(error):
                raise
            raise TrainingError(f"{what} {name!r} raised {describe(error)}; mend it or use another") from error
        if not isinstance(result, returns):
            got = type(result).__name__
            raise TrainingError(f"{what} {name!r} returned {got}, expected {returns.__name__}; mend it")
        return result

    return call


def describe(error: Exception) -> str:
    """One line about an exception: its type, and its message's first line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
