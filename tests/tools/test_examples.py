"""The examples of parts of a user's own work as written; parts that do not fit are refused by name, in one line."""

import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from builders import PREPROCESS, ROOT, source_set, target_set, write_config

from reid_mtda import plugins
from reid_mtda.errors import ConfigError, ModelError, TrainingError
from reid_mtda.models import backbones
from reid_mtda.models.checkpoint import load_embedder, save_embedder
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.presets import load_config
from reid_mtda.runs import Run
from reid_mtda.train import find_method, find_objectives
from reid_mtda.train.distil import distil
from reid_mtda.train.distil_settings import DistilSettings
from reid_mtda.train.objectives.objective import Sizes
from reid_mtda.train.teacher_outputs import compute_teacher_outputs

SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=6)
METHOD, OBJECTIVE = "tools.examples.method:adapt_by_entropy", "tools.examples.objective:distance_loss"


@pytest.fixture(autouse=True)
def from_the_clone(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def offered(monkeypatch):
    """Make the examples entry points, as an installed package would."""
    entries = [
        EntryPoint("entropy", METHOD, plugins.METHODS),
        EntryPoint("distances", OBJECTIVE, plugins.OBJECTIVES),
        EntryPoint("tiny", "tools.examples.backbone:tiny_backbone", plugins.BACKBONES),
        EntryPoint("gone", "no_such_package:part", plugins.METHODS),
    ]

    def found(*, group):
        return [entry for entry in entries if entry.group == group]

    monkeypatch.setattr(plugins, "entry_points", found)
    monkeypatch.setattr(backbones, "entry_points", found)


@pytest.mark.parametrize("name", [METHOD, "entropy"])
def test_a_method_of_ones_own_adapts_a_teacher(name, tmp_path, offered):
    settings, adapt = find_method(name)
    start, target = build_embedder(SPEC, seed=0), target_set(tmp_path, "gate")
    adapted = adapt(
        start, None, target, PREPROCESS, settings(steps=12, batch_size=8, learning_rate=2e-3), Run(tmp_path, 0)
    )
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 12 and not adapted.training
    config = load_config(write_config(tmp_path / "c.yaml", adapt={"method": name, "settings": {"steps": 3}}))
    assert config.adapt.parsed().steps == 3
    with pytest.raises(ConfigError, match=r"unknown key 'settings\.stepz'|stepz"):
        load_config(tmp_path / "c.yaml", ["adapt.settings={stepz: 3}"])


@pytest.mark.parametrize("name", [OBJECTIVE, "distances"])
def test_an_objective_of_ones_own_is_part_of_distillation(name, tmp_path, offered):
    targets = {camera: target_set(tmp_path, camera) for camera in ("gate", "plaza")}
    outputs = {
        camera: compute_teacher_outputs(build_embedder(SPEC, seed=3), target, PREPROCESS)
        for camera, target in targets.items()
    }
    small = {"steps": 2, "source_identities": 3, "target_identities": 4, "target_pictures": 3}
    config = load_config(write_config(tmp_path / "c.yaml", distil={**small, "objectives": {name: 0.5}}))
    distil(
        build_embedder(SPEC, seed=2), outputs, targets, source_set(tmp_path), PREPROCESS, DistilSettings(**small),
        Run(tmp_path, 0), objectives=find_objectives(config.distil.objectives),
    )  # fmt: skip
    assert f"gate/{name}" in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")


def test_a_backbone_of_ones_own_is_stored_and_read_again(tmp_path, offered):
    model = build_embedder(EmbedderSpec(arch="tiny", num_classes=3), seed=0).eval()
    save_embedder(tmp_path / "tiny.safetensors", model)
    again, crops = load_embedder(tmp_path / "tiny.safetensors"), torch.rand(2, 3, 32, 16)
    assert model.embedding_dim == 32 and torch.equal(model(crops).embedding, again(crops).embedding)
    with pytest.raises(ModelError, match="pooling: tiny pools by itself, got 'gem'; use pooling: avg"):
        build_embedder(EmbedderSpec(arch="tiny", pooling="gem"), seed=0)


def test_a_file_of_weights_imports_nothing_by_its_arch(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match="arch: got 'evil:run', expected resnet10_wN or one of"):
        build_embedder(EmbedderSpec(arch="evil:run"), seed=0)
    assert "evil" not in sys.modules


PARTS = """
from reid_mtda.schema import Strict
class Own(Strict):
    steps: int = 1
number = 3
def without(model, source, target, preprocess, settings, run, progress): ...
def raising(model, source, target, preprocess, settings: Own, run, progress=None): raise KeyError("colour")
def dictionary(model, source, target, preprocess, settings: Own, run, progress=None): return {}
def text(*, student, teacher): return "3"
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_parts", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("entrpy", r"adapt\.method: got 'entrpy', expected one of dmmd, cluster, entropy, gone or module:function"),
        ("gone", r"adapt\.method: 'gone' cannot be loaded \(ModuleNotFoundError: No module named 'no_such_package'\)"),
        ("own_parts:missing", r"'own_parts:missing' cannot be loaded \(AttributeError: .*; mend it or name another"),
        ("own_parts:number", "'own_parts:number' is a int, expected a function; name another"),
        (
            "own_parts:without",
            "'own_parts:without' has no class of settings, expected a parameter annotated as set",
        ),
    ],
)
def test_a_method_that_does_not_fit_is_refused_before_the_work(name, message, offered, parts, tmp_path):
    with pytest.raises(ConfigError, match=message) as refusal:
        load_config(write_config(tmp_path / "c.yaml", adapt={"method": name}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_parts:raising", "^method 'own_parts:raising' raised KeyError: 'colour'; mend it or use another$"),
        ("own_parts:dictionary", "^method 'own_parts:dictionary' returned dict, expected Embedder; mend it$"),
    ],
)
def test_a_method_that_fails_is_named(name, message, parts, tmp_path):
    settings, adapt = find_method(name)
    with pytest.raises(TrainingError, match=message):
        adapt(None, None, None, None, settings(), None)


def test_an_objective_that_gives_no_tensor_is_named(parts):
    objective = find_objectives({"own_parts:text": 1.0})["own_parts:text"].build(Sizes(student=4, teacher=4))
    with pytest.raises(TrainingError, match="objective 'own_parts:text' returned str, expected Tensor; mend it"):
        objective(student=None, teacher=None, context=None)
    with pytest.raises(ConfigError, match=r"distil\.objectives: got 'kd', expected one of .*module:function"):
        find_objectives({"kd": 1.0})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: torch.nn.Identity(), "arch: 'mine' returned Identity, expected a torch module and"),
        (lambda: 1 / 0, "arch: 'mine' raised ZeroDivisionError: division by zero; mend it or name another"),
    ],
)
def test_a_backbone_that_does_not_fit_is_named(build, message, monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "mine", build)
    with pytest.raises(ModelError, match=message):
        build_embedder(EmbedderSpec(arch="mine"), seed=0)
