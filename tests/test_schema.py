"""Settings are strict: unknown keys, other types and YAML's surprises are refused with the file and the nearest key."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, field_validator

from reid_mtda.errors import ConfigError
from reid_mtda.schema import Strict, load_yaml, parse, read_value, read_yaml


class Inner(Strict):
    steps: int = Field(default=3, ge=1)
    names: tuple[str, ...] = ()


class Outer(Strict):
    place: str = Field(min_length=1)
    rate: float = Field(default=0.5, le=1e6)
    inner: Inner = Inner()
    maybe: Inner | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[float, float] = (0.0, 1.0)
    on: bool = False


def written(tmp_path, text):
    path = tmp_path / "some.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_good_file_is_read(tmp_path):
    found = load_yaml(written(tmp_path, "place: gate\nrate: 1e-3\ninner: {steps: 4, names: [a, b]}\n"), Outer)
    assert found == Outer(place="gate", rate=0.001, inner=Inner(steps=4, names=("a", "b")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("place: a\nrat: 1.0", r"some\.yaml: unknown key 'rat'; did you mean 'rate'\?"),
        ("place: a\ninner: {stepps: 1}", r"unknown key 'inner\.stepps'; did you mean 'steps'\?"),
        ("place: a\ninner: {xyz: 1}", r"unknown key 'inner\.xyz'; known keys: names, steps"),
        ("rate: 1.0", r"missing key 'place'; add it"),
        ("place: 3", r"place: got 3, expected text$"),
        ("place: a\nrate: fast", r"rate: got 'fast', expected a number$"),
        ("place: a\nrate: .5\ninner: 3", r"inner: got 3, expected 'key: value' lines$"),
        ("place: a\ninner: {names: x}", r"inner\.names: got 'x', expected a list$"),
        ("place: a\nmaybe: {stepps: 1}", r"unknown key 'maybe\.stepps'; did you mean 'steps'\?"),
        ("place: a\nkind: c", r"kind: got 'c', expected 'a' or 'b'$"),
        ("place: a\npair: [1.0, 2.0, 3.0]", r"pair: got \[1\.0, 2\.0, 3\.0\], expected a list of 2 or fewer$"),
        ("place: a\npair: [1.0]", r"missing key 'pair\.1'; add it$"),
        ("place: a\non: 1", r"on: got 1, expected true or false$"),
        ("place: a\nrate: 1.0e9", r"rate: got 1000000000\.0, expected <= 1e\+06$"),
        ("place: ''", r"place: got '', expected text of 1 characters or more$"),
        ("place: a\ninner: {steps: 0}", r"inner\.steps: got 0, expected >= 1$"),
        ("place: a\ninner: {steps: true}", r"inner\.steps: got True"),
        ("place: a\nplace: b", r"some\.yaml: line 2: key 'place' stands twice; keep one of them"),
        ("inner: {steps: 1, steps: 2}", r"line 1: key 'steps' stands twice"),
        ("- a\n- b", r"got list, expected 'key: value' lines"),
        ("3: a", r"expected 'key: value' lines"),
        ("place: [a", r"not valid YAML"),
        ("place: !!python/object:os.system x", r"not valid YAML"),
        (b"place: \xff\xfe", r"cannot be read as text"),
    ],
)
def test_complaints_name_the_file_and_the_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(written(tmp_path, text), Outer)
    assert "\n" not in str(caught.value) and "some.yaml" in str(caught.value)


def test_a_long_value_is_cut_and_a_check_speaks_for_itself():
    class Checked(Strict):
        names: tuple[str, ...] = ()

        @field_validator("names")
        @classmethod
        def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
            raise ValueError(f"got {value[0]!r}, expected nothing")

    with pytest.raises(ConfigError, match=r"^x: names: got 'a', expected nothing$"):
        parse(Checked, {"names": ["a"]}, where="x")
    with pytest.raises(ConfigError, match=r"^x: steps: got 'aaa.{73}\.\.\., expected a whole number$"):
        parse(Inner, {"steps": "a" * 1000}, where="x")


def test_all_complaints_come_at_once():
    with pytest.raises(ConfigError, match=r"here: .*missing key 'place'.*unknown key 'bogus'"):
        parse(Outer, {"bogus": 1}, where="here")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; check the path"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read as text"):
        read_yaml(tmp_path)


def test_an_empty_file_is_an_empty_mapping(tmp_path):
    assert read_yaml(written(tmp_path, "# nothing yet\n")) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30:45", "12:30:45"),
        ("2026-03-01", "2026-03-01"),
        ("0x10", "0x10"),
        ("007", 7),
        ("true", True),
        ("1e-3", 0.001),
        ("-.5", -0.5),
        ("[flip, crop]", ["flip", "crop"]),
        ("", None),
        ("[a", "[a"),
        ("{a: 1, a: 2}", "{a: 1, a: 2}"),
    ],
)
def test_values_are_what_they_look_like(text, value):
    found = read_value(text)
    assert found == value and type(found) is type(value)


def test_settings_are_frozen_and_not_coerced():
    with pytest.raises(ConfigError, match=r"steps: got '4'"):
        parse(Inner, {"steps": "4"}, where="x")
    with pytest.raises(ValueError, match="frozen"):
        Inner().steps = 4


def test_yaml_nested_too_deeply_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("url: " + "[" * 3000)
    with pytest.raises(ConfigError, match=r"deep\.yaml: not valid YAML"):
        read_yaml(path)
