"""What each distillation objective adds to a step: processor time of one call, forward and backward.

    python tools/benchmark_objectives.py

Sizes are those of street.yaml: 128 crops of one teacher, features 96 (student) and 192 (teacher), 120 source
identities, maps of 8 x 4 cells, four teachers, 1,000 crops in all. The numbers in the tensors are drawn. Processor time
is told, median of the calls, on one thread: other programs on the machine disturb it less than wall time.
"""

import argparse
import statistics
import time

import torch
from torch.nn import functional

from reid_mtda.models.embedder import EmbedderOutput
from reid_mtda.train.objectives.known_objectives import OBJECTIVES, find_objectives
from reid_mtda.train.objectives.objective import AllCrops, Context, Objective, Sizes

STREET = Sizes(student=96, teacher=192, classes=120, teachers=4, student_maps=96, teacher_maps=192)


def drawn(rows: int, width: int, classes: int, maps: int) -> EmbedderOutput:
    """A network's output for ``rows`` crops."""
    feature = torch.randn(rows, width)
    cells = torch.rand(rows, maps, 8, 4)
    return EmbedderOutput(functional.normalize(feature, dim=1), torch.randn(rows, classes), feature, cells)


def scene(sizes: Sizes, batch: int, crops: int) -> tuple[AllCrops, EmbedderOutput, Context]:
    """All crops, the teacher's output for a batch of them, and what is known of the batch."""
    everyone = drawn(crops, sizes.teacher, sizes.classes, sizes.teacher_maps)
    cameras, people = torch.arange(crops) % sizes.teachers, torch.arange(crops) // 8
    labels = torch.arange(crops) % sizes.classes
    known = AllCrops(everyone.embedding, everyone.logits, everyone.feature, cameras, people, everyone.logits, labels)
    rows = torch.randperm(crops)[:batch]
    context = Context(
        progress=0.5,
        rows=rows,
        people=people[rows],
        cameras=cameras[rows],
        start=drawn(batch, sizes.student, sizes.classes, 1),
        halves=torch.randn(batch, 2, sizes.teacher),
        everyone=torch.randn(batch, sizes.teachers, sizes.classes),
        labels=labels[rows],
    )
    return known, everyone.at(rows), context


def milliseconds(objective: Objective, student: EmbedderOutput, teacher: EmbedderOutput, context: Context) -> float:
    """Processor time of one call, forward and backward."""
    leaf = student.each(lambda part: part.detach().requires_grad_(True))
    began = time.process_time()
    objective(student=leaf, teacher=teacher, context=context).backward()
    return 1000 * (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=15, help="of each objective; the median is told")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--crops", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    crops, teacher, context = scene(STREET, given.batch, given.crops)
    student = drawn(given.batch, STREET.student, STREET.classes, STREET.student_maps)
    print("| objective | ms a call | own weights |\n|---|---|---|")
    for name in OBJECTIVES:
        objective = find_objectives({name: 1.0})[name].build(STREET)
        objective.prepare(crops)
        times = [milliseconds(objective, student, teacher, context) for _ in range(given.calls)]
        own = sum(weight.numel() for weight in objective.parameters())
        print(f"| {name} | {statistics.median(times):.1f} | {own:,} |")


if __name__ == "__main__":
    main()
