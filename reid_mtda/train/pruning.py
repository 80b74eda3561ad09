"""Fewer crops of each camera: how many does a student need of its teachers?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from reid_mtda.runs import Run
from reid_mtda.train.teacher_outputs import TeacherOutputs
from reid_mtda.types import IntArray, UnlabelledSet


def pruned(
    targets: Mapping[str, UnlabelledSet], outputs: Mapping[str, TeacherOutputs], *, share: float, run: Run
) -> tuple[dict[str, UnlabelledSet], dict[str, TeacherOutputs]]:
    """Keep a random ``share`` of each camera's crops, two at least, and what its teacher says of these.

    A smaller share is part of a larger one of the same seed. Part-mixed crops, which show nobody, stay.

    Args:
        targets: the cameras' crops, by name.
        outputs: of their teachers.
        share: in (0, 1]; 1 gives back what was given.
        run: its seed draws.

    Reference:
        Ben-Baruch et al. 2025, "Distilling the Knowledge in Data Pruning" (ICML 2025, arXiv 2403.07854): a random share
        of the data with a teacher. Checked in the abstract. Departure: the teacher's weight stays as the share falls.
    """
    if share == 1:
        return dict(targets), dict(outputs)
    crops, said = {}, {}
    for name, target in targets.items():
        kept = kept_rows(len(target), share, run.rng(f"kept of {name}"))
        fields: dict[str, Any] = {"paths": tuple(target.paths[row] for row in kept)}
        for field in ("tracklets", "cameras", "spans"):
            value = getattr(target, field)
            fields[field] = None if value is None else value[kept]
        crops[name] = replace(target, **fields)
        output = outputs[name]
        mixed = np.arange(len(output.embedding) - len(output.part_mixed), len(output.embedding))
        rows = torch.from_numpy(np.concatenate([kept, mixed]))
        parts: dict[str, Any] = {part: tensor[rows] for part, tensor in output.tensors().items()}
        said[name] = replace(output, **parts)
    return crops, said


def kept_rows(count: int, share: float, rng: np.random.Generator) -> IntArray:
    """Draw which rows are kept: int64 (k,), in their order, two at least, or all.

    Args:
        count: rows there are.
        share: of them that is kept, 0..1.
        rng: draws.
    """
    return np.sort(rng.permutation(count)[: max(2, round(share * count))]).astype(np.int64)
