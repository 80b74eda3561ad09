"""The demo: the main job on the embedded street, scored on people that training never saw."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.bench.baselines import oracle_labels, train_baselines
from reid_mtda.bench.report import write_report
from reid_mtda.bench.score import SELECTION_RULE, load_test, score_run
from reid_mtda.config import AdaptConfig
from reid_mtda.errors import ConfigError
from reid_mtda.evaluation.evaluate import embed_split
from reid_mtda.evaluation.rank_plots import draw_retrieval
from reid_mtda.live.ingest import IngestReport
from reid_mtda.model import load_model
from reid_mtda.presets import load_config
from reid_mtda.progress import Progress, silent
from reid_mtda.provenance import versions
from reid_mtda.runs import HOST, Compute, Run, stage
from reid_mtda.site import Site, load_site
from reid_mtda.types import RetrievalSplit
from reid_mtda.workflow.adapt import Adapted, adapt_cameras, adapted_targets, load_source
from reid_mtda.workflow.footage import index_site
from reid_mtda.workflow.targets import STREET_SEED

ROOT = Path(__file__).resolve().parents[2]


def demo(
    out: Path,
    config_path: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
    compute: Compute = HOST,
) -> dict[str, Any]:
    """Run the main job on ``cameras/street``, score it, fill a gallery with unseen people, write the report.

    Args:
        out: run folder.
        config_path: another preset than configs/adapt/demo.yaml.
        overrides: ``key.path=value``, over the preset.
        progress: called as the work goes on.
        compute: where torch computes, as ``models.device.choose_compute`` gives it.

    Returns:
        The report, as ``bench.report.write_report`` takes it.

    Raises:
        ConfigError: this is an installed package without the clone's ``cameras/`` and ``configs/``.
    """
    folder = ROOT / "cameras" / "street"
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such site; run the demo in a clone of the project, which holds it")
    config = load_config(config_path or ROOT / "configs" / "adapt" / "demo.yaml", overrides)
    site = load_site(folder)
    adapted = adapt_cameras(site, config, out, progress, compute=compute)
    run = adapted.run
    if config.baselines or config.variants:
        with stage(run, "data of the baselines"):
            labelled = oracle_labels(run, config, STREET_SEED) if "oracle" in config.baselines else None
            source = load_source(config, run)
        train_baselines(run, config, source, adapted_targets(adapted), labelled, progress)
    with stage(run, "index"):
        sightings, lost = index_site(unseen_people(site, config), adapted.model_folder, out / "gallery", progress)
    with stage(run, "score"):
        split = load_test(config, run, STREET_SEED)
        rows = score_run(run, config, {"street": split}, adapted_targets(adapted))
        features = embed_split(load_model(adapted.model_folder), split)
        draw_retrieval(out / "retrieval.png", split, features.query_embeddings, features.gallery_embeddings)
    report = describe_run(run, config, adapted, rows, sightings, split)
    write_report(out, report)
    return {**report, "failures": {**adapted.failures, **lost}}


def unseen_people(site: Site, config: AdaptConfig) -> Site:
    """The same cameras on another day: people whom no training saw."""
    people = config.test.people if config.test else 40
    cameras = {}
    for name, camera in site.cameras.items():
        url = re.sub(r"part=train", "part=test", camera.url) + f"&people={people}"
        cameras[name] = camera.model_copy(update={"url": url})
    return replace(site, cameras=cameras)


def describe_run(
    run: Run,
    config: AdaptConfig,
    adapted: Adapted,
    rows: list[dict[str, Any]],
    sightings: dict[str, IngestReport],
    split: RetrievalSplit,
) -> dict[str, Any]:
    """The report's content: what was measured, how, on what, and what to type next.

    Args:
        run: gives folder, seed and device.
        config: settings of the whole run.
        adapted: what the adaptation left.
        rows: of the results table.
        sightings: what indexing gave, by camera.
        split: query and gallery of the test.
    """
    by_method = {row["method"]: row for row in rows}
    student, before = by_method["distilled student"], by_method["source only"]
    out = run.folder
    stages = json.loads((out / "stages.json").read_text(encoding="utf-8"))
    query = split.query.paths[0]
    model = ("--model", str(adapted.model_folder))
    return {
        "title": "reid_mtda on the embedded street",
        "summary": (
            "Four unlabelled cameras, one teacher each, one compact student for all of them. Scores are of "
            f"{len(np.unique(split.query.pids))} people whom no training saw, always across cameras."
        ),
        "figures": {
            "mAP, distilled student": f"{100 * student['mAP']:.1f} %",
            "mAP, source only": f"{100 * before['mAP']:.1f} %",
            "weights of the student": f"{student['params'] / 1e6:.2f} M",
            "a crop on this CPU": f"{student['ms']:.2f} ms",
        },
        "results": rows,
        "cameras": [
            {
                "camera": name,
                "frames": report.frames,
                "tracklets harvested": report.tracklets,
                "crops": report.crops,
                "sightings indexed": sightings[name].sightings if name in sightings else 0,
            }
            for name, report in adapted.harvests.items()
        ],
        "stages": [{"name": name, **numbers} for name, numbers in stages.items()],
        "pictures": [{"file": "retrieval.png", "caption": "Queries and their ten best answers over all cameras."}],
        "setup": {
            "command": shlex.join(["reid-mtda", *sys.argv[1:]]),
            "seed": run.seed,
            "selection rule": SELECTION_RULE,
            "teacher": f"{config.teacher.arch}, method {config.adapt.method}",
            "student": config.student.arch,
            "model": adapted.manifest.model_id,
            "queries": f"{student['num_valid_queries']} with an answer in another camera",
            **versions(),
        },
        "next": [
            shlex.join(
                ["reid-mtda", "search", str(query), *model, "--gallery", str(out / "gallery"), "--sheet", "answers.png"]
            ),
            shlex.join(["reid-mtda", "evaluate", *model, "--data", "market1501", "--root", str(out / "test")]),
            "reid-mtda adapt YOUR_SITE --config configs/adapt/osnet.yaml --out runs/YOUR_SITE",
        ],
    }
