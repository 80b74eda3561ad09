"""The exported model is the torch model, or there is none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid_mtda.errors import ModelError
from reid_mtda.export import export_student
from reid_mtda.model import load_model
from reid_mtda.model_folder import read_manifest
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.types import ImageArray, ModelManifest, Preprocess
from reid_mtda.vision.preprocess import to_model_input

SMALL = Preprocess(height=32, width=16)


class Tiny(nn.Module):
    """A convolution, a BatchNorm with history, dropout: what eval mode must settle."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(7), nn.Flatten()
        )
        self.drop = nn.Dropout(0.5)
        self.net(torch.randn(16, 3, 32, 16))

    def forward(self, crops: Tensor) -> SimpleNamespace:
        return SimpleNamespace(embedding=nn.functional.normalize(self.drop(self.net(crops)), dim=1))


class Shifty(Tiny):
    """Its trace differs from its run: training-like randomness that no graph can repeat."""

    def forward(self, crops: Tensor) -> SimpleNamespace:
        return SimpleNamespace(embedding=nn.functional.normalize(self.net(crops + torch.randn(1)), dim=1))


class FixedBatch(Tiny):
    """Hides the batch size of the export in a constant."""

    def forward(self, crops: Tensor) -> SimpleNamespace:
        return SimpleNamespace(
            embedding=nn.functional.normalize(self.net(crops).reshape(int(crops.shape[0]), -1), dim=1)
        )


class LastRowOfTwo(Tiny):
    """Traced with two crops it adds the second, run with more it should add the last."""

    def forward(self, crops: Tensor) -> SimpleNamespace:
        rows = self.net(crops)
        last = rows[int(crops.shape[0]) - 1][None]
        return SimpleNamespace(embedding=nn.functional.normalize(rows + 5 * last, dim=1))


class Uneven(Tiny):
    """Pools 7x3 to 4x2, which the tracing exporter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.net[3] = nn.AdaptiveAvgPool2d((4, 2))


def pictures(count: int, seed: int = 0) -> list[ImageArray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (40 + i, 20, 3)).astype(np.uint8) for i in range(count)]


def export(model: nn.Module, folder: Path, crops: list[ImageArray]) -> ModelManifest:
    return export_student(model, folder, arch="tiny", preprocess=SMALL, trained_on="noise", check_crops=crops)


def test_rows_equal_those_of_torch(tmp_path: Path) -> None:
    model = Tiny()
    manifest = export(model, tmp_path / "student", pictures(40))
    loaded = load_model(tmp_path / "student")
    assert loaded.manifest == manifest
    assert sorted(p.name for p in (tmp_path / "student").iterdir()) == ["manifest.json", "model.onnx"]
    unseen = to_model_input(pictures(9, seed=5), SMALL)
    with torch.inference_mode():
        wanted = model.eval()(torch.from_numpy(unseen)).embedding.numpy()
    rows = loaded.network(unseen)
    np.testing.assert_allclose(rows, wanted, atol=1e-5)
    assert manifest.embedding_dim == wanted.shape[1]


def test_what_the_tracer_does_not_know_exports_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    export(Uneven(), tmp_path / "student", pictures(5))
    assert [p.name for p in sorted((tmp_path / "student").iterdir())] == ["manifest.json", "model.onnx"]
    assert load_model(tmp_path / "student").embed(pictures(7)).shape == (7, 64)
    assert capsys.readouterr().out == ""
    assert not recwarn.list


def test_the_graph_itself_gives_unit_rows_for_any_batch(tmp_path: Path) -> None:
    import onnxruntime

    export(Tiny(), tmp_path / "student", pictures(2))
    session = onnxruntime.InferenceSession(str(tmp_path / "student" / "model.onnx"))
    assert [i.name for i in session.get_inputs()] == ["crops"]
    assert [o.name for o in session.get_outputs()] == ["embeddings"]
    for count in (1, 3, 8):
        (rows,) = session.run(None, {"crops": to_model_input(pictures(count), SMALL)})
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), np.ones(count), atol=1e-5)


def test_the_model_given_is_left_as_it_was(tmp_path: Path) -> None:
    model = Tiny().train()
    model.net[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, tmp_path / "student", pictures(2))
    assert model.training
    assert not model.net[1].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Shifty(), "differs from torch, got cosine|give two embeddings"),
        (LastRowOfTwo(), "differs from torch, got cosine|the model refused a crop .*batch size is fixed within"),
        (FixedBatch(), "/student/.*gives 2 rows for 1 crops, so its batch size is fixed within"),
    ],
)
def test_a_graph_that_differs_is_refused_and_gone(tmp_path: Path, model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        export(model, tmp_path / "student", pictures(6))
    assert list(tmp_path.iterdir()) == []


def test_without_crops_nothing_is_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="student: got no crops to compare the export with torch on"):
        export(Tiny(), tmp_path / "student", [])
    assert list(tmp_path.iterdir()) == []


def test_the_good_model_stays_until_a_better_is_complete(tmp_path: Path) -> None:
    first = export(Tiny(0), tmp_path / "student", pictures(2))
    with pytest.raises(ModelError, match=r"differs from torch|give two embeddings"):
        export(Shifty(), tmp_path / "student", pictures(2))
    assert load_model(tmp_path / "student").manifest == first
    second = export(Tiny(1), tmp_path / "student", pictures(2))
    assert read_manifest(tmp_path / "student") == second
    assert second.model_id != first.model_id
    assert [p.name for p in tmp_path.iterdir()] == ["student"]


def test_the_same_weights_have_the_same_id(tmp_path: Path) -> None:
    first = export(Tiny(3), tmp_path / "a", pictures(2))
    assert export(Tiny(3), tmp_path / "b", pictures(3)).model_id == first.model_id


def test_a_network_torch_cannot_run_is_named(tmp_path: Path) -> None:
    class Untraceable(Tiny):
        def forward(self, crops: Tensor) -> SimpleNamespace:
            return SimpleNamespace(embedding=torch.linalg.eigvals(self.net(crops).T @ self.net(crops)).real[None])

    with pytest.raises(ModelError, match=r"cannot export|refused|differs"):
        export(Untraceable(), tmp_path / "student", pictures(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spec", [EmbedderSpec(arch="osnet_x0_25"), EmbedderSpec(arch="osnet_x0_25", pooling="gem")])
def test_the_projects_own_embedder_exports(tmp_path: Path, spec: EmbedderSpec) -> None:
    manifest = export_student(
        build_embedder(spec.model_copy(update={"num_classes": 5}), seed=0),
        tmp_path / "student",
        arch=spec.arch,
        preprocess=Preprocess(64, 32),
        trained_on="nothing",
        check_crops=pictures(3),
    )
    assert manifest.embedding_dim == 512
    assert (tmp_path / "student" / "model.onnx").stat().st_size < 2_000_000
