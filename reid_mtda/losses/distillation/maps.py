"""Distillation of maps: what a network pools, cell by cell."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def channel_loss(*, student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """tau^2 KL between softmax over cells of each channel's map, mean over B and channels.

    Shu et al. 2021, "Channel-wise Knowledge Distillation for Dense Prediction" (CWD, arXiv 2011.13256), as TransKD
    (Liu et al. 2022, arXiv 2202.13393) uses it beside its patch embeddings, which are left out. A constant added to a
    channel changes nothing.

    Args:
        student: maps (B, C, h, w), brought to the teacher's C and size.
        teacher: maps (B, C, h, w); detached.
        temperature: > 0.
    """
    log_s, log_t = (functional.log_softmax(m.flatten(2) / temperature, dim=2) for m in (student, teacher.detach()))
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(2).mean()


def frequency_loss(*, student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of maps scaled to length 1, once whole and once without their mean over cells.

    Fan et al. 2024, "ScaleKD" (arXiv 2411.06786), the two branches of the public code (deep-optimization/ScaleKD): the
    second leaves out the direct component of the discrete cosine transform, which is the mean over cells. Departures:
    a linear connector brings the student to the teacher's channels, without attention by the teacher's queries; no
    pass of student features through the teacher's last stage.

    Args:
        student: maps (B, C, h, w), brought to the teacher's C and size.
        teacher: maps (B, C, h, w); detached.
    """
    return _distance(student, teacher.detach()) + _distance(_alternating(student), _alternating(teacher.detach()))


def _alternating(maps: Tensor) -> Tensor:
    return maps - maps.mean((2, 3), keepdim=True)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    rows = [functional.normalize(maps.flatten(2), dim=1) for maps in (student, teacher)]
    return (rows[0] - rows[1]).square().sum(1).mean()


def draw_tokens(maps: Tensor, count: int) -> Tensor:
    """Draw cells int64 (count,) of maps (B, C, h, w) from torch's generator, each once; all where there are fewer."""
    cells = maps.shape[2] * maps.shape[3]
    return torch.randperm(cells)[: min(count, cells)].to(maps.device)


def tokens_of(maps: Tensor, cells: Tensor) -> Tensor:
    """The cells numbered ``cells`` (T,) of maps (B, C, h, w): (B, T, C)."""
    return maps.flatten(2)[:, :, cells].transpose(1, 2)


def context_loss(*, student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of softmax(F F' / sqrt(C)) within each picture: TRG's contextual loss.

    Zhang et al. 2023, "Knowledge Distillation via Token-level Relationship Graph" (arXiv 2306.12442).

    Args:
        student: tokens (B, T, C_s).
        teacher: tokens (B, T, C_t); detached.
    """
    rows = [torch.softmax(f @ f.transpose(1, 2) / f.shape[2] ** 0.5, dim=2) for f in (student, teacher.detach())]
    return (rows[0] - rows[1]).square().mean()


def token_graph_loss(*, student: Tensor, teacher: Tensor, neighbours: int = 8, sigma: float = 1.0) -> Tensor:
    """KL of affinities exp(-|T_i - T_j|^2 / (2 sigma)) among the tokens of all pictures, over nearest neighbours.

    TRG's graph loss as above; the neighbours are the teacher's. Departures: tokens are scaled to length 1, so that one
    sigma fits networks of all widths; the softmax is over a token's neighbours.

    Args:
        student: tokens (B, T, C_s).
        teacher: tokens (B, T, C_t); detached.
        neighbours: of each token.
        sigma: > 0.
    """
    far = []
    for tokens in (student, teacher.detach()):
        rows = functional.normalize(tokens.flatten(0, 1), dim=1)
        far.append((2 - 2 * rows @ rows.T).clamp(min=0))
    itself = torch.eye(len(far[1]), dtype=torch.bool, device=student.device)
    near = far[1].masked_fill(itself, float("inf")).topk(min(neighbours, len(far[1]) - 1), largest=False).indices
    log_s, log_t = (functional.log_softmax(-square.gather(1, near) / (2 * sigma), dim=1) for square in far)
    return functional.kl_div(log_s, log_t, log_target=True, reduction="batchmean")


def halves_of(maps: Tensor) -> Tensor:
    """Mean of the upper and of the lower rows of maps (B, C, h, w): (B, 2, C)."""
    middle = max(1, maps.shape[2] // 2)
    return torch.stack([maps[:, :, :middle].mean((2, 3)), maps[:, :, min(middle, maps.shape[2] - 1) :].mean((2, 3))], 1)


def block_loss(*, student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of block features (B, 2, D) scaled to length 1, mean over blocks.

    Wang et al. 2023, "Object-Aware Distillation Pyramid for Open-Vocabulary Object Detection" (OADP, arXiv
    2303.05892): its block branch; checked in abstract and introduction. Departures: two blocks, a body's upper and
    lower half, cut before the teacher; the squared distance of unit vectors in place of L1, since a ready-made teacher
    tells nothing but unit vectors.

    Args:
        student: block features (B, 2, D), brought to the teacher's D.
        teacher: block embeddings (B, 2, D); detached.
    """
    rows = [functional.normalize(blocks, dim=2) for blocks in (student, teacher.detach())]
    return (rows[0] - rows[1]).square().sum(2).mean()
