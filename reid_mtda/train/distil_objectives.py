"""Objectives in distillation's loop: what they are told of the crops, over one teacher or over all of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_mtda.data.batches import Pictures
from reid_mtda.models.embedder import Embedder, EmbedderOutput, joined_outputs
from reid_mtda.runs import Run
from reid_mtda.train.common import embed_pictures
from reid_mtda.train.distil_batches import Batch, PartMixBatches
from reid_mtda.train.objectives.applied import AppliedObjectives, source_parts_of
from reid_mtda.train.objectives.objective import AllCrops, AskedObjective, Context, Need, Sizes, needs_of
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs
from reid_mtda.types import IntArray


@dataclass(frozen=True, eq=False)
class ObjectiveCalls:
    """The objectives of a run, and what they are told: ``start`` of the pool's crops, ``start_mixed`` by target."""

    applied: AppliedObjectives
    pool: TargetPool
    identities: IntArray
    part_mixes: Mapping[str, PartMixBatches]
    start: EmbedderOutput | None
    start_mixed: Mapping[str, EmbedderOutput]
    source_logits: Tensor | None = None
    progress: float = 0.0

    @classmethod
    def of(
        cls,
        asked: Mapping[str, AskedObjective],
        student: Embedder,
        pictures: Pictures,
        pool: TargetPool,
        identities: IntArray,
        part_mixes: Mapping[str, PartMixBatches],
        run: Run,
        source_logits: Tensor | None = None,
        source_labels: Tensor | None = None,
    ) -> ObjectiveCalls:
        """Build the objectives for ``student`` as it starts, and the teachers of ``pool``.

        Args:
            asked: objectives by name, each with its weight and settings.
            student: the network being trained.
            pictures: the set's.
            pool: all targets' crops and what teachers say of them.
            identities: (N,) pseudo-identity of each crop, -1 for none.
            part_mixes: what teachers say of part-mixed crops, by target.
            run: gives folder, seed and device.
            source_logits: (N, C) of the source; None: there are none.
            source_labels: (N,) the source's; None: there are none.

        Raises:
            TrainingError: an objective that does not fit the networks.
        """
        outputs = [teacher_output for _, teacher_output in pool.spaces.values()]
        start, mixed = None, {}
        if "start" in needs_of(asked):
            start = embed_pictures(student, pictures)
            mixed = {name: embed_pictures(student, own.pictures) for name, own in part_mixes.items()}
        offered = _offered(outputs, student, identities, source_logits)
        sizes = _sizes(outputs, student, pictures if {"maps", "halves"} & needs_of(asked) else None)
        crops = dataclasses.replace(
            _all_crops(pool, identities), source_logits=source_logits, source_labels=source_labels
        )
        applied = AppliedObjectives.of(asked, sizes, offered, crops, run)
        return cls(applied, pool, identities, part_mixes, start, mixed, source_logits)

    @property
    def wants_maps(self) -> bool:
        """Whether the student has to tell its maps."""
        return bool({"maps", "halves"} & self.applied.needs)

    def of_teacher(
        self,
        space: str,
        student: EmbedderOutput,
        teacher: EmbedderOutput,
        batch: Batch,
        mine: IntArray,
        extra: Sequence[str],
        share: float,
    ) -> dict[str, Tensor]:
        """Call those over one teacher, on the crops ``mine`` of the batch and part-mixed ones of targets ``extra``.

        Args:
            space: which teacher.
            student: the student's output for the crops, with a gradient.
            teacher: what the teacher says of the same crops, without a gradient.
            batch: which crops are shown.
            mine: which of the batch's crops the teacher knows.
            extra: further teachers by name.
            share: of the whole loss.
        """
        if not self.applied:
            return {}
        device, rows = student.embedding.device, batch.rows[mine]
        said = self.pool.spaces[space][1]
        place = torch.from_numpy(self.pool.place[rows])
        made = [(self.part_mixes[name], torch.from_numpy(batch.mixed[name])) for name in extra]
        starts = [self.start.at(torch.from_numpy(rows))] if self.start else []
        starts += [self.start_mixed[name].at(torch.from_numpy(batch.mixed[name])) for name in extra if self.start]
        count = sum(len(own) for _, own in made)
        cameras = [self.pool.camera[rows]]
        cameras += [np.full(len(batch.mixed[n]), self._camera_of(n)) for n in extra]
        context = Context(
            progress=self.progress,
            rows=_padded(rows, count).to(device),
            people=_padded(self.identities[rows], count).to(device),
            cameras=torch.from_numpy(np.concatenate(cameras)).to(device),
            teacher=list(self.pool.spaces).index(space),
            start=joined_outputs(starts).to(device) if starts else None,
            halves=_joined(
                [said.halves, *(m.teacher_output.halves for m, _ in made)], [place, *(r for _, r in made)], device
            ),
            everyone=_joined(
                [said.everyone, *(m.teacher_output.everyone for m, _ in made)], [place, *(r for _, r in made)], device
            ),
        )
        return self.applied.parts(
            "teacher", student=student, teacher=teacher, context=context, share=share, prefix=space
        )

    def of_all(self, student: EmbedderOutput, batch: Batch, share: float) -> dict[str, Tensor]:
        """Call those over all of the batch's own crops, where teachers' embeddings can be compared.

        Args:
            student: the student's output for the crops, with a gradient.
            batch: which crops are shown.
            share: of the whole loss.
        """
        if not any(own.over == "all" for own in self.applied.asked.values()):
            return {}
        device, order = student.embedding.device, []
        said = []
        for cameras, teacher_output in self.pool.spaces.values():
            mine = np.flatnonzero(np.isin(self.pool.target[batch.rows], cameras))
            order.append(mine)
            said.append(teacher_output.at(torch.from_numpy(self.pool.place[batch.rows[mine]])))
        back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
        rows = torch.from_numpy(batch.rows)
        context = Context(
            progress=self.progress,
            rows=rows.to(device),
            people=torch.from_numpy(self.identities[batch.rows]).to(device),
            cameras=torch.from_numpy(self.pool.camera[batch.rows]).to(device),
            start=self.start.at(rows).to(device) if self.start else None,
        )
        teacher = joined_outputs(said).at(back).to(device)
        return self.applied.parts(
            "all", student=student, teacher=teacher, context=context, share=share, prefix="target"
        )

    def of_source(
        self, student: EmbedderOutput, rows: IntArray, labels: Tensor, share: float, progress: float
    ) -> dict[str, Tensor]:
        """Call those over the source's crops numbered ``rows`` (B,), of ``labels`` int64 (B,).

        Args:
            student: the student's output for the crops, with a gradient.
            rows: (B,) numbers of the crops in the pool.
            labels: (B,) classes of the source's pictures.
            share: of the whole loss.
            progress: how much of training is over, 0..1.
        """
        if self.source_logits is None:
            return {}
        return source_parts_of(self.applied, self.source_logits, student, rows, labels, share, progress)

    def _camera_of(self, name: str) -> int:
        return int(self.pool.camera[self.pool.target == self.pool.names.index(name)][0])


def _offered(
    outputs: Sequence[TeacherOutputs], student: Embedder, identities: IntArray, source_logits: Tensor | None
) -> frozenset[Need]:
    """What all teachers, and the student, give beside embeddings."""
    found: set[Need] = {"start"}
    common = frozenset.intersection(*(frozenset(output.tensors()) for output in outputs))
    names: tuple[Need, ...] = ("logits", "feature", "maps", "halves", "everyone")
    found |= {name for name in names if name in common}
    if student.classifier is None:
        found -= {"logits", "everyone"}
    if (identities >= 0).any():
        found.add("people")
    if source_logits is not None:
        found.add("source")
    return frozenset(found)


def _sizes(outputs: Sequence[TeacherOutputs], student: Embedder, pictures: Pictures | None) -> Sizes:
    widths = {output.embedding.shape[1] for output in outputs}
    first, channels = outputs[0], 0
    if pictures is not None:
        one = Pictures(pictures.resized[:1], pictures.preprocess)
        maps = embed_pictures(student, one, wants_maps=True).maps
        channels = 0 if maps is None else maps.shape[1]
    return Sizes(
        student=student.embedding_dim,
        teacher=max(widths) if len(widths) == 1 else 0,
        classes=0 if first.logits is None or student.classifier is None else first.logits.shape[1],
        teachers=len(outputs),
        student_maps=channels,
        teacher_maps=0 if first.maps is None else first.maps.shape[1],
    )


def _all_crops(pool: TargetPool, identities: IntArray) -> AllCrops:
    """All crops of the pool in its order; embeddings where they are of one space."""
    outputs = [teacher_output for _, teacher_output in pool.spaces.values()]

    def ordered(name: str) -> Tensor | None:
        parts = [getattr(output, name) for output in outputs]
        if any(part is None for part in parts) or len({part.shape[1] for part in parts}) > 1:
            return None
        order = np.concatenate([np.flatnonzero(np.isin(pool.target, members)) for members, _ in pool.spaces.values()])
        return torch.cat(parts)[torch.from_numpy(np.argsort(order, kind="stable"))]

    comparable = len({output.teacher_id for output in outputs}) == 1
    return AllCrops(
        embedding=ordered("embedding") if comparable else None,
        logits=ordered("logits"),
        feature=ordered("feature"),
        cameras=torch.from_numpy(pool.camera),
        people=torch.from_numpy(identities),
    )


def _padded(rows: IntArray, count: int) -> Tensor:
    return torch.from_numpy(np.concatenate([rows, np.full(count, -1, np.int64)]))


def _joined(parts: Sequence[Tensor | None], rows: Sequence[Tensor], device: torch.device) -> Tensor | None:
    if any(part is None for part in parts):
        return None
    return torch.cat([part[own] for part, own in zip(parts, rows, strict=True) if part is not None]).to(device)
