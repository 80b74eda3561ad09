"""What a network costs: multiply-accumulates of one picture, and the time of a call."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, size: tuple[int, int]) -> int:
    """Count the multiply-accumulates of one picture (3, h, w) of ``size`` in convolutions and matrix products."""
    was_training = model.training
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(torch.zeros(1, 3, *size))
    model.train(was_training)
    return int(counter.get_total_flops()) // 2


def median_ms(call: Callable[[], object], *, rounds: int = 30) -> float:
    """Measure the median time of ``call`` in milliseconds, after some calls that warm it up."""
    times = []
    for number in range(rounds + 5):
        began = time.perf_counter()
        call()
        if number >= 5:
            times.append(time.perf_counter() - began)
    return float(np.median(times) * 1000)
