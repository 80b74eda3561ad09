"""What may import what; live code starts without torch; importing does nothing."""

import ast
import json
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from builders import ROOT, environment

import reid_mtda

LIVE = (
    "gallery.search", "live.ingest", "live.system", "gallery.gallery", "model", "networks", "service.app", "data.reid",
    "data.footage", "workflow.footage", "evaluation.evaluate", "vision.video", "synthetic.street", "site", "cli",
    "cli.models", "workflow.doctor", "workflow.pull", "workflow.site_init", "zoo.folder",
)  # fmt: skip
HEAVY = ("torch", "torchvision", "torchreid", "kornia", "reid_mtda.train", "reid_mtda.models", "reid_mtda.losses")


def in_a_fresh_process(code, *args):
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=environment(), timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_contracts_hold():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "0 broken" in done.stdout and "train" in done.stdout


PLANTED = {
    "layers": ("schema.py", "import reid_mtda.evaluation.average_precision"),
    "training is blind to scores, configuration and sites": (
        "losses/mmd.py",
        "import reid_mtda.evaluation.average_precision",
    ),
    "live code runs without torch": ("vision/preprocess.py", "import torch"),
    "HTTP only in service": ("evaluation/average_precision.py", "import fastapi"),
    "methods are strangers": ("train/dmmd.py", "import reid_mtda.train.distil"),
}
"""A violation of each contract by name: (file, line put at its end)."""


def test_each_import_contract_finds_a_violation_planted_for_it(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__", "pages")
    shutil.copytree(ROOT / "reid_mtda", tmp_path / "reid_mtda", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    assert {contract["name"] for contract in settings["contracts"]} == set(PLANTED)
    lint = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    for name, (file, line) in PLANTED.items():
        place = tmp_path / "reid_mtda" / file
        sound = place.read_text(encoding="utf-8")
        place.write_text(f"{sound}\n{line}\n", encoding="utf-8")
        here = {**environment(), "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(lint, capture_output=True, text=True, cwd=tmp_path, env=here, timeout=120, check=False)
        place.write_text(sound, encoding="utf-8")
        assert done.returncode == 1 and f"{name} BROKEN" in done.stdout, done.stdout[-2000:]


def test_live_code_loads_no_torch():
    code = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        "for name in sys.argv[2:]:\n"
        "    importlib.import_module('reid_mtda.' + name)\n"
        "    loaded[name] = [heavy for heavy in sys.argv[1].split() if heavy in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    assert in_a_fresh_process(code, " ".join(HEAVY), *LIVE) == {name: [] for name in LIVE}


def test_the_check_for_torch_sees_it():
    """The mutant: training does load torch."""
    code = "import json, sys, reid_mtda.train; print(json.dumps('torch' in sys.modules))"
    assert in_a_fresh_process(code) is True


IMPORT_ALL = """
import builtins, importlib, json, socket, sys, threading
import numpy, torch

def refuse(*_, **__):
    raise AssertionError("network at import")

socket.socket.connect = refuse
socket.create_connection = refuse
seeds = (torch.random.get_rng_state().tolist(), numpy.random.get_state()[1].tolist())
opened = []
plain = builtins.open
def watched(file, mode="r", *rest, **more):
    if set(mode) & set("wax+"):
        opened.append(str(file))
    return plain(file, mode, *rest, **more)
builtins.open = watched
threads = threading.active_count()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = (torch.random.get_rng_state().tolist(), numpy.random.get_state()[1].tolist())
print(json.dumps({
    "seeds": [a == b for a, b in zip(seeds, after)], "opened": opened, "threads": threading.active_count() - threads,
}))
"""


def modules():
    found = pkgutil.walk_packages(reid_mtda.__path__, "reid_mtda.")
    return sorted(module.name for module in found if not module.name.endswith("__main__"))


def test_importing_every_module_does_nothing():
    """No global generator is used, no network, no file is written, no thread is started."""
    found = in_a_fresh_process(IMPORT_ALL, *modules())
    assert found == {"seeds": [True, True], "opened": [], "threads": 0}


def test_modules_read_no_environment_and_hold_no_utilities():
    names = {name.rsplit(".", 1)[-1] for name in modules()}
    assert not names & {"utils", "util", "helpers", "helper", "core", "engine", "trainer", "registry", "manager"}


@pytest.mark.parametrize("tool", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_tools_compile(tool):
    compile(Path(tool).read_text(encoding="utf-8"), str(tool), "exec")


MOST_LINES = 320


def test_no_file_holds_a_second_noun() -> None:
    """A file that grows over the bound is split by noun; there is no list of exceptions."""
    long = {
        path.relative_to(ROOT).as_posix(): count
        for path in sorted((ROOT / "reid_mtda").rglob("*.py"))
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


ROUTES = {"get", "post", "put", "delete", "patch"}
"""Decorators of functions whose parameters FastAPI reads and documents."""


def public_functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    """(path:name, node, parameters) of the package's public functions and methods, without verbs and routes.

    Options of the command line carry their own help, and the API's are described in its schema.
    """
    found = []

    def walk(node: ast.Module | ast.ClassDef, path: str, inside: str) -> None:
        for child in node.body:
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                walk(child, path, f"{inside}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                calls = [
                    d.func.attr for d in child.decorator_list if isinstance(d, ast.Call) and hasattr(d.func, "attr")
                ]
                if child.name.startswith("_") or ROUTES & set(calls):
                    continue
                given = child.args.posonlyargs + child.args.args + child.args.kwonlyargs
                own = [one for one in given if one.arg not in ("self", "cls")]
                found.append((f"{path}:{inside}{child.name}", child, len(own)))

    for file in sorted((ROOT / "reid_mtda").rglob("*.py")):
        path = file.relative_to(ROOT / "reid_mtda").as_posix()
        if not path.startswith("cli/"):
            walk(ast.parse(file.read_text(encoding="utf-8")), path, "")
    return found


def test_public_functions_of_three_parameters_or_more_say_what_each_is() -> None:
    """The linter (D417) then sees to it that none of them is left out. ``forward`` is documented where it is called."""
    silent = [
        name
        for name, node, count in public_functions()
        if count >= 3 and node.name != "forward" and "Args:" not in (ast.get_docstring(node) or "")
    ]
    assert silent == []


MOST_PARAMETERS = 7
LONGER = {
    "bench/baselines.py:train_variant": 8,
    "bench/closed/runner.py:run_trial": 8,
    "bench/experiment.py:run_seeds": 9,
    "bench/objectives.py:run_objectives": 8,
    "gallery/search.py:search_picture": 8,
    "live/model_gate.py:compare_models": 9,
    "losses/distillation/ratio.py:virtual_step_loss": 8,
    "losses/proxies.py:cross_camera_loss": 8,
    "service/client.py:Client.search_picture": 10,
    "train/alignment.py:align_classifier": 8,
    "train/distil.py:distil": 10,
    "train/distil_losses.py:teacher_parts": 9,
    "train/distil_objectives.py:ObjectiveCalls.of": 9,
    "train/offline_kd.py:distil_offline": 10,
    "train/progressive.py:distil_progressively": 9,
    "workflow/footage.py:search_gallery": 10,
    "workflow/front_door.py:adapt": 9,
    "workflow/training.py:distil_student": 8,
}
"""Functions over the bound as they stand: none may grow, and none may join them."""


def test_public_functions_have_few_parameters() -> None:
    over = {name: count for name, _, count in public_functions() if count > MOST_PARAMETERS}
    assert over == LONGER  # what became shorter leaves the list
