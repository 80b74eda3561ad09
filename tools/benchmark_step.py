"""The progressive step against the published order of work: seconds per epoch as a ratio, interleaved, same results.

The published order is written down here in plain PyTorch: every network forwarded once for each domain and each loss,
the discriminators asked in every forward, the student's gradient run through the teacher, nothing kept. Each way works
in a process of its own; they take turns, and medians are compared, of wall time and of processor time: other programs
on the machine disturb the latter less.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_mtda.data.batches import Pictures
from reid_mtda.data.closed_domain import LabelledPictures, UnlabelledPictures
from reid_mtda.data.samplers import ShuffleSampler
from reid_mtda.files import write_json
from reid_mtda.losses.adversarial import domain_confusion_loss, reversal_delta, reverse_gradient
from reid_mtda.models.classifier import Classifier, ClassifierOutput, ClassifierSpec, build_classifier
from reid_mtda.provenance import versions
from reid_mtda.runs import Run
from reid_mtda.train.network_state import NetworkState, make_network_state
from reid_mtda.train.progressive import distil_progressively
from reid_mtda.train.progressive_settings import ProgressiveSettings
from reid_mtda.types import Preprocess

PREPROCESS = Preprocess(28, 28, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
REFERENCE = "published order"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    REFERENCE: ("as the public code works", {}),
    "published, teacher detached": ("no gradient through the teacher", {"detached": True}),
    "ours": ("same mathematics", {}),
    "ours, one forward": ("BatchNorm over both domains: other mathematics", {"batchnorm": "shared"}),
    "ours, teacher output reused": (
        "the teacher's own step teaches: other mathematics",
        {"reuse_teacher_output": True},
    ),
}
ROW = "| {} ({note}) | {wall_ms:.1f} | {wall_ratio:.2f} | {cpu_ms:.1f} | {cpu_ratio:.2f} | {difference:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--targets", 3), ("--steps", 5), ("--rounds", 9), ("--batch-size", 32)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--discriminator", type=int, nargs="+", default=[512, 4096], help="widths of the adversary")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    tables = []
    for width in options.discriminator:
        for threads in options.threads:
            rows = compare(width, threads, options)
            tables.append({"discriminator": width, "threads": threads, "rows": rows})
            print(f"\ndiscriminator {width}, {threads} threads, {options.targets} targets, batch {options.batch_size}")
            print("| way | wall ms a step | times as fast | CPU ms a step | times as cheap | weights differ by |")
            print("|---|---|---|---|---|---|")
            for name, row in rows.items():
                print(ROW.format(name, **row), flush=True)
    if options.out:
        sizes = {key: getattr(options, key) for key in ("targets", "steps", "rounds", "batch_size")}
        write_json(options.out, {"sizes": sizes, "tables": tables, "versions": versions()})


def compare(width: int, threads: int, options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Let every way work a round in turn; per way the median milliseconds of a step, and how its weights came out."""
    context, workers = multiprocessing.get_context("spawn"), {}
    for name in WAYS:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, name, width, threads, options), daemon=True)
        process.start()
        workers[name] = (process, ours)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    weights: dict[str, np.ndarray] = {}
    for turn in range(options.rounds + 1):
        for name, (_, pipe) in workers.items():
            pipe.send("go")
            took, weights[name] = pipe.recv()
            if turn:  # the first round warms up
                seconds[name].append(took)
    for process, pipe in workers.values():
        pipe.send("stop")
        process.join()
    steps = options.steps * options.targets
    medians = {name: [1000 * statistics.median(t) / steps for t in zip(*seconds[name], strict=True)] for name in WAYS}
    wall, cpu = medians[REFERENCE]
    scale = float(np.abs(weights[REFERENCE]).max())
    return {
        name: {
            "note": WAYS[name][0],
            "wall_ms": medians[name][0],
            "wall_ratio": wall / medians[name][0],
            "cpu_ms": medians[name][1],
            "cpu_ratio": cpu / medians[name][1],
            "difference": float(np.abs(weights[name] - weights[REFERENCE]).max()) / scale,
            "seconds": seconds[name],
        }
        for name in WAYS
    }


def work(pipe: Connection, name: str, width: int, threads: int, options: argparse.Namespace) -> None:
    """A process of its own: at every "go" one epoch from the same start, timed; sends seconds and the weights."""
    torch.set_num_threads(threads)
    source, targets = draw(options.targets)
    spec = ClassifierSpec(dropout=0.0)
    student, teachers = build_classifier(spec, seed=0), {n: build_classifier(spec, seed=1) for n in targets}
    _, switches = WAYS[name]
    budget = {"epochs": 1, "steps_per_epoch": options.steps, "batch_size": options.batch_size}
    budget["teacher_statistics"] = "mixture"  # as the published order of work teaches
    settings = ProgressiveSettings.model_validate(
        {"discriminator_width": width, **budget, **(switches if name.startswith("ours") else {})}
    )
    while pipe.recv() == "go":
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            if name.startswith("ours"):
                learnt, _ = distil_progressively(
                    student, teachers, source, targets, PREPROCESS, settings, Run(Path(folder), 0)
                )
            else:
                learnt, _ = published_epoch(
                    student, teachers, source, targets, settings, Run(Path(folder), 0), detached=bool(switches)
                )
            took = time.perf_counter() - wall, time.process_time() - cpu
        pipe.send((took, torch.cat([p.detach().flatten() for p in learnt.parameters()]).numpy()))


def draw(targets: int, count: int = 512) -> tuple[LabelledPictures, dict[str, UnlabelledPictures]]:
    """Noise of digits' size: the cost of a step does not depend on what the pictures show."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (targets + 1, count, 28, 28, 3), np.uint8)
    source = LabelledPictures(pictures[0], rng.integers(0, 10, count), 10, "source")
    return source, {f"target {n}": UnlabelledPictures(pictures[n], f"target {n}") for n in range(1, targets + 1)}


def published_epoch(
    student: Classifier,
    teachers: Mapping[str, Classifier],
    source: LabelledPictures,
    targets: Mapping[str, UnlabelledPictures],
    settings: ProgressiveSettings,
    run: Run,
    *,
    detached: bool = False,
) -> tuple[Classifier, dict[str, Classifier]]:
    """The first epoch of ``distil_progressively``'s mathematics (DANN, no quirk) in the published order of work."""
    student_state = plain(make_network_state(student, settings.student_learning_rate, settings, run, "student"))
    teacher_states = {
        n: plain(make_network_state(t, settings.teacher_learning_rate, settings, run, n)) for n, t in teachers.items()
    }
    pick_s = ShuffleSampler(len(source), settings.batch_size, run.child_seed("source"))
    pick_t = {n: ShuffleSampler(len(t), settings.batch_size, run.child_seed(n)) for n, t in targets.items()}
    beta, tau, alpha = settings.beta_start, settings.temperature, settings.alpha
    of_source, of_target = Pictures(source.pictures, PREPROCESS), {}
    for name, target in targets.items():
        of_target[name] = Pictures(target.pictures, PREPROCESS)
    for step in range(settings.steps_per_epoch):
        delta = reversal_delta(step / settings.steps_per_epoch)
        rows = pick_s.batch(step)
        labels = torch.from_numpy(source.labels[rows])
        x_s = of_source.normalised(of_source.unit(rows)).contiguous()
        for name, teacher_state in teacher_states.items():
            x_t = of_target[name].normalised(of_target[name].unit(pick_t[name].batch(step))).contiguous()
            teacher_state.network.train()
            out, other = teacher_state.network(x_s), teacher_state.network(x_t)
            loss = functional.cross_entropy(out.logits, labels) + settings.gamma * adversary(
                teacher_state, out, other, delta
            )
            descend(teacher_state, (1 - beta) * loss)

            teacher_state.network.eval()
            teacher_state.discriminator.eval()
            with torch.set_grad_enabled(not detached):
                taught_s, taught_t = teacher_state.network(x_s), teacher_state.network(x_t)
                adversary(teacher_state, taught_s, taught_t, delta)
            teacher_state.discriminator.train()
            student_state.network.train()
            out_s, out_t = student_state.network(x_s), student_state.network(x_t)
            loss = (
                alpha * hinton(out_s.logits, taught_s.logits, tau)
                + (1 - alpha) * functional.cross_entropy(out_s.logits, labels)
                + hinton(out_t.logits, taught_t.logits, tau)
                + alpha * adversary(student_state, out_s, out_t, delta)
            )
            descend(student_state, beta * loss)
            teacher_state.optimiser.zero_grad()  # what ran through the teacher dies here
    return student_state.network.eval(), {
        name: teacher_state.network.eval() for name, teacher_state in teacher_states.items()
    }


def plain(adapting: NetworkState) -> NetworkState:
    """The layout that PyTorch has unless told otherwise, and the optimiser's plain loop."""
    adapting.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for group in adapting.optimiser.param_groups:
        group["fused"] = None
    return adapting


def adversary(adapting: NetworkState, source: ClassifierOutput, target: ClassifierOutput, delta: float) -> Tensor:
    """The discriminator's loss on both domains."""
    features = torch.cat([reverse_gradient(output.feature, delta) for output in (source, target)])
    domain_logits = adapting.discriminator(features).split([len(source.logits), len(target.logits)])
    return domain_confusion_loss(source=domain_logits[0], target=domain_logits[1])


def hinton(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """tau^2 KL(teacher || student), mean over the batch."""
    soft_targets = functional.softmax(teacher / tau, dim=1)
    return tau**2 * functional.kl_div(functional.log_softmax(student / tau, dim=1), soft_targets, reduction="batchmean")


def descend(adapting: NetworkState, loss: Tensor) -> None:
    """One step of its own optimiser."""
    adapting.optimiser.zero_grad()
    loss.item()
    loss.backward()  # type: ignore[no-untyped-call]
    adapting.optimiser.step()


if __name__ == "__main__":
    main()
