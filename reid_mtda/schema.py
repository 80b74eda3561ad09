"""Settings as frozen classes that refuse what they do not know, and YAML read without YAML's surprises."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from reid_mtda.errors import ConfigError


class Strict(BaseModel):
    """A frozen settings class: unknown keys are refused, nothing is coerced from another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=False)


StrictT = TypeVar("StrictT", bound=Strict)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys; PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: key {key!r} stands twice; keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads no/off/yes/on as booleans, 12:30:45 as a base-60 number and dates as dates. Here only true and false
# are booleans, only decimal numbers are numbers, and everything else is text.
_REPLACED_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+)$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list(_first))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, holds a duplicate key or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}); expected a YAML file") from None
    try:
        value = yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML: {detail}") from None
    if value is None:
        value = {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{path}: got {type(value).__name__}, expected 'key: value' lines")
    return value


def read_value(text: str) -> Any:
    """Read one value as a YAML file would hold it; what is no YAML is text.

    >>> read_value("1e-3"), read_value("no"), read_value("[flip, crop]")
    (0.001, 'no', ['flip', 'crop'])
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (ConfigError, yaml.YAMLError):
        return text


def load_yaml(path: Path, kind: type[StrictT]) -> StrictT:
    """Read ``path`` into the settings class ``kind``; every complaint names the file, the key path and a near key."""
    return parse(kind, read_yaml(path), where=str(path))


def parse(kind: type[StrictT], value: Mapping[str, Any], *, where: str) -> StrictT:
    """Check ``value`` against ``kind``; ``where`` opens the message of a refusal.

    Args:
        kind: the settings' type.
        value: what was read.
        where: opens the message.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, a wrong type, a value out of range.
    """
    try:
        return kind.model_validate(_tuples(value))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_complaints(kind, error))) from None


def _tuples(value: Any) -> Any:
    """YAML knows lists only; strict settings hold tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _complaints(kind: type[BaseModel], error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"]) or "(top)"
        if fault["type"] == "extra_forbidden":
            known = _known_keys(kind, fault["loc"][:-1])
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known)) or 'none'}"
            lines.append(f"unknown key {key!r}; {hint}")
        elif fault["type"] == "missing":
            lines.append(f"missing key {key!r}; add it")
        elif fault["type"] == "value_error":
            lines.append(f"{key}: {fault['ctx']['error']}")
        else:
            known_fault = _EXPECTED.get(fault["type"])
            expected = f"expected {known_fault.format(**fault.get('ctx', {}))}" if known_fault else fault["msg"]
            lines.append(f"{key}: got {_shown(fault['input'])}, {expected}")
    return lines


# By pydantic's name of a fault; what is not here is told in its own words.
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "'key: value' lines",
    "model_type": "'key: value' lines",
    "literal_error": "{expected}",
    "greater_than": "> {gt:g}",
    "greater_than_equal": ">= {ge:g}",
    "less_than": "< {lt:g}",
    "less_than_equal": "<= {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "finite_number": "a finite number",
    "string_too_short": "text of {min_length} characters or more",
    "string_too_long": "text of {max_length} characters or fewer",
    "string_pattern_mismatch": "text of the form {pattern}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
}


def _shown(value: Any) -> str:
    """A refused value as YAML's reader knows it, cut short: tuples came from lists."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_keys(kind: type[BaseModel], parents: tuple[int | str, ...]) -> list[str]:
    steps = iter(parents)
    for part in steps:
        info = kind.model_fields.get(str(part))
        types = (info.annotation, *get_args(info.annotation)) if info else ()  # itself, or what a union names
        inner = next((each for each in types if isinstance(each, type) and issubclass(each, BaseModel)), None)
        if inner is None:
            return []
        kind = inner
        if info is not None and get_origin(info.annotation) in (dict, tuple):
            next(steps, None)  # a name that the user gave, or a place in a list
    return list(kind.model_fields)
