"""``import reid_mtda as rm``: it loads nothing, and the README's script works as it is written."""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import ROOT
from colour_model import write_colour_model

import reid_mtda as rm
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.model import Model
from reid_mtda.types import ModelManifest, Preprocess

EXAMPLE = ROOT / "tools" / "examples" / "front_door.py"


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def person(pid: int, camera: int, shot: int) -> np.ndarray:
    cells = np.random.default_rng(pid).integers(40, 215, (6, 2, 3))
    noise = np.random.default_rng((pid, camera, shot)).integers(-12, 12, (48, 24, 3))
    return np.clip(cells.repeat(8, 0).repeat(12, 1) * (1 - 0.05 * camera) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What ``make demo`` leaves, as far as the script needs it: a model, crops of two cameras, test pictures."""
    demo = tmp_path / "runs" / "demo"
    write_colour_model(demo / "student")
    for number, camera in enumerate(("gate", "plaza"), start=1):
        (demo / "crops" / camera).mkdir(parents=True)
        for pid in range(6):
            for shot in range(2):
                path = demo / "crops" / camera / f"{pid:06d}_{shot:06d}.jpg"
                cv2.imwrite(str(path), person(pid, number, shot))
    for part in ("query", "bounding_box_test"):
        (demo / "test" / part).mkdir(parents=True)
        for pid in range(1, 7):
            for camera in (1, 2):
                cv2.imwrite(str(demo / "test" / part / f"{pid:04d}_c{camera}s1_000001_00.jpg"), person(pid, camera, 9))
    cv2.imwrite(str(tmp_path / "person.jpg"), person(3, 1, 5))
    return tmp_path


def test_importing_loads_nothing_and_torch_comes_with_adapt_alone(folder: Path) -> None:
    heavy = "('torch', 'cv2', 'faiss', 'numpy', 'scipy', 'onnxruntime', 'matplotlib')"
    assert run(f"import sys, reid_mtda; print([m for m in {heavy} if m in sys.modules])", folder).strip() == "[]"
    script = EXAMPLE.read_text(encoding="utf-8").partition("targets =")[0]
    assert run(f"{script}\nimport sys; print('torch' in sys.modules)", folder).splitlines()[-1] == "False"


def test_the_example_is_the_readmes_and_works_as_written(folder: Path) -> None:
    script = EXAMPLE.read_text(encoding="utf-8")
    (block,) = re.findall(
        r"^```python\n(.*?import reid_mtda as rm.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S
    )
    lines = [line for line in script.splitlines()[1:] if line]
    assert lines == [line for line in block.splitlines() if line] and len(lines) <= 15
    assert script.count('out="runs/mine")') == 1
    quick = ', settings={"input": {"height": 48, "width": 24}, "distil": {"steps": 2}})'
    out = run(f"{script.rstrip()[:-1]}{quick}\nprint(student.model_id)", folder)
    *hits, score, model_id = out.splitlines()
    assert len(hits) == 5 and hits[0].split()[1] == "gate" and float(hits[0].split()[0]) > 0.9
    assert float(score) == 1 and re.fullmatch("[0-9a-f]{16}", model_id)
    assert (folder / "runs" / "mine" / "student" / "model.onnx").is_file()


def test_what_is_offered_is_there_and_nothing_else() -> None:
    assert set(rm.__all__) <= set(dir(rm)) and all(callable(getattr(rm, name)) for name in rm.__all__)
    with pytest.raises(AttributeError, match="module 'reid_mtda' has no attribute 'nothing'"):
        _ = rm.nothing
    # A module that was imported would take the place of a name that it shares.
    assert not {module.name for module in pkgutil.iter_modules(rm.__path__)} & set(rm.__all__)
    assert inspect.isfunction(rm.evaluate) and inspect.isfunction(rm.adapt)


def test_adapt_says_what_is_missing(tmp_path: Path, folder: Path) -> None:
    crops = rm.load_crops(folder / "runs" / "demo" / "crops")
    assert {name: len(own) for name, own in crops.items()} == {"gate": 12, "plaza": 12}
    card = ModelManifest("a1b2c3d4e5f6", "mine", 3, Preprocess(), "nothing")
    loose = Model(card, lambda crops: np.ones((len(crops), 3), np.float32))
    for given, message in (
        ({}, "got neither source nor teacher"),
        ({"teacher": loose}, "teacher a1b2c3d4e5f6 lies in no folder; export it"),
        ({"source": "lab", "device": "warp"}, "got 'warp', which this machine"),
        ({"source": "lab", "settings": {"distill": {}}}, "unknown key 'distill'; did you mean 'distil'"),
    ):
        with pytest.raises(ConfigError, match=message):
            rm.adapt(crops, out=tmp_path / "out", **given)
    with pytest.raises(DataError, match="no such folder"):
        rm.adapt("nowhere", source="lab", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
