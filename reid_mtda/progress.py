"""How far a job is: the one callback that long work reports to."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after each step; the command line shows it with the time that remains."""

    def __call__(self, part: str, done: int, total: int) -> None:
        """Show how far ``part`` is.

        Args:
            part: of the job, in words.
            done: steps that are over.
            total: steps in all; where that is not known, or turns out too few, those that are over.
        """


def silent(part: str, done: int, total: int) -> None:
    """The progress of a job nobody watches.

    Args:
        part: of the job.
        done: steps that are over.
        total: steps in all.
    """


def named(progress: Progress, name: str) -> Progress:
    """Report every part to ``progress`` as ``name``."""

    def show(part: str, done: int, total: int) -> None:
        progress(name, done, total)

    return show
