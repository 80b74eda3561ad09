"""The adaptation algorithms: one file and one visible loop each."""

from __future__ import annotations

import typing
from collections.abc import Callable

from reid_mtda import plugins
from reid_mtda.errors import ConfigError
from reid_mtda.models.embedder import Embedder
from reid_mtda.schema import Strict
from reid_mtda.train.cluster_contrast import ClusterContrastSettings, adapt_cluster_contrast
from reid_mtda.train.dmmd import DmmdSettings, adapt_dmmd
from reid_mtda.train.objectives.known_objectives import find_objectives

__all__ = ["METHODS", "find_method", "find_objectives"]

METHODS: dict[str, tuple[type[Strict], Callable[..., Embedder]]] = {
    "dmmd": (DmmdSettings, adapt_dmmd),
    "cluster": (ClusterContrastSettings, adapt_cluster_contrast),
}
"""Teacher methods by name: (settings class, function). A method of one's own is a line here, or an entry point."""


def find_method(name: str, where: str = "adapt.method") -> tuple[type[Strict], Callable[..., Embedder]]:
    """Find a teacher method: a name of ``METHODS``, an entry point of ``reid_mtda.methods``, or ``module:function``.

    A function of a user's own is called as ``adapt_dmmd`` is; its parameter ``settings`` is annotated with its class
    of settings.

    Raises:
        ConfigError: no such method, one that cannot be loaded, or one without a class of settings.
    """
    if name in METHODS:
        return METHODS[name]
    function = plugins.find_part(plugins.METHODS, name, where=where, known=METHODS)
    try:
        settings = typing.get_type_hints(function).get("settings")
    except NameError as error:
        raise ConfigError(f"{where}: {name!r} has an annotation that is not known there ({error}); import it") from None
    if not (isinstance(settings, type) and issubclass(settings, Strict)):
        raise ConfigError(
            f"{where}: {name!r} has no class of settings, expected a parameter annotated as settings: MySettings, a "
            "subclass of reid_mtda.schema.Strict"
        )
    return settings, plugins.guarded(function, name, returns=Embedder, what="method")
