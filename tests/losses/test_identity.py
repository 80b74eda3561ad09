"""Identity and triplet losses against naive loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_mtda.losses.identity import identity_loss, pairwise_dist, triplet_loss


def naive_triplet(embeddings, labels, margin):
    losses = []
    for a in range(len(labels)):
        dist = [math.dist(embeddings[a].tolist(), e.tolist()) for e in embeddings]
        positives = [dist[j] for j in range(len(labels)) if labels[j] == labels[a] and j != a]
        negatives = [dist[j] for j in range(len(labels)) if labels[j] != labels[a]]
        if positives and negatives:
            losses.append(max(0.0, max(positives) - min(negatives) + margin))
    return sum(losses) / len(losses) if losses else 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 4))
def test_batch_hard_triplets_agree_with_a_naive_loop(seed, rows, identities):
    rng = np.random.default_rng(seed)
    embeddings = torch.from_numpy(rng.normal(size=(rows, 3)))
    labels = torch.from_numpy(rng.integers(0, identities, rows))
    loss = triplet_loss(embeddings=embeddings, labels=labels, margin=0.3)
    assert float(loss) == pytest.approx(naive_triplet(embeddings, labels, 0.3), abs=1e-5)


def test_a_negative_counts_only_where_strangers_are_allowed():
    """On a line: the anchor pair at 0 and 1, a negative at 1.5 and one at 3; the near one is not to be sought."""
    embeddings = torch.tensor([[0.0], [1.0], [1.5], [3.0]])
    labels = torch.tensor([0, 0, 1, 2])
    everyone = triplet_loss(embeddings=embeddings, labels=labels, margin=0.3)
    assert float(everyone) == pytest.approx((0.0 + 0.8) / 2, abs=1e-5)
    allowed = torch.ones(4, 4, dtype=torch.bool)
    allowed[2], allowed[:, 2] = False, False
    assert float(triplet_loss(embeddings=embeddings, labels=labels, margin=0.3, negative_mask=allowed)) == 0.0


def test_a_batch_without_triplets_gives_zero_and_a_zero_gradient():
    embeddings = torch.randn(4, 3, requires_grad=True)
    loss = triplet_loss(embeddings=embeddings, labels=torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(embeddings.grad, torch.zeros(4, 3))


def test_equal_embeddings_have_a_finite_gradient():
    embeddings = torch.ones(4, 3, requires_grad=True)
    triplet_loss(embeddings=embeddings, labels=torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(embeddings.grad).all()


def test_smoothing_mixes_the_label_with_the_uniform_distribution():
    logits, labels = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 6])
    log = torch.log_softmax(logits, 1)
    plain, uniform = -log[range(5), labels].mean(), -log.mean()
    assert torch.isclose(identity_loss(logits=logits, labels=labels, smoothing=0.0), plain)
    assert torch.isclose(identity_loss(logits=logits, labels=labels, smoothing=0.2), 0.8 * plain + 0.2 * uniform)


def test_pairwise_distances_are_euclidean():
    a, b = torch.randn(4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(pairwise_dist(a, b), torch.cdist(a, b))
