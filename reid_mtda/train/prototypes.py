"""Centroids of the people found in the targets: the student's, which follow it, and its teachers', which stand.

A teacher's soft targets over its own people are a class space without labels, in which a student of another embedding
size can be taught; its own centroids tell people apart by InfoNCE (Dai et al. 2022, "Cluster Contrast").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_mtda.losses.cluster_memory import cluster_means, memory_loss, moved_memory
from reid_mtda.train.resume import Kept
from reid_mtda.train.teacher_outputs import TargetPool
from reid_mtda.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Prototypes:
    """A slot for each of C people over all targets.

    ``people`` int64 (N,): each crop's slot, -1: nobody's. ``memory`` holds the student's centroids (C, D_s). ``seen``
    bool (cameras, C): which camera saw whom. ``taught`` gives per space the slots int64 (C_k,) of its people and its
    teacher's centroids (C_k, D_t).
    """

    people: Tensor
    memory: Kept
    seen: Tensor
    taught: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def of(
        cls, pool: TargetPool, identities: IntArray, embeddings: FloatArray, device: torch.device | None = None
    ) -> Prototypes:
        """Find the centroids of ``identities`` int64 (N,) by the student's ``embeddings`` (N, D_s), for ``device``.

        Args:
            pool: all targets' crops and what teachers say of them.
            identities: (N,) pseudo-identity of each crop, -1 for none.
            embeddings: (N, D) rows of length 1.
            device: where they are kept; None: the CPU.
        """
        known = identities >= 0
        people = np.full(len(identities), -1, np.int64)
        people[known] = np.unique(identities[known], return_inverse=True)[1]
        slots = torch.from_numpy(people)
        centroids = cluster_means(embeddings=torch.from_numpy(embeddings), labels=slots)
        seen = torch.zeros(int(pool.camera.max()) + 1, len(centroids), dtype=torch.bool)
        seen[torch.from_numpy(pool.camera[known]), slots[torch.from_numpy(known)]] = True
        taught = {}
        for space, (members, teacher_output) in pool.spaces.items():
            mine = np.flatnonzero(np.isin(pool.target, members) & known)
            own, labels = np.unique(people[mine], return_inverse=True)
            if len(own):
                said = teacher_output.embedding[torch.from_numpy(pool.place[mine])]
                means = cluster_means(embeddings=said, labels=torch.from_numpy(labels))
                taught[space] = torch.from_numpy(own).to(device), means.to(device)
        return cls(slots.to(device), Kept(centroids.to(device)), seen.to(device), taught)

    def logits(self, space: str, student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Likeness of crops to the people of ``space``, of student (B, D_s) and teacher (B, D_t): two of (B, C_k).

        Args:
            space: which teacher.
            student: (B, D_s) embeddings.
            teacher: (B, D_t) embeddings.
            temperature: tau.
        """
        slots, centroids = self.taught[space]
        return student @ self.memory.tensor[slots].T / temperature, teacher @ centroids.T / temperature

    def memory_loss(
        self, embeddings: Tensor, rows: IntArray, *, temperature: float, cameras: IntArray | None = None
    ) -> Tensor:
        """InfoNCE of the crops numbered ``rows`` (B,); with ``cameras`` (B,) only against people whom theirs saw.

        Args:
            embeddings: (B, D) rows of length 1.
            rows: (B,) numbers of the crops in the pool.
            temperature: tau.
            cameras: (B,) the number of each crop's camera; None: all people count.
        """
        among = None if cameras is None else self.seen[torch.from_numpy(cameras)]
        return memory_loss(
            embeddings=embeddings,
            labels=self.people[torch.from_numpy(rows)],
            memory=self.memory.tensor,
            temperature=temperature,
            among=among,
        )

    def follow(self, embeddings: Tensor, rows: IntArray, *, momentum: float) -> None:
        """Move the student's centroids towards the crops numbered ``rows``.

        Args:
            embeddings: (B, D) rows of length 1.
            rows: (B,) numbers of the crops in the pool.
            momentum: share that one batch leaves, 0..1.
        """
        self.memory.tensor = moved_memory(
            memory=self.memory.tensor,
            embeddings=embeddings,
            labels=self.people[torch.from_numpy(rows)],
            momentum=momentum,
        )
