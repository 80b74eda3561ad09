"""Presets read and checked: settings of a whole run from a YAML file and what the command line puts in their place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_mtda import plugins
from reid_mtda.config import AdaptConfig, Network, SourceData, TargetData, TestData, Tracklets, Variant
from reid_mtda.data.reid import CONTENTS, DATASETS
from reid_mtda.errors import ConfigError, ModelError, ReidError
from reid_mtda.models.embedder import build_embedder
from reid_mtda.schema import Strict, parse, read_value, read_yaml
from reid_mtda.train import find_objectives
from reid_mtda.zoo.folder import resolve_model


def load_config(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    root: Path | None = None,
    weights: Path | None = None,
    targets_by: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> AdaptConfig:
    """Read a preset and apply ``--set key.path=value`` overrides, then the values ``given`` by top-level key.

    ``root`` and ``weights`` are what relative paths of data sets, and of networks' weights, start from;
    ``targets_by`` is for all data sets among the targets: ``camera`` or ``set``.

    Args:
        path: the preset's file; None: all defaults.
        overrides: ``key=value`` that stand above the file, e.g. ``distil.steps=50``.
        root: folder of the data sets; None: as the preset says.
        weights: folder of pre-trained weights.
        targets_by: ``camera`` or ``set``: how data sets are split; None: as the preset says.
        given: values that stand above the file's.

    Raises:
        ConfigError: naming the file or override, the key path and the nearest known key; or a network, data set,
            folder or weights file that is not there: found now, not hours into the job.
    """
    values = read_yaml(path) if path else {}
    if path and not values:
        raise ConfigError(f"{path}: it is empty, expected a preset; leave --config out to take the defaults")
    for override in overrides:
        values = _overridden(values, override)
    values = {**values, **(given or {})}
    if targets_by is not None and isinstance(values.get("targets"), list):
        values["targets"] = [{**t, "by": targets_by} if isinstance(t, dict) else t for t in values["targets"]]
    if root is not None:
        values |= {part: _below(root, values[part], "root") for part in ("source", "test") if part in values}
        if isinstance(values.get("targets"), list):
            values["targets"] = [_below(root, target, "root") for target in values["targets"]]
    if weights is not None:
        values |= {role: _below(weights, values[role], "weights") for role in ("teacher", "student") if role in values}
    where = ", with ".join([*([str(path)] if path else ()), *(["--set"] if overrides else ())]) or "settings"
    config = parse(AdaptConfig, values, where=where)
    config.adapt.parsed()
    _check_presence(where, config)
    _check_sense(where, config)
    return config


def _check_sense(where: str, config: AdaptConfig) -> None:
    """Refuse what each part allows and the whole does not, before anything is trained."""
    titles = [target.title for target in config.targets]
    for title in titles:
        if titles.count(title) > 1:
            raise ConfigError(f"{where}: targets: got {title!r} twice, expected each once; rename or drop one")
    own_teachers = "*" not in config.ready_made
    if own_teachers and config.adapt.method == "dmmd" and config.source.name == "none":
        raise ConfigError(f"{where}: adapt.method: dmmd aligns to a source, got none; use cluster")
    for number, target in enumerate(config.targets):
        if own_teachers and config.adapt.method == "dmmd" and target.tracklets == "none":
            raise ConfigError(
                f"{where}: adapt.method: dmmd groups crops by tracklets, got none in targets.{number}; set "
                f"adapt.method to cluster, or targets.{number}.tracklets to given (in a benchmark camera, too)"
            )
        if target.options and not target.name.startswith("torchreid:"):
            raise ConfigError(f"{where}: targets.{number}.options: got some for {target.name!r}, expected none")
    if config.distillation == "camera_proxies" and config.source.name != "none":
        raise ConfigError(
            f"{where}: camera_proxies: learns of targets alone, got source {config.source.name!r}; use source: "
            "{name: none} and networks with weights, or distil"
        )
    if config.teacher_input and config.distil.part_mixed:
        raise ConfigError(
            f"{where}: distil.part_mixed: are made at the student's size, got a teacher_input as well; drop one"
        )
    _check_leak(where, config, {target.tracklets for target in config.targets})
    find_objectives(config.distil.objectives, f"{where}: distil.objectives")
    for name, variant in config.variants.items():
        key = f"{where}: variants.{name}"
        if "/" in name or name.startswith("."):
            raise ConfigError(f"{key}: not fit for a file's name; rename it")
        changed = config_of_variant(config, variant, where=key)
        tracklets = {variant.tracklets} if variant.tracklets else {target.tracklets for target in config.targets}
        _check_leak(key, changed, tracklets)
        find_objectives(changed.distil.objectives, f"{key}.distil.objectives")
        if variant.adapt and variant.ready_made:
            raise ConfigError(f"{key}: got adapt and ready_made, expected one of them; drop the other")
        if variant.adapt:
            variant.adapt.parsed(where=f"{key}.adapt")
        if variant.tracklets and not config.targets:
            raise ConfigError(f"{key}.tracklets: filmed footage has its own; expected a data set in targets")


def config_of_variant(config: AdaptConfig, variant: Variant, *, where: str) -> AdaptConfig:
    """The preset with what ``variant`` changes of the student's distillation.

    Args:
        config: settings of the whole run.
        variant: what it changes.
        where: opens the message.

    Raises:
        ConfigError: a setting that there is not, or out of range, or of a loop that the variant does not use.
    """
    changed: dict[str, Any] = {"distillation": variant.distillation or config.distillation}
    for name in ("distil", "camera_proxies", "kd_reid"):
        own: Strict = getattr(config, name)
        differing = getattr(variant, name)
        if differing and name != changed["distillation"]:
            raise ConfigError(f"{where}.{name}: its student learns by {changed['distillation']}; set distillation, too")
        changed[name] = parse(type(own), {**own.model_dump(), **differing}, where=f"{where}.{name}")
    return config.model_copy(update=changed)


def _check_leak(where: str, config: AdaptConfig, tracklets: set[Tracklets]) -> None:
    """The same number means the same person in every camera only where numbers are true identities: in a benchmark."""
    if getattr(getattr(config, config.distillation), "tracklets_are_identities", False) and tracklets != {"identity"}:
        key = f"{where}{'.' if ': ' in where else ': '}{config.distillation}.tracklets_are_identities"
        raise ConfigError(
            f"{key}: is for measuring the leak, with tracklets: identity in every target of a benchmark; a camera's "
            "tracklets are numbered on their own, leave it out"
        )


def _check_presence(where: str, config: AdaptConfig) -> None:
    _check_data(f"{where}: source", config.source, rootless=("lab", "none"))
    if config.test:
        _check_data(f"{where}: test", config.test, rootless=("street",))
    for number, target in enumerate(config.targets):
        _check_data(f"{where}: targets.{number}", target, rootless=("street",))
    models: dict[str, str | None] = {f"ready_made.{camera}": folder for camera, folder in config.ready_made.items()}
    models |= {f"variants.{name}.ready_made": variant.ready_made for name, variant in config.variants.items()}
    for key, folder in models.items():
        try:
            is_there = not folder or resolve_model(Path(folder)).is_dir()
        except ReidError as error:
            raise ConfigError(f"{where}: {key}: {error}") from None
        if not is_there:
            raise ConfigError(
                f"{where}: {key}: got {folder}, expected an exported model's folder, or a name of 'reid-mtda models'; "
                "check the path"
            )
    for role, network in (("teacher", config.teacher), ("student", config.student)):
        _check_network(f"{where}: {role}", network)
        # Where a ready-made network teaches at every camera, a student may learn all it knows from it.
        if config.source.name == "none" and not network.weights and "*" not in config.ready_made:
            raise ConfigError(f"{where}: {role}.weights: missing, expected weights, since there is no source to learn")


def _check_data(where: str, data: SourceData | TestData | TargetData, *, rootless: tuple[str, ...]) -> None:
    if data.name in rootless:
        return
    known = (*rootless, *(("archive",) if isinstance(data, TargetData) else ()), *DATASETS)
    is_part = data.name.startswith("torchreid:") or plugins.is_part(plugins.DATASETS, data.name)
    if data.name not in known and not is_part:
        raise ConfigError(f"{where}.name: got {data.name!r}, expected one of {', '.join(known)}, or torchreid:NAME")
    if data.root is None:
        raise ConfigError(f"{where}.root: missing, expected where {data.name!r} lies")
    there = Path(data.root).is_file() if data.name == "archive" else Path(data.root).is_dir()
    if there:
        return
    if data.name == "archive":
        raise ConfigError(f"{where}.root: got {data.root}, expected an .npz file of crops; check the path")
    own = data.name.removeprefix("torchreid:")
    holds = CONTENTS.get(data.name, f"{own}/ as torchreid's documentation of data sets lays it out")
    raise ConfigError(
        f"{where}.root: got {data.root}, expected the folder of {data.name!r}: {holds}; unpack it there (nothing is "
        "downloaded) or check the path"
    )


def _check_network(where: str, network: Network) -> None:
    try:
        build_embedder(network.spec(2), seed=0)
    except ModelError as error:
        raise ConfigError(f"{where}.{error}") from None
    if network.weights and not Path(network.weights).is_file():
        raise ConfigError(f"{where}.weights: got {network.weights}, expected a weights file; check the path")


def _below(folder: Path, section: Any, key: str) -> Any:
    if isinstance(section, dict) and isinstance(section.get(key), str):
        return {**section, key: str(folder / section[key])}
    return section


def _overridden(values: Mapping[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: got no 'key=value', expected e.g. --set distil.steps=100")
    result = copy.deepcopy(dict(values))
    place: Any = result
    *parents, last = key.split(".")
    for parent in parents:
        place = place[_place(override, parent, place)] if isinstance(place, list) else place.setdefault(parent, {})
        if not isinstance(place, dict | list):
            raise ConfigError(f"--set {override}: {parent!r} is a value, not a section")
    place[_place(override, last, place) if isinstance(place, list) else last] = read_value(text)
    return result


def _place(override: str, text: str, entries: list[Any]) -> int:
    if not (text.isdecimal() and int(text) < len(entries)):
        raise ConfigError(f"--set {override}: got {text!r} in a list, expected a number from 0 to {len(entries) - 1}")
    return int(text)
