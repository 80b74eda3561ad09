"""Losses against camera-aware proxies: a naive second opinion, equalities, and who gets a gradient."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from reid_mtda.losses.cluster_memory import memory_loss
from reid_mtda.losses.proxies import cross_camera_loss, intra_camera_loss

PEOPLE = torch.tensor([0, 0, 1, 1, 2, 3])
CAMERAS = torch.tensor([0, 1, 0, 1, 0, 1])
"""Of the proxies: people 0 and 1 in both cameras, 2 and 3 in one each."""


def rows(count, dim=8, seed=0):
    found = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(found, dim=1)


def scene(seed=0):
    """Five crops, the proxies, and each crop's own proxy."""
    return rows(5, seed=seed).requires_grad_(), rows(6, seed=seed + 100), torch.tensor([0, 1, 2, 4, 5])


def cross(embeddings, proxies, own, negatives=2, temperature=0.1):
    return cross_camera_loss(
        embeddings=embeddings, people=PEOPLE[own], cameras=CAMERAS[own], proxies=proxies, proxy_people=PEOPLE,
        proxy_cameras=CAMERAS, temperature=temperature, negatives=negatives,
    )  # fmt: skip


def intra(embeddings, proxies, own, cameras=CAMERAS, temperature=0.1):
    return intra_camera_loss(
        embeddings=embeddings, own=own, cameras=cameras[own], proxies=proxies, proxy_cameras=cameras,
        temperature=temperature,
    )  # fmt: skip


def test_intra_camera_tells_apart_among_the_cameras_own_alone():
    embeddings, proxies, own = scene()
    wanted = []
    for crop, slot in zip(embeddings.detach(), own.tolist(), strict=True):
        mine = [n for n in range(6) if CAMERAS[n] == CAMERAS[slot]]
        scores = np.array([float(crop @ proxies[n]) / 0.1 for n in mine])
        wanted.append(np.log(np.exp(scores).sum()) - scores[mine.index(slot)])
    assert float(intra(embeddings, proxies, own).detach()) == pytest.approx(np.mean(wanted))


def test_intra_camera_of_one_camera_is_the_cluster_memorys_loss():
    embeddings, proxies, own = scene()
    one = torch.zeros(6, dtype=torch.int64)
    whole = memory_loss(embeddings=embeddings, labels=own, memory=proxies, temperature=0.1)
    assert float(intra(embeddings, proxies, own, one).detach()) == pytest.approx(float(whole.detach()))


@pytest.mark.parametrize("negatives", [1, 2, 4, 50])
def test_cross_camera_is_the_papers_sum(negatives):
    embeddings, proxies, own = scene()
    wanted = []
    for crop, slot in zip(embeddings.detach(), own.tolist(), strict=True):
        scores = [float(crop @ proxy) / 0.1 for proxy in proxies]
        positive = [n for n in range(6) if PEOPLE[n] == PEOPLE[slot] and CAMERAS[n] != CAMERAS[slot]]
        others = sorted((scores[n] for n in range(6) if PEOPLE[n] != PEOPLE[slot]), reverse=True)[:negatives]
        below = sum(np.exp(scores[n]) for n in positive) + sum(np.exp(other) for other in others)
        if positive:
            wanted.append(np.mean([np.log(below) - scores[n] for n in positive]))
    assert len(wanted) == 3
    assert float(cross(embeddings, proxies, own, negatives).detach()) == pytest.approx(np.mean(wanted))


def test_people_of_one_camera_alone_have_nothing_to_be_drawn_to():
    embeddings, proxies, _ = scene()
    loss = cross(embeddings[:2], proxies, torch.tensor([4, 5]))
    loss.backward()
    assert float(loss.detach()) == 0 and not embeddings.grad.any()


@pytest.mark.parametrize("loss", [intra, cross])
def test_only_the_students_embeddings_get_a_gradient(loss):
    embeddings, proxies, own = scene()
    proxies.requires_grad_()
    loss(embeddings, proxies, own).backward()
    assert embeddings.grad.abs().sum() > 0 and proxies.grad is None
