"""The device that was asked for: found, or refused with those that there are; precision; generators left alone."""

import copy
from pathlib import Path

import pytest
import torch

from reid_mtda.errors import ConfigError
from reid_mtda.models import device as module
from reid_mtda.models.classifier import ClassifierSpec, build_classifier
from reid_mtda.models.device import choose_compute, choose_device, computes_bfloat16, forked_generators, on_host, placed
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.runs import Compute


def test_the_cpu_is_always_here():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_compute("cpu") == Compute(device="cpu", precision="fp32")


@pytest.mark.parametrize("name", ["cuda:99", "mps", "gpu", "CPU", "", "meta"])
def test_a_device_that_is_not_here_is_refused_and_those_that_are_named(name, monkeypatch):
    monkeypatch.setattr(module, "devices_here", lambda: ("cpu", "cuda:0"))
    with pytest.raises(ConfigError, match=rf"--device: got '{name}', which this machine .* one of cpu, cuda:0$"):
        choose_device(name)


def test_auto_takes_cuda_where_there_is_one_and_mps_only_by_name(monkeypatch):
    for here, wanted in ((("cpu",), "cpu"), (("cpu", "cuda:0", "cuda:1"), "cuda:0"), (("cpu", "mps"), "cpu")):
        monkeypatch.setattr(module, "devices_here", lambda here=here: here)
        assert choose_device("auto") == torch.device(wanted)
    assert choose_device("mps") == torch.device("mps")


def test_a_precision_that_a_device_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(module, "computes_bfloat16", lambda device: False)
    with pytest.raises(
        ConfigError, match="--precision: cpu does not compute in bfloat16, got bf16; use --precision fp3"
    ):
        choose_compute("cpu", "bf16")
    with pytest.raises(ConfigError, match="--precision: got 'fp16', expected one of fp32, bf16"):
        choose_compute("cpu", "fp16")


def test_bfloat16_is_told_from_the_hardware():
    """A CPU without AVX-512 or its like emulates bfloat16, slower than float32."""
    told = Path("/proc/cpuinfo")
    flags = told.read_text() if told.exists() else ""
    if "avx2" in flags and "avx512" not in flags:
        assert not computes_bfloat16(torch.device("cpu"))


def test_threads_are_torchs(monkeypatch):
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    choose_compute("cpu", threads=3)
    choose_compute("cpu")
    assert given == [3]


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (build_embedder(EmbedderSpec(arch="resnet10_w8", num_classes=3), seed=0), (32, 16)),
        (build_classifier(ClassifierSpec(num_classes=3), seed=0), (28, 28)),
    ],
    ids=["embedder", "classifier"],
)
def test_in_bfloat16_the_backbone_alone_is_rounded(model, size):
    pictures = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
    low = placed(copy.deepcopy(model), Compute(precision="bf16")).eval()
    assert all(weight.dtype == torch.float32 for weight in low.parameters())
    with torch.no_grad():
        exact, rounded = model.eval()(pictures), low(pictures)
    assert rounded.logits.dtype == torch.float32
    assert not torch.equal(exact.logits, rounded.logits)
    torch.testing.assert_close(exact.logits, rounded.logits, atol=0.05, rtol=0.05)
    with torch.no_grad():
        assert torch.equal(on_host(copy.deepcopy(low)).eval()(pictures).logits, exact.logits)


def test_generators_are_left_as_they_were():
    before = torch.random.get_rng_state()
    with pytest.raises(ZeroDivisionError), forked_generators(torch.device("cpu")):
        torch.manual_seed(5)
        torch.rand(3)
        raise ZeroDivisionError
    assert torch.equal(before, torch.random.get_rng_state())
