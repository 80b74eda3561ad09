"""Time and peak memory of ranking at Market-1501's size: ours, torchreid's Python and its compiled Cython, same arrays.

torchreid's wheel leaves out its Cython source: give rank_cy.pyx of its repository, with cython and a compiler at hand.
Each way runs in a process of its own; memory is what it takes beyond the arrays it is given.
"""

import argparse
import importlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SETUP = """import numpy, setuptools, Cython.Build
module = setuptools.Extension("rank_cy", ["rank_cy.pyx"], include_dirs=[numpy.get_include()])
setuptools.setup(ext_modules=Cython.Build.cythonize([module]))"""
WAYS = ("ours, from embeddings", "ours, from the matrix", "torchreid Python", "torchreid Cython")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--queries", 3368), ("--gallery", 19732), ("--dim", 512), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--pyx", type=Path, help="torchreid's rank_cy.pyx")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--child", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child and options.child[0] == "draw":
        return draw(Path(options.child[1]), options)
    if options.child:
        return print(json.dumps(measure(options.child[0], Path(options.child[1]))))
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        # drawn by a child too: a process starts with its parent's peak memory as its own
        command = [sys.executable, "-W", "ignore", *sys.argv, "--child"]
        subprocess.run([*command, "draw", folder], check=True)
        for way in WAYS:
            if way != WAYS[3] or options.pyx:
                done = subprocess.run([*command, way, folder], check=True, stdout=subprocess.PIPE, text=True)
                rows[way] = json.loads(done.stdout)
                print("{:23}{seconds:8.2f} s{extra_mb:7.0f} MB   mAP {mAP:.9f}".format(way, **rows[way]), flush=True)
    print("CMC identical:", all(row["cmc"] == rows[WAYS[2]]["cmc"] for row in rows.values()))
    if options.out:
        from reid_mtda.files import write_json
        from reid_mtda.provenance import versions

        sizes = {key: getattr(options, key) for key in ("queries", "gallery", "dim", "seed")}
        write_json(options.out, {"sizes": sizes, "rows": rows, "versions": versions()})


def draw(folder: Path, options: argparse.Namespace) -> None:
    """Noisy embeddings of 750 people in 6 cameras, a fifth of the gallery distractors, and their cosine distances."""
    rng = np.random.default_rng(options.seed)
    centres = rng.standard_normal((751, options.dim), dtype=np.float32)
    arrays = {}
    for side, count, known in (("query", options.queries, 1.0), ("gallery", options.gallery, 0.8)):
        pids = np.where(rng.random(count) < known, rng.integers(1, 751, count), 0)
        rows = centres[pids] * 0.35 + rng.standard_normal((count, options.dim), dtype=np.float32)
        arrays[f"{side}_embeddings"] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        arrays |= {f"{side}_pids": pids, f"{side}_camids": rng.integers(0, 6, count)}
    np.savez(folder / "features.npz", **arrays)
    np.save(folder / "dist.npy", 1 - arrays["query_embeddings"] @ arrays["gallery_embeddings"].T)
    if options.pyx:
        shutil.copy(options.pyx, folder / "rank_cy.pyx")
        (folder / "setup.py").write_text(SETUP)
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(build, cwd=folder, check=True, capture_output=True)


def measure(way: str, folder: Path) -> dict[str, object]:
    """Rank in this process: seconds, megabytes beyond what stood in memory before, and the scores."""
    from reid_mtda.evaluation.average_precision import rank_matrix, rank_scores
    from reid_mtda.evaluation.evaluate import load_features

    features = load_features(folder / "features.npz")
    qp, qc, gp, gc = features.query_pids, features.query_camids, features.gallery_pids, features.gallery_camids
    dist = np.zeros(0) if way == WAYS[0] else np.load(folder / "dist.npy")
    if way == WAYS[2]:
        from reid_mtda.models.torchvision_compat import ensure_torchvision

        ensure_torchvision()
        from torchreid.reid.metrics.rank import eval_market1501 as evaluate
    elif way == WAYS[3]:
        sys.path.insert(0, str(folder))
        evaluate = importlib.import_module("rank_cy").evaluate_cy
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if way == WAYS[0]:
        scores = rank_scores(features.query, features.gallery)
    elif way == WAYS[1]:
        scores = rank_matrix(dist, (qp, qc), (gp, gc), is_dist=True)
    else:
        cmc, mean_ap = evaluate(dist, qp, gp, qc, gc, 50)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way.startswith("ours"):
        cmc, mean_ap = scores.cmc, scores.mAP
    return {"seconds": seconds, "extra_mb": (after - before) / 1024, "mAP": float(mean_ap), "cmc": cmc.tolist()}


if __name__ == "__main__":
    main()
