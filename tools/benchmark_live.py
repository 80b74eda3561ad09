"""What the live service costs: where the time of one camera goes, the running system, search at size, embedding.

    tools/benchmark_live.py loop   MODEL [CLIP ...]     cameras per core, by stage
    tools/benchmark_live.py system MODEL                delay from frame to searchable, memory per camera
    tools/benchmark_live.py processes MODEL [--fps 5]   threads against processes: frames, processor, memory, delay
    tools/benchmark_live.py soak   MODEL [--hours 24]   memory and time per frame as people accumulate, in fast forward
    tools/benchmark_live.py search [--dim 256] [--vectors V.npz]  p50, p99, recall@10 at 10 k, 100 k and 1 M sightings
    tools/benchmark_live.py embed  MODEL STATE          our queue against torchreid's FeatureExtractor, same weights

Each prints a table and, with --out, writes JSON. Models are model folders; STATE is a ``.npz`` of OSNet x0.25's weights
by torchreid's parameter names, those that MODEL was exported from.
"""

import argparse
import json
import resource
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_processes import processes, street_cameras

from reid_mtda.camera_settings import Camera
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.index import Index
from reid_mtda.gallery.rows import Rows
from reid_mtda.live.batcher import Batcher, BatcherSettings
from reid_mtda.live.ingest import add_tracklet, mean_embedding
from reid_mtda.live.surroundings import Surroundings
from reid_mtda.live.system import LiveSystem
from reid_mtda.model import load_model
from reid_mtda.site import Site
from reid_mtda.synthetic.street import CAMERAS, street_frames
from reid_mtda.types import FloatArray, Frame, Tracklet
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.tracklets import TrackletBuilder
from reid_mtda.vision.video import read_frames

FPS = 5.0


def loop(model: Path, clips: list[str], seconds: float) -> dict[str, Any]:
    """One camera on one thread, as fast as it goes, for the street and for each clip."""
    urls = [f"synthetic://street?camera={CAMERAS[0]}&duration={seconds}", *clips]
    return {url.rsplit("/", 1)[-1]: _one_loop(model, url, seconds) for url in urls}


def _one_loop(model: Path, url: str, seconds: float) -> dict[str, Any]:
    """Milliseconds of work by stage for each second of footage."""
    opened = load_model(model, threads=1)
    spent: dict[str, float] = defaultdict(float)
    detect, builder = load_detector("motion"), TrackletBuilder("camera", fps=FPS)
    ended: list[Tracklet] = []
    frames = crops = 0
    for frame in each(read_frames(url, camera="camera", fps=FPS), spent):
        with timed(spent, "detect"):
            found = detect(frame.image)
        with timed(spent, "track"):
            ended += builder.update(frame, found)
        frames += 1
        if frames >= seconds * FPS:
            break
    ended += builder.flush()
    with tempfile.TemporaryDirectory() as folder, Gallery.open(Path(folder) / "gallery", opened) as gallery:
        for tracklet in ended:
            with timed(spent, "embed"):
                rows = opened.embed(tracklet.crops)
            with timed(spent, "index"):
                add_tracklet(gallery, tracklet, rows)
            with timed(spent, "search"):
                gallery.search(mean_embedding(rows), 10)
            crops += len(tracklet.crops)
    work = {name: 1000 * value / (frames / FPS) for name, value in spent.items()}
    # A real camera's frames are decoded, not drawn: drawing is shown, but no part of the sum.
    total = sum(value for name, value in work.items() if name != "read" or not url.startswith("synthetic"))
    return {
        "ms per second of footage": {name: round(value, 2) for name, value in work.items()},
        "cameras per core": round(1000 / total, 1),
        "frames": frames,
        "sightings": len(ended),
        "crops": crops,
    }


class timed:
    """Adds the seconds of its block to ``spent[name]``."""

    def __init__(self, spent: dict[str, float], name: str) -> None:
        self.spent, self.name = spent, name

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.spent[self.name] += time.perf_counter() - self.began


def each(frames: Iterator[Frame], spent: dict[str, float]) -> Iterator[Frame]:
    """``frames``, with the time of making each one."""
    while True:
        with timed(spent, "read"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def system(model: Path, seconds: float, counts: list[int]) -> dict[str, Any]:
    """The running system with so many street cameras in real time."""
    report = {}
    for count in counts:
        opened = load_model(model)
        cameras = street_cameras(count, FPS)
        with tempfile.TemporaryDirectory() as folder:
            gallery = Gallery.open(Path(folder) / "gallery", opened)
            before, cpu = resident_mb(), cpu_s()
            running = LiveSystem(Site("bench", Path(folder), cameras), opened, gallery)
            running.start()
            time.sleep(seconds)
            states, memory = running.pool.states().values(), resident_mb()
            used = (cpu_s() - cpu) / seconds
            delays = [delay for state in states for delay in state.counts.delays_s]
            frames, dropped = sum(s.counts.frames for s in states), sum(s.stream.dropped for s in states)
            running.stop()
        report[f"{count} cameras"] = {
            "cores used": round(used, 2),
            "frames analysed": frames,
            "frames dropped": dropped,
            "sightings": len(delays),
            "delay p50 s": round(statistics.median(delays), 2) if delays else None,
            "delay p95 s": round(float(np.percentile(delays, 95)), 2) if delays else None,
            "memory MB": round(memory),
            "MB per camera": round((memory - before) / count, 1),
        }
    return report


def soak(model: Path, hours: float) -> dict[str, Any]:
    """A day of one busy camera as fast as it goes: somebody new every 15 s, one frame a second."""
    opened = load_model(model, threads=1)
    rows: list[tuple[float, float, float]] = []  # simulated hour, MB, ms per frame
    holder: list[LiveSystem] = []

    def frames(url: str, camera: str, fps: float) -> Iterator[Frame]:
        rng, start, began = np.random.default_rng(0), time.time() - 3600 * hours, time.perf_counter()
        street = rng.integers(90, 110, (90, 160, 3), np.uint8)
        for second in range(round(3600 * hours)):
            image = street.copy()
            for person in range(max(0, second - 24) // 15, second // 15 + 1):
                x = 6 * (second - 15 * person)
                if 0 <= x < 144:
                    coat = np.random.default_rng(person).integers(0, 255, (7, 2, 3), np.uint8)
                    image[20:76, x : x + 16] = coat.repeat(8, 0).repeat(8, 1)
            yield Frame(camera, second, start + second, image)
            while holder[0].pool.states()["busy"].counts.frames <= second and not holder[0].is_stopping():
                time.sleep(0.0002)
            if second % 900 == 899:
                rows.append(((second + 1) / 3600, resident_mb(), (time.perf_counter() - began) / 0.9))
                began = time.perf_counter()
        rows.append((float("nan"), 0.0, 0.0))
        time.sleep(60)

    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.open(Path(folder) / "gallery", opened)
        site = Site("soak", Path(folder), {"busy": Camera(url="rtsp://soak/busy", fps=1.0, min_height_px=24)})
        holder.append(LiveSystem(site, opened, gallery, around=Surroundings(open_frames=frames)))
        with holder[0] as running:
            while not rows or rows[-1][0] == rows[-1][0]:
                time.sleep(0.2)
            people = len(running.gallery)
    rows.pop()
    hour, memory, cost = np.array(rows[4:]).T  # the first hour warms up
    return {
        "simulated hours": hours,
        "sightings": people,
        "memory MB, first and last": [round(memory[0]), round(memory[-1])],
        "memory slope MB per hour": round(float(np.polyfit(hour, memory, 1)[0]), 3),
        "KB per sighting": round(1000 * (memory[-1] - memory[0]) / max(1, people), 2),
        "ms per frame, first and last hour": [round(float(cost[:4].mean()), 2), round(float(cost[-4:].mean()), 2)],
    }


def search(dim: int, sizes: list[int], vectors: Path | None) -> dict[str, Any]:
    """The index alone: people as clusters of 20 sightings each, queries beside them; or vectors of a trained network.

    Of those, ``vectors`` is an .npz whose first float32 (N, D) array is taken; more are made by adding half of the
    difference between two of a vector's eight nearest.
    """
    report = {}
    for size in sizes:
        rng = np.random.default_rng(size)
        rows, queries = drawn_vectors(rng, dim, size) if vectors is None else more_vectors(rng, vectors, size)
        began = time.perf_counter()
        index = Index(rows.shape[1])
        for start in range(0, size, 20_000):
            ids = np.arange(start, min(start + 20_000, size), dtype=np.int64)
            names, times_s = ("camera",) * len(ids), ids.astype(np.float64)
            index.add(Rows(ids, rows[ids], names, times_s, times_s))
        built = time.perf_counter() - began
        times, found = [], []
        for query in queries:
            began = time.perf_counter()
            scores, _ = index.search(query, 10)
            times.append(1000 * (time.perf_counter() - began))
            # Of equal scores any may be answered.
            found.append(float((scores >= np.partition(rows @ query, -10)[-10] - 1e-6).mean()))
        report[f"{size:,} sightings"] = {
            "p50 ms": round(float(np.percentile(times, 50)), 2),
            "p99 ms": round(float(np.percentile(times, 99)), 2),
            "recall@10": round(float(np.mean(found)), 4),
            "built in s": round(built, 1),
            "searches a second, 1 and 8 threads": [round(searches_a_second(index, queries, n), 1) for n in (1, 8)],
        }
        del rows, index
    return report


def drawn_vectors(rng: np.random.Generator, dim: int, size: int) -> tuple[FloatArray, FloatArray]:
    """``size`` vectors of people with 20 sightings each, and 200 queries beside some of them."""
    people = unit(rng.normal(size=(size // 20 + 1, dim)))
    # Noise of about the people's own length: cosines of one person's sightings lie around 0.5.
    rows = unit(np.repeat(people, 20, axis=0)[:size] + rng.normal(size=(size, dim)).astype(np.float32) / np.sqrt(dim))
    beside = rng.normal(size=(min(200, len(people)), dim)).astype(np.float32) / np.sqrt(dim)
    return rows, unit(people[:200] + beside)


def more_vectors(rng: np.random.Generator, path: Path, size: int) -> tuple[FloatArray, FloatArray]:
    """``size`` vectors made of those in ``path``, and 200 of those as queries."""
    with np.load(path, allow_pickle=False) as file:
        given = unit(next(file[name] for name in file.files if file[name].ndim == 2))
    near = np.argsort(-(given @ given.T), axis=1)[:, 1:9]
    rows = np.empty((size, given.shape[1]), np.float32)
    for start in range(0, size, 50_000):
        base = rng.integers(0, len(given), min(50_000, size - start))
        one = rng.integers(0, 8, len(base))
        other = (one + rng.integers(1, 8, len(base))) % 8
        apart = given[near[base, one]] - given[near[base, other]]
        rows[start : start + len(base)] = unit(given[base] + 0.5 * apart)
    return rows, given[rng.choice(len(given), min(200, len(given)), replace=False)]


def searches_a_second(index: Index, queries: FloatArray, threads: int) -> float:
    """Searches that are answered in a second when so many ask at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda query: index.search(query, 10), np.concatenate([queries] * 4)))
    return 4 * len(queries) / (time.perf_counter() - began)


def embed(model: Path, state: Path, crops: int) -> dict[str, Any]:
    """Crops a second through the queue, from many askers at once, and through torchreid's FeatureExtractor."""
    pictures = drawn_crops(crops)
    batcher = Batcher(load_model(model), BatcherSettings(max_waiting=10**6))
    worker = threading.Thread(target=batcher.run)
    worker.start()
    batcher.submit(pictures[:32], key="warm")
    while batcher.depth:
        time.sleep(0.01)
    began = time.perf_counter()
    asked = [batcher.submit([picture], key=f"camera{n % 16}") for n, picture in enumerate(pictures)]
    rows = np.concatenate([future.result() for future in asked if future is not None])
    ours_s = time.perf_counter() - began
    batcher.close()
    worker.join()

    import torch

    from reid_mtda.models.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from torchreid.reid.utils import FeatureExtractor

    weights = {name: torch.from_numpy(value) for name, value in np.load(state, allow_pickle=False).items()}
    with tempfile.TemporaryDirectory() as folder:  # without a file of weights the extractor would download some
        torch.save({"state_dict": weights}, f"{folder}/weights.pth")
        extractor = FeatureExtractor("osnet_x0_25", f"{folder}/weights.pth", device="cpu", verbose=False)
    report: dict[str, Any] = {"ours, through the queue": {"crops/s": round(len(pictures) / ours_s, 1)}}
    for batch in (1, 32):
        some = pictures if batch > 1 else pictures[: len(pictures) // 4]
        extractor(some[:batch])
        began = time.perf_counter()
        theirs = torch.cat([extractor(some[n : n + batch]) for n in range(0, len(some), batch)]).numpy()
        rate = len(some) / (time.perf_counter() - began)
        report[f"torchreid FeatureExtractor, {batch} at once"] = {
            "crops/s": round(rate, 1),
            "ours is faster by": round(len(pictures) / ours_s / rate, 1),
            "lowest cosine to ours": round(float(np.sum(unit(theirs) * rows[: len(some)], axis=1).min()), 6),
        }
    return report


def drawn_crops(count: int) -> list[np.ndarray]:
    """People of the street, cut at their true boxes."""
    found: list[np.ndarray] = []
    for frame in street_frames(CAMERAS[0], fps=FPS):
        for x0, y0, x1, y1 in frame.xyxy.astype(int):
            if x1 - x0 >= 16 and y1 - y0 >= 32:
                found.append(frame.image[y0:y1, x0:x1].copy())
        if len(found) >= count:
            break
    return found[:count]


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def resident_mb() -> float:
    """Memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def cpu_s() -> float:
    """Processor seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run one part and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("loop", "system", "processes", "soak", "search", "embed"))
    parser.add_argument("inputs", nargs="*")
    parser.add_argument("--seconds", type=float, default=60.0, help="of footage, or of running")
    parser.add_argument("--fps", type=float, default=FPS, help="of each camera, for processes")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated by soak")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--vectors", type=Path, help="search: an .npz of a trained network's vectors in place of drawn")
    parser.add_argument("--crops", type=int, default=512)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    inputs = [Path(path) for path in given.inputs]
    if given.part == "loop":
        report = loop(inputs[0], given.inputs[1:], given.seconds)
    elif given.part == "system":
        report = system(inputs[0], given.seconds, given.cameras)
    elif given.part == "processes":
        report = processes(inputs[0], given.seconds, given.cameras, given.fps)
    elif given.part == "soak":
        report = soak(inputs[0], given.hours)
    elif given.part == "search":
        report = search(given.dim, given.sizes, given.vectors)
    else:
        report = embed(inputs[0], inputs[1], given.crops)
    print(json.dumps(report, indent=2))
    if given.out:
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
