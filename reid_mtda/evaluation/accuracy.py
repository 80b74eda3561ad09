"""Accuracy on closed label sets, and the label-free validators that may choose an epoch."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from reid_mtda.errors import ShapeError
from reid_mtda.types import FloatArray, IntArray


def accuracy(*, logits: FloatArray, labels: IntArray) -> float:
    """Share of rows whose largest logit is the label's; equal logits count for the lower class.

    Args:
        logits: float32 (N, C); N = 0 gives nan.
        labels: int64 (N,).
    """
    if len(logits) != len(labels):
        raise ShapeError(f"accuracy: got {len(logits)} rows of logits for {len(labels)} labels, expected one each")
    return float((logits.argmax(1) == labels).mean()) if len(labels) else float("nan")


def certainty(logits: FloatArray) -> float:
    """Label-free validator: minus the mean entropy of the class probabilities; larger is better, 0 is the best."""
    probabilities = softmax(logits, axis=1)
    return float((probabilities * np.log(np.clip(probabilities, 1e-8, None))).sum(1).mean())


def mutual_information(logits: FloatArray) -> float:
    """Label-free validator IM: entropy of the mean soft target minus mean entropy; sure and diverse is better."""
    mean = softmax(logits, axis=1).mean(0)
    return float(-(mean * np.log(np.clip(mean, 1e-8, None))).sum()) + certainty(logits)


VALIDATORS = {"entropy": certainty, "mutual_information": mutual_information}
"""Label-free rules to choose an epoch: logits (N, C) on unlabelled pictures to a number, larger is better."""
