"""The linear merge of networks of one kind: the mean of their weights and of their BatchNorm buffers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def merge_networks(models: Sequence[Net]) -> Net:
    """Average networks that are built alike; whole numbers, such as counters, are those of the first.

    Returns:
        A new network in eval mode.
    """
    merged, states = copy.deepcopy(models[0]), [model.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    merged.load_state_dict(mean)
    return merged.eval()
