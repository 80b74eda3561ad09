"""Threads against processes for the live system: the same cameras in one process, in some, and in one each.

A process of its own has its own interpreter, but also its own model, queue and gallery: nothing is batched across
processes, and a search over all would have to ask each. Both sides of that show in the numbers.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_mtda.camera_settings import Camera
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.system import LiveSystem
from reid_mtda.model import load_model
from reid_mtda.site import Site
from reid_mtda.synthetic.street import CAMERAS

WARM_UP_S = 5.0
_PATIENCE_S = 120.0


def street_cameras(count: int, fps: float) -> dict[str, Camera]:
    """So many cameras of drawn streets, each in a street of its own."""
    places = [CAMERAS[n % len(CAMERAS)] for n in range(count)]
    return {
        f"{place}{n}": Camera(url=f"synthetic://street?camera={place}&seed={7 + n}", fps=fps)
        for n, place in enumerate(places)
    }


@dataclass(frozen=True)
class Share:
    """What one process did in the time measured; ``memory_mb`` counts shared pages by their share (PSS)."""

    frames: int
    dropped: int
    cpu_s: float
    memory_mb: float
    crops: int
    batches: int
    delays_s: tuple[float, ...]


def processes(model: Path, seconds: float, counts: list[int], fps: float) -> dict[str, Any]:
    """For each number of cameras: in 1 process, in as many as there are cores, and in one process per camera."""
    cores = len(os.sched_getaffinity(0))
    report = {}
    for count in counts:
        for split in sorted({1, min(cores, count), count}):
            report[f"{count} cameras in {split} process{'es' if split > 1 else ''}"] = _measure(
                model, seconds, count, split, fps
            )
    return {"cores": cores, "seconds": seconds, "fps": fps, **report}


def _measure(model: Path, seconds: float, count: int, split: int, fps: float) -> dict[str, Any]:
    cameras = list(street_cameras(count, fps).items())
    spawn = multiprocessing.get_context("spawn")  # a fork would share what is loaded, and copy locks of threads
    ready = spawn.Barrier(split, timeout=_PATIENCE_S + seconds)
    answers = spawn.Queue()
    children = [
        spawn.Process(target=_work, args=(model, dict(cameras[n::split]), seconds, ready, answers))
        for n in range(split)
    ]
    for child in children:
        child.start()
    shares: list[Share] = [answers.get(timeout=_PATIENCE_S + seconds) for _ in children]
    for child in children:
        child.join()
    delays = sorted(delay for share in shares for delay in share.delays_s)
    frames = sum(share.frames for share in shares)
    return {
        "frames analysed": frames,
        "of those wanted": round(frames / (count * fps * seconds), 3),
        "frames dropped": sum(share.dropped for share in shares),
        "cores used": round(sum(share.cpu_s for share in shares) / seconds, 2),
        "ms of processor per frame": round(1000 * sum(share.cpu_s for share in shares) / max(1, frames), 2),
        "memory MB": round(sum(share.memory_mb for share in shares)),
        "crops per batch": round(sum(s.crops for s in shares) / max(1, sum(s.batches for s in shares)), 1),
        "sightings": len(delays),
        "delay p50 s": round(statistics.median(delays), 2) if delays else None,
        "delay p95 s": round(delays[int(0.95 * (len(delays) - 1))], 2) if delays else None,
    }


def _work(model: Path, cameras: dict[str, Camera], seconds: float, ready: Any, answers: Any) -> None:
    """One process: its cameras run warm, then for the time measured, beside all others."""
    opened = load_model(model, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.open(Path(folder) / "gallery", opened)
        with LiveSystem(Site("bench", Path(folder), cameras), opened, gallery) as running:
            time.sleep(WARM_UP_S)
            ready.wait()
            before, cpu = _counts(running), time.process_time()
            time.sleep(seconds)
            frames, dropped, crops, batches = (now - then for now, then in zip(_counts(running), before, strict=True))
            delays = tuple(delay for state in running.pool.states().values() for delay in state.counts.delays_s)
            answers.put(Share(frames, dropped, time.process_time() - cpu, _pss_mb(), crops, batches, delays))
            ready.wait()  # nobody stops while others still measure


def _counts(running: LiveSystem) -> tuple[int, int, int, int]:
    states = running.pool.states().values()
    frames, dropped = sum(state.counts.frames for state in states), sum(state.stream.dropped for state in states)
    return frames, dropped, running.model_server.batched_crops, running.model_server.batches


def _pss_mb() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0
