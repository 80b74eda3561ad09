"""Small sets, sites and jobs for tests: people are coloured coats, cameras tint them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reid_mtda.types import LabelledSet, Preprocess, UnlabelledSet

PREPROCESS = Preprocess(height=32, width=16)
ROOT = Path(__file__).resolve().parents[1]
TINY_CONFIG = {
    "seed": 0,
    "input": {"height": 32, "width": 16},
    "source": {"name": "lab", "identities": 6},
    "test": {"name": "street", "people": 4},
    "teacher": {"arch": "resnet10_w8"},
    "student": {"arch": "resnet10_w4"},
    "teacher_source": {"steps": 4, "identities_per_batch": 4, "checkpoint_seconds": 0},
    "student_source": {"steps": 30, "identities_per_batch": 4, "checkpoint_seconds": 0},
    "adapt": {"method": "dmmd", "settings": {"steps": 4, "identities_per_batch": 4, "checkpoint_seconds": 0}},
    "distil": {
        "steps": 4,
        "source_identities": 3,
        "target_identities": 4,
        "target_pictures": 4,
        "checkpoint_seconds": 0,
    },
}


def write_crops(folder: Path, *, people: int, pictures: int, tint=(1.0, 1.0, 1.0), seed: int = 0, name="{pid}_{n}.png"):
    """Write ``people`` x ``pictures`` crops of 40x20 px; returns their paths and pids, person by person."""
    folder.mkdir(parents=True, exist_ok=True)
    coats = np.random.default_rng(7).integers(30, 226, (people, 2, 3))
    rng = np.random.default_rng(seed)
    paths, pids = [], []
    for pid in range(people):
        for n in range(pictures):
            crop = np.full((40, 20, 3), 120.0)
            crop[6:22, 4:16], crop[22:38, 5:15] = coats[pid]
            crop = np.clip(crop * tint + rng.normal(0, 8, crop.shape), 0, 255).astype(np.uint8)
            paths.append(folder / name.format(pid=pid, n=n))
            cv2.imwrite(str(paths[-1]), crop[..., ::-1])
            pids.append(pid)
    return tuple(paths), np.array(pids, np.int64)


def source_set(folder: Path, people: int = 6, pictures: int = 4) -> LabelledSet:
    """A labelled source of coats."""
    paths, pids = write_crops(folder / "source", people=people, pictures=pictures, seed=1)
    return LabelledSet(paths, pids, people, "coats")


def target_set(folder: Path, camera: str, tint=(0.7, 0.9, 1.1), people: int = 5, pictures: int = 4) -> UnlabelledSet:
    """One camera's crops, a tracklet per person."""
    seed = sum(camera.encode())
    paths, pids = write_crops(folder / camera, people=people, pictures=pictures, tint=tint, seed=seed)
    return UnlabelledSet(paths, camera, pids + 3)


def same_weights(a, b) -> bool:
    """Whether two networks agree in every weight and buffer, to the last bit."""
    import torch

    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def write_site(folder: Path, cameras=("gate", "plaza"), *, duration=20, part="train", **more) -> Path:
    """A site of the drawn street, small; ``more`` adds cameras by name and their file's text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in cameras:
        url = f"synthetic://street?camera={name}&seed=7&part={part}&duration={duration}"
        (folder / f"{name}.yaml").write_text(f"url: {url}\nfps: 5\n", encoding="utf-8")
    for name, text in more.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def write_config(path: Path, **changes) -> Path:
    """A preset with tiny nets and four steps a loop (YAML holds JSON)."""
    path.write_text(json.dumps({**TINY_CONFIG, **changes}), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Street:
    """An adapted street on disk."""

    site: Path
    config: Path
    out: Path
    adapted: object


def adapt_street(folder: Path) -> Street:
    """Adapt a student to a small drawn street, the whole offline job in seconds."""
    from reid_mtda.presets import load_config
    from reid_mtda.site import load_site
    from reid_mtda.workflow.adapt import adapt_cameras

    site, config = write_site(folder / "town"), write_config(folder / "tiny.yaml")
    adapted = adapt_cameras(load_site(site), load_config(config), folder / "run")
    return Street(site, config, folder / "run", adapted)


def is_required(part: str) -> bool:
    """Whether tests that need ``part`` may not be skipped; ``REID_MTDA_REQUIRE="chromium rtsp"`` names two parts."""
    return part in os.environ.get("REID_MTDA_REQUIRE", "").split()


def environment() -> dict[str, str]:
    """The environment of a child process: one thread, no terminal tricks."""
    env = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return {**env, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


COMMAND = (sys.executable, "-c", "from reid_mtda.cli import main; main()")


def reid_mtda(*args: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``reid-mtda`` in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=timeout, env=environment(), check=False
    )


def without_student(street: Street, folder: Path) -> Path:
    """A copy of the street's run folder in which one teacher, the student and its export are still to be made."""
    shutil.copytree(street.out, folder)
    (folder / "teachers/plaza.safetensors").unlink()
    (folder / "models/student.safetensors").unlink()
    shutil.rmtree(folder / "student")
    for name in ("teachers_plaza", "student_training"):
        shutil.rmtree(folder / name)
    return folder
