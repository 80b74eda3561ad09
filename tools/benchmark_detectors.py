"""Which detector, from which height, frame rate and overlap: people found and followed, scored by TrackEval.

    tools/benchmark_detectors.py VIDEOS motion yolox-nano retail-0013 [--out runs/detectors.json]

Detectors are those of the models folder by name, or motion.

Clips with truth of all people (PETS S2-L1; two_cameras, rendered) give precision, recall, IDF1 and HOTA. Of
lab_4cameras two walkers are known: tracks that never touch one of them are left out, so no precision; its boxes are
YOLOX-nano's own, which is not scored on it. one_by_one shows one person at a time and has no truth: a second box is
false. Boxes match from an IoU of 0.5 on; detectors and trackers run as in the service, on one thread.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from trackeval.metrics import HOTA, Identity

from reid_mtda.data.mot_ground_truth import read_mot
from reid_mtda.types import Detections, FloatArray, Frame, IntArray
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.tracklets import TrackletBuilder
from reid_mtda.vision.video import read_frames

IOU = 0.5
Boxes = dict[int, tuple[IntArray, FloatArray]]
"""Frame of the file -> ids (N,) and boxes xyxy (N, 4)."""


@dataclass(frozen=True)
class Clip:
    """A film with its truth; ``partly``: others than those of the truth are in it, too."""

    name: str
    path: Path
    truth: Boxes
    native_fps: float
    partly: bool = False


def clips(folder: Path) -> list[Clip]:
    """The clips that are there."""
    pets = folder / "pets_s2l1"
    shrink = np.array([480 / 768, 360 / 576] * 2, np.float32)
    truth = {frame: (ids, boxes * shrink) for frame, (ids, boxes) in read_mot(pets / "gt_mot_768x576.txt").items()}
    found = [Clip("pets", pets / "vtest_480x360_795f_10fps.mp4", truth, 10)]
    found += [
        Clip(f"two_cameras {n}", path, read_mot(folder / "two_cameras" / f"camera{n}_gt.txt"), 30)
        for n in (0, 1)
        if (path := folder / "two_cameras" / f"camera{n}.mp4").is_file()
    ]
    lab = folder / "lab_4cameras"
    rows = np.genfromtxt(lab / "gt_semi_first134.csv", delimiter=",", names=True)
    for camera in range(4):
        walkers: Boxes = {frame: (np.zeros(0, np.int64), np.zeros((0, 4), np.float32)) for frame in range(134)}
        of_camera = rows[rows["cam"] == camera]
        for frame in np.unique(of_camera["frame"]):
            at = of_camera[of_camera["frame"] == frame]
            boxes = np.stack([at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]], axis=1)
            walkers[int(frame)] = (at["id"].astype(np.int64), boxes.astype(np.float32))
        found.append(Clip(f"lab {camera}", lab / f"cam{camera}.mp4", walkers, 10, partly=True))
    found.append(Clip("one_by_one", next((folder / "one_by_one").glob("*.mp4")), {}, 10))
    return found


@dataclass(frozen=True)
class Setting:
    """What one row is measured with; ``overlap`` None is the tracker's own."""

    fps: float = 5.0
    height: int = 32
    score: float = 0.4
    overlap: float | None = None


Looked = dict[tuple[float, int], dict[int, Detections]]
"""By frames a second and least height: what is found, by frame of the file. A network is asked once, for all."""


def look(clip: Clip, detector: str, settings: Iterable[Setting]) -> tuple[Looked, tuple[int, int], float]:
    """Detect in every frame that some setting needs; also the frames' size, and CPU ms a frame at the first setting."""
    is_motion = detector == "motion"
    fastest = max(setting.fps for setting in settings)
    least = min(setting.score for setting in settings)
    keys = sorted({(s.fps, s.height) if is_motion else (fastest, 8) for s in settings})
    detects = {
        (fps, height): load_detector(detector, min_score=least, min_height_px=height, threads=1)
        for fps, height in keys
    }  # fmt: skip
    found: Looked = {key: {} for key in keys}
    size, spent, count = (0, 0), 0.0, 0
    with contextlib.closing(read_frames(str(clip.path), camera="clip", fps=fastest, start_time_s=0.0)) as frames:
        for number, frame in enumerate(frames):
            if clip.partly and frame.index >= len(clip.truth):
                break
            size = (frame.image.shape[0], frame.image.shape[1])
            for (fps, height), detect in detects.items():
                if number % round(fastest / fps) == 0:
                    began = time.thread_time()
                    found[fps, height][frame.index] = detect(frame.image)
                    spent, count = spent + time.thread_time() - began, count + 1
    return found, size, 1000 * spent / max(1, count)


def follow(looked: Looked, size: tuple[int, int], setting: Setting) -> Boxes:
    """Follow what was found as the service does; pixels play no part in that."""
    fps, height = next(key for key in looked if key in ((setting.fps, setting.height), (key[0], 8)))
    blank = np.zeros((*size, 3), np.uint8)
    builder = TrackletBuilder("clip", fps=setting.fps, min_overlap=setting.overlap)
    tracks: Boxes = {}
    for number, (index, found) in enumerate(sorted(looked[fps, height].items())):
        if number % round(fps / setting.fps):
            continue
        tall = found.xyxy[:, 3] - found.xyxy[:, 1] >= setting.height
        keep = tall & (found.score >= setting.score)
        builder.update(
            Frame("clip", index, number / fps, blank), Detections(found.xyxy[keep], found.score[keep])
        )  # fmt: skip
        if builder.active.track_id is not None:
            tracks[index] = (builder.active.track_id, builder.active.xyxy)
    return tracks


def iou(one: FloatArray, other: FloatArray) -> FloatArray:
    """Overlap (N, M) of boxes (N, 4) and (M, 4)."""
    sides = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-6), np.float32)


def scores(clip: Clip, tracks: Boxes) -> dict[str, float]:
    """TrackEval's IDF1 and HOTA, and precision and recall of what is followed, over the frames that were analysed."""
    empty = (np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    frames = sorted(tracks)
    pairs = [(clip.truth.get(frame, empty), tracks[frame]) for frame in frames]
    similarity = [iou(truth[1], ours[1]) for truth, ours in pairs]
    if clip.partly:
        touched = {
            int(track)
            for (_, (ids, _)), like in zip(pairs, similarity, strict=True)
            for track in ids[(like >= IOU).any(axis=0)] if len(like)
        }  # fmt: skip
        keep = [np.isin(ours[0], sorted(touched)) for _, ours in pairs]
        pairs = [(truth, (ours[0][k], ours[1][k])) for (truth, ours), k in zip(pairs, keep, strict=True)]
        similarity = [like[:, k] for like, k in zip(similarity, keep, strict=True)]
    people = sorted({int(pid) for truth, _ in pairs for pid in truth[0]})
    names = sorted({int(track) for _, ours in pairs for track in ours[0]})
    data = {
        "num_timesteps": len(pairs),
        "num_gt_ids": len(people),
        "num_tracker_ids": len(names),
        "num_gt_dets": sum(len(truth[0]) for truth, _ in pairs),
        "num_tracker_dets": sum(len(ours[0]) for _, ours in pairs),
        "gt_ids": [np.searchsorted(people, truth[0]) for truth, _ in pairs],
        "tracker_ids": [np.searchsorted(names, ours[0]) for _, ours in pairs],
        "similarity_scores": similarity,
    }
    identity = Identity({"THRESHOLD": IOU, "PRINT_CONFIG": False}).eval_sequence(data)
    hota = HOTA().eval_sequence(data)
    at = int(np.argmin(np.abs(HOTA().array_labels - IOU)))
    found = {
        "IDF1": identity["IDF1"],
        "HOTA": float(np.mean(hota["HOTA"])),
        "recall": hota["DetRe"][at],
        "tracks": len(names),
        "people": len(people),
    }
    if not clip.partly:
        found["precision"] = hota["DetPr"][at]
    return {name: round(float(value), 3) for name, value in found.items()}


def one_by_one(tracks: Boxes) -> dict[str, float]:
    """Of a film with one person at a time: how often somebody, and how often more than one, is followed."""
    counts = np.array([len(ids) for ids, _ in tracks.values()])
    names = {int(track) for ids, _ in tracks.values() for track in ids}
    return {
        "somebody": round(float(np.mean(counts > 0)), 3),
        "more than one": round(float(np.mean(counts > 1)), 3),
        "tracks": len(names),
    }


BASE = Setting()
CHANGED = (
    *(replace(BASE, height=height) for height in (16, 24, 48, 64)),
    *(replace(BASE, fps=fps) for fps in (2.0, 10.0)),
    *(replace(BASE, overlap=overlap) for overlap in (0.1, 0.3)),
    *(replace(BASE, score=score) for score in (0.25, 0.5, 0.6)),
)
"""The defaults with one thing changed at a time; scores are those of networks, motion has none."""


def measure(folder: Path, detectors: list[str]) -> list[dict[str, Any]]:
    """A row for each clip, detector and setting."""
    rows = []
    for clip in clips(folder):
        for detector in detectors:
            settings = [s for s in (BASE, *CHANGED) if detector != "motion" or s.score == BASE.score]
            looked, size, ms = look(clip, detector, settings)
            for setting in settings:
                tracks = follow(looked, size, setting)
                result = scores(clip, tracks) if clip.truth else one_by_one(tracks)
                rows.append({"clip": clip.name, "detector": detector, **asdict(setting), **result, "ms": round(ms, 1)})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure, print rows as they come, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("detectors", nargs="+")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = measure(given.videos, given.detectors)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
