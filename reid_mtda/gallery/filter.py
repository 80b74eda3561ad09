"""Which sightings count: one filter for galleries, searches, the client, the command line and the API."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reid_mtda.errors import ConfigError
from reid_mtda.types import DoubleArray, IntArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Filter:
    """Keep sightings of some cameras, of some time, of some likeness; what is None filters nothing.

    Args:
        cameras: names; none named lets nothing pass.
        start_s: only those on view at this time or later, POSIX seconds.
        end_s: only those on view at this time or earlier.
        min_score: only hits with this cosine or more, -1..1; means something in a search alone.

    Raises:
        ConfigError: a name in place of a list of names, a number out of range, or a time range that is none.

    >>> Filter(cameras=["gate", "hall"], start_s=100).cameras
    ('gate', 'hall')
    """

    cameras: Sequence[str] | None = None
    start_s: float | None = None
    end_s: float | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        if self.cameras is not None:
            if isinstance(self.cameras, str):
                raise ConfigError(f"filter, cameras: got {self.cameras!r}, expected a list: [{self.cameras!r}]")
            names = tuple(self.cameras) if isinstance(self.cameras, Iterable) else (self.cameras,)
            if not all(isinstance(name, str) for name in names):
                raise ConfigError(f"filter, cameras: got {self.cameras!r}, expected a list of names")
            object.__setattr__(self, "cameras", names)
        for name, value, most in (
            ("start_s", self.start_s, 1e11),
            ("end_s", self.end_s, 1e11),
            ("min_score", self.min_score, 1.0),
        ):
            is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if value is not None and not (is_number and math.isfinite(value) and abs(value) <= most):
                expected = "-1 to 1" if name == "min_score" else "POSIX seconds"
                raise ConfigError(f"filter, {name}: got {value}, expected {expected}")
        if self.start_s is not None and self.end_s is not None and self.start_s > self.end_s:
            raise ConfigError(f"filter: start_s {self.start_s} lies after end_s {self.end_s}; swap them")

    def where(self) -> tuple[str, list[str | float]]:
        """Write the filter of rows as an SQL condition and its values; ``min_score`` is no part of it."""
        parts: list[str] = ["1"]
        values: list[str | float] = []
        if self.cameras is not None:
            parts.append(f"camera IN ({','.join('?' * len(self.cameras))})")
            values += self.cameras
        if self.start_s is not None:
            parts.append("end_s >= ?")
            values.append(self.start_s)
        if self.end_s is not None:
            parts.append("start_s <= ?")
            values.append(self.end_s)
        return " AND ".join(parts), values

    def passes(
        self, cameras: IntArray, codes: Mapping[str, int], start_s: DoubleArray, end_s: DoubleArray
    ) -> BoolArray:
        """Apply the filter to columns.

        Args:
            cameras: int64 (N,), ``codes[camera]`` of each.
            codes: numbers of the cameras' names.
            start_s: float64 (N,).
            end_s: float64 (N,).

        Returns:
            bool (N,), whatever the scores.
        """
        passing = np.ones(len(cameras), np.bool_)
        if self.cameras is not None:
            passing &= np.isin(cameras, [codes[camera] for camera in self.cameras if camera in codes])
        if self.start_s is not None:
            passing &= end_s >= self.start_s
        if self.end_s is not None:
            passing &= start_s <= self.end_s
        return passing

    @property
    def lets_all_rows_pass(self) -> bool:
        """No row is kept back, whatever becomes of its score."""
        return self.cameras is None and self.start_s is None and self.end_s is None


EVERYTHING = Filter()


def checked_filter(where: Filter) -> Filter:
    """Return ``where``.

    Raises:
        ConfigError: it is something else, such as a dictionary.
    """
    if not isinstance(where, Filter):
        raise ConfigError(f"where: got {type(where).__name__}, expected a Filter, e.g. Filter(cameras=['gate'])")
    return where
