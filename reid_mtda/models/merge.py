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


def twin_network(shared: Net, own: Net, *, keep: float) -> Net:
    """Add to the merge the largest ``keep`` of what sets one domain's network apart from it; buffers are the domain's.

    Lu et al. 2024, "Twin-Merging" (arXiv 2406.15479), as in the public code (LZY-the-boys/Twin-Merging): shared weights
    and exclusive ones, of which a share of the largest is kept, here of each tensor. Departures: no singular value
    decomposition, by which the paper compresses; the router is the camera, which is known, and no classifier.

    Args:
        shared: the merge, as ``merge_networks`` gives it.
        own: the domain's network.
        keep: share of each tensor's numbers that is its own, in [0, 1]; 1: the domain's network, 0: the merge with the
            domain's BatchNorm statistics.

    Returns:
        A new network in eval mode.
    """
    twin = copy.deepcopy(own)
    base = shared.state_dict()
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            apart = weight - base[name]
            count = round(keep * apart.numel())
            kept = torch.zeros_like(apart).flatten()
            if count:
                largest = apart.abs().flatten().topk(count).indices
                kept[largest] = apart.flatten()[largest]
            weight.copy_(weight if count == apart.numel() else base[name] + kept.view_as(apart))
    return twin.eval()
