"""The table of ready-made networks: for each file its address, length and hash; for each network its terms."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from reid_mtda.errors import ConfigError
from reid_mtda.schema import Strict, parse, read_yaml

TABLE = Path(__file__).with_name("table.yaml")
Task = Literal["detector", "reid"]
"""What a network is for: it finds people in frames, or tells people apart by their crops."""


class WeightFile(Strict):
    """One file of a network: where it is fetched, and how it is known again."""

    url: str = Field(pattern=r"^https?://\S+$", description="Address.")
    bytes: int = Field(ge=1, description="Length.")
    sha384: str | None = Field(default=None, pattern=r"^[0-9a-f]{96}$", description="SHA-384, or sha256 in its place.")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="SHA-256.")

    @model_validator(mode="after")
    def _has_one_hash(self) -> Self:
        if (self.sha384 is None) == (self.sha256 is None):
            raise ValueError("expected one of sha384 and sha256")
        return self

    def is_in(self, path: Path) -> bool:
        """Whether ``path`` holds this very file, whatever its name."""
        if path.stat().st_size != self.bytes:
            return False
        name, expected = ("sha384", self.sha384) if self.sha384 is not None else ("sha256", self.sha256)
        with path.open("rb") as file:
            return hashlib.file_digest(file, name).hexdigest() == expected


class CropInput(Strict):
    """What a re-identification network takes."""

    height: int = Field(ge=8, description="Crop height in pixels.")
    width: int = Field(ge=8, description="Crop width in pixels.")
    bgr255: bool = Field(default=False, description="BGR in 0..255; else RGB with ImageNet's mean and deviation.")


class ZooEntry(Strict):
    """A network of the table."""

    task: Task
    about: str
    licence: str = Field(description="SPDX name of the terms of the weights.")
    card: str = Field(description="Page of those who made it: data, scores, limits.")
    files: dict[str, WeightFile] = Field(description="By the names they get: model.onnx, or model.xml and model.bin.")
    preprocess: CropInput | None = Field(default=None, description="Of a re-identification network.")
    detector: dict[str, Any] = Field(
        default={}, description="Of a detector: its card, as 'vision.detector_card' has it; empty where it needs none."
    )
    idf1: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Of a detector: how well people are followed with it, as tools/README.md has it; the best one that "
        "is here is what 'detector: auto' takes.",
    )
    recommended: bool = Field(default=False, description="Fetched when no name is given.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if sorted(self.files) not in (["model.onnx"], ["model.bin", "model.xml"]):
            raise ValueError(f"got files {', '.join(sorted(self.files))}, expected model.onnx, or model.xml, model.bin")
        if (self.preprocess is None) != (self.task == "detector"):
            raise ValueError("expected preprocess for task reid, and for no other")
        if self.detector and self.task != "detector":
            raise ValueError("expected no detector's card for task reid")
        return self

    @property
    def bytes(self) -> int:
        """Length of all files."""
        return sum(file.bytes for file in self.files.values())


def load_table(path: Path = TABLE) -> dict[str, ZooEntry]:
    """Read the table: networks by name, in the order in which they stand.

    Raises:
        ConfigError: a table that is not sound.
    """
    return {name: parse(ZooEntry, entry, where=f"{path}: {name}") for name, entry in read_yaml(path).items()}


def zoo_entry(name: str, table: Mapping[str, ZooEntry]) -> ZooEntry:
    """Return the network of ``table`` that is called ``name``.

    Raises:
        ConfigError: there is none of that name; the message has the nearest.
    """
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(table)}"
        raise ConfigError(f"models: got {name!r}, no ready-made network of that name; {hint}")
    return table[name]
