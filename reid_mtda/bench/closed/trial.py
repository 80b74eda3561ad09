"""One source and one seed of a closed-set benchmark, and what its rows share."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from reid_mtda.bench.closed.settings import BenchmarkConfig, Net, Row, source_settings
from reid_mtda.data.batches import Pictures
from reid_mtda.data.closed_domain import ClosedDomain
from reid_mtda.evaluation.accuracy import VALIDATORS, accuracy
from reid_mtda.files import write_json
from reid_mtda.models.classifier import (
    Classifier,
    ClassifierSpec,
    build_classifier,
    load_classifier,
    load_imagenet_weights,
    save_classifier,
)
from reid_mtda.progress import Progress, silent
from reid_mtda.runs import Run
from reid_mtda.train.alignment import AlignmentSettings, align_classifier
from reid_mtda.train.common import recompute_batchnorm
from reid_mtda.train.offline_kd import classify_pictures
from reid_mtda.types import FloatArray, Preprocess

Ensemble = list[Classifier]
"""Networks whose soft targets are averaged; mostly one."""


@dataclass(eq=False)
class Trial:
    """One source and seed: the domains in their roles, and teachers that rows share through the disk."""

    config: BenchmarkConfig
    source: ClosedDomain
    targets: Mapping[str, ClosedDomain]
    weights: Path
    run: Run
    progress: Progress = silent
    teacher_seconds: float = field(default=0.0)
    new_teacher_seconds: float = field(default=0.0)
    reused_seconds: float = field(default=0.0)

    @property
    def preprocess(self) -> Preprocess:
        """ImageNet's numbers, or P2's 0.5 for digits."""
        size = self.config.size
        if self.config.data == "digits":
            return Preprocess(size, size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        return Preprocess(size, size)

    def build(self, net: Net, name: str) -> Classifier:
        """A fresh network; every row of a trial starts from the same weights.

        With ``init: source_only`` it has learnt the source, and ``name`` does not matter: one start for one network.
        """
        if self.config.init == "drawn":
            return self._drawn(net, name)
        settings = source_settings(self.config)
        key = f"{settings.model_dump_json()}{net.model_dump_json()}"
        source = self.source.source
        model, _, _ = self.kept(
            "start",
            key,
            lambda run: align_classifier(
                self._drawn(net, "start"), source, None, self.preprocess, settings, run, self.progress
            ),
        )
        return model

    def _drawn(self, net: Net, name: str) -> Classifier:
        classes = self.source.source.num_classes
        spec = ClassifierSpec(num_classes=classes, **net.model_dump(exclude={"weights"}))
        model = build_classifier(spec, seed=self.run.child_seed(name))
        if net.weights:
            load_imagenet_weights(model, self.weights / net.weights)
        return model

    def student(self, row: Row) -> Classifier:
        """The row's untrained student."""
        return self.build(row.student or self.config.student, "student")

    def align(self, start: Classifier, target: str, settings: AlignmentSettings, run: Run) -> Classifier:
        """Adapt to one target.

        Args:
            start: where it begins; it stays as it is.
            target: which target.
            settings: weights and steps.
            run: gives folder, seed and device.
        """
        model = self.chosen(
            {target},
            lambda watch: align_classifier(
                start,
                self.source.source,
                self.targets[target].target,
                self.preprocess,
                settings,
                run,
                self.progress,
                watch,
            ),
            own_statistics=settings.batchnorm == "per_domain",
        )
        if settings.batchnorm == "per_domain" and self.config.selection != "last":  # the epoch's were the mixture's
            pictures = Pictures(self.targets[target].target.pictures, self.preprocess)
            recompute_batchnorm(model, pictures, seed=run.child_seed("batchnorm"))
        return model

    def teacher(self, target: str, settings: AlignmentSettings, net: Net) -> Classifier:
        """The target's finished teacher, trained once for all rows that want the same one; all start alike.

        Args:
            target: which target.
            settings: weights and steps.
            net: which network.
        """
        key = f"{settings.model_dump_json()}{net.model_dump_json()}"
        model, seconds, is_new = self.kept(
            f"teachers/{target}", key, lambda run: self.align(self.build(net, "teacher"), target, settings, run)
        )
        self.teacher_seconds += seconds
        self.new_teacher_seconds += seconds * is_new
        return model

    def kept(self, name: str, key: str, train: Callable[[Run], Classifier]) -> tuple[Classifier, float, bool]:
        """A network that several rows want: trained once, then read from the disk; its seconds, and whether just now.

        ``key`` tells networks of one ``name`` apart: all that they depend on.

        Args:
            name: how it is called.
            key: tells networks of one ``name`` apart: all that they depend on.
            train: trains the network.
        """
        run = self.kept_run(name, key)
        path = run.folder / "network.safetensors"
        is_new = not path.exists()
        if is_new:
            self.forget_unfinished(run)
            began = time.perf_counter()
            model = train(run)
            save_classifier(path, model)
            write_json(run.folder / "seconds.json", {"seconds": time.perf_counter() - began})
        seconds = json.loads((run.folder / "seconds.json").read_text(encoding="utf-8"))["seconds"]
        return load_classifier(path), float(seconds), is_new

    def kept_run(self, name: str, key: str) -> Run:
        """Where ``kept`` keeps that network."""
        place = f"{name}-{Run(self.run.folder, 0).child_seed(key):08x}"
        return self.run.child(f"{place}-{self.config.selection}", drawn_as=name)

    def forget_unfinished(self, run: Run) -> None:
        """Begin anew where training was stopped, unless the last weights count: no other rule knows earlier epochs."""
        if self.config.selection != "last":
            shutil.rmtree(run.folder, ignore_errors=True)
            run.folder.mkdir(parents=True)

    def with_batchnorm_of(self, model: Classifier, target: str) -> Classifier:
        """The same weights with the BatchNorm statistics of one target's unlabelled pictures."""
        shared = {id(weight): weight for weight in model.parameters()}
        own = copy.deepcopy(model, shared)
        pictures = Pictures(self.targets[target].target.pictures, self.preprocess)
        recompute_batchnorm(own, pictures, seed=self.run.child_seed("batchnorm"))
        return own

    def chosen(
        self, targets: set[str], train: Callable[..., Classifier], *, own_statistics: bool = False
    ) -> Classifier:
        """Train, and apply the selection rule; ``last`` keeps what training returns.

        With ``own_statistics`` an epoch is judged as it will be scored: with each target's BatchNorm statistics.

        Args:
            targets: names of the targets that it serves.
            train: trains the network, and calls what it is given after each epoch.
            own_statistics: with BatchNorm statistics of each domain's own.
        """
        rule = self.config.selection
        if rule == "last":
            return train(lambda epoch, model: None)
        best: list[Any] = [-np.inf, {}]

        def watch(epoch: int, model: Classifier) -> None:
            values = []
            for target in sorted(targets):
                judged = self.with_batchnorm_of(model, target) if own_statistics else model
                if rule == "oracle":
                    values.append(self.score([judged], target))
                else:
                    values.append(VALIDATORS[rule](self._logits(judged, target, test=False)))
            value = np.mean(values)
            if value > best[0]:
                best[:] = [value, {name: tensor.clone() for name, tensor in model.state_dict().items()}]

        model = train(watch)
        if best[1]:
            model.load_state_dict(best[1])
        return model.eval()

    def score(self, models: Ensemble, target: str) -> float:
        """Accuracy of the models' mean soft target on a target's test pictures."""
        soft_target = np.mean([softmax(self._logits(model, target, test=True), axis=1) for model in models], axis=0)
        return accuracy(logits=soft_target, labels=self.targets[target].test.labels)

    def _logits(self, model: Classifier, target: str, *, test: bool) -> FloatArray:
        domain = self.targets[target]
        pictures = domain.test.pictures if test else domain.target.pictures
        logits: FloatArray = classify_pictures(model, Pictures(pictures, self.preprocess)).numpy()
        return logits
