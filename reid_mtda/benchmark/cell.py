"""One source and one seed of a closed-set benchmark, and what its rows share."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.benchmark.settings import BenchmarkConfig, Net, Row
from reid_mtda.data.batches import Pictures
from reid_mtda.data.classification import ClosedDomain
from reid_mtda.evaluate.accuracy import VALIDATORS, accuracy, softmax
from reid_mtda.models.classifier import (
    Classifier,
    ClassifierSpec,
    build_classifier,
    load_classifier,
    load_imagenet_weights,
    save_classifier,
)
from reid_mtda.runs import Progress, Run, silent, write_json
from reid_mtda.train.alignment import AlignmentSettings, align_classifier
from reid_mtda.train.common import recompute_batchnorm
from reid_mtda.train.staged import classify_pictures
from reid_mtda.types import FloatArray, Preprocess

Ensemble = list[Classifier]
"""Networks whose beliefs are averaged; mostly one."""


@dataclass(eq=False)
class Cell:
    """One source and seed: the domains in their roles, and teachers that rows share through the disk."""

    config: BenchmarkConfig
    source: ClosedDomain
    targets: Mapping[str, ClosedDomain]
    weights: Path
    run: Run
    progress: Progress = silent
    teacher_seconds: float = field(default=0.0)

    @property
    def preprocess(self) -> Preprocess:
        """ImageNet's numbers, or P2's 0.5 for digits."""
        size = self.config.size
        if self.config.data == "digits":
            return Preprocess(size, size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        return Preprocess(size, size)

    def build(self, net: Net, name: str) -> Classifier:
        """A fresh network; every row of a cell starts from the same weights."""
        classes = self.source.source.num_classes
        spec = ClassifierSpec(arch=net.arch, num_classes=classes, width=net.width, dropout=net.dropout)
        model = build_classifier(spec, seed=self.run.child_seed(name))
        if net.weights:
            load_imagenet_weights(model, self.weights / net.weights)
        return model

    def student(self, row: Row) -> Classifier:
        """The row's untrained student."""
        return self.build(row.student or self.config.student, "student")

    def align(self, model: Classifier, target: str, settings: AlignmentSettings, run: Run) -> Classifier:
        """Adapt to one target."""
        return self.chosen(
            {target},
            lambda watch: align_classifier(
                model,
                self.source.source,
                self.targets[target].target,
                self.preprocess,
                settings,
                run,
                self.progress,
                watch,
            ),
        )

    def teacher(self, target: str, settings: AlignmentSettings, net: Net) -> Classifier:
        """The target's finished teacher, trained once for all rows that want the same one; all start alike."""
        digest = Run(self.run.folder, 0).child_seed(f"{settings.model_dump_json()}{net.model_dump_json()}")
        run = self.run.child(f"teachers/{target}-{digest:08x}")
        path = run.folder / "teacher.safetensors"
        if not path.exists():
            began = time.perf_counter()
            model = self.align(self.build(net, "teacher"), target, settings, run)
            save_classifier(path, model, seconds=time.perf_counter() - began)
            write_json(run.folder / "seconds.json", {"seconds": time.perf_counter() - began})
        self.teacher_seconds += float(_seconds(run))
        return load_classifier(path)

    def with_batchnorm_of(self, model: Classifier, target: str) -> Classifier:
        """The same weights with the BatchNorm statistics of one target's unlabelled pictures."""
        shared = {id(weight): weight for weight in model.parameters()}
        own = copy.deepcopy(model, shared)
        pictures = Pictures(self.targets[target].target.pictures, self.preprocess)
        recompute_batchnorm(own, pictures, seed=self.run.child_seed("batchnorm"))
        return own

    def chosen(self, targets: set[str], train: Callable[..., Classifier]) -> Classifier:
        """Train, and apply the selection rule; ``last`` keeps what training returns."""
        rule = self.config.selection
        if rule == "last":
            return train(lambda epoch, model: None)
        best: list[Any] = [-np.inf, {}]

        def watch(epoch: int, model: Classifier) -> None:
            if rule == "oracle":
                value = np.mean([self.score([model], target) for target in targets])
            else:
                value = np.mean([VALIDATORS[rule](self._logits(model, target, test=False)) for target in targets])
            if value > best[0]:
                best[:] = [value, {name: tensor.clone() for name, tensor in model.state_dict().items()}]

        model = train(watch)
        if best[1]:
            model.load_state_dict(best[1])
        return model.eval()

    def score(self, models: Ensemble, target: str) -> float:
        """Accuracy of the models' mean belief on a target's test pictures."""
        belief = np.mean([softmax(self._logits(model, target, test=True)) for model in models], axis=0)
        return accuracy(logits=belief, labels=self.targets[target].test.labels)

    def _logits(self, model: Classifier, target: str, *, test: bool) -> FloatArray:
        domain = self.targets[target]
        pictures = domain.test.pictures if test else domain.target.pictures
        logits: FloatArray = classify_pictures(model, Pictures(pictures, self.preprocess)).numpy()
        return logits


def _seconds(run: Run) -> float:
    return float(json.loads((run.folder / "seconds.json").read_text(encoding="utf-8"))["seconds"])
