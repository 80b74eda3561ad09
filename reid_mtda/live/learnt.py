"""Who of a running site was learnt from by a model: they say nothing of how well it tells new people apart."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from reid_mtda.camera_means import LearntFrom, read_learnt
from reid_mtda.model import Model

Footage = Mapping[tuple[str, str], tuple[float, float]]
"""(camera, fingerprint) -> POSIX seconds of its first and last frame, as a gallery remembers what was indexed."""


class LearntPeople:
    """Tells which stretches of time of a camera a model learnt from, by its times or by the content of its footage.

    Args:
        model: what its folder says counts; a model that lies in none learnt from nobody here.
        footage: of the gallery: a recording that the model learnt from keeps its identity under other times.
    """

    def __init__(self, model: Model, footage: Footage | None = None) -> None:
        learnt = {} if model.folder is None else read_learnt(model.folder, model.manifest)
        prints = {one.footage for one in learnt.values() if one.footage}
        spans: dict[str, list[tuple[float, float]]] = {name: list(one.spans) for name, one in learnt.items()}
        for (camera, fingerprint), span in (footage or {}).items():
            if fingerprint in prints:
                spans.setdefault(camera, []).append(span)
        self._spans = {name: _merged(own) for name, own in spans.items()}

    def include(self, camera: str, start_s: float, end_s: float) -> bool:
        """Whether somebody was learnt from at a camera in a stretch of time.

        Args:
            camera: its name.
            start_s: POSIX seconds when it began.
            end_s: and ended.
        """
        spans = self._spans.get(camera, [])
        after = bisect_left(spans, start_s, key=lambda span: span[1])  # the first that does not end before
        return after < len(spans) and spans[after][0] <= end_s


def learnt_from(times: Mapping[str, tuple[float, float]], footage: str | None = None) -> LearntFrom:
    """What a model learnt from one camera's tracklets, each with the times of its first and last crop."""
    return LearntFrom(tuple(_merged(list(times.values()))), footage)


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that overlap as one, in order.

    >>> _merged([(5.0, 7.0), (0.0, 2.0), (6.0, 9.0)])
    [(0.0, 2.0), (5.0, 9.0)]
    """
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
