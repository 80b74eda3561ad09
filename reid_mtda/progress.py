"""How far a job is: the one callback that long work reports to."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after each step with (part, steps done, steps in all)."""

    def __call__(self, part: str, done: int, total: int) -> None:
        """Show it."""


def silent(part: str, done: int, total: int) -> None:
    """The progress of a job nobody watches."""
