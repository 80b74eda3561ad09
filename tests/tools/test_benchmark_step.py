"""The progressive step does what the published order of work does, weight by weight."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_mtda.data.closed_domain import LabelledPictures, UnlabelledPictures
from reid_mtda.models.classifier import ClassifierSpec, build_classifier
from reid_mtda.runs import Run
from reid_mtda.train.progressive import distil_progressively
from reid_mtda.train.progressive_settings import ProgressiveSettings

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "benchmark_step.py"))


def both_ways(folder, *, steps=3, detached=False, **switches):
    """Student and teachers after ``steps`` steps: in the published order, and by our loop."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 24, 28, 28, 3), np.uint8)
    source = LabelledPictures(pictures[0], rng.integers(0, 3, 24), 3, "source")
    targets = {name: UnlabelledPictures(pictures[n], name) for n, name in enumerate(("a", "b"), start=1)}
    spec = ClassifierSpec(num_classes=3, width=0.1, dropout=0.0)
    student, teachers = build_classifier(spec, seed=0), {name: build_classifier(spec, seed=1) for name in targets}
    settings = ProgressiveSettings(
        discriminator_width=8,
        epochs=1,
        steps_per_epoch=steps,
        batch_size=8,
        teacher_learning_rate=0.05,
        teacher_statistics="mixture",
        **switches,
    )
    reference = TOOL["published_epoch"](
        student, teachers, source, targets, settings, Run(folder, 0), detached=detached
    )  # fmt: skip
    ours = distil_progressively(student, teachers, source, targets, TOOL["PREPROCESS"], settings, Run(folder, 0))
    return [[s, *t.values()] for s, t in (reference, ours)]


def check_same_weights(folder, **switches):
    for reference, ours in zip(*both_ways(folder, **switches), strict=True):
        wanted = reference.state_dict()
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, wanted[name], atol=2e-5, rtol=1e-4, msg=f"{name} differs")


@pytest.mark.parametrize("detached", [False, True])
def test_our_order_of_work_gives_the_weights_and_buffers_of_the_published_one(detached, tmp_path):
    check_same_weights(tmp_path, detached=detached)


@pytest.mark.parametrize("switches", [{"batchnorm": "shared"}, {"reuse_teacher_output": True}])
def test_a_switch_that_changes_the_mathematics_is_caught(switches, tmp_path):
    with pytest.raises(AssertionError, match="differs"):
        check_same_weights(tmp_path, **switches)


def test_both_ways_learn(tmp_path):
    """Equal weights would be no proof if nothing had moved."""
    start = build_classifier(ClassifierSpec(num_classes=3, width=0.1, dropout=0.0), seed=0)
    for learnt in both_ways(tmp_path):
        assert not torch.equal(learnt[0].backbone[0].weight, start.backbone[0].weight)
