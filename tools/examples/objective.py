"""A distillation objective of one's own: distances between crops, as the teacher sees them (Park et al. 2019, RKD-D).

    PYTHONPATH=. reid-mtda adapt SITE --config PRESET --out OUT \\
        --set 'distil.objectives={"tools.examples.objective:distance_loss": 1.0}'

A package offers it by a name instead: ``[project.entry-points."reid_mtda.objectives"]``.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reid_mtda.losses.identity import pairwise_dist
from reid_mtda.models.embedder import EmbedderOutput


def distance_loss(*, student: EmbedderOutput, teacher: EmbedderOutput) -> Tensor:
    """Huber loss between the student's and the teacher's distances of one camera's crops, each over its mean.

    Args:
        student: embeddings (B, D_s) of length 1.
        teacher: embeddings (B, D_t) of the same crops; sizes may differ.
    """
    own, given = (pairwise_dist(output.embedding, output.embedding) for output in (student, teacher))
    return functional.smooth_l1_loss(own / own.mean().detach(), (given / given.mean()).detach())
