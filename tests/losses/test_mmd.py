"""MMD and D-MMD against a naive double loop, and their properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_mtda.losses.mmd import dissimilarity_mmd_loss, mmd_loss


def naive_mmd(source, target):
    """The definition: bandwidth b = sum(D) / (n^2 - n) / 4, kernels b * 2^k for k = 0..4."""
    both = [row.tolist() for row in (*source, *target)]
    n, s = len(both), len(source)
    squared = [[math.dist(a, b) ** 2 for b in both] for a in both]
    bandwidth = sum(map(sum, squared)) / (n * n - n) / 4
    kernel = [[sum(math.exp(-d / (bandwidth * 2**k)) for k in range(5)) for d in row] for row in squared]

    def mean(rows, columns):
        return sum(kernel[i][j] for i in rows for j in columns) / (len(rows) * len(columns))

    first, second = range(s), range(s, n)
    return mean(first, first) + mean(second, second) - 2 * mean(first, second)


def samples(seed, s, t, d):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (s, t)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6), st.integers(1, 4))
def test_mmd_agrees_with_its_definition(seed, s, t, d):
    source, target = samples(seed, s, t, d)
    assert float(mmd_loss(source=source, target=target)) == pytest.approx(naive_mmd(source, target), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6))
def test_mmd_is_symmetric_not_negative_and_zero_for_one_sample_twice(seed, s, t):
    source, target = samples(seed, s, t, 3)
    loss = float(mmd_loss(source=source, target=target))
    assert loss >= -1e-12
    assert loss == pytest.approx(float(mmd_loss(source=target, target=source)))
    assert float(mmd_loss(source=source, target=source)) == pytest.approx(0.0, abs=1e-12)


def test_mmd_grows_with_the_shift_and_descent_removes_it():
    source, target = samples(0, 40, 40, 2)
    shifts = [float(mmd_loss(source=source, target=target + shift)) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert shifts == sorted(shifts)
    offset = torch.full((2,), 2.0, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.Adam([offset], lr=0.1)
    for _ in range(80):
        descent.zero_grad()
        mmd_loss(source=source, target=target + offset).backward()
        descent.step()
    assert offset.detach().abs().max() < 0.5


def test_the_bandwidth_receives_no_gradient():
    """Were it attached, scaling all rows together would change nothing and the radial gradient would vanish."""
    source, target = samples(1, 5, 5, 2)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    mmd_loss(source=scale * source, target=scale * (target + 1)).backward()
    assert abs(float(scale.grad)) > 1e-3


def test_identical_rows_give_a_finite_loss_and_gradient():
    source = torch.ones(4, 3, requires_grad=True)
    loss = mmd_loss(source=source, target=torch.ones(4, 3))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(source.grad).all()


def test_dmmd_moves_the_target_alone():
    source = torch.nn.functional.normalize(torch.randn(8, 4), dim=1).requires_grad_()
    target = torch.nn.functional.normalize(torch.randn(8, 4), dim=1).requires_grad_()
    groups = torch.arange(4).repeat_interleave(2)
    dissimilarity_mmd_loss(
        source_embeddings=source, source_labels=groups, target_embeddings=target, target_tracklets=groups
    ).backward()
    assert source.grad is None
    assert target.grad.abs().sum() > 0


def test_dmmd_of_a_domain_with_itself_is_zero_and_lone_tracklets_do_not_break_it():
    rows = torch.nn.functional.normalize(torch.randn(8, 4, dtype=torch.float64), dim=1)
    groups = torch.arange(4).repeat_interleave(2)
    same = dissimilarity_mmd_loss(
        source_embeddings=rows, source_labels=groups, target_embeddings=rows, target_tracklets=groups
    )
    assert float(same) == pytest.approx(0.0, abs=1e-9)
    lone = dissimilarity_mmd_loss(
        source_embeddings=rows, source_labels=groups, target_embeddings=rows, target_tracklets=torch.arange(8)
    )
    assert torch.isfinite(lone)
