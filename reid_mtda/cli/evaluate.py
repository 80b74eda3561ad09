"""``reid-mtda evaluate``: scores of a model, or of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_mtda.cli.options import JsonOpt, ModelDeviceOpt
from reid_mtda.console import Bars, console, print_camera_scores, print_json, print_table


def evaluate(
    model: Annotated[
        Path | None, typer.Option("--model", help="Model folder, or a name of 'reid-mtda models'.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="With --root: market1501 (default), msmt17, cuhk03np, torchreid:NAME, own ones.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    features: Annotated[Path | None, typer.Option(help="Score a file of embeddings (.npz) instead.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Score harvested crops, tracklet by tracklet.")] = None,
    truth: Annotated[Path | None, typer.Option(help="With --crops: folder of CAMERA.txt truth in MOT format.")] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours.")] = False,
    centred: Annotated[bool, typer.Option("--centred", help="Subtract each camera's mean before comparing.")] = False,
    device: ModelDeviceOpt = "cpu",
    json_: JsonOpt = False,
) -> None:
    """Score a model on a data set, or embeddings alone: CMC, mAP, mINP, per camera and camera pair."""
    from reid_mtda.evaluation.bootstrap import MEASURES, interval
    from reid_mtda.evaluation.evaluate import scores_to_json
    from reid_mtda.workflow.evaluate import Scored, evaluate_model

    with Bars() as bars:
        scores, names = evaluate_model(
            Scored(model=model, root=root, data=data, crops=crops, truth=truth, features=features),
            rerank=rerank,
            centred=centred,
            device=device,
            progress=bars,
        )
    if json_:
        print_json(scores_to_json(scores, names))
        return
    ranks = {f"rank-{rank}": f"{100 * scores.cmc[rank - 1]:.1f}" for rank in (1, 5, 10) if rank <= len(scores.cmc)}
    print_table(("mAP %", "mINP %", *ranks), [(f"{100 * scores.mAP:.1f}", f"{100 * scores.mINP:.1f}", *ranks.values())])
    left_out = scores.num_queries - scores.num_valid_queries
    console.print(f"{scores.num_valid_queries} queries; {left_out} without an answer in another camera left out")
    if scores.per_person is not None:
        bounds = {name: interval([scores.per_person], measure) for name, measure in MEASURES.items()}
        said = ", ".join(f"{name} {100 * low:.1f} to {100 * high:.1f} %" for name, (low, high) in bounds.items())
        console.print(f"95 % intervals, bootstrap over {len(scores.per_person.pids)} people: {said}", highlight=False)
    print_camera_scores(scores, names)
