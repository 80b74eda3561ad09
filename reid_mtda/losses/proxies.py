"""Losses against camera-aware proxies: a slot for each pair of pseudo-identity and camera.

Reference: Wang et al., Camera-aware Proxies for Unsupervised Person Re-Identification, AAAI 2021, equations 5 and 7.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def intra_camera_loss(
    *, embeddings: Tensor, own: Tensor, cameras: Tensor, proxies: Tensor, proxy_cameras: Tensor, temperature: float
) -> Tensor:
    """Tell a crop's person from the others that its own camera saw: mean -log softmax(f . c / tau) at its proxy.

    The proxies receive no gradient.

    Args:
        embeddings: (B, D) of length 1.
        own: (B,) int64 in 0..C-1, each crop's proxy.
        cameras: (B,) int64, each crop's camera.
        proxies: (C, D) of length 1.
        proxy_cameras: (C,) int64, each proxy's camera.
        temperature: tau > 0.
    """
    logits = embeddings @ proxies.detach().T / temperature
    elsewhere = proxy_cameras[None, :] != cameras[:, None]
    return functional.cross_entropy(logits.masked_fill(elsewhere, float("-inf")), own)


def cross_camera_loss(
    *,
    embeddings: Tensor,
    people: Tensor,
    cameras: Tensor,
    proxies: Tensor,
    proxy_people: Tensor,
    proxy_cameras: Tensor,
    temperature: float,
    negatives: int,
) -> Tensor:
    """Draw a crop to its person's proxies in other cameras, away from the likest proxies of other people.

    Mean, over crops with such proxies P and over P, of -log(exp(s_p) / (sum_P exp(s) + sum_Q exp(s))), s = f . c / tau,
    where Q are the ``negatives`` likest proxies of other people in any camera. A batch without such a crop gives 0.

    Args:
        embeddings: (B, D) of length 1.
        people: (B,) int64, each crop's pseudo-identity.
        cameras: (B,) int64, each crop's camera.
        proxies: (C, D) of length 1.
        proxy_people: (C,) int64.
        proxy_cameras: (C,) int64.
        temperature: tau > 0.
        negatives: how many of them, >= 1; fewer where there are no more.
    """
    logits = embeddings @ proxies.detach().T / temperature
    same = proxy_people[None, :] == people[:, None]
    positive = same & (proxy_cameras[None, :] != cameras[:, None])
    count = positive.sum(dim=1)
    if not bool(count.any()):
        return embeddings.sum() * 0.0
    hardest = logits.masked_fill(same, float("-inf")).topk(min(negatives, len(proxies)), dim=1).values
    among = torch.cat([logits.masked_fill(~positive, float("-inf")), hardest], dim=1)
    each = (among.logsumexp(dim=1)[:, None] - logits).masked_fill(~positive, 0.0).sum(dim=1)
    return (each[count > 0] / count[count > 0]).mean()
