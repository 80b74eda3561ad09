"""Small closed-set domains for tests: two or three classes of bars on paper whose brightness is the domain."""

import numpy as np

from reid_mtda.data.closed_domain import ClosedDomain, LabelledPictures, ScoredPictures, UnlabelledPictures
from reid_mtda.models.classifier import ClassifierSpec, build_classifier
from reid_mtda.types import Preprocess

PREPROCESS = Preprocess(28, 28, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SPEC = ClassifierSpec(num_classes=3, width=0.1, dropout=0.0)


def bars(domain, *, count=24, paper=20, ink=200, seed=0):
    """A bar at the top, in the middle or at the bottom: class 0, 1, 2."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    pictures = np.full((count, 28, 28, 3), paper, np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        top = 2 + 9 * label + rng.integers(0, 3)
        picture[top : top + 4] = ink
    noise = rng.integers(0, 20, pictures.shape)
    pictures = np.clip(pictures + noise, 0, 255).astype(np.uint8)
    return ClosedDomain(
        source=LabelledPictures(pictures, labels.astype(np.int64), 3, domain),
        target=UnlabelledPictures(pictures, domain),
        test=ScoredPictures(pictures, labels.astype(np.int64), 3, domain),
    )


def network(seed=0):
    return build_classifier(SPEC, seed=seed)


def same_state(a, b):
    import torch

    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
