"""The linear merge: means of weights and of BatchNorm buffers."""

import torch
from builders import same_weights

from reid_mtda.models.classifier import ClassifierSpec, build_classifier
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.models.merge import merge_networks, twin_network


def test_a_merge_is_the_mean_of_weights_and_buffers():
    spec = EmbedderSpec(arch="resnet10_w4", num_classes=5)
    models = [build_embedder(spec, seed=seed) for seed in range(3)]
    for model in models[1:]:
        model.train()(torch.randn(4, 3, 64, 32))
    merged = merge_networks(models)
    states = [model.state_dict() for model in models]
    for name, value in merged.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, sum(state[name] for state in states) / 3)
        else:
            assert torch.equal(value, states[0][name])
    assert not merged.training and states[1]["neck.running_mean"].any()


def test_a_merge_of_one_is_itself():
    model = build_embedder(EmbedderSpec(arch="resnet10_w4"), seed=3).eval()
    assert same_weights(merge_networks([model]), model)


def test_merging_averages_weights_and_buffers():
    a, b = (build_classifier(ClassifierSpec(width=0.1), seed=s).train() for s in (0, 1))
    b(torch.randn(8, 3, 28, 28) + 2)
    result = merge_networks([a, b])
    for name, value in result.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (a.state_dict()[name] + b.state_dict()[name]) / 2)
    assert not torch.equal(result.state_dict()["backbone.1.running_mean"], a.state_dict()["backbone.1.running_mean"])


def test_a_twin_is_between_the_merge_and_the_cameras_own_network():
    spec = EmbedderSpec(arch="resnet10_w4", num_classes=5)
    models = [build_embedder(spec, seed=seed) for seed in range(2)]
    for model in models:
        model.train()(torch.randn(4, 3, 64, 32))
    merged, own = merge_networks(models), models[1]
    assert same_weights(twin_network(merged, own, keep=1.0), own)
    none = twin_network(merged, own, keep=0.0)
    assert all(torch.equal(weight, merged.state_dict()[name]) for name, weight in none.named_parameters())
    buffers = dict(own.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in none.named_buffers()), "mutant: the merge's"
    some, base = twin_network(merged, own, keep=0.25), merged.state_dict()
    weight, theirs = some.classifier.weight, own.classifier.weight
    moved = weight != base["classifier.weight"]
    apart = (theirs - base["classifier.weight"]).abs()
    assert int(moved.sum()) == round(0.25 * weight.numel()) and apart[moved].min() >= apart[~moved].max()
    torch.testing.assert_close(weight[moved], theirs[moved])
