"""One network type: unit embeddings, the same in train and eval; weights from a seed alone."""

import pytest
import torch

from reid_mtda.errors import ConfigError
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.schema import parse


def crops(count=3):
    return torch.randn(count, 3, 32, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("neck", [True, False])
@pytest.mark.parametrize("embedding_dim", [None, 8])
@pytest.mark.parametrize("num_classes", [None, 5])
def test_rows_have_length_one_and_logits_where_asked(neck, embedding_dim, num_classes):
    spec = EmbedderSpec(arch="resnet10_w4", neck=neck, embedding_dim=embedding_dim, num_classes=num_classes)
    model = build_embedder(spec, seed=0)
    for mode in (True, False):
        output = model.train(mode)(crops())
        assert output.embedding.shape == (3, embedding_dim or 16) == (3, model.embedding_dim)
        torch.testing.assert_close(output.embedding.norm(dim=1), torch.ones(3))
        assert (output.logits is None) == (num_classes is None)
        if num_classes:
            assert output.logits.shape == (3, 5)


def test_weights_follow_from_the_seed_alone():
    spec = EmbedderSpec(arch="resnet10_w4", num_classes=3)
    state = torch.random.get_rng_state()
    a, b, c = (build_embedder(spec, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_the_neck_has_no_shift_to_learn():
    model = build_embedder(EmbedderSpec(arch="resnet10_w4", num_classes=3), seed=0)
    assert [name for name, weight in model.named_parameters() if not weight.requires_grad] == ["neck.bias"]


def test_eval_of_a_crop_does_not_depend_on_its_company():
    model = build_embedder(EmbedderSpec(arch="resnet10_w4"), seed=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(crops(4)).embedding[:1], model(crops(4)[:1]).embedding)


def test_a_spec_is_strict():
    with pytest.raises(ConfigError, match=r"unknown key 'arhc'; did you mean 'arch'"):
        parse(EmbedderSpec, {"arhc": "x"}, where="card")
