"""configs/adapt/site.yaml: a site learns from its own crops, beginning at weights or at a ready-made teacher."""

import json
from pathlib import Path

import pytest
from builders import same_weights, write_crops, write_site
from safetensors.torch import save_file

from reid_mtda.errors import ConfigError
from reid_mtda.export import export_student
from reid_mtda.model import load_model
from reid_mtda.models.checkpoint import load_embedder
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.presets import load_config
from reid_mtda.site import load_site
from reid_mtda.types import Preprocess
from reid_mtda.vision.preprocess import read_image
from reid_mtda.workflow.adapt import adapt_cameras

PRESET = Path(__file__).parents[2] / "configs/adapt/site.yaml"
SMALL = [
    "input={height: 32, width: 16}",
    "teacher_input={height: 64, width: 32}",
    "student.arch=resnet10_w4",
    "teacher.arch=resnet10_w4",
    "camera_proxies={steps: 4, target_identities: 4, target_pictures: 2, min_samples: 2, eps: 0.6}",
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    model = build_embedder(EmbedderSpec(arch="resnet10_w4"), seed=3)
    inner = getattr(model.backbone, "model", model.backbone)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(inner.state_dict(), path)
    return path


def learnt(adapted):
    lines = (adapted.run.folder / "student_training/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["part"] == "distil"]


def test_a_site_learns_from_weights_and_its_own_crops(tmp_path, weights):
    given = [f"student.weights={weights}", f"teacher.weights={weights}"]
    adapted = adapt_cameras(load_site(write_site(tmp_path / "town")), load_config(PRESET, [*SMALL, *given]), tmp_path)
    assert not adapted.failures and len(learnt(adapted)) == 4
    start, teacher, student = (
        load_embedder(tmp_path / f"{name}.safetensors")
        for name in ("models/student_source", "teachers/gate", "models/student")
    )
    assert not same_weights(start, student)
    assert all((own == kept).all() for own, kept in zip(teacher.parameters(), start.parameters(), strict=True))
    model = load_model(adapted.model_folder)
    assert (model.manifest.preprocess.height, model.manifest.preprocess.width) == (32, 16)


def test_a_ready_made_network_teaches_in_place_of_weights(tmp_path, weights):
    crops = [read_image(path) for path in write_crops(tmp_path / "crops", people=2, pictures=2)[0]]
    ready = tmp_path / "ready"
    export_student(
        build_embedder(EmbedderSpec(arch="resnet10_w8"), seed=5), ready, arch="resnet10_w8",
        preprocess=Preprocess(height=48, width=24), trained_on="nothing", check_crops=crops,
    )  # fmt: skip
    config = load_config(PRESET, [*SMALL, f"student.weights={weights}", f'ready_made={{"*": {ready}}}'])
    adapted = adapt_cameras(load_site(write_site(tmp_path / "town")), config, tmp_path / "run")
    assert len(learnt(adapted)) == 4 and not (tmp_path / "run/teachers").exists()


def test_without_weights_it_says_what_is_missing():
    with pytest.raises(ConfigError, match=r"teacher\.weights: missing, expected weights, since there is no source"):
        load_config(PRESET)
