"""A network of joint distillation with its adversary, and the optimiser over these two alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from reid_mtda.losses.alignment import ADVERSARIAL
from reid_mtda.models.classifier import Classifier
from reid_mtda.models.device import forked_generators, placed
from reid_mtda.models.discriminator import Discriminator
from reid_mtda.runs import Run
from reid_mtda.train.common import (
    rate_groups,
)
from reid_mtda.train.progressive_settings import ProgressiveSettings


@dataclass(frozen=True, eq=False)
class NetworkState:
    """A network with its adversary and an optimiser over these two alone."""

    network: Classifier
    discriminator: Discriminator
    optimiser: Optimizer


def make_network_state(
    model: Classifier,
    rate: float,
    settings: ProgressiveSettings,
    run: Run,
    name: str,
    connect: Mapping[str, Classifier] | None = None,
) -> NetworkState:
    """Copy a network and give it an adversary and an optimiser.

    Args:
        model: where it begins; it stays as it is.
        rate: learning rate of the backbone.
        settings: of the whole loop.
        run: gives folder, seed and device.
        name: from which the adversary's first weights are drawn.
        connect: the teachers of a student, whose feature is compared with theirs; None: it has none.
    """
    device = torch.device(run.compute.device)
    network = placed(copy.deepcopy(model).requires_grad_(True), run.compute)
    with forked_generators(device):
        torch.manual_seed(run.child_seed(f"discriminator {name}"))
        hidden = settings.discriminator_width if settings.alignment in ADVERSARIAL else 1
        classes = network.spec.num_classes if settings.alignment == "cdan" else 0
        discriminator = Discriminator(network.feature_dim, num_classes=classes, hidden=hidden).train()
        if connect and settings.feature_weight:
            wanted = next(iter(connect.values())).feature_dim
            discriminator.connector = nn.Linear(network.feature_dim, wanted, bias=False)
        discriminator.to(device)
    groups = rate_groups(
        network, discriminator, head_rate=settings.head_rate, discriminator_rate=settings.discriminator_rate
    )
    # fused: one pass over the weights instead of five; it differs from the loop in the last bits alone
    fused = True if device.type in ("cpu", "cuda", "mps") else None
    optimiser = SGD(groups, lr=rate, momentum=0.9, weight_decay=settings.weight_decay, fused=fused)
    return NetworkState(network, discriminator, optimiser)
