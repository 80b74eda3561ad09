"""What newcomers typed: options that do not belong together, files for folders, presets of other verbs, wrong types."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import environment, reid_mtda
from colour_model import write_colour_model

import reid_mtda as rm
from reid_mtda.cli.preset_kinds import kind_of, name_preset
from reid_mtda.data.reid import load_folder
from reid_mtda.errors import ConfigError, DataError, ModelError, ReidError
from reid_mtda.model import load_model
from reid_mtda.model_folder import new_model_folder
from reid_mtda.workflow.evaluate import Scored, evaluate_model
from reid_mtda.workflow.pull import pull_models
from reid_mtda.zoo.table import load_table

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": "f.npz", "model": "m"}, "got --model with --features, which does not use it"),
        ({"features": "f.npz", "data": "msmt17", "truth": "t"}, "got --truth and --data with --features"),
        ({"features": "f.npz", "device": "cuda"}, "got --device with --features"),
        ({"crops": "c", "model": "m", "data": "msmt17"}, "got --data with --crops"),
        ({"root": "r", "model": "m", "truth": "t"}, "got --truth with --root"),
    ],
)
def test_options_that_would_be_left_unused_are_refused(given: dict[str, str], message: str) -> None:
    device = given.get("device", "cpu")
    paths = {name: text if name == "data" else Path(text) for name, text in given.items() if name != "device"}
    with pytest.raises(ConfigError, match=message):
        evaluate_model(Scored(**paths), device=device)  # type: ignore[arg-type]


def test_times_that_are_the_wrong_way_round_are_told_as_typed(tmp_path: Path) -> None:
    write_colour_model(tmp_path / "model")
    with rm.Gallery.open(tmp_path / "gallery", load_model(tmp_path / "model")):
        pass
    times = ("--since", "2026-03-02T00:00:00Z", "--until", "2026-03-01T00:00:00Z")
    done = reid_mtda("search", "x.jpg", "--model", tmp_path / "model", "--gallery", tmp_path / "gallery", *times)
    assert "--since 2026-03-02T00:00:00Z lies after --until 2026-03-01T00:00:00Z; swap them" in done.stderr


def test_a_file_where_a_folder_was_expected_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for call, kind in (
        (lambda: load_model(tmp_path / "file"), ModelError),
        (lambda: load_folder(tmp_path / "file"), DataError),
        (lambda: pull_models(["yolox-nano"], folder=tmp_path / "models", source=tmp_path / "file"), ConfigError),
    ):
        with pytest.raises(kind, match=r"file: is a file[,;] expected"):
            call()


@pytest.mark.parametrize(
    ("verb", "preset", "told"),
    [
        ("adapt", "configs/live/street.yaml", "is a preset of 'reid-mtda serve'; for 'reid-mtda adapt' name one such"),
        ("adapt", "configs/benchmark/digits.yaml", "is a preset of 'reid-mtda benchmark'"),
        ("serve", "configs/adapt/demo.yaml", "is a preset of 'reid-mtda adapt'; .* those in configs/live"),
        ("benchmark", "configs/live/street.yaml", "is a preset of 'reid-mtda serve'"),
        ("adapt", "cameras/street/gate.yaml", "is a camera's file, which belongs in a site's folder"),
    ],
)
def test_a_preset_of_another_verb_is_named(tmp_path: Path, verb: str, preset: str, told: str) -> None:
    arguments = {
        "adapt": ("--out", tmp_path / "run"),
        "benchmark": ("--out", tmp_path / "run"),
        "serve": (ROOT / "cameras/street", "--model", tmp_path, "--gallery", tmp_path / "g"),
    }[verb]
    given = [ROOT / preset] if verb == "benchmark" else ["--config", ROOT / preset]
    done = reid_mtda(verb, *given, *arguments)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    import re

    assert re.search(told, done.stderr), done.stderr


def test_a_key_that_is_mistyped_is_still_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("seed: 1\ndistil: {steps: 5}\nstudnet: {}\n")
    message = f"{tmp_path / 'p.yaml'}: unknown key 'studnet'; did you mean 'student'?"
    assert kind_of(tmp_path / "p.yaml") == "adapt"
    assert name_preset(message, ["adapt", "--config", str(tmp_path / "p.yaml")]) == message
    assert name_preset(message, ["serve", "site"]) == message, "a file that nobody named"


def test_refusals_in_python_speak_of_parameters(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for call in (
        lambda: rm.adapt(tmp_path / "a", out=tmp_path / "run", source="lab", device="tpu"),
        lambda: rm.evaluate(None, "nobody", root=tmp_path),  # type: ignore[arg-type]
        lambda: rm.adapt(tmp_path / "a", out=tmp_path / "run", source="lab", settings={"sed": 1}),
    ):
        with pytest.raises(ReidError) as caught:
            call()
        assert "--" not in str(caught.value), str(caught.value)


@pytest.mark.parametrize("where", [{}, {"cameras": ["gate"]}, None, "gate"])
def test_a_filter_that_is_none_is_told(tmp_path: Path, where: object) -> None:
    write_colour_model(tmp_path / "model")
    with rm.Gallery.open(tmp_path / "gallery", load_model(tmp_path / "model")) as gallery:
        for call in (gallery.sightings, gallery.count, gallery.numbers):
            with pytest.raises(ReidError, match=r"where: got \w+, expected a Filter, e\.g\. Filter\(cameras="):
                call(where)
        with pytest.raises(ReidError, match="expected a Filter"):
            gallery.search(np.eye(1, gallery.dim, dtype=np.float32)[0], where=where)  # type: ignore[arg-type]


def test_of_several_networks_those_that_can_be_had_are_fetched(tmp_path: Path) -> None:
    names = [name for name, entry in load_table().items() if list(entry.files) == ["model.onnx"]][:1]
    assert names, "no network of one file in the table"
    told = list[str]()
    (tmp_path / "from").mkdir()
    with pytest.raises(ModelError) as caught:
        pull_models(
            [*names, "retail-0287"], folder=tmp_path / "models", source=tmp_path / "from",
            told=lambda name, is_new: told.append(name),
        )  # fmt: skip
    assert str(caught.value).count("holds no") == 2, "each that is missing is named, not the first alone"
    assert told == [] and [path for path in (tmp_path / "models").iterdir() if path.suffix == ".part"] == []


KILLED = """
import sys, time
from pathlib import Path
from reid_mtda.model_folder import new_model_folder
with new_model_folder(Path(sys.argv[1])) as part:
    (part / "model.onnx").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


def parts_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))


def test_what_a_kill_left_of_a_fetch_goes_with_the_next_and_what_is_at_work_stays(tmp_path: Path) -> None:
    def begun(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / name)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        return child

    killed, working, other = begun("net"), begun("net"), begun("net-2")
    try:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(10)
        assert len(parts_in(tmp_path)) == 3
        with contextlib.suppress(RuntimeError), new_model_folder(tmp_path / "net"):
            assert len(parts_in(tmp_path)) == 3, "the dead one's went, ours came"
            raise RuntimeError
        assert len(parts_in(tmp_path)) == 2
    finally:
        for child in (killed, working, other):
            child.kill()
            child.wait(10)
            if child.stdout is not None:
                child.stdout.close()


def wrong_types(folder: Path, gallery: rm.Gallery, model: rm.Model) -> dict[str, Callable[[], object]]:
    """Calls with something that is none of what is expected."""
    row = np.eye(1, gallery.dim, dtype=np.float32)[0]
    wrong: Any = object()
    return {
        "a gallery of nothing": lambda: rm.Gallery.open(None, model),  # type: ignore[arg-type]
        "a gallery of a number": lambda: rm.Gallery.open(3, model),  # type: ignore[arg-type]
        "a gallery in memory of nothing": lambda: rm.Gallery.in_memory(None),  # type: ignore[arg-type]
        "no numbers": lambda: gallery.delete(None),  # type: ignore[arg-type]
        "letters for numbers": lambda: gallery.delete("ab"),  # type: ignore[arg-type]
        "letters looked up": lambda: gallery.lookup(["a"]),  # type: ignore[list-item]
        "a count of letters": lambda: gallery.search(row, k="3"),  # type: ignore[arg-type]
        "a filter of a number": lambda: rm.Filter(cameras=3),  # type: ignore[arg-type]
        "a filter of numbers": lambda: rm.Filter(cameras=[1]),  # type: ignore[list-item]
        "a time of letters": lambda: rm.Filter(start_s="2026"),  # type: ignore[arg-type]
        "a date": lambda: rm.Filter(start_s=datetime.now()),  # type: ignore[arg-type]
        "crops of nothing": lambda: rm.load_crops(None),  # type: ignore[arg-type]
        "a set of no name": lambda: rm.evaluate(model, None, root=folder),  # type: ignore[arg-type]
        "a set nowhere": lambda: rm.evaluate(model, root=None),  # type: ignore[arg-type]
        "a model's name for a model": lambda: rm.evaluate("m", root=folder),  # type: ignore[arg-type]
        "a list of targets": lambda: rm.adapt([], out=folder / "o", teacher=model),  # type: ignore[arg-type]
        "nowhere to write": lambda: rm.adapt(folder, out=None, teacher=model),  # type: ignore[arg-type]
        "a list of settings": lambda: rm.adapt(folder, out=folder / "o", teacher=model, settings=wrong),
        "no detector": lambda: rm.load_detector(None),  # type: ignore[arg-type]
        "a score of letters": lambda: rm.load_detector("motion", min_score="x"),  # type: ignore[arg-type]
        "no crops": lambda: model.embed(None),  # type: ignore[arg-type]
        "a number for crops": lambda: model.embed(3),  # type: ignore[arg-type]
        "a name too long": lambda: rm.load_model("a" * 5000),
        "a name with a zero in it": lambda: rm.load_model("a\0b"),
    }


def test_wrong_types_are_refused_in_words(tmp_path: Path) -> None:
    write_colour_model(tmp_path / "model")
    model, raw = load_model(tmp_path / "model"), list[str]()
    with rm.Gallery.open(tmp_path / "gallery", model) as gallery:
        for name, call in wrong_types(tmp_path, gallery, model).items():
            try:
                call()
                raw.append(f"{name}: passed")
            except ReidError as error:
                assert "got" in str(error) or "no such" in str(error), f"{name}: {error}"
            except Exception as error:
                raw.append(f"{name}: {type(error).__name__}: {error}")
        assert gallery.delete([2**70, -1, 0]) == () and gallery.lookup([2**70]) == {}
    assert not raw, raw
    assert rm.Filter(cameras=iter(["gate"])).cameras == ("gate",)  # type: ignore[arg-type]
