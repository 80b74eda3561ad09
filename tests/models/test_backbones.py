"""Networks by name: our small one and torchreid's zoo, with known feature sizes; unknown names are refused."""

import pytest
import torch

from reid_mtda.errors import ModelError
from reid_mtda.models.backbones import BasicBlock, GeM, build_backbone

CROPS = torch.zeros(2, 3, 64, 32)


@pytest.mark.parametrize(("arch", "dim"), [("resnet10_w4", 16), ("resnet10_w8", 32), ("osnet_x0_25", 512)])
@pytest.mark.parametrize("pooling", ["avg", "gem"])
def test_features_have_the_size_told_in_train_and_eval(arch, dim, pooling):
    net, found = build_backbone(arch, pooling=pooling)
    assert found == dim
    for mode in (True, False):
        feature = net.train(mode)(CROPS + torch.rand(2, 3, 64, 32))
        assert feature.shape == (2, dim) and bool(torch.isfinite(feature).all())


@pytest.mark.parametrize("width", [4, 7, 8])
def test_a_narrow_net_leaves_out_rows_before_its_strided_shortcut(width):
    """oneDNN corrupts memory in the strided one's backward pass below eight channels; the result is the same."""
    net, _ = build_backbone(f"resnet10_w{width}")
    maps = torch.randn(2, width, 8, 6)
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1)]
    assert all(m.stride == (1, 1) or m.in_channels >= 8 for m in convolutions)
    block = next(b for b in net.modules() if isinstance(b, BasicBlock) and b.conv1.stride == (2, 2)).eval()
    inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(maps)))))
    direct = torch.nn.functional.conv2d(maps, block.shortcut[0].weight, stride=2)
    assert torch.allclose(block(maps), torch.relu(inner + block.shortcut[1](direct)), atol=1e-6)


@pytest.mark.parametrize("arch", ["osnet_ain_x0_25", "resnet18", "mobilenetv2_x1_0", "shufflenet", "mlfn"])
def test_other_zoo_names_resolve(arch):
    net, dim = build_backbone(arch)
    assert net.eval()(torch.zeros(1, 3, 256, 128)).shape == (1, dim)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("osnet_x9", r"arch: got 'osnet_x9', expected resnet10_wN or one of torchreid's: .*osnet_x0_25"),
        ("resnet10_w2", r"expected a width of 4\.\.256 after resnet10_w"),
        ("resnet10_w999", r"expected a width of 4\.\.256"),
        ("resnet10_w48x", r"arch: got 'resnet10_w48x'"),
        ("", r"arch: got ''"),
        ("hacnn", r"hacnn runs on CUDA alone"),
        ("pcb_p4", r"pcb_p4 has no single feature; choose another"),
        ("resnet50mid", r"resnet50mid has no single feature; choose another"),
    ],
)
def test_unknown_names_are_refused(arch, message):
    with pytest.raises(ModelError, match=message):
        build_backbone(arch)


def test_unknown_pooling_is_refused():
    with pytest.raises(ModelError, match=r"pooling: got 'max', expected 'avg' or 'gem'"):
        build_backbone("resnet10_w4", pooling="max")


def test_generalised_mean_is_the_average_at_one_and_near_the_maximum_when_large():
    maps = torch.rand(3, 4, 5, 6)
    torch.testing.assert_close(GeM(1.0)(maps), maps.mean((2, 3), keepdim=True))
    torch.testing.assert_close(GeM(300.0)(maps), maps.amax((2, 3), keepdim=True), rtol=0.02, atol=0.0)


def test_the_small_net_halves_three_times():
    net, _ = build_backbone("resnet10_w4")
    assert net.net(CROPS).shape == (2, 16, 8, 4)
