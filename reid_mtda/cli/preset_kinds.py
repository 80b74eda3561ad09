"""What a YAML file is for, told by its keys: a preset of another verb is named as one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reid_mtda.errors import ReidError

_TAKES = {"adapt": "adapt", "harvest": "adapt", "demo": "adapt", "benchmark": "benchmark", "serve": "serve"}
_TAKES["doctor"] = "serve"
_FOLDERS = {"adapt": "configs/adapt", "benchmark": "configs/benchmark", "serve": "configs/live"}


def name_preset(message: str, given: Sequence[str]) -> str:
    """Return ``message``, or what is the matter where it complains of keys of a file that is for another verb.

    Args:
        message: of a refusal, beginning with a file's path.
        given: what was typed, the verb first; a file that was not named there is left alone.
    """
    path = re.split(r": |, with ", message, maxsplit=1)[0]
    verb = given[0] if given else ""
    if path not in given or verb not in _TAKES or not re.search(r"(unknown|missing) key|: kind: ", message):
        return message
    fitting = kind_of(Path(path))
    if fitting in ("", _TAKES[verb]):
        return message
    is_camera = fitting == "camera"
    use = "a camera's file, which belongs in a site's folder" if is_camera else f"a preset of 'reid-mtda {fitting}'"
    return f"{path}: is {use}; for 'reid-mtda {verb}' name one such as those in {_FOLDERS[_TAKES[verb]]}"


def kind_of(path: Path) -> str:
    """The verb that a file is for, ``camera`` for a camera's; '' where its keys do not tell."""
    from reid_mtda.bench.closed.settings import BenchmarkConfig
    from reid_mtda.camera_settings import Camera
    from reid_mtda.config import AdaptConfig
    from reid_mtda.schema import Strict, read_yaml
    from reid_mtda.service.settings import ServiceSettings

    try:
        keys = set(read_yaml(path))
    except ReidError:
        return ""
    if "kind" in keys:
        return "benchmark"
    kinds: dict[str, type[Strict]] = {
        "adapt": AdaptConfig,
        "benchmark": BenchmarkConfig,
        "serve": ServiceSettings,
        "camera": Camera,
    }
    known = sorted((len(keys & set(kind.model_fields)), verb) for verb, kind in kinds.items())
    (second, _), (most, best) = known[-2:]
    return best if most > second and 2 * most > len(keys) else ""
