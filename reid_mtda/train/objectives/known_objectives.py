"""Distillation objectives by name: built-in ones, entry points, and functions of a user's own."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from reid_mtda import plugins
from reid_mtda.errors import ConfigError
from reid_mtda.schema import parse
from reid_mtda.train.objectives.cells import Blocks, Channels, ChannelSettings, Frequencies, TokenGraph, TokenSettings
from reid_mtda.train.objectives.features import NormDirection
from reid_mtda.train.objectives.heads import (
    CosineHead,
    CosineHeadSettings,
    DualHead,
    DualHeadSettings,
    Routed,
    RoutedSettings,
    Subclasses,
    SubclassSettings,
)
from reid_mtda.train.objectives.logits import (
    Affinity,
    Balanced,
    BalancedSettings,
    JointSelection,
    JointSelectionSettings,
    Selective,
    SelectiveSettings,
    SelfPaced,
    SelfPacedSettings,
    Standardised,
    StandardisedSettings,
    Transport,
    TransportSettings,
)
from reid_mtda.train.objectives.neighbours import NeighbourGraph, NeighbourSettings
from reid_mtda.train.objectives.objective import AskedObjective, Need, Objective, ObjectiveSettings, Over, Sizes
from reid_mtda.train.objectives.ratio import TrilateralRatio, TrilateralSettings

OBJECTIVES: dict[str, tuple[type[ObjectiveSettings], type[Any]]] = {
    "selective": (SelectiveSettings, Selective),
    "neighbour_graph": (NeighbourSettings, NeighbourGraph),
    "dual_head": (DualHeadSettings, DualHead),
    "cosine_head": (CosineHeadSettings, CosineHead),
    "norm_direction": (ObjectiveSettings, NormDirection),
    "balanced": (BalancedSettings, Balanced),
    "transport": (TransportSettings, Transport),
    "joint_selection": (JointSelectionSettings, JointSelection),
    "blocks": (ObjectiveSettings, Blocks),
    "self_paced": (SelfPacedSettings, SelfPaced),
    "routed": (RoutedSettings, Routed),
    "token_graph": (TokenSettings, TokenGraph),
    "standardised": (StandardisedSettings, Standardised),
    "subclasses": (SubclassSettings, Subclasses),
    "frequencies": (ObjectiveSettings, Frequencies),
    "trilateral_ratio": (TrilateralSettings, TrilateralRatio),
    "affinity": (ObjectiveSettings, Affinity),
    "channels": (ChannelSettings, Channels),
}
"""Built-in objectives by name: (settings class, objective), which is made as ``objective(settings, sizes)``."""


def find_objectives(
    wanted: Mapping[str, float | Mapping[str, Any]], where: str = "distil.objectives"
) -> dict[str, AskedObjective]:
    """Find distillation objectives: names of ``OBJECTIVES``, entry points of ``reid_mtda.objectives``, or functions.

    A function of a user's own, ``module:function``, is called as ``objective(student=EmbedderOutput,
    teacher=EmbedderOutput)`` and gives a tensor of one number. One whose parameter ``settings`` is annotated with a
    subclass of ``ObjectiveSettings`` is called once as ``function(settings=..., sizes=Sizes)`` and gives an
    ``Objective``, which may have parameters.

    Args:
        wanted: for each name its weight, or a mapping of settings with ``weight`` among them.
        where: what asks, as messages name it.

    Raises:
        ConfigError: no such objective, one that cannot be loaded, or settings that it does not know.
    """
    return {name: _found(name, given, where) for name, given in wanted.items()}


def _found(name: str, given: float | Mapping[str, Any], where: str) -> AskedObjective:
    values = dict(given) if isinstance(given, Mapping) else {"weight": float(given)}
    if name in OBJECTIVES:
        kind, objective = OBJECTIVES[name]
        settings = parse(kind, values, where=f"{where}.{name}")
        return AskedObjective(
            lambda sizes: objective(settings, sizes), settings.weight, objective.needs, objective.over
        )
    part = plugins.find_part(plugins.OBJECTIVES, name, where=where, known=OBJECTIVES)
    own = _settings_of(part)
    if own is not None:
        return _of_factory(name, part, parse(own, values, where=f"{where}.{name}"))
    settings = parse(ObjectiveSettings, values, where=f"{where}.{name}")
    return AskedObjective.of(plugins.guarded(part, name, returns=Tensor, what="objective"), settings.weight)


def _of_factory(name: str, part: Callable[..., Any], settings: ObjectiveSettings) -> AskedObjective:
    make = plugins.guarded(part, name, returns=Objective, what="objective")
    needs: frozenset[Need] = frozenset(getattr(part, "needs", ()))
    over: Over = getattr(part, "over", "teacher")

    def build(sizes: Sizes) -> Objective:
        made: Objective = make(settings=settings, sizes=sizes)
        return made

    return AskedObjective(build, settings.weight, needs, over)


def _settings_of(part: Callable[..., Any]) -> type[ObjectiveSettings] | None:
    """The class of settings that a part asks for; None: it is a plain function of student and teacher."""
    function: Any = vars(part).get("__init__", part) if isinstance(part, type) else part
    try:
        kind = typing.get_type_hints(function).get("settings")
    except NameError as error:
        raise ConfigError(
            f"objective {part!r}: has an annotation that is not known there ({error}); import it"
        ) from None
    if kind is None:
        return None
    if not (isinstance(kind, type) and issubclass(kind, ObjectiveSettings)):
        name = getattr(kind, "__name__", str(kind))
        raise ConfigError(
            f"objective {part!r}: settings are of {name}, expected a subclass of ObjectiveSettings; derive it from that"
        )
    return kind
