"""Peak memory and time of teachers and student against the number of cameras, each number in a process of its own.

Every camera is one of the embedded street's four, on a street of its own seed. Networks and input are those of
configs/adapt/demo.yaml, steps are fewer. The networks are trained on the source before anything is measured. Time is
the processor's beside the clock's, which other programs on the machine disturb.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

STAGES = ("teachers", "student")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, nargs="+", default=[2, 4, 8, 16])
    for name, default, meaning in (
        ("--people", 24, "identities of a street"),
        ("--per-camera", 8, "crops of a person in a camera"),
        ("--teacher-steps", 10, "steps of a teacher"),
        ("--student-steps", 10, "steps of the student for each camera"),
        ("--rounds", 1, "measurements of each number; the median of times, the largest peak"),
    ):
        parser.add_argument(name, type=int, default=default, help=meaning)
    parser.add_argument("--out", type=Path, help="folder for cameras.json, cameras.md and cameras.png")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        cameras = options.cameras[0]
        return print(json.dumps(measure(options.child, cameras, options) if cameras else prepare(options.child)))
    with tempfile.TemporaryDirectory() as folder:
        child(Path(folder), 0, options)
        draw(Path(folder) / "streets", max(options.cameras), options)
        found = [[child(Path(folder), n, options) for n in options.cameras] for _ in range(options.rounds)]
    rows = [summary(list(same)) for same in zip(*found, strict=True)]
    print(table(rows))
    if options.out:
        from reid_mtda.files import write_json
        from reid_mtda.provenance import versions

        sizes = {k: getattr(options, k) for k in ("people", "per_camera", "teacher_steps", "student_steps", "rounds")}
        write_json(options.out / "cameras.json", {"sizes": sizes, "rows": rows, "versions": versions()})
        (options.out / "cameras.md").write_text(table(rows) + "\n", encoding="utf-8")
        plot(rows, options.out / "cameras.png")


def child(folder: Path, cameras: int, options: argparse.Namespace) -> Any:
    """Measure in a fresh process: a process never gives back all memory that it once had."""
    sizes = {"--people": options.people, "--per-camera": options.per_camera}
    sizes |= {"--teacher-steps": options.teacher_steps, "--student-steps": options.student_steps}
    words = [str(word) for pair in sizes.items() for word in pair]
    command = [sys.executable, "-W", "ignore", __file__, "--child", str(folder), "--cameras", str(cameras), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def prepare(folder: Path) -> dict[str, Any]:
    """Train both networks on the drawn lab, once."""
    from reid_mtda.runs import open_run
    from reid_mtda.workflow.adapt import load_source
    from reid_mtda.workflow.training import STUDENT_SOURCE, TEACHER_SOURCE, pretrain

    config = settings(1, 1)
    run = open_run(folder / "source", seed=0, config=config.model_dump())
    source = load_source(config, run)
    pretrain(run, TEACHER_SOURCE, config.teacher, config.teacher_source, source, config)
    pretrain(run, STUDENT_SOURCE, config.student, config.student_source, source, config)
    return {}


def settings(teacher_steps: int, student_steps: int) -> Any:
    """The demo's preset with fewer steps and no saved states, whose writing would be timed too."""
    from reid_mtda.presets import load_config

    preset = Path(__file__).resolve().parents[1] / "configs" / "adapt" / "demo.yaml"
    changes = {
        "source.identities": 24,
        "teacher_source.steps": 2,
        "student_source.steps": 2,
        "adapt.settings.steps": teacher_steps,
        "adapt.settings.checkpoint_seconds": 10**6,
        "distil.steps": student_steps,
        "distil.checkpoint_seconds": 10**6,
    }
    return load_config(preset, [f"{key}={value}" for key, value in changes.items()])


def draw(folder: Path, cameras: int, options: argparse.Namespace) -> None:
    """Streets of four cameras each, until there are enough."""
    from reid_mtda.synthetic.crops import draw_crops
    from reid_mtda.synthetic.street import CAMERAS

    for street in range(-(-cameras // len(CAMERAS))):
        draw_crops(folder / str(street), 7 + street, people=options.people, per_camera=options.per_camera)


def targets_of(folder: Path, cameras: int) -> dict[str, Any]:
    """The first ``cameras`` cameras of the drawn streets; a person before a camera is one tracklet."""
    from reid_mtda.data.reid import load_market1501
    from reid_mtda.types import UnlabelledSet

    targets: dict[str, Any] = {}
    for street in sorted(folder.iterdir(), key=lambda path: int(path.name)):
        train, _ = load_market1501(street, half="train")
        camids = np.asarray(train.camids)
        for camid in np.unique(camids):
            rows = np.flatnonzero(camids == camid)
            name = f"street{street.name}_camera{camid}"
            targets[name] = UnlabelledSet(tuple(train.paths[r] for r in rows), name, train.labels[rows])
    return dict(list(targets.items())[:cameras])


def measure(folder: Path, cameras: int, options: argparse.Namespace) -> dict[str, Any]:
    """Adapt a teacher to each camera and distil the student, as ``reid-mtda adapt`` does it."""
    from reid_mtda.models.checkpoint import load_embedder
    from reid_mtda.runs import Run, open_run, peak_memory_mb, stage
    from reid_mtda.workflow.adapt import load_source
    from reid_mtda.workflow.training import STUDENT_SOURCE, TEACHER_SOURCE, adapt_teachers, distil_student

    config = settings(options.teacher_steps, options.student_steps * cameras)
    source = load_source(config, Run(folder / "source", 0))
    networks = [load_embedder(folder / "source" / name) for name in (TEACHER_SOURCE, STUDENT_SOURCE)]
    targets = targets_of(folder / "streets", cameras)
    crops = sum(len(target) for target in targets.values())
    warm_up(networks, config)
    before = peak_memory_mb()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        run = open_run(Path(work), seed=0, config=config.model_dump())
        cpu = [time.process_time()]
        with stage(run, "teachers"):
            failures = adapt_teachers(run, networks[0], source, targets, config)
        cpu.append(time.process_time())
        with stage(run, "student"):
            distil_student(run, networks[1], source, targets, config)
        cpu.append(time.process_time())
        if failures:
            raise RuntimeError(f"cameras failed: {failures}")
        stages = json.loads((run.folder / "stages.json").read_text(encoding="utf-8"))
    pixels = config.input.height * config.input.width * 3
    return {
        "cameras": cameras,
        "crops": crops,
        "pictures_mb": crops * pixels / 1e6,
        "before_mb": before,
        **{f"{name}_mb": stages[name]["peak_mb"] for name in STAGES},
        **{f"{name}_s_per_camera": stages[name]["seconds"] / cameras for name in STAGES},
        **{f"{name}_cpu_s_per_camera": (cpu[n + 1] - cpu[n]) / cameras for n, name in enumerate(STAGES)},
    }


def warm_up(networks: list[Any], config: Any) -> None:
    """Let the libraries load what they load at first use, so that no number of cameras pays for it."""
    import torch

    from reid_mtda.data.augment import build_augmentation

    size = (config.input.height, config.input.width)
    pictures = build_augmentation(config.distil.augmentation, size)(torch.rand(32, 3, *size))
    for network in networks:
        network(pictures).embedding.sum().backward()
        network.zero_grad(set_to_none=True)


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Repeated measurements of one number of cameras as one row: median seconds, largest peaks."""
    names = [f"{stage}_{clock}_per_camera" for stage in STAGES for clock in ("s", "cpu_s")]
    return {key: float(np.median([r[key] for r in rounds])) if key in names else max(r[key] for r in rounds)
            for key in rounds[0]}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    head = "| cameras | crops | their pictures, MB | teachers, peak MB | student, peak MB "
    lines = [head + "| teacher, s a camera (CPU s) | student, s a camera (CPU s) |", "|---|---|---|---|---|---|---|"]
    form = (
        "| {cameras} | {crops} | {pictures_mb:.1f} | {teachers_mb:.0f} | {student_mb:.0f} "
        "| {teachers_s_per_camera:.1f} ({teachers_cpu_s_per_camera:.1f}) "
        "| {student_s_per_camera:.1f} ({student_cpu_s_per_camera:.1f}) |"
    )
    return "\n".join([*lines, *(form.format(**row) for row in rows)])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Both curves from zero upwards, so that flat looks flat."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    memory, seconds = figure.subplots(1, 2)
    cameras = [row["cameras"] for row in rows]
    for axes, unit, title in (
        (memory, "mb", "peak memory of the process, MB"),
        (seconds, "cpu_s_per_camera", "training time per camera, CPU s"),
    ):
        for name, colour in zip(STAGES, ("#1f77b4", "#d62728"), strict=True):
            axes.plot(cameras, [row[f"{name}_{unit}"] for row in rows], marker="o", color=colour, label=name)
        top = 1.25 * max(row[f"{name}_{unit}"] for name in STAGES for row in rows)
        axes.set(title=title, xlabel="cameras", xticks=cameras, ylim=(0, top))
        axes.grid(alpha=0.3)
    memory.plot(cameras, [row["before_mb"] for row in rows], ":", color="#777777", label="before training")
    memory.plot(cameras, [row["pictures_mb"] for row in rows], "--", color="#777777", label="crops at model size")
    memory.legend(loc="center right", bbox_to_anchor=(1, 0.3))
    seconds.legend(loc="upper right")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
