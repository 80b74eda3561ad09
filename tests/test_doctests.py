"""The examples in docstrings work as they stand."""

import doctest
import importlib

import pytest
from builders import ROOT

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "reid_mtda").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    module = importlib.import_module(name.removesuffix(".__init__"))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed


def test_there_are_examples_of_the_front_door() -> None:
    assert {"reid_mtda.gallery.filter", "reid_mtda.model", "reid_mtda.vision.crops"} <= set(MODULES)
