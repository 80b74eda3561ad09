import os
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_mtda.data.batches import Pictures
from reid_mtda.data.classification import load_office31
from reid_mtda.errors import ModelError
from reid_mtda.models.classifier import (
    ClassifierSpec,
    build_classifier,
    load_classifier,
    load_imagenet_weights,
    save_classifier,
)
from reid_mtda.models.cost import count_macs
from reid_mtda.types import Preprocess

DATA = Path(os.environ.get("REID_MTDA_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
FILES = {
    "squeezenet1_1": "squeezenet1_1_imagenet_ncnn_fp16.npz",
    "shufflenetv2_x0_5": "shufflenetv2_imagenet_backbone_state.npz",
}


def test_lenet_is_the_papers():
    model = build_classifier(ClassifierSpec(), seed=0)
    output = model.eval()(torch.zeros(2, 3, 28, 28))
    assert output.feature.shape == (2, 800) and output.logits.shape == (2, 10)
    assert [(m.in_features, m.out_features) for m in model.head if isinstance(m, torch.nn.Linear)] == [
        (800, 100),
        (100, 100),
        (100, 10),
    ]
    # 5x5 kernels: 24x24 maps of 64 channels from 3, then 8x8 maps of 50 from 64, then the head
    assert count_macs(model, (28, 28)) == 24 * 24 * 64 * 75 + 8 * 8 * 50 * 64 * 25 + 800 * 100 + 100 * 100 + 100 * 10


def test_the_heads_batchnorm_of_imagenet_networks_can_be_left_out():
    with_, without = (
        build_classifier(ClassifierSpec(arch="squeezenet1_1", num_classes=3, head_batchnorm=wanted), seed=0).head
        for wanted in (True, False)
    )
    assert [type(part).__name__ for part in with_] == ["BatchNorm1d", "Linear"]
    assert [type(part).__name__ for part in without] == ["Identity", "Linear"]


def test_half_the_width_is_a_quarter_of_the_weights():
    full, half = (
        sum(weight.numel() for weight in build_classifier(ClassifierSpec(width=w), seed=0).parameters())
        for w in (1.0, 0.5)
    )
    assert half / full == pytest.approx(0.25, abs=0.015)


def test_train_and_eval_give_the_same_type_and_one_seed_the_same_weights():
    first, second = (build_classifier(ClassifierSpec(width=0.1), seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    pictures = torch.randn(4, 3, 28, 28)
    assert type(first.train()(pictures)) is type(first.eval()(pictures))


def test_a_saved_classifier_is_the_same_network(tmp_path):
    model = build_classifier(ClassifierSpec(width=0.1, num_classes=4), seed=0).eval()
    save_classifier(tmp_path / "m.safetensors", model, note="x")
    pictures = torch.randn(3, 3, 28, 28)
    again = load_classifier(tmp_path / "m.safetensors")
    assert torch.equal(again(pictures).logits, model(pictures).logits)


def test_foreign_or_missing_weights_are_refused(tmp_path):
    model = build_classifier(ClassifierSpec(arch="shufflenetv2_x0_5"), seed=0)
    with pytest.raises(ModelError, match=r"no such weights file; check the path"):
        load_imagenet_weights(model, tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3, np.float32))
    with pytest.raises(ModelError, match=r"does not fit shufflenetv2_x0_5 .*choose its own weights"):
        load_imagenet_weights(model, tmp_path / "other.npz")
    with pytest.raises(ModelError, match=r"lenet has no ImageNet weights"):
        load_imagenet_weights(build_classifier(ClassifierSpec(), seed=0), tmp_path / "other.npz")


def test_resnets_take_weights_in_torchvisions_names(tmp_path):
    first, second = (build_classifier(ClassifierSpec(arch="resnet18", num_classes=4), seed=s) for s in (0, 1))
    np.savez(tmp_path / "r.npz", **{n: v.numpy() for n, v in first.backbone.state_dict().items()})
    load_imagenet_weights(second, tmp_path / "r.npz")
    assert torch.equal(second.backbone.layer4[1].conv2.weight, first.backbone.layer4[1].conv2.weight)
    assert second.feature_dim == 512


@pytest.mark.data
@pytest.mark.parametrize("arch", FILES)
def test_imagenet_weights_make_sense(arch):
    """Nearest class mean, webcam to dslr, tells real features from noise: random weights stay below 15 %."""
    if not DATA.is_dir():
        pytest.skip(f"no development data at {DATA}")
    domains = load_office31(DATA / "office31", size=96)
    model = build_classifier(ClassifierSpec(arch=arch, num_classes=31), seed=0).eval()
    load_imagenet_weights(model, DATA / "weights" / FILES[arch])
    features, labels = {}, {}
    with torch.no_grad():
        for name in ("webcam", "dslr"):
            pictures = Pictures(domains[name].source.pictures, Preprocess(96, 96))
            rows = np.arange(0, len(pictures), 2)
            found = model(pictures.normalised(pictures.unit(rows))).feature
            features[name] = torch.nn.functional.normalize(found - found.mean(0), dim=1)
            labels[name] = torch.from_numpy(domains[name].source.labels[rows])
    means = torch.stack([features["webcam"][labels["webcam"] == c].mean(0) for c in range(31)])
    right = (features["dslr"] @ means.T).argmax(1) == labels["dslr"]
    assert float(right.float().mean()) > 0.5
