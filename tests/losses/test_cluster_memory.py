"""Cluster memory: values by hand, a momentum that is exact, and a memory that never receives a gradient."""

import math

import pytest
import torch
from torch.nn import functional

from reid_mtda.losses.cluster_memory import cluster_means, memory_loss, moved_memory

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def test_infonce_equals_a_hand_computation():
    """Cosines .6 and .8 at tau .5: logits 1.2 and 1.6; and a crop on its slot: 2 and 0."""
    embeddings = torch.tensor([[0.6, 0.8], EAST])
    memory = torch.tensor([EAST, NORTH])
    first = math.log(math.exp(1.2) + math.exp(1.6)) - 1.2
    second = math.log(math.exp(2.0) + 1.0) - 2.0
    got = memory_loss(embeddings=embeddings, labels=torch.tensor([0, 0]), memory=memory, temperature=0.5)
    assert float(got) == pytest.approx((first + second) / 2, rel=1e-6)
    half = memory_loss(
        embeddings=embeddings,
        labels=torch.tensor([0, 0]),
        memory=memory,
        temperature=0.5,
        weights=torch.tensor([0.5, 1.0]),
    )
    assert float(half) == pytest.approx((0.5 * first + second) / 2, rel=1e-6)


def test_a_crop_is_told_apart_from_the_slots_it_is_shown_alone():
    """Of three slots at cosines .6, .8 and 0, the second is out of reach: logits 1.2 and 0 at tau .5."""
    loss = memory_loss(
        embeddings=torch.tensor([[0.6, 0.8, 0.0]]),
        labels=torch.tensor([0]),
        memory=torch.eye(3),
        temperature=0.5,
        among=torch.tensor([[True, False, True]]),
    )
    assert float(loss) == pytest.approx(math.log(math.exp(1.2) + 1.0) - 1.2, rel=1e-6)


def test_one_slot_gives_nothing_and_weight_zero_gives_nothing():
    embeddings = torch.tensor([[0.6, 0.8]], requires_grad=True)
    for memory, weights in (([EAST], None), ([EAST, NORTH], torch.zeros(1))):
        loss = memory_loss(
            embeddings=embeddings, labels=torch.tensor([0]), memory=torch.tensor(memory), weights=weights
        )
        loss.backward()
        assert loss.item() == 0 and not embeddings.grad.any()


def test_the_memory_never_receives_a_gradient_and_crops_move_towards_their_slot():
    embeddings = torch.tensor([[0.6, 0.8], [0.8, 0.6]], requires_grad=True)
    memory = torch.tensor([EAST, NORTH], requires_grad=True)
    labels = torch.tensor([0, 1])
    memory_loss(embeddings=embeddings, labels=labels, memory=memory, temperature=0.5).backward()
    assert memory.grad is None
    towards = (-embeddings.grad * memory.detach()[labels]).sum(1)
    assert (towards > 0).all()
    for made in (
        cluster_means(embeddings=embeddings, labels=labels),
        moved_memory(memory=memory.detach(), embeddings=embeddings, labels=labels),
    ):
        assert not made.requires_grad


def test_slots_begin_as_means_without_noise():
    embeddings = torch.tensor([EAST, NORTH, NORTH, [-9.0, -9.0]])
    got = cluster_means(embeddings=embeddings, labels=torch.tensor([0, 0, 1, -1]))
    root = math.sqrt(0.5)
    torch.testing.assert_close(got, torch.tensor([[root, root], NORTH]))


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.7, 1.0])
def test_momentum_is_exact(momentum):
    """Two crops of slot 0 count by their mean, slot 1 is not seen, slot 2 has one crop."""
    memory = torch.tensor([EAST, NORTH, EAST])
    embeddings = torch.tensor([NORTH, [0.6, 0.8], [-1.0, 0.0]])
    got = moved_memory(memory=memory, embeddings=embeddings, labels=torch.tensor([0, 0, 2]), momentum=momentum)
    first = [momentum * 1 + (1 - momentum) * 0.3, (1 - momentum) * 0.9]
    length = math.hypot(*first)
    torch.testing.assert_close(got[0], torch.tensor([value / length for value in first]))
    assert torch.equal(got[1], memory[1])
    torch.testing.assert_close(got[2], torch.tensor([1.0 if momentum > 0.5 else -1.0, 0.0]))
    assert torch.equal(memory, torch.tensor([EAST, NORTH, EAST])), "the memory given must stay"


def test_order_within_a_batch_does_not_matter():
    rows = functional.normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    labels, order = torch.arange(12) % 4, torch.randperm(12, generator=torch.Generator().manual_seed(1))
    first, second = (
        moved_memory(memory=rows[:4], embeddings=rows[some], labels=labels[some]) for some in (torch.arange(12), order)
    )
    torch.testing.assert_close(first, second)
